//! Sequence numbers: 32 bits that wrap (RFC 9293 section 3.4).

/// `a - b`, negative if `a` lies before.
pub(crate) const fn delta(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

pub(crate) const fn lt(a: u32, b: u32) -> bool {
    delta(a, b) < 0
}

pub(crate) const fn le(a: u32, b: u32) -> bool {
    delta(a, b) <= 0
}

pub(crate) const fn gt(a: u32, b: u32) -> bool {
    delta(a, b) > 0
}

pub(crate) const fn ge(a: u32, b: u32) -> bool {
    delta(a, b) >= 0
}
