//! Identity, quotes and the boot counter on a real TPM 2.0 (libtpms), checked by `evidence` and by
//! tpm2-tools.

mod support;

use std::fs;

use hookprobe_evidence::{
    credential::make_credential,
    digest::HashAlg,
    endorsement::Certificate,
    pcr::PcrIndex,
    public::{EncryptingKey, EndorsementKey},
    quote::{AttestationKey, Binding, KeyName},
};
use hookprobe_swtpm::Swtpm;
use hookprobe_tpm::{Context, EPOCH_INDEX, Trust, TrustError, trust::Selection};
use support::{left_over, tool};
use tempfile::TempDir;

fn selection() -> Selection {
    let indexes = [0, 7, 11, 12, 13, 15].into_iter().filter_map(PcrIndex::new).collect();
    vec![(HashAlg::Sha256, indexes)]
}

fn binding(nonce: u8) -> Binding {
    Binding {
        nonce: vec![nonce; 32].into(),
        exporter: Some(vec![2; 32].into()),
        node: Some(vec![3; 32].into()),
        epoch: 4,
        length: 5,
        head: Some(vec![6; 32].into()),
        root: Some(vec![7; 32].into()),
    }
}

#[test]
fn certified_endorsement_key() {
    let Some(swtpm) = Swtpm::start_certified() else {
        return;
    };
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let endorsement = tpm.endorsement().unwrap();
    assert!(tpm.commands() <= 11, "{} commands", tpm.commands());
    let key = EndorsementKey::from_public(&endorsement.public).unwrap();
    let certificate = endorsement.certificate.expect("the maker's certificate");
    // The certificate is about this key, and nothing follows it.
    let parsed = Certificate::parse(&certificate).unwrap();
    assert!(parsed.is_of(&key));
    assert!(parsed.maker().is_software(), "{:?}", parsed.maker());
    let length = u16::from_be_bytes([certificate[2], certificate[3]]);
    assert_eq!(certificate.len(), 4 + usize::from(length));

    let maker = tpm.maker().unwrap();
    assert!(maker.software, "{maker:?}");
    assert_eq!(maker.manufacturer, "IBM");
    tpm.create_ak().unwrap();
    drop(tpm);
    assert_eq!(left_over(&swtpm), 0);
}

#[test]
fn attestation_key_and_quote() {
    let Some(swtpm) = Swtpm::start("sha1,sha256,sha384,sha512") else {
        return;
    };
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    assert_eq!(tpm.endorsement().unwrap().certificate, None);
    let blob = tpm.create_ak().unwrap();
    tpm.extend(PcrIndex::SERVICES, &[HashAlg::Sha256.digest(&[b"x"])]).unwrap();

    let before = tpm.commands();
    let quoted = tpm.quote(&selection(), &binding(1).extra_data()).unwrap();
    assert_eq!(tpm.commands() - before, 2, "quote, read");
    assert_eq!(quoted.retries, 0);
    let key = AttestationKey::from_public(&blob.public).unwrap();
    let verified = quoted.quote.verify(&key, &binding(1)).unwrap();
    assert_eq!(verified.selection, selection());
    assert!(quoted.quote.verify(&key, &binding(2)).is_err());
    let clock = tpm.clock().unwrap();
    assert_eq!(clock.reset_count, verified.clock.reset_count);
    assert_eq!(clock.restart_count, verified.clock.restart_count);
    assert!(clock.clock_ms >= verified.clock.clock_ms);
    drop(tpm);
    assert_eq!(left_over(&swtpm), 0);

    // The next boot loads it, another TPM does not.
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    assert!(tpm.quote(&selection(), &[0; 32]).is_err(), "no key is loaded yet");
    tpm.load_ak(&blob).unwrap();
    tpm.quote(&selection(), &[0; 32]).unwrap().quote.verify(&key, &binding(1)).unwrap_err();
    let mut changed = blob.clone();
    changed.public[7] ^= 0x40; // userWithAuth
    assert!(matches!(tpm.load_ak(&changed).unwrap_err(), TrustError::Unexpected { .. }));
    let mut changed = blob.clone();
    changed.private[40] ^= 1;
    assert!(matches!(tpm.load_ak(&changed).unwrap_err(), TrustError::ForeignKey));
    drop(tpm);
    assert_eq!(left_over(&swtpm), 0);

    let Some(other) = Swtpm::start("sha256") else {
        return;
    };
    let mut tpm = Context::open(&other.tcti()).unwrap();
    assert!(matches!(tpm.load_ak(&blob).unwrap_err(), TrustError::ForeignKey));
    drop(tpm);
    assert_eq!(left_over(&other), 0);
}

