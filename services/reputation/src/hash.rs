//! SipHash-2-4 with 128 bits of output (Aumasson, Bernstein, INDOCRYPT 2012; the reference's
//! vectors are the test).
//!
//! Keyed, so that nobody can prepare names that collide before a list's key is drawn.

/// The key of one list's hashes; drawn anew by the signer for each list, public afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

/// 80 bits of a name's hash: what a list tells names apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameHash(u128);

/// Bits of a [`NameHash`].
pub const HASH_BITS: u32 = 80;

impl NameHash {
    /// Of a normalised name.
    #[must_use]
    pub fn of(key: &HashKey, name: &[u8]) -> Self {
        Self(siphash128(key, name) >> (128 - HASH_BITS))
    }

    /// The highest `bits` bits, at most 24.
    pub(crate) fn bucket(self, bits: u8) -> usize {
        // 24 bits fit into every usize that this runs on.
        usize::try_from(self.0 >> (HASH_BITS - u32::from(bits.min(24)))).unwrap_or(0)
    }

    /// The 56 bits after the first `bits`.
    pub(crate) fn fingerprint(self, bits: u8) -> u64 {
        let shift = HASH_BITS - 56 - u32::from(bits.min(24));
        u64::try_from((self.0 >> shift) & 0x00ff_ffff_ffff_ffff).unwrap_or(0)
    }

    /// Ten bytes, most significant first: their order is the hash's order.
    pub(crate) fn to_bytes(self) -> [u8; 10] {
        let mut out = [0; 10];
        let bytes = self.0.to_be_bytes();
        for (to, from) in out.iter_mut().zip(bytes.iter().skip(6)) {
            *to = *from;
        }
        out
    }

    /// The reverse of [`NameHash::to_bytes`].
    pub(crate) fn from_bytes(bytes: [u8; 10]) -> Self {
        Self(bytes.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)))
    }
}

struct State([u64; 4]);

impl State {
    fn rounds(&mut self, count: usize) {
        let [mut a, mut b, mut c, mut d] = self.0;
        for _ in 0..count {
            a = a.wrapping_add(b);
            c = c.wrapping_add(d);
            b = b.rotate_left(13) ^ a;
            d = d.rotate_left(16) ^ c;
            a = a.rotate_left(32);
            c = c.wrapping_add(b);
            a = a.wrapping_add(d);
            b = b.rotate_left(17) ^ c;
            d = d.rotate_left(21) ^ a;
            c = c.rotate_left(32);
        }
        self.0 = [a, b, c, d];
    }

    fn word(&mut self, word: u64) {
        self.0[3] ^= word;
        self.rounds(2);
        self.0[0] ^= word;
    }

    fn folded(&self) -> u64 {
        self.0.iter().fold(0, |all, word| all ^ word)
    }
}

fn partial_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The first eight bytes of the reference's output are the high half here.
fn siphash128(key: &HashKey, data: &[u8]) -> u128 {
    let (keys, _) = key.0.as_chunks::<8>();
    let [k0, k1] = keys else { return 0 };
    let (k0, k1) = (u64::from_le_bytes(*k0), u64::from_le_bytes(*k1));
    let mut state = State([
        0x736f_6d65_7073_6575 ^ k0,
        0x646f_7261_6e64_6f6d ^ k1 ^ 0xee,
        0x6c79_6765_6e65_7261 ^ k0,
        0x7465_6462_7974_6573 ^ k1,
    ]);
    let (words, rest) = data.as_chunks::<8>();
    for word in words {
        state.word(u64::from_le_bytes(*word));
    }
    // The last byte of the last word is the length modulo 256.
    let length = u64::try_from(data.len() & 0xff).unwrap_or(0);
    state.word(partial_word(rest) | length << 56);
    state.0[2] ^= 0xee;
    state.rounds(4);
    let first = state.folded();
    state.0[1] ^= 0xdd;
    state.rounds(4);
    let second = state.folded();
    u128::from(first) << 64 | u128::from(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_vectors() {
        let key = HashKey(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        let data: Vec<u8> = (0..64).collect();
        // Of the reference's table for 128 bits: inputs of 0, 1 and 2 bytes.
        for (length, expected) in [
            (0, "a3817f04ba25a8e66df67214c7550293"),
            (1, "da87c1d86b99af44347659119b22fc45"),
            (2, "8177228da4a45dc7fca38bdef60affe4"),
        ] {
            let hash = siphash128(&key, &data[..length]);
            let bytes: Vec<u8> = [(hash >> 64) as u64, hash as u64]
                .iter()
                .flat_map(|half| half.to_le_bytes())
                .collect();
            let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text, expected, "{length} bytes");
        }
    }

    #[test]
    fn bytes_keep_order_and_value() {
        let key = HashKey([7; 16]);
        let hashes: Vec<NameHash> =
            (0..100_u32).map(|n| NameHash::of(&key, &n.to_be_bytes())).collect();
        for pair in hashes.windows(2) {
            assert_eq!(pair[0] < pair[1], pair[0].to_bytes() < pair[1].to_bytes());
            assert_eq!(NameHash::from_bytes(pair[0].to_bytes()), pair[0]);
        }
    }
}
