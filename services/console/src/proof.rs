//! Short evidence on its way from `attest` to a camera or a clipboard.
//!
//! Pure: the nonce comes from outside with [`Proof::begin`]. At most [`BYTES_MAX`] bytes are kept.

use hookprobe_wire::{
    attest::{NONCE_BYTES_MAX, NONCE_BYTES_MIN},
    qr::BYTES_MAX,
};

/// Bytes of a nonce that the console draws: nobody guesses it, and a code has to hold it.
pub const NONCE_BYTES: usize = 16;
/// Evidence that did not come by then is given up: a slow TPM takes 2 s for a quote, and it may
/// have to be made again because a register moved.
pub const PROOF_WAIT_MS: u64 = 10_000;

/// Most digits of a nonce that is typed.
pub const NONCE_DIGITS_MAX: usize = 2 * NONCE_BYTES_MAX;

/// What the evidence is asked over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce {
    /// [`NONCE_BYTES_MIN`] to [`NONCE_BYTES_MAX`] of them.
    pub bytes: Vec<u8>,
    /// A verifier's, typed in; else this console drew it.
    pub typed: bool,
}

impl Nonce {
    /// What was typed in hexadecimal; none where nothing was.
    ///
    /// # Errors
    /// Why it is no nonce, for the screen.
    pub fn parse(digits: &str) -> Result<Option<Self>, String> {
        if digits.is_empty() {
            return Ok(None);
        }
        let digit =
            |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
        bytes
            .filter(|bytes| (NONCE_BYTES_MIN..=NONCE_BYTES_MAX).contains(&bytes.len()))
            .map(|bytes| Some(Self { bytes, typed: true }))
            .ok_or_else(|| {
                format!(
                    "HP-CO-021 evidence: the nonce has {} hexadecimal digits; it needs an even \
                     number of {} to {NONCE_DIGITS_MAX}: / types it again",
                    digits.len(),
                    2 * NONCE_BYTES_MIN,
                )
            })
    }

    fn words(&self) -> (String, &'static str) {
        let hex = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        (hex, if self.typed { "as typed" } else { "drawn by this console" })
    }
}

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
        /// Once it is known.
        nonce: Option<Nonce>,
        /// What came so far.
        bytes: Vec<u8>,
    },
    /// All there.
    Ready {
        /// In hexadecimal, and whose it is.
        nonce: (String, &'static str),
        /// One `evidence::bundle::Evidence`, not looked at here.
        bytes: Vec<u8>,
    },
    /// It did not come.
    Failed(String),
}

impl Proof {
    /// Asked for; the nonce is to come.
    pub fn ask(&mut self, now_ms: u64) {
        *self = Self::Asked { at_ms: now_ms, nonce: None, bytes: Vec::new() };
    }

    /// The nonce is known, or could not be drawn.
    pub fn begin(&mut self, known: Result<Nonce, String>) {
        let Self::Asked { nonce, .. } = self else { return };
        match known {
            Ok(known) => *nonce = Some(known),
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
            let nonce = nonce.take().map(|nonce| nonce.words()).unwrap_or_default();
            *self = Self::Ready { nonce, bytes: std::mem::take(bytes) };
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
        proof.begin(Ok(Nonce { bytes: vec![0xab; NONCE_BYTES], typed: false }));
        proof
    }

    #[test]
    fn pieces_in_order_become_evidence() {
        let mut proof = asked();
        proof.part(0, 5, b"abc");
        assert!(matches!(proof, Proof::Asked { .. }));
        proof.part(3, 5, b"de");
        let Proof::Ready { nonce, bytes } = proof else { panic!("{proof:?}") };
        assert_eq!(nonce, ("ab".repeat(NONCE_BYTES), "drawn by this console"));
        assert_eq!(bytes, b"abcde");
    }

    #[test]
    fn a_typed_nonce_is_long_enough_and_whole() {
        assert_eq!(Nonce::parse(""), Ok(None));
        let typed = |bytes: &[u8]| Ok(Some(Nonce { bytes: bytes.into(), typed: true }));
        assert_eq!(Nonce::parse("00112233445566Ff"), typed(&[0, 17, 34, 51, 68, 85, 102, 255]));
        assert_eq!(Nonce::parse(&"7a".repeat(64)), typed(&[0x7a; 64]));
        for wrong in ["0011223344556", "00112233445566778", "001122334455667g", "+0+0+0+0+0+0+0+0"]
        {
            let why = Nonce::parse(wrong).unwrap_err();
            assert!(why.starts_with("HP-CO-021"), "{wrong}: {why}");
        }
        assert!(Nonce::parse(&"7a".repeat(65)).is_err());
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