#[test]
fn quotes_of_several_banks_and_of_banks_that_are_not_there() {
    let Some(swtpm) = Swtpm::start("sha256,sha384") else {
        return;
    };
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let key = AttestationKey::from_public(&tpm.create_ak().unwrap().public).unwrap();
    let selection: Selection = vec![
        (HashAlg::Sha256, (0..16).filter_map(PcrIndex::new).collect()),
        (HashAlg::Sha384, vec![PcrIndex::UKI]),
    ];
    let quoted = tpm.quote(&selection, &binding(1).extra_data()).unwrap();
    assert_eq!(quoted.quote.verify(&key, &binding(1)).unwrap().selection, selection);
    assert_eq!(quoted.pcrs.len(), 17);
    let error = tpm.quote(&vec![(HashAlg::Sha512, vec![PcrIndex::UKI])], &[0; 32]).unwrap_err();
    assert!(error.to_string().starts_with("HP-TP-105"), "{error}");
}

#[test]
fn tpm2_checkquote_accepts_our_quote() {
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let blob = tpm.create_ak().unwrap();
    let extra_data = binding(1).extra_data();
    let quoted = tpm.quote(&selection(), &extra_data).unwrap();

    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut public = u16::try_from(blob.public.len()).unwrap().to_be_bytes().to_vec();
    public.extend(&blob.public);
    fs::write(path("ak"), public).unwrap();
    fs::write(path("message"), quoted.quote.attest.as_slice()).unwrap();
    fs::write(path("signature"), quoted.quote.signature.as_slice()).unwrap();
    let values: Vec<u8> = quoted.pcrs.iter().flat_map(|claim| claim.digest.to_vec()).collect();
    fs::write(path("pcrs"), values).unwrap();
    let check = |nonce: &[u8], pcrs: &str| {
        let nonce: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
        tool(
            "tpm2_checkquote",
            &[
                "-u",
                &path("ak"),
                "-m",
                &path("message"),
                "-s",
                &path("signature"),
                "-g",
                "sha256",
                "-q",
                &nonce,
                "-f",
                &path(pcrs),
                "-l",
                "sha256:0,7,11,12,13,15",
            ],
        )
    };
    let Some(output) = check(&extra_data, "pcrs") else {
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!check(&[0; 32], "pcrs").unwrap().status.success(), "another nonce");
    let mut values = fs::read(path("pcrs")).unwrap();
    values[33] ^= 1;
    fs::write(path("other"), values).unwrap();
    assert!(!check(&extra_data, "other").unwrap().status.success(), "other registers");
}

#[test]
fn evidence_challenges_us() {
    let Some(swtpm) = Swtpm::start_certified() else {
        return;
    };
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let ek = EndorsementKey::from_public(&tpm.endorsement().unwrap().public).unwrap();
    let ak = AttestationKey::from_public(&tpm.create_ak().unwrap().public).unwrap();
    let random = std::array::from_fn(|at| at as u8);
    let made = make_credential(&ek, ak.name(), &[0x5a; 32], &random).unwrap();
    assert_eq!(tpm.activate(&made.credential, &made.secret).unwrap(), [0x5a; 32]);
    let other = KeyName::new(vec![0; 34]);
    let made = make_credential(&ek, &other, &[0x5a; 32], &random).unwrap();
    assert!(tpm.activate(&made.credential, &made.secret).is_err());
}

