//! Signatures around JSON: DSSE envelopes (secure-systems-lab/dsse, protocol v1) for the reference
//! manifest, JWS (RFC 7515, ES256) for attestation results.
//!
//! Must never happen here: a payload that is parsed before its signature was verified.

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use p256::ecdsa::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    ecdsa,
    manifest::{ManifestError, ReferenceManifest},
    policy::ReleaseKey,
};

/// payloadType of a signed reference manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.hookprobe.reference-manifest+json";
/// Where the release's public key (PEM) stands in the image; measured, as all of it.
pub const RELEASE_KEY_PATH: &str = "/usr/share/hookprobe/release.pem";
/// Where the envelope stands on the boot partition, beside the blob: it can't be in the blob, whose
/// hash it has.
pub const ENVELOPE_NAME: &str = "MANIFEST.SIG";
/// Where PID 1 leaves a copy for those who may not read the boot partition.
pub const ENVELOPE_PATH: &str = "/run/hookprobe/manifest.dsse";
/// Longest envelope that is read.
pub const ENVELOPE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most signatures in an envelope: a release is signed by one key, by two while keys change.
const SIGNATURES_MAX: usize = 8;
/// Longest attestation result that is parsed.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;
/// Longest JOSE header.
const JOSE_BYTES_MAX: usize = 4096;

/// Why an envelope can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// Not an envelope.
    #[error("HP-QV-030 signed manifest: {0}; re-flash")]
    Syntax(String),
    /// No signature of a key that is trusted here.
    #[error(
        "HP-QV-031 signed manifest: not signed by the release key {wanted}; re-flash, or give the verifier the key of this release"
    )]
    Untrusted {
        /// keyid that was wanted.
        wanted: String,
    },
    /// What is inside is no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Verifies an envelope under `release`, then parses the manifest in it.
///
/// # Errors
/// Any [`EnvelopeError`].
pub fn open_manifest(
    envelope: &[u8],
    release: &ReleaseKey,
) -> Result<ReferenceManifest, EnvelopeError> {
    Ok(ReferenceManifest::parse(&open(envelope, MANIFEST_TYPE, release)?)?)
}

/// A DSSE envelope. Fields that are not known are ignored, as the protocol demands.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    /// Base64.
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeSignature {
    /// A hint, not authenticated, so never looked at.
    #[serde(default)]
    keyid: String,
    /// Base64 of the ECDSA signature in DER.
    sig: String,
}

/// The payload of an envelope of `payload_type` with at least one signature of `key`.
///
/// # Errors
/// [`EnvelopeError::Syntax`], [`EnvelopeError::Untrusted`].
pub fn open(
    envelope: &[u8],
    payload_type: &str,
    key: &ReleaseKey,
) -> Result<Vec<u8>, EnvelopeError> {
    let syntax = |why: &str| EnvelopeError::Syntax(why.into());
    if envelope.len() > ENVELOPE_BYTES_MAX {
        return Err(syntax("too long"));
    }
    let envelope: Envelope = serde_json::from_slice(envelope)
        .map_err(|error| EnvelopeError::Syntax(error.to_string()))?;
    if envelope.payload_type != payload_type {
        return Err(syntax("payload of another type"));
    }
    if envelope.signatures.len() > SIGNATURES_MAX {
        return Err(syntax("too many signatures"));
    }
    let payload = base64(&envelope.payload).ok_or_else(|| syntax("payload is not Base64"))?;
    let message = pre_authentication(payload_type, &payload);
    let signed = envelope.signatures.iter().any(|signature| {
        base64(&signature.sig)
            .and_then(|der| Signature::from_der(&der).ok())
            .is_some_and(|signature| ecdsa::verifies(key.key(), &message, &signature))
    });
    signed.then_some(payload).ok_or_else(|| EnvelopeError::Untrusted { wanted: key.id() })
}

/// Base64 of either alphabet: DSSE lets the writer choose.
fn base64(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text)
        .or_else(|_| Base64UrlUnpadded::decode_vec(text.trim_end_matches('=')))
        .ok()
}

