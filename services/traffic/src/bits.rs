//! Eight facts in a byte, for what there are a hundred thousand of.

/// Which of eight facts are so; who has it names them by constants of one bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(u8);

impl Bits {
    /// Whether any of `bits` is set.
    pub(crate) const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// Sets or clears `bits`.
    pub(crate) const fn put(&mut self, bits: u8, is_set: bool) {
        if is_set {
            self.0 |= bits;
        } else {
            self.0 &= !bits;
        }
    }

    /// Sets `bits`.
    pub(crate) const fn set(&mut self, bits: u8) {
        self.put(bits, true);
    }
}

#[cfg(test)]
mod tests {
    use super::Bits;

    #[test]
    fn each_bit_is_its_own() {
        let mut bits = Bits::default();
        bits.set(1);
        bits.put(8, true);
        assert!(bits.has(1) && bits.has(8) && bits.has(2 | 8) && !bits.has(2 | 4));
        bits.put(1 | 2, false);
        assert!(!bits.has(1) && bits.has(8));
    }
}
