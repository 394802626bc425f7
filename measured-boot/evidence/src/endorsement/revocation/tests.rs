use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, RevocationReason, RevokedCertParams, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};

use super::*;
use crate::{
    appraise::{Appraisal, Reference, Status, appraise},
    levels::Level,
    sample::{Sample, fixture},
};

const NOW_S: u64 = Sample::NOW_S;
const SERIAL: u64 = 4711;
const PLACE: &str = "http://maker.example/ek.crl";

/// The endorsement key of the sample, for an authority to certify.
struct EkKey(Vec<u8>);

impl PublicKeyData for EkKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

/// A maker with a key on P-384.
struct Maker {
    issuer: Issuer<'static, KeyPair>,
    root: Vec<u8>,
}

impl Maker {
    fn new(usages: &[KeyUsagePurpose]) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a maker of TPMs");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = usages.to_vec();
        params.serial_number = Some(SerialNumber::from(1));
        let root = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), root }
    }

    fn usual() -> Self {
        Self::new(&[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign])
    }

    /// A certificate for the sample's endorsement key.
    fn certificate(&self, place: Option<&str>) -> Vec<u8> {
        let known = Certificate::parse(&fixture("p384.ek")).unwrap();
        let info = known.parsed.tbs_certificate().subject_public_key_info();
        let key = EkKey(info.subject_public_key.as_bytes().unwrap().to_vec());
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(SERIAL));
        let point = |uri: &str| CrlDistributionPoint { uris: vec![uri.into()] };
        params.crl_distribution_points = place.map(point).into_iter().collect();
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }

    /// A list that names these numbers.
    fn list(
        &self,
        serials: &[u64],
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> Vec<u8> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2029, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let mut params = CertificateRevocationListParams {
            this_update: date_time_ymd(2030, 1, 1),
            next_update: date_time_ymd(2031, 1, 1),
            crl_number: SerialNumber::from(7),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

fn keep(_: &mut CertificateRevocationListParams) {}

fn standing(maker: &Maker, lists: &[Vec<u8>]) -> Result<(), CertificateError> {
    let certificate = Certificate::parse(&maker.certificate(Some(PLACE))).unwrap();
    let roots = [fixture("p384.root"), maker.root.clone()];
    assert_eq!(certificate.verify(&roots, NOW_S), Ok(()));
    certificate.stands(&roots, lists, NOW_S)
}

const REVOKED: Result<(), CertificateError> = Err(CertificateError::Revoked("its certificate"));

fn unknown(why: &'static str) -> Result<(), CertificateError> {
    Err(CertificateError::NotListed(why))
}

const NONE: &str = "there is none of its issuer's";
const OLD: &str = "that of its issuer is out of date";
const OTHERS: &str = "that of its issuer is about other certificates";

#[test]
fn what_a_list_names_is_revoked_and_its_silence_counts_while_it_is_current() {
    let maker = Maker::usual();
    assert_eq!(standing(&maker, &[]), unknown(NONE));
    assert_eq!(
        standing(&maker, &[maker.list(&[1, 2], keep)]),
        Err(CertificateError::Revoked("the certificate of its issuer"))
    );
    assert_eq!(standing(&maker, &[maker.list(&[2, 3], keep)]), Ok(()));
    assert_eq!(standing(&maker, &[vec![1], maker.list(&[2, SERIAL], keep)]), REVOKED);
    let old = |params: &mut CertificateRevocationListParams| {
        params.this_update = date_time_ymd(2028, 1, 1);
        params.next_update = date_time_ymd(2029, 1, 1);
    };
    let early = |params: &mut CertificateRevocationListParams| {
        params.this_update = date_time_ymd(2031, 1, 1);
        params.next_update = date_time_ymd(2032, 1, 1);
    };
    assert_eq!(standing(&maker, &[maker.list(&[], old)]), unknown(OLD));
    assert_eq!(standing(&maker, &[maker.list(&[], early)]), unknown(OLD));
    // A current one beside it is enough, and one that names it counts whatever its age.
    let (old_list, current) = (maker.list(&[], old), maker.list(&[], keep));
    assert_eq!(standing(&maker, &[old_list.clone(), current.clone(), old_list]), Ok(()));
    assert_eq!(standing(&maker, &[current, maker.list(&[SERIAL], old)]), REVOKED);
}

#[test]
fn only_the_issuer_itself_takes_back() {
    let (maker, namesake) = (Maker::usual(), Maker::usual());
    // Another key under the same name, among the roots or not.
    let other = namesake.list(&[SERIAL], keep);
    assert_eq!(standing(&maker, std::slice::from_ref(&other)), unknown(NONE));
    // A key that certifies and does not sign lists.
    let silent = Maker::new(&[KeyUsagePurpose::KeyCertSign]);
    let signing = Maker { issuer: silent.with_lists(), root: silent.root.clone() };
    assert_eq!(standing(&silent, &[signing.list(&[SERIAL], keep)]), unknown(NONE));
}

impl Maker {
    /// The same key and name, by whom a list is signed that its certificate does not allow.
    fn with_lists(&self) -> Issuer<'static, KeyPair> {
        let key = KeyPair::try_from(self.issuer.key().serialized_der()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a maker of TPMs");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        Issuer::new(params, key)
    }
}

#[test]
fn a_partial_list_is_silent_about_the_rest() {
    let maker = Maker::usual();
    let part = |uri: &str, scope| {
        let distribution_point = CrlDistributionPoint { uris: vec![uri.into()] };
        Some(CrlIssuingDistributionPoint { distribution_point, scope })
    };
    let list = |serials: &[u64], uri: &str, scope| {
        maker.list(serials, |params| params.issuing_distribution_point = part(uri, scope))
    };
    assert_eq!(standing(&maker, &[list(&[], PLACE, None)]), Ok(()));
    assert_eq!(standing(&maker, &[list(&[], PLACE, Some(CrlScope::UserCertsOnly))]), Ok(()));
    let others = [("http://maker.example/2", None), (PLACE, Some(CrlScope::CaCertsOnly))];
    for (uri, scope) in others {
        assert_eq!(standing(&maker, &[list(&[], uri, scope)]), unknown(OTHERS));
        assert_eq!(standing(&maker, &[list(&[SERIAL], uri, scope)]), REVOKED);
    }
    // Taken off the list again.
    let again = maker.list(&[SERIAL], |params| {
        params.revoked_certs[0].reason_code = Some(RevocationReason::RemoveFromCrl);
    });
    assert_eq!(standing(&maker, &[again]), Ok(()));
}

#[test]
fn appraisals_refuse_a_revoked_endorsement_key() {
    let maker = Maker::usual();
    let mut sample = Sample::new();
    sample.certificate = Some(maker.certificate(None));
    let with = |lists: Option<Vec<Vec<u8>>>| -> Appraisal {
        let reference = Reference {
            ek_roots: Some(vec![maker.root.clone()]),
            ek_lists: lists,
            ..sample.reference()
        };
        appraise(&sample.evidence(), &reference, NOW_S)
    };
    let code = |appraisal: &Appraisal| appraisal.worst().map(|found| found.code.clone());
    for good in [with(None), with(Some(vec![maker.list(&[], keep)]))] {
        assert_eq!((good.status, good.level), (Status::Affirming, Level::L3));
    }
    let revoked = with(Some(vec![maker.list(&[SERIAL], keep)]));
    assert_eq!((revoked.status, revoked.level), (Status::Contraindicated, Level::L2));
    assert_eq!(code(&revoked).as_deref(), Some("HP-QV-057"));
    let not_known = with(Some(Vec::new()));
    assert_eq!((not_known.status, not_known.level), (Status::Warning, Level::L2));
    assert_eq!(code(&not_known).as_deref(), Some("HP-QV-058"));
}

#[test]
fn lists_are_bounded() {
    let long = vec![0x30; LIST_BYTES_MAX + 1];
    assert_eq!(RevocationList::parse(&long).unwrap_err(), CertificateError::List("too long"));
    // Longer than 64 KiB, as those of large makers are.
    let maker = Maker::usual();
    let serials: Vec<u64> = (10_000..13_000).collect();
    let list = maker.list(&serials, keep);
    assert!(list.len() > 65_536);
    assert_eq!(standing(&maker, &[list]), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn mutated_lists_never_panic_and_never_speak(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in 0usize..50,
    ) {
        let maker = Maker::usual();
        let original = maker.list(&[2], keep);
        let mut der = original.clone();
        let at = at.index(der.len());
        der[at] = byte;
        der.truncate(der.len() - cut);
        let stands = standing(&maker, std::slice::from_ref(&der)).is_ok();
        prop_assert!(!stands || der == original);
    }
}