/// Bytes that a DSSE signature is over: `DSSEv1 len type len payload`.
#[must_use]
pub fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// Puts an envelope together from the payload and `sign`'s ECDSA P-256 signature (r and s) over
/// [`pre_authentication`].
#[must_use]
pub fn seal_manifest(
    manifest: &ReferenceManifest,
    key_id: &str,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> Vec<u8> {
    seal(MANIFEST_TYPE, &manifest.to_json(), key_id, sign)
}

/// As [`seal_manifest`], for any payload. The signature in the envelope is DER, as of all DSSE
/// implementations with ECDSA.
#[must_use]
pub fn seal(
    payload_type: &str,
    payload: &[u8],
    key_id: &str,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> Vec<u8> {
    let signature = sign(&pre_authentication(payload_type, payload));
    let der = Signature::from_slice(&signature).map(|signature| signature.to_der());
    let envelope = Envelope {
        payload_type: payload_type.into(),
        payload: Base64::encode_string(payload),
        signatures: vec![EnvelopeSignature {
            keyid: key_id.into(),
            // What is no signature (r or s is zero) stays none: nobody will accept the envelope.
            sig: der.map(|der| Base64::encode_string(der.as_bytes())).unwrap_or_default(),
        }],
    };
    // Plain structs of strings always serialise.
    let mut out = serde_json::to_vec(&envelope).unwrap_or_default();
    out.push(b'\n');
    out
}

/// Why a signed attestation result can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResultError {
    /// Not a compact JWS.
    #[error("HP-QV-032 attestation result: {0}; ask the verifier for a new one")]
    Syntax(&'static str),
    /// Not signed by the verifier's key.
    #[error(
        "HP-QV-033 attestation result: not signed by this verifier's key; it was changed, or is another verifier's"
    )]
    Signature,
}

