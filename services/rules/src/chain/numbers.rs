//! Numbers in buffers: `isdataat`, `byte_test`, `byte_jump`, `byte_extract`, `byte_math`.

use super::{Arithmetic, From, Op, Operator, Outcome, Reading, Scan, Value};

impl Scan<'_> {
    pub(super) fn is_data_at(
        &self,
        at: Value,
        is_negated: bool,
        is_relative: bool,
        data: &[u8],
    ) -> Outcome {
        let is_variable = matches!(at, Value::Variable(_));
        let at = usize::try_from(self.value(at)).unwrap_or(usize::MAX);
        let is_there = if is_relative {
            self.offset.saturating_add(at) <= data.len()
        } else {
            at < data.len()
        };
        if is_there != is_negated {
            Outcome::Match
        } else if is_variable || (is_relative && is_negated) {
            Outcome::No
        } else {
            Outcome::Stop
        }
    }

    /// The number that `read` names, where it begins and how many bytes it took.
    fn number(&self, read: &Reading, data: &[u8]) -> Option<(u64, usize, usize)> {
        let base = if read.is_relative { self.offset } else { 0 };
        let at = i64::try_from(base).ok()?.checked_add(self.value(read.offset))?;
        let at = usize::try_from(at).ok()?;
        let count = usize::try_from(self.value(read.bytes)).ok()?;
        let bytes = match (count, read.base) {
            // Of text no length means all of it.
            (0, Some(_)) => data.get(at..)?,
            _ => data.get(at..at.checked_add(count)?)?,
        };
        let (value, taken) = match read.base {
            Some(base) => text_number(bytes, base)?,
            None => {
                if count > 8 {
                    return None;
                }
                let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
                let value = if read.is_little {
                    bytes.iter().rev().fold(0, fold)
                } else {
                    bytes.iter().fold(0, fold)
                };
                (value, count)
            }
        };
        let value = match read.mask {
            Some(mask) if mask != 0 => (value & mask) >> mask.trailing_zeros(),
            Some(_) | None => value,
        };
        Some((value, at, taken))
    }

    pub(super) fn byte_test(
        &self,
        read: &Reading,
        is_negated: bool,
        operator: Operator,
        value: Value,
        data: &[u8],
    ) -> bool {
        let Some((left, at, _)) = self.number(read, data) else { return false };
        if at >= data.len() {
            // A number of no bytes, which only a variable asks for: not even that is behind the end.
            return false;
        }
        let right = match value {
            Value::Number(number) => number.cast_unsigned(),
            Value::Variable(index) => self.variables.get(index).copied().unwrap_or(0),
        };
        let fits = match operator {
            Operator::Less => left < right,
            Operator::Greater => left > right,
            Operator::Equal => left == right,
            Operator::LessEqual => left <= right,
            Operator::GreaterEqual => left >= right,
            Operator::And => left & right != 0,
            Operator::Or => left ^ right != 0,
        };
        fits != is_negated
    }

    pub(super) fn byte_jump(&mut self, op: &Op, data: &[u8]) -> bool {
        let Op::ByteJump { read, multiplier, is_aligned, from, post } = op else { return false };
        if data.is_empty() {
            return false;
        }
        let Some((value, at, taken)) = self.number(read, data) else { return false };
        let mut value = value.wrapping_mul(*multiplier);
        if *is_aligned {
            let Some(aligned) = value.checked_next_multiple_of(4) else { return false };
            value = aligned;
        }
        let value = value.cast_signed().wrapping_add(*post);
        let base = match from {
            From::Here => at + taken,
            From::Beginning => 0,
            From::End => data.len(),
        };
        let base = i64::try_from(base).unwrap_or(i64::MAX);
        let to = usize::try_from(base.saturating_add(value).max(0)).unwrap_or(usize::MAX);
        if to > data.len() {
            return false;
        }
        self.offset = to;
        true
    }

    pub(super) fn byte_extract(
        &mut self,
        read: &Reading,
        multiplier: u64,
        align: u64,
        variable: usize,
        data: &[u8],
    ) -> Option<()> {
        let (value, at, taken) = self.number(read, data)?;
        let mut value = value.wrapping_mul(multiplier);
        if align > 1 {
            value = value.checked_next_multiple_of(align)?;
        }
        *self.variables.get_mut(variable)? = value;
        self.offset = at + taken;
        Some(())
    }

    pub(super) fn byte_math(
        &mut self,
        read: &Reading,
        operator: Arithmetic,
        value: Value,
        variable: usize,
        data: &[u8],
    ) -> Option<()> {
        // The mask is applied to the result.
        let unmasked = Reading { mask: None, ..*read };
        let (left, at, taken) = self.number(&unmasked, data)?;
        let right = match value {
            Value::Number(number) => number.cast_unsigned(),
            Value::Variable(index) => self.variables.get(index).copied()?,
        };
        let result = match operator {
            Arithmetic::Add => left.wrapping_add(right),
            Arithmetic::Subtract => left.wrapping_sub(right),
            Arithmetic::Multiply => left.wrapping_mul(right),
            Arithmetic::Divide => left.checked_div(right)?,
            Arithmetic::Left => {
                u32::try_from(right).ok().and_then(|by| left.checked_shl(by)).unwrap_or(0)
            }
            Arithmetic::Right => {
                u32::try_from(right).ok().and_then(|by| left.checked_shr(by)).unwrap_or(0)
            }
        };
        let result = match read.mask {
            Some(mask) if mask != 0 => (result & mask) >> mask.trailing_zeros(),
            Some(_) | None => result,
        };
        *self.variables.get_mut(variable)? = result;
        self.offset = at + taken;
        Some(())
    }
}

/// A number as text: blanks before it are passed over, what follows it ends it.
fn text_number(bytes: &[u8], base: u32) -> Option<(u64, usize)> {
    let blanks = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let mut at = blanks;
    let rest = bytes.get(at..)?;
    let mut base = base;
    let has_prefix = rest.first() == Some(&b'0')
        && rest.get(1).is_some_and(|byte| byte.eq_ignore_ascii_case(&b'x'));
    if (base == 16 || base == 0) && has_prefix {
        at += 2;
        base = 16;
    } else if base == 0 {
        base = if rest.first() == Some(&b'0') { 8 } else { 10 };
    }
    let digits_at = at;
    let mut value = 0_u64;
    while let Some(digit) = bytes.get(at).and_then(|byte| char::from(*byte).to_digit(base)) {
        value = value.checked_mul(u64::from(base))?.checked_add(u64::from(digit))?;
        at += 1;
    }
    (at > digits_at).then_some((value, at))
}
