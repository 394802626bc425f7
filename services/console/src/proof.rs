//! Short evidence on its way from `attest` to a camera or a clipboard.
//!
//! Pure: the nonce comes from outside with [`Proof::begin`]. At most [`BYTES_MAX`] bytes are kept.

use hookprobe_wire::qr::BYTES_MAX;

/// Bytes of the console's nonce: nobody guesses it, and a code has to hold it.
pub const NONCE_BYTES: usize = 16;
/// Evidence that did not come by then is given up: a slow TPM takes 2 s for a quote, and it may
/// have to be made again because a register moved.
pub const PROOF_WAIT_MS: u64 = 10_000;

/// Evidence, from the key to the screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Proof {
    /// Not asked for.
    #[default]
    Idle,
    /// On its way.
    Asked {
        /// When it was asked for.
        at_ms: u64,
        /// In hexadecimal, once it was drawn.
        nonce: String,
        /// What came so far.
        bytes: Vec<u8>,
    },
    /// All there.
    Ready {
        /// In hexadecimal.
        nonce: String,
        /// One `evidence::bundle::Evidence`, not looked at here.
        bytes: Vec<u8>,
    },
    /// It did not come.
    Failed(String),
}

impl Proof {
    /// Asked for; the nonce is being drawn.
    pub fn ask(&mut self, now_ms: u64) {
        *self = Self::Asked { at_ms: now_ms, nonce: String::new(), bytes: Vec::new() };
    }

    /// The nonce was drawn, or could not be.
    pub fn begin(&mut self, drawn: Result<[u8; NONCE_BYTES], String>) {
        let Self::Asked { nonce, .. } = self else { return };
        match drawn {
            Ok(bytes) => *nonce = bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            Err(reason) => self.fail(&format!(
                "HP-CO-013 evidence: no random nonce ({reason}); check the seccomp groups"
            )),
        }
    }

    /// A piece came.
    pub fn part(&mut self, offset: u32, total: u32, piece: &[u8]) {
        let Self::Asked { nonce, bytes, .. } = self else { return };
        let (offset, total) = (usize::try_from(offset), usize::try_from(total));
        let (Ok(offset), Ok(total @ 1..=BYTES_MAX)) = (offset, total) else {
            self.fail("HP-CO-014 evidence: too long for this page; export it over the network");
            return;
        };
        if offset != bytes.len() || piece.is_empty() || piece.len() > total - bytes.len().min(total)
        {
            self.fail("HP-CO-015 evidence: attest sent pieces that do not fit; ask again");
            return;
        }
        bytes.extend_from_slice(piece);
        if bytes.len() == total {
            *self = Self::Ready { nonce: std::mem::take(nonce), bytes: std::mem::take(bytes) };
        }
    }

    /// It will not come; what is already there stays.
    pub fn fail(&mut self, reason: &str) {
        if matches!(self, Self::Asked { .. }) {
            *self = Self::Failed(reason.into());
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now_ms: u64) {
        if let Self::Asked { at_ms, .. } = self
            && now_ms.saturating_sub(*at_ms) > PROOF_WAIT_MS
        {
            self.fail("HP-CO-016 evidence: no answer from attest; see 7 Services");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Proof {
        let mut proof = Proof::Idle;
        proof.ask(5);
        proof.begin(Ok([0xab; NONCE_BYTES]));
        proof
    }

    #[test]
    fn pieces_in_order_become_evidence() {
        let mut proof = asked();
        proof.part(0, 5, b"abc");
        assert!(matches!(proof, Proof::Asked { .. }));
        proof.part(3, 5, b"de");
        let Proof::Ready { nonce, bytes } = proof else { panic!("{proof:?}") };
        assert_eq!((nonce, bytes), ("ab".repeat(NONCE_BYTES), b"abcde".to_vec()));
    }

    #[test]
    fn what_does_not_fit_fails() {
        let check = |pieces: &[(u32, u32, &[u8])], code: &str| {
            let mut proof = asked();
            for (offset, total, piece) in pieces {
                proof.part(*offset, *total, piece);
            }
            assert!(matches!(&proof, Proof::Failed(why) if why.starts_with(code)), "{proof:?}");
        };
        check(&[(0, u32::MAX, b"a")], "HP-CO-014");
        check(&[(0, 0, b"")], "HP-CO-014");
        check(&[(0, 5, b"")], "HP-CO-015");
        check(&[(1, 5, b"a")], "HP-CO-015");
        check(&[(0, 2, b"abc")], "HP-CO-015");
        check(&[(0, 9, b"abc"), (3, 2, b"d")], "HP-CO-015");
    }

    #[test]
    fn silence_and_no_randomness_fail() {
        let mut proof = asked();
        proof.tick(5 + PROOF_WAIT_MS);
        assert!(matches!(proof, Proof::Asked { .. }));
        proof.tick(6 + PROOF_WAIT_MS);
        assert!(matches!(&proof, Proof::Failed(why) if why.starts_with("HP-CO-016")));
        let mut proof = Proof::Idle;
        proof.ask(0);
        proof.begin(Err("EPERM".into()));
        assert!(matches!(&proof, Proof::Failed(why) if why.starts_with("HP-CO-013")));
    }

    #[test]
    fn nobody_asked_nothing_is_kept() {
        let mut proof = Proof::Idle;
        proof.part(0, 3, b"abc");
        proof.fail("x");
        assert_eq!(proof, Proof::Idle);
    }
}
