//! A TLS 1.3 handshake whose server key is in a real TPM 2.0 (libtpms).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: a failure here is a failed test"
)]

mod support;

use std::sync::Arc;

use hookprobe_swtpm::Swtpm;
use hookprobe_tpm::{
    Context, Trust, TrustError,
    tls::{EXPORTER_BYTES, EXPORTER_LABEL, TlsKey, TlsKeyBlob, TlsKeyError},
};
use rcgen::{CertificateParams, PublicKeyData};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};
use support::left_over;

const NAME: &str = "box.example";

/// The key in the TPM as rcgen sees it.
struct InTpm<'a>(&'a TlsKey);

impl PublicKeyData for InTpm<'_> {
    fn der_bytes(&self) -> &[u8] {
        // The point is the end of the SubjectPublicKeyInfo: 0x04, x, y.
        &self.0.spki()[self.0.spki().len() - 65..]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for InTpm<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign_message(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

fn certificate(key: &TlsKey) -> CertificateDer<'static> {
    let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.self_signed(&InTpm(key)).unwrap().der().clone()
}

fn server(key: &TlsKey, certificate: CertificateDer<'static>) -> ServerConnection {
    let certified = CertifiedKey::new(vec![certificate], Arc::new(key.clone()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    ServerConnection::new(Arc::new(config)).unwrap()
}

fn client(trusted: CertificateDer<'static>) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap()).unwrap()
}

/// Carries records to and fro until both sides have what they need.
fn handshake(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), rustls::Error> {
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut left = wire.as_slice();
        while !left.is_empty() {
            server.read_tls(&mut left).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut left = wire.as_slice();
        while !left.is_empty() {
            client.read_tls(&mut left).unwrap();
            client.process_new_packets()?;
        }
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    panic!("the handshake does not end");
}

fn start(swtpm: &Swtpm) -> TlsKey {
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let blob = tpm.create_tls_key().unwrap();
    TlsKey::start(tpm, blob).unwrap()
}

#[test]
fn a_handshake_with_a_key_in_the_tpm() {
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    let key = start(&swtpm);
    let certificate = certificate(&key);
    let (mut client, mut server) = (client(certificate.clone()), server(&key, certificate));
    handshake(&mut client, &mut server).unwrap();
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));

    // Both ends can bind a quote to this session.
    let empty = [0; EXPORTER_BYTES];
    let ours = client.export_keying_material(empty, EXPORTER_LABEL, None).unwrap();
    let theirs = server.export_keying_material(empty, EXPORTER_LABEL, None).unwrap();
    assert_eq!(ours, theirs);
    assert_ne!(ours, empty);
    assert_eq!(key.refused(), 0);
}

#[test]
fn another_key_is_refused_by_the_client() {
    let (Some(ours), Some(theirs)) = (Swtpm::start("sha256"), Swtpm::start("sha256")) else {
        return;
    };
    let (key, impostor) = (start(&ours), start(&theirs));
    let certificate = certificate(&key);
    // The right certificate with a key that is in another TPM.
    let mut server = server(&impostor, certificate.clone());
    assert!(handshake(&mut client(certificate), &mut server).is_err());
}

#[test]
fn keys_of_other_tpms_and_purposes_are_refused_at_the_start() {
    let (Some(one), Some(two)) = (Swtpm::start("sha256"), Swtpm::start("sha256")) else {
        return;
    };
    let mut tpm = Context::open(&one.tcti()).unwrap();
    let blob = tpm.create_tls_key().unwrap();
    let ak = TlsKeyBlob(tpm.create_ak().unwrap());
    // A TLS key could sign a forged quote; it is no attestation key.
    assert!(matches!(tpm.load_ak(&blob.0).unwrap_err(), TrustError::Unexpected { .. }));
    let error = TlsKey::start(tpm, ak).unwrap_err();
    assert!(matches!(error, TlsKeyError::Trust(TrustError::Unexpected { .. })), "{error}");
    assert_eq!(left_over(&one), 0);
    let error = TlsKey::start(Context::open(&two.tcti()).unwrap(), blob).unwrap_err();
    assert!(matches!(error, TlsKeyError::Trust(TrustError::ForeignKey)), "{error}");
    assert_eq!(left_over(&two), 0);
}

#[test]
fn only_its_own_scheme_is_offered() {
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    let key = start(&swtpm);
    let other = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ED25519];
    assert!(key.choose_scheme(&other).is_none());
    let offered = [SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256];
    assert!(key.choose_scheme(&offered).is_some());
}
