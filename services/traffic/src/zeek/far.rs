//! Whole numbers in six bytes: every flow has a dozen of them, which are mostly small and never that
//! large.

/// The largest: 140 TB of one connection.
const MAX: i64 = (1 << 47) - 1;

/// A whole number of 48 bits; what does not fit becomes the nearest that does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Far([u16; 3]);

impl Far {
    pub(crate) const fn new(value: i64) -> Self {
        let value = if value > MAX {
            MAX
        } else if value < -MAX {
            -MAX
        } else {
            value
        };
        Self([value as u16, (value >> 16) as u16, (value >> 32) as u16])
    }

    pub(crate) const fn get(self) -> i64 {
        let Self([low, middle, high]) = self;
        // The upper part has the sign.
        (high as i16 as i64) << 32 | (middle as i64) << 16 | low as i64
    }

    /// For what is never negative.
    pub(crate) const fn count(self) -> u64 {
        self.get().unsigned_abs()
    }

    pub(crate) const fn add(&mut self, more: u64) {
        *self = Self::new(self.get().saturating_add_unsigned(more));
    }
}

#[cfg(test)]
mod tests {
    use super::{Far, MAX};

    #[test]
    fn what_fits_stays_and_the_rest_is_the_nearest() {
        for value in [0, 1, -1, 65_535, 65_536, -65_536, 1 << 40, -(1 << 40), MAX, -MAX] {
            assert_eq!(Far::new(value).get(), value);
        }
        assert_eq!((Far::new(i64::MAX).get(), Far::new(i64::MIN).get()), (MAX, -MAX));
        let mut count = Far::default();
        count.add(70_000);
        count.add(1);
        assert_eq!((count.count(), size_of::<Far>()), (70_001, 6));
        count.add(u64::MAX);
        assert_eq!(count.get(), MAX);
    }
}