#[derive(Serialize, Deserialize)]
struct JoseHeader {
    alg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    kid: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    typ: String,
    /// Extensions that must be understood; none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

/// A JWS in compact form (RFC 7515, ES256) around a claims set. `sign` gives r and s over what it
/// gets.
#[must_use]
pub fn seal_result(claims: &[u8], key_id: &str, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> String {
    let header =
        JoseHeader { alg: "ES256".into(), kid: key_id.into(), typ: "eat+jwt".into(), crit: None };
    let header = serde_json::to_vec(&header).unwrap_or_default();
    let mut out = Base64UrlUnpadded::encode_string(&header);
    out.push('.');
    out.push_str(&Base64UrlUnpadded::encode_string(claims));
    let signature = Base64UrlUnpadded::encode_string(&sign(out.as_bytes()));
    out.push('.');
    out.push_str(&signature);
    out
}

/// The claims set of a JWS that `key` signed. The algorithm is the key's, whatever the header
/// says; a header that says something else is refused.
///
/// # Errors
/// Any [`ResultError`].
pub fn open_result(jws: &str, key: &VerifyingKey) -> Result<Vec<u8>, ResultError> {
    if jws.len() > RESULT_BYTES_MAX {
        return Err(ResultError::Syntax("too long"));
    }
    let (message, signature) = jws.rsplit_once('.').ok_or(ResultError::Syntax("no signature"))?;
    let (header, claims) = message.split_once('.').ok_or(ResultError::Syntax("no claims"))?;
    if header.len() > JOSE_BYTES_MAX {
        return Err(ResultError::Syntax("header too long"));
    }
    let decode = |text: &str| {
        Base64UrlUnpadded::decode_vec(text).map_err(|_| ResultError::Syntax("not base64url"))
    };
    let signature = Signature::from_slice(&decode(signature)?)
        .map_err(|_| ResultError::Syntax("no ES256 signature"))?;
    if !ecdsa::verifies(key, message.as_bytes(), &signature) {
        return Err(ResultError::Signature);
    }
    let header: JoseHeader = serde_json::from_slice(&decode(header)?)
        .map_err(|_| ResultError::Syntax("header is not JSON"))?;
    if header.alg != "ES256" || header.crit.is_some() {
        return Err(ResultError::Syntax("another algorithm or an unknown extension"));
    }
    decode(claims)
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::{SigningKey, signature::Signer as _};
    use proptest::prelude::*;

    use super::*;
    use crate::closure::ServiceList;

    fn key() -> SigningKey {
        SigningKey::from_slice(&[7; 32]).unwrap()
    }

    fn signer(key: SigningKey) -> impl Fn(&[u8]) -> [u8; 64] {
        move |message| {
            let signature: Signature = key.sign(message);
            signature.to_bytes().into()
        }
    }

    fn release() -> ReleaseKey {
        ReleaseKey::new(*key().verifying_key())
    }

    fn manifest() -> ReferenceManifest {
        let list = ServiceList { service: Vec::new() };
        ReferenceManifest::predict("1", 1, &list, |_| Ok(Vec::new())).unwrap()
    }

    #[test]
    fn dsse_pre_authentication_is_the_protocols_example() {
        assert_eq!(
            pre_authentication("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_sealed_manifest_opens_under_its_key_only() {
        let envelope = seal_manifest(&manifest(), &release().id(), signer(key()));
        assert_eq!(open_manifest(&envelope, &release()), Ok(manifest()));
        let other = SigningKey::from_slice(&[8; 32]).unwrap();
        let error = open_manifest(&envelope, &ReleaseKey::new(*other.verifying_key())).unwrap_err();
        assert!(matches!(error, EnvelopeError::Untrusted { .. }), "{error}");
        // The keyid is a hint: one that lies changes nothing.
        let lying = seal_manifest(&manifest(), &release().id(), signer(other));
        assert!(matches!(open_manifest(&lying, &release()), Err(EnvelopeError::Untrusted { .. })));
        // Signed as something else: the type is part of what is signed.
        let typed = seal("text/plain", &manifest().to_json(), "", signer(key()));
        assert!(matches!(open_manifest(&typed, &release()), Err(EnvelopeError::Syntax(_))));
        let renamed = String::from_utf8(typed).unwrap().replace("text/plain", MANIFEST_TYPE);
        assert!(matches!(
            open_manifest(renamed.as_bytes(), &release()),
            Err(EnvelopeError::Untrusted { .. })
        ));
        let garbage = seal(MANIFEST_TYPE, b"{}", "", signer(key()));
        assert!(matches!(open_manifest(&garbage, &release()), Err(EnvelopeError::Manifest(_))));
    }

    #[test]
    fn a_result_opens_under_its_verifiers_key_only() {
        let jws = seal_result(br#"{"a":1}"#, "v", signer(key()));
        let good = key();
        assert_eq!(open_result(&jws, good.verifying_key()).unwrap(), br#"{"a":1}"#);
        let other = SigningKey::from_slice(&[8; 32]).unwrap();
        assert_eq!(open_result(&jws, other.verifying_key()), Err(ResultError::Signature));
        assert_eq!(open_result("a.b", good.verifying_key()), Err(ResultError::Syntax("no claims")));
        // The header's algorithm does not choose anything, but has to be true.
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"ES256","crit":["b64"],"b64":false}"#] {
            let message = format!("{}.e30", Base64UrlUnpadded::encode_string(header.as_bytes()));
            let signature = Base64UrlUnpadded::encode_string(&signer(key())(message.as_bytes()));
            let error = open_result(&format!("{message}.{signature}"), good.verifying_key());
            assert!(matches!(error, Err(ResultError::Syntax(_))));
        }
    }

    proptest! {
        #[test]
        fn mutations_never_panic_and_never_open_to_something_else(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut envelope = seal_manifest(&manifest(), &release().id(), signer(key()));
            let at_envelope = at.index(envelope.len());
            envelope[at_envelope] = byte;
            if let Ok(opened) = open_manifest(&envelope, &release()) {
                prop_assert_eq!(opened, manifest());
            }
            let mut jws = seal_result(br#"{"a":1}"#, "v", signer(key())).into_bytes();
            let at_jws = at.index(jws.len());
            jws[at_jws] = byte;
            if let Ok(claims) = String::from_utf8(jws).map_err(|_| ()).and_then(|jws| {
                open_result(&jws, key().verifying_key()).map_err(|_| ())
            }) {
                prop_assert_eq!(claims, br#"{"a":1}"#);
            }
        }
    }
}
