//! Who the box is to devices that send syslog over TLS: a key pair and a certificate that it signs
//! itself, known by their fingerprint (RFC 5425, sections 4.2.2 and 5.1).
//!
//! Made once and kept in the inspector's state, which lies in the encrypted volume where there is a TPM.
//! Where nothing lasts, each boot has another one, and the line of the start says which. What must never
//! happen: a key that is told or logged, an identity that changes because a clock does.

use std::{fmt::Write as _, io, path::Path, sync::Arc, time::Duration};

use minicbor::{Decode, Encode, bytes::ByteVec};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tracing::warn;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    files,
    syslog::tls::{self, IdentityError},
};

/// File in the state.
const FILE: &str = "syslog.identity";
/// The last second of a day.
const LAST_SECOND: Duration = Duration::from_secs(24 * 60 * 60 - 1);
/// Its longest content. 4 KiB: a P-256 key and a certificate of one name are an eighth of it.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// Why there is none.
#[derive(Debug, Error)]
pub enum OwnError {
    /// Key or certificate can't be made.
    #[error(
        "HP-SN-606 syslog: no key pair or certificate for TLS can be made; restart the inspector"
    )]
    Make(#[from] rcgen::Error),
    /// It can't be kept: senders that pinned it would be lost at the next start.
    #[error(
        "HP-SN-607 syslog: the identity for TLS can't be kept or read; look at the state volume"
    )]
    Keep(#[source] io::Error),
    /// Both are there and do not fit together.
    #[error(transparent)]
    Unfit(#[from] IdentityError),
}

/// As it lies in the file.
#[derive(Encode, Decode)]
struct Kept {
    /// PKCS#8, DER.
    #[n(0)]
    key: ByteVec,
    /// X.509, DER.
    #[n(1)]
    certificate: ByteVec,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The box's own.
pub struct Identity {
    /// What sessions are served with.
    pub server: Arc<ServerConfig>,
    /// What senders pin: `sha-256:` and the certificate's digest, as RFC 5425 writes it.
    pub fingerprint: String,
}

impl Identity {
    /// The kept one, or a new one, which is kept. A file that is damaged is replaced, and that is said.
    ///
    /// # Errors
    /// Any [`OwnError`].
    pub fn of_the_box(state: &Path, name: &str) -> Result<Self, OwnError> {
        let kept = match files::read(&state.join(FILE), FILE_BYTES_MAX) {
            Ok(bytes) => {
                let bytes = Zeroizing::new(bytes);
                minicbor::decode::<Kept>(&bytes).ok().and_then(|kept| Self::from(&kept).ok())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Self::make(state, name);
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => None,
            // A disk that fails must not cost every sender its pin.
            Err(error) => return Err(OwnError::Keep(error)),
        };
        kept.map_or_else(
            || {
                warn!("HP-SN-608 syslog: the identity for TLS was damaged and is made anew; senders have to pin it again");
                Self::make(state, name)
            },
            Ok,
        )
    }

    fn make(state: &Path, name: &str) -> Result<Self, OwnError> {
        let key = KeyPair::generate()?;
        let mut wanted = CertificateParams::new(vec![name.to_owned()])?;
        wanted.distinguished_name = DistinguishedName::new();
        wanted.distinguished_name.push(DnType::CommonName, name);
        // "No well-defined expiration" (RFC 5280, 4.1.2.5): who pins it decides, not a clock.
        wanted.not_before = date_time_ymd(2000, 1, 1);
        wanted.not_after = date_time_ymd(9999, 12, 31) + LAST_SECOND;
        let certificate = wanted.self_signed(&key)?;
        let kept = Kept {
            key: key.serialize_der().into(),
            certificate: certificate.der().to_vec().into(),
        };
        let made = Self::from(&kept)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize));
        // Into a Vec: fails for no value of this type.
        minicbor::encode(&kept, &mut *bytes)
            .map_err(|error| OwnError::Keep(io::Error::other(error.to_string())))?;
        files::replace(state, FILE, &bytes).map_err(OwnError::Keep)?;
        Ok(made)
    }

    fn from(kept: &Kept) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from(kept.certificate.to_vec());
        let fingerprint = fingerprint(&certificate);
        let key = PrivatePkcs8KeyDer::from(kept.key.to_vec());
        Ok(Self { server: tls::server(vec![certificate], key.into(), None)?, fingerprint })
    }
}

/// RFC 5425, 4.2.2: the hash's name, a colon, and the bytes in capitals with colons between them.
#[must_use]
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::from("sha-256");
    for byte in Sha256::digest(certificate) {
        // Into a String: can't fail.
        let _ = write!(text, ":{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn made_once_kept_and_replaced_when_damaged() {
        let state = tempfile::tempdir().unwrap();
        let of_the_box = || Identity::of_the_box(state.path(), "hp-lab").unwrap().fingerprint;
        let first = of_the_box();
        assert_eq!(first.len(), "sha-256".len() + 3 * 32);
        assert_eq!(of_the_box(), first);
        let file = state.path().join(FILE);
        let whole = fs::read(&file).unwrap();
        for damaged in [&whole[..whole.len() - 1], &[], &[0; 5000][..]] {
            fs::write(&file, damaged).unwrap();
            assert_ne!(of_the_box(), first);
        }
        // The key of one and the certificate of another are no identity.
        let mut mixed: Kept = minicbor::decode(&fs::read(&file).unwrap()).unwrap();
        mixed.certificate = minicbor::decode::<Kept>(&whole).unwrap().certificate.clone();
        assert!(Identity::from(&mixed).is_err());
    }

    #[test]
    fn a_state_that_keeps_nothing_is_an_error() {
        let state = tempfile::tempdir().unwrap();
        let gone = state.path().join("gone");
        assert!(matches!(Identity::of_the_box(&gone, "hp-lab"), Err(OwnError::Keep(_))));
        // One that can't be read is no damage: nothing is made in its place.
        let file = state.path().join(FILE);
        fs::create_dir(&file).unwrap();
        assert!(matches!(Identity::of_the_box(state.path(), "hp-lab"), Err(OwnError::Keep(_))));
        assert!(file.is_dir());
    }
}
