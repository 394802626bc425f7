//! A credential made here is opened by a real TPM implementation, and only for the key it names.

#![expect(clippy::unwrap_used, reason = "a failure in a helper is a failed test")]

mod support;

use std::{fs, path::Path, process::Command};

use hookprobe_evidence::{
    credential::{Credential, CredentialError, RANDOM_BYTES, make_credential},
    endorsement::{Certificate, CertificateError},
    public::EndorsementKey,
    quote::{AttestationKey, KeyName},
};
use hookprobe_swtpm::{Swtpm, available};
use proptest::prelude::*;
use support::swtpm;

const SECRET: &[u8] = b"a challenge of twenty-nine by";

/// Runs a tool of tpm2-tools in `directory`; its exit code is the answer.
fn tool(tpm: &Swtpm, directory: &Path, line: &str) -> bool {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .current_dir(directory)
        .env("TPM2TOOLS_TCTI", tpm.tcti())
        .output()
        .unwrap();
    output.status.success()
}

/// The file format of tpm2-tools: a magic number, version 1, then both structures with their sizes.
fn blob(credential: &Credential) -> Vec<u8> {
    let mut out = vec![0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];
    for part in [&credential.credential, &credential.secret] {
        out.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        out.extend(part);
    }
    out
}

#[test]
fn a_tpm_opens_a_credential_for_its_key_only() {
    if !available("tpm2_activatecredential", "tpm2-tools") {
        return;
    }
    let Some(tpm) = Swtpm::start("sha256") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let run = |line: &str| assert!(tool(&tpm, at, line), "{line}");
    run("tpm2_createek -c ek.ctx -G rsa -u ek.pub -f tss");
    run("tpm2_flushcontext -t");
    run("tpm2_createak -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -f tss -n ak.name");
    run("tpm2_flushcontext -t");
    // Both files are TPM2B: a size in front.
    let public = |name: &str| fs::read(at.join(name)).unwrap().split_off(2);
    let ek = EndorsementKey::from_public(&public("ek.pub")).unwrap();
    let ak = AttestationKey::from_public(&public("ak.pub")).unwrap();
    assert_eq!(ak.name().as_bytes(), fs::read(at.join("ak.name")).unwrap());

    let activate = |name: &KeyName| {
        let credential = make_credential(&ek, name, SECRET, &[0x5a; RANDOM_BYTES]).unwrap();
        fs::write(at.join("credential"), blob(&credential)).unwrap();
        run("tpm2_startauthsession --policy-session -S session.ctx");
        run("tpm2_policysecret -S session.ctx -c e");
        let line = "tpm2_activatecredential -c ak.ctx -C ek.ctx -i credential -o secret -P session:session.ctx";
        let opened = tool(&tpm, at, line);
        let _ = tool(&tpm, at, "tpm2_flushcontext session.ctx");
        run("tpm2_flushcontext -t");
        opened.then(|| fs::read(at.join("secret")).unwrap())
    };
    assert_eq!(activate(ak.name()).as_deref(), Some(SECRET));
    let mut other = ak.name().as_bytes().to_vec();
    other[10] ^= 1;
    assert_eq!(activate(&KeyName::new(other)), None);
}

#[test]
fn secrets_have_a_limit_and_randomness_is_all_that_differs() {
    let ek = EndorsementKey::from_public(&swtpm("ek_public")).unwrap();
    let name = KeyName::new(swtpm("ak_name"));
    let make = |secret: &[u8], random: u8| make_credential(&ek, &name, secret, &[random; 64]);
    assert_eq!(make(&[0; 33], 1), Err(CredentialError::Secret { got: 33 }));
    assert_eq!(make(&[0; 32], 1), make(&[0; 32], 1));
    let (one, two) = (make(&[0; 32], 1).unwrap(), make(&[0; 32], 2).unwrap());
    assert_ne!(one.credential, two.credential);
    assert_ne!(one.secret, two.secret);
    assert_eq!((one.credential.len(), one.secret.len()), (2 + 32 + 2 + 32, 256));
}

#[test]
fn the_certificate_of_a_software_tpm_is_read_and_verified() {
    const NOW_S: u64 = 1_900_000_000;
    let ek = EndorsementKey::from_public(&swtpm("ek_public")).unwrap();
    let mut padded = swtpm("ek_certificate");
    padded.resize(1200, 0xff);
    let certificate = Certificate::parse(&padded).unwrap();
    let maker = certificate.maker().to_string();
    assert_eq!(maker, "maker id:00001014, model swtpm, version id:20191023");
    assert!(certificate.maker().is_software() && certificate.is_of(&ek));
    let (issuer, root) = (swtpm("issuer_certificate"), swtpm("root_certificate"));
    assert_eq!(certificate.verify(&[vec![1], issuer.clone()], NOW_S), Ok(()));
    // The root alone did not sign it; neither did the certificate itself.
    let untrusted = Err(CertificateError::Untrusted);
    assert_eq!(certificate.verify(&[root], NOW_S), untrusted);
    assert_eq!(certificate.verify(&[swtpm("ek_certificate")], NOW_S), untrusted);
    assert_eq!(certificate.verify(&[], NOW_S), untrusted);
    assert_eq!(certificate.verify(&[issuer], 1), Err(CertificateError::Expired));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn mutated_certificates_never_panic_and_never_verify(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in 0usize..50,
    ) {
        let mut der = swtpm("ek_certificate");
        let original = der.clone();
        let at = at.index(der.len());
        der[at] = byte;
        der.truncate(der.len() - cut);
        if let Ok(certificate) = Certificate::parse(&der) {
            let verified = certificate.verify(&[swtpm("issuer_certificate")], 1_900_000_000);
            prop_assert!(der == original || verified.is_err());
        }
    }
}
