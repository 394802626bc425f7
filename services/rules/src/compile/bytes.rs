//! Numbers in buffers: `byte_test`, `byte_jump`, `byte_extract`, `byte_math`, `isdataat`,
//! `base64_decode`, `dataset`, `datarep`, `entropy`.

use super::{Builder, Done, List, RuleError, fault};
use crate::{
    chain::{Arithmetic, EntropyCompare, From, Op, Operator, Reading, VARIABLES_MAX, Value},
    number::{Compare, integer},
    sets::{Command, DatasetUse, Kind, ReputationUse},
};

impl Builder<'_, '_> {
    pub(super) fn bytes_option(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<bool, RuleError> {
        let text = value.unwrap_or_default();
        match name {
            "byte_test" => self.byte_test(name, text)?,
            "byte_jump" => self.byte_jump(name, text)?,
            "byte_extract" => self.byte_extract(name, text)?,
            "byte_math" => self.byte_math(name, text)?,
            "isdataat" => self.isdataat(name, text)?,
            "base64_decode" => self.base64_decode(name, text)?,
            "dataset" => self.dataset(name, text)?,
            "datarep" => self.datarep(name, text)?,
            "entropy" => self.entropy(name, text)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A number or the name of a variable that was extracted before.
    pub(super) fn value(&self, keyword: &str, text: &str) -> Result<Value, RuleError> {
        let text = text.trim();
        let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let number = match hex {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(u64::cast_signed),
            None => text.parse::<i64>().ok(),
        };
        if let Some(number) = number {
            return Ok(Value::Number(number));
        }
        match self.variables.iter().position(|known| known == text) {
            Some(index) => Ok(Value::Variable(index)),
            None => Err(fault(keyword, format!("{text:?} is neither a number nor a variable"))),
        }
    }

    fn variable(&mut self, keyword: &str, name: &str) -> Result<usize, RuleError> {
        if let Some(index) = self.variables.iter().position(|known| known == name) {
            return Ok(index);
        }
        if self.variables.len() >= VARIABLES_MAX {
            return Err(fault(keyword, "too many variables"));
        }
        self.variables.push(name.to_owned());
        Ok(self.variables.len() - 1)
    }

    fn reading(&self, keyword: &str, bytes: &str, offset: &str) -> Result<Reading, RuleError> {
        Ok(Reading {
            bytes: self.value(keyword, bytes)?,
            offset: self.value(keyword, offset)?,
            is_relative: false,
            is_little: false,
            base: None,
            mask: None,
        })
    }

    /// Words that all of them share. `Ok(false)`: another word.
    fn reading_word(read: &mut Reading, word: &str, keyword: &str) -> Result<bool, RuleError> {
        match word {
            "relative" => read.is_relative = true,
            "little" => read.is_little = true,
            "big" => read.is_little = false,
            "string" => read.base = read.base.or(Some(0)),
            "hex" => read.base = Some(16),
            "dec" => read.base = Some(10),
            "oct" => read.base = Some(8),
            "dce" => return Err(fault(keyword, "dce is not supported")),
            _ => match word.strip_prefix("bitmask") {
                Some(mask) => {
                    let mask = mask.trim();
                    let digits = mask.strip_prefix("0x").unwrap_or(mask);
                    let mask = u64::from_str_radix(digits, 16);
                    read.mask = Some(mask.map_err(|_| fault(keyword, "no bit mask"))?);
                }
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    fn finish_reading(&mut self, keyword: &str, read: &mut Reading) -> Done {
        if let (Value::Number(bytes), None) = (read.bytes, read.base)
            && !(0..=8).contains(&bytes)
        {
            return Err(fault(keyword, "more than 8 bytes"));
        }
        if let (Value::Number(bytes), Some(_)) = (read.bytes, read.base)
            && !(0..=23).contains(&bytes)
        {
            return Err(fault(keyword, "more than 23 digits"));
        }
        if read.is_relative {
            self.mark_relative();
        }
        Ok(())
    }

    fn byte_test(&mut self, name: &str, text: &str) -> Done {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let [bytes, operator, value, offset, words @ ..] = parts.as_slice() else {
            return Err(fault(name, "needs bytes, operator, value, offset"));
        };
        let mut read = self.reading(name, bytes, offset)?;
        for word in words {
            if !Self::reading_word(&mut read, word, name)? {
                return Err(fault(name, format!("{word:?} is unknown")));
            }
        }
        let (is_negated, operator) = match operator.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, *operator),
        };
        let operator = match operator {
            "<" => Operator::Less,
            ">" => Operator::Greater,
            "=" | "==" | "" => Operator::Equal,
            "<=" => Operator::LessEqual,
            ">=" => Operator::GreaterEqual,
            "&" => Operator::And,
            "^" => Operator::Or,
            _ => return Err(fault(name, format!("operator {operator:?} is unknown"))),
        };
        let value = self.value(name, value)?;
        self.finish_reading(name, &mut read)?;
        let is_relative = read.is_relative;
        self.push_number(
            is_relative,
            Op::ByteTest { read: read.into(), is_negated, operator, value },
        );
        Ok(())
    }

    fn byte_jump(&mut self, name: &str, text: &str) -> Done {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let [bytes, offset, words @ ..] = parts.as_slice() else {
            return Err(fault(name, "needs bytes, offset"));
        };
        let mut read = self.reading(name, bytes, offset)?;
        let (mut multiplier, mut is_aligned, mut from, mut post) = (1, false, From::Here, 0);
        for word in words {
            if Self::reading_word(&mut read, word, name)? {
                continue;
            }
            let (key, value) = word.split_once(' ').unwrap_or((word, ""));
            match key {
                "align" => is_aligned = true,
                "from_beginning" => from = From::Beginning,
                "from_end" => from = From::End,
                "multiplier" => {
                    multiplier = integer(value).ok_or_else(|| fault(name, "no multiplier"))?;
                }
                "post_offset" => {
                    post = value.trim().parse().map_err(|_| fault(name, "no post_offset"))?;
                }
                _ => return Err(fault(name, format!("{word:?} is unknown"))),
            }
        }
        self.finish_reading(name, &mut read)?;
        let is_relative = read.is_relative;
        self.push_number(
            is_relative,
            Op::ByteJump { read: read.into(), multiplier, is_aligned, from, post },
        );
        Ok(())
    }

    fn byte_extract(&mut self, name: &str, text: &str) -> Done {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let [bytes, offset, variable, words @ ..] = parts.as_slice() else {
            return Err(fault(name, "needs bytes, offset, name"));
        };
        let mut read = self.reading(name, bytes, offset)?;
        let (mut multiplier, mut align) = (1, 0);
        for word in words {
            if Self::reading_word(&mut read, word, name)? {
                continue;
            }
            let (key, value) = word.split_once(' ').unwrap_or((word, ""));
            let number = integer(value).ok_or_else(|| fault(name, format!("{word:?} is unknown")));
            match key {
                "multiplier" if number == Ok(0) => return Err(fault(name, "no multiplier")),
                "multiplier" => multiplier = number?,
                "align" => align = number?,
                _ => return Err(fault(name, format!("{word:?} is unknown"))),
            }
        }
        let variable = self.variable(name, variable)?;
        self.finish_reading(name, &mut read)?;
        let is_relative = read.is_relative;
        self.push_number(
            is_relative,
            Op::ByteExtract { read: read.into(), multiplier, align, variable },
        );
        Ok(())
    }

    fn byte_math(&mut self, name: &str, text: &str) -> Done {
        let mut read = Reading {
            bytes: Value::Number(0),
            offset: Value::Number(0),
            is_relative: false,
            is_little: false,
            base: None,
            mask: None,
        };
        let (mut operator, mut value, mut variable) = (None, None, None);
        for part in text.split(',').map(str::trim) {
            let (key, argument) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
            let argument = argument.trim();
            match key {
                "bytes" => read.bytes = self.value(name, argument)?,
                "offset" => read.offset = self.value(name, argument)?,
                "oper" => {
                    operator = Some(match argument {
                        "+" => Arithmetic::Add,
                        "-" => Arithmetic::Subtract,
                        "*" => Arithmetic::Multiply,
                        "/" => Arithmetic::Divide,
                        "<<" => Arithmetic::Left,
                        ">>" => Arithmetic::Right,
                        _ => return Err(fault(name, format!("{argument:?} is no operator"))),
                    });
                }
                "rvalue" => value = Some(self.value(name, argument)?),
                "result" => variable = Some(argument.to_owned()),
                "relative" => read.is_relative = true,
                "endian" => read.is_little = argument == "little",
                "string" => {
                    read.base = Some(match argument {
                        "hex" => 16,
                        "oct" => 8,
                        _ => 10,
                    });
                }
                _ if Self::reading_word(&mut read, part, name)? => {}
                _ => return Err(fault(name, format!("{part:?} is unknown"))),
            }
        }
        let (Some(operator), Some(value), Some(variable)) = (operator, value, variable) else {
            return Err(fault(name, "needs oper, rvalue and result"));
        };
        let variable = self.variable(name, &variable)?;
        self.finish_reading(name, &mut read)?;
        let is_relative = read.is_relative;
        self.push_number(
            is_relative,
            Op::ByteMath { read: read.into(), operator, value, variable },
        );
        Ok(())
    }

    fn isdataat(&mut self, name: &str, text: &str) -> Done {
        let (is_negated, text) = match text.trim().strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut parts = text.split(',').map(str::trim);
        let at = self.value(name, parts.next().unwrap_or_default())?;
        let mut is_relative = false;
        for word in parts {
            match word {
                "relative" => is_relative = true,
                "rawbytes" => {}
                _ => return Err(fault(name, format!("{word:?} is unknown"))),
            }
        }
        if is_relative {
            self.mark_relative();
        }
        self.push_number(is_relative, Op::IsDataAt { at, is_negated, is_relative });
        Ok(())
    }

    fn base64_decode(&mut self, name: &str, text: &str) -> Done {
        let (mut bytes, mut offset, mut is_relative) = (0, 0, false);
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once(' ').unwrap_or((word, ""));
            let number = || {
                integer(value)
                    .and_then(|number| usize::try_from(number).ok())
                    .ok_or_else(|| fault(name, format!("{word:?} needs a number")))
            };
            match key {
                "bytes" => bytes = number()?,
                "offset" => offset = number()?,
                "relative" => is_relative = true,
                _ => return Err(fault(name, format!("{word:?} is unknown"))),
            }
        }
        if is_relative {
            self.mark_relative();
        }
        self.push_number(is_relative, Op::Base64Decode { bytes, offset, is_relative });
        Ok(())
    }

    fn dataset(&mut self, name: &str, text: &str) -> Done {
        let mut parts = text.split(',').map(str::trim);
        let command = match parts.next().unwrap_or_default() {
            "isset" => Command::IsSet,
            "isnotset" => Command::IsNotSet,
            "set" => Command::Set,
            "unset" => Command::Unset,
            other => return Err(fault(name, format!("{other:?} is unknown"))),
        };
        let set = parts.next().unwrap_or_default().to_owned();
        let known = self.context.config.datasets.iter().find(|known| known.name == set);
        let mut kind = known.map(|known| known.kind);
        let mut load = None;
        let mut source = crate::config::Source { name: set.clone(), ..Default::default() };
        for word in parts {
            let (key, value) = word.split_once(' ').unwrap_or((word, ""));
            let value = value.trim();
            match key {
                "type" => {
                    kind = Some(
                        Kind::from_name(value)
                            .ok_or_else(|| fault(name, format!("type {value:?} is unknown")))?,
                    );
                }
                "load" | "state" => load = Some((value.to_owned(), key == "state")),
                "memcap" | "hashsize" | "save" => {}
                "format" => source.format = value.to_owned(),
                "value_key" => source.value_key = value.to_owned(),
                "array_key" => source.array_key = value.to_owned(),
                "context_key" => source.context_key = value.to_owned(),
                "remove_key" => source.is_key_removed = true,
                _ => return Err(fault(name, format!("{word:?} is unknown"))),
            }
        }
        let kind = kind.or_else(|| self.context.sets.kind_of(&set));
        let kind = kind.ok_or_else(|| fault(name, "set has no type"))?;
        if source.format == "json" && source.context_key.is_empty() {
            return Err(fault(name, "JSON has no context_key"));
        }
        if self.open() == List::Payload {
            return Err(fault(name, "needs a sticky buffer"));
        }
        let context = (!source.context_key.is_empty()).then(|| source.context_key.clone());
        let index = self.declare(name, &set, kind, load, source)?;
        self.push(Op::Dataset(DatasetUse { set: index, command, context }));
        Ok(())
    }

    /// The set's index; its file is loaded the first time it is named.
    fn declare(
        &mut self,
        keyword: &str,
        set: &str,
        kind: Kind,
        load: Option<(String, bool)>,
        source: crate::config::Source,
    ) -> Result<usize, RuleError> {
        let before = self.context.sets.count();
        let index = self
            .context
            .sets
            .declare(set, kind)
            .ok_or_else(|| fault(keyword, "set exists with another type, or too many sets"))?;
        if self.context.sets.count() == before {
            return Ok(index);
        }
        let Some((file, is_state)) = load else { return Ok(index) };
        let text = self.context.config.files.get(&file);
        match text {
            Some(text) if source.format.is_empty() || source.format == "csv" => {
                self.context.sets.load(index, text);
            }
            Some(text) => {
                self.context
                    .sets
                    .load_json(index, text, &source)
                    .map_err(|why| fault(keyword, why))?;
            }
            None if is_state => {}
            None => return Err(fault(keyword, format!("file {file:?} can't be read"))),
        }
        Ok(index)
    }

    fn datarep(&mut self, name: &str, text: &str) -> Done {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let [set, operator, value, words @ ..] = parts.as_slice() else {
            return Err(fault(name, "needs set, operator, value"));
        };
        let compare = Compare::parse(&format!("{}{value}", operator.trim_end_matches("==")))
            .ok_or_else(|| fault(name, "no comparison"))?;
        let (mut kind, mut load) = (Kind::String, None);
        for word in words {
            let (key, value) = word.split_once(' ').unwrap_or((word, ""));
            match key {
                "type" => {
                    kind = Kind::from_name(value.trim())
                        .ok_or_else(|| fault(name, format!("type {value:?} is unknown")))?;
                }
                "load" | "state" => load = Some((value.trim().to_owned(), key == "state")),
                "memcap" | "hashsize" => {}
                _ => return Err(fault(name, format!("{word:?} is unknown"))),
            }
        }
        let index = self.declare(name, set, kind, load, crate::config::Source::default())?;
        self.push(Op::Reputation(ReputationUse { set: index, compare }));
        Ok(())
    }

    fn entropy(&mut self, name: &str, text: &str) -> Done {
        let value = text.split(',').find_map(|part| part.trim().strip_prefix("value"));
        let value = value.unwrap_or(text).trim();
        let (compare, number) = match value {
            text if text.starts_with(">=") => (EntropyCompare::GreaterEqual, text.get(2..)),
            text if text.starts_with("<=") => (EntropyCompare::LessEqual, text.get(2..)),
            text if text.starts_with('>') => (EntropyCompare::Greater, text.get(1..)),
            text if text.starts_with('<') => (EntropyCompare::Less, text.get(1..)),
            text => (EntropyCompare::Equal, Some(text.trim_start_matches('='))),
        };
        let number = number.and_then(|text| text.trim().parse().ok());
        let limit = number.ok_or_else(|| fault(name, "no number"))?;
        self.push(Op::Entropy(limit, compare));
        Ok(())
    }
}