/// A TPM whose maker certified a P-256 key and no other: that one is used for all.
#[test]
fn an_elliptic_endorsement_key() {
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    // What a maker would have written; that it is not about this key is for the verifier.
    let file = swtpm.folder().join("certificate");
    fs::write(&file, [0x30, 2, 5, 0]).unwrap();
    let (tcti, file) = (swtpm.tcti(), file.to_str().unwrap());
    let index = "0x01c0000a";
    let define = [index, "-C", "o", "-s", "4", "-a", "ownerwrite|ownerread|authread", "-T", &tcti];
    for (name, args) in [
        ("tpm2_nvdefine", &define[..]),
        ("tpm2_nvwrite", &[index, "-C", "o", "-i", file, "-T", &tcti]),
    ] {
        let Some(output) = tool(name, args) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let endorsement = tpm.endorsement().unwrap();
    assert_eq!(endorsement.certificate.unwrap().to_vec(), [0x30, 2, 5, 0]);
    let ek = EndorsementKey::from_public(&endorsement.public).unwrap();
    assert!(matches!(ek.key(), EncryptingKey::P256(_)));
    let blob = tpm.create_ak().unwrap();
    let ak = AttestationKey::from_public(&blob.public).unwrap();
    let random = std::array::from_fn(|at| at as u8);
    let made = make_credential(&ek, ak.name(), &[0x5a; 32], &random).unwrap();
    assert_eq!(tpm.activate(&made.credential, &made.secret).unwrap(), [0x5a; 32]);
    let made = make_credential(&ek, &KeyName::new(vec![0; 34]), &[0x5a; 32], &random).unwrap();
    assert!(tpm.activate(&made.credential, &made.secret).is_err());
    // A quote says under which endorsement key its key is; so it is after a restart.
    for _ in 0..2 {
        let quoted = tpm.quote(&selection(), &binding(1).extra_data()).unwrap();
        let verified = quoted.quote.verify(&ak, &binding(1)).unwrap();
        assert_eq!(ek.qualified_child(ak.name()), verified.qualified_signer);
        drop(tpm);
        tpm = Context::open(&swtpm.tcti()).unwrap();
        tpm.load_ak(&blob).unwrap();
    }
    drop(tpm);
    assert_eq!(left_over(&swtpm), 0);
}

#[test]
fn tpm2_makecredential_challenges_us() {
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    let endorsement = tpm.endorsement().unwrap();
    let blob = tpm.create_ak().unwrap();
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut public = u16::try_from(endorsement.public.len()).unwrap().to_be_bytes().to_vec();
    public.extend(endorsement.public.as_slice());
    fs::write(path("ek"), public).unwrap();
    fs::write(path("secret"), b"a challenger's secret").unwrap();
    let key = AttestationKey::from_public(&blob.public).unwrap();
    let out = path("credential");
    let args = ["-T", "none", "-u", &path("ek"), "-s", &path("secret"), "-o", &out, "-n"];
    let name = key.name().hex();
    let Some(output) = tool("tpm2_makecredential", &[&args[..], &[&name]].concat()) else {
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // Magic, version, then two TPM2B.
    let file = fs::read(out).unwrap();
    let (size, rest) = file[8..].split_first_chunk::<2>().unwrap();
    let (credential, rest) = rest.split_at(usize::from(u16::from_be_bytes(*size)));
    let (_, secret) = rest.split_first_chunk::<2>().unwrap();
    let before = tpm.commands();
    assert_eq!(tpm.activate(credential, secret).unwrap(), b"a challenger's secret");
    assert_eq!(tpm.commands() - before, 6, "two sessions, policy, activation");
    // For another key of the same TPM it is not.
    tpm.create_ak().unwrap();
    assert!(tpm.activate(credential, secret).is_err());
    assert!(tpm.activate(&[0; 2000], secret).is_err());
    drop(tpm);
    assert_eq!(left_over(&swtpm), 0);
}

#[test]
fn the_boot_counter_only_counts_up() {
    let Some(swtpm) = Swtpm::start("sha256") else {
        return;
    };
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    assert_eq!(tpm.epoch().unwrap(), None);
    let first = tpm.next_epoch().unwrap();
    assert_eq!(tpm.epoch().unwrap(), Some(first));
    let before = tpm.commands();
    assert_eq!(tpm.next_epoch().unwrap(), first + 1);
    assert_eq!(tpm.commands() - before, 7, "three about the index, session, two, flush");
    drop(tpm);
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    assert_eq!(tpm.epoch().unwrap(), Some(first + 1));
    drop(tpm);

    // Removed and made again, it goes on above; another index is not taken for it.
    let index = format!("{EPOCH_INDEX:#x}");
    let tcti = swtpm.tcti();
    let Some(output) = tool("tpm2_nvundefine", &["-T", &tcti, "-C", "o", &index]) else {
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    assert!(tpm.next_epoch().unwrap() > first + 1);
    drop(tpm);
    tool("tpm2_nvundefine", &["-T", &tcti, "-C", "o", &index]).unwrap();
    let args = ["-T", &tcti, "-C", "o", "-s", "8", "-a", "ownerread|ownerwrite", &index];
    assert!(tool("tpm2_nvdefine", &args).unwrap().status.success());
    let mut tpm = Context::open(&swtpm.tcti()).unwrap();
    assert!(matches!(tpm.next_epoch().unwrap_err(), TrustError::Index { .. }));
    assert!(matches!(tpm.epoch().unwrap_err(), TrustError::Index { .. }));
    drop(tpm);
    assert_eq!(left_over(&swtpm), 0);
}
