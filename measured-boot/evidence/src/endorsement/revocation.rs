//! Lists of certificates that a maker of TPMs took back (RFC 5280, 5), as the verifier has them on file:
//! nothing here asks a network.
//!
//! A list counts when one of the verifier's own certificates signed it. What it names is revoked, however
//! old it is; that it does not name a certificate says something only while it is current and about all
//! certificates of its issuer. Must never happen here: silence of a list that is partial or out of date
//! taken for a good word.

use x509_cert::{
    crl::{CertificateList, RevokedCert},
    der::{Decode as _, asn1::ObjectIdentifier},
    ext::{
        Extension,
        pkix::{
            CrlDistributionPoints, CrlReason, KeyUsage,
            crl::dp::IssuingDistributionPoint,
            name::{DistributionPointName, GeneralName},
        },
    },
};

use super::{Certificate, CertificateError, ROOTS_MAX, element, verify};

/// Longest list; makers revoke few TPMs, the longest lists known have some hundred KiB.
pub const LIST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most lists of a verifier that are looked at.
pub const LISTS_MAX: usize = 64;

/// issuingDistributionPoint: of which certificates the list tells.
const PARTITION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
/// cRLReasons
const REASON: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");

/// A list that was parsed; nobody has verified it yet.
#[derive(Debug)]
pub struct RevocationList {
    parsed: CertificateList,
    /// What the signature is over.
    signed: Vec<u8>,
    /// Of which certificates it tells; none: of all.
    partition: Option<IssuingDistributionPoint>,
}

/// What lists say of one certificate.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Good,
    Revoked,
    /// No list that could say it does.
    Unknown(&'static str),
}

impl RevocationList {
    /// From DER.
    ///
    /// # Errors
    /// [`CertificateError::List`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let wrong = CertificateError::List;
        if der.len() > LIST_BYTES_MAX {
            return Err(wrong("too long"));
        }
        let (whole, content) = element(der).ok_or(wrong("not DER"))?;
        let (signed, _) = element(content).ok_or(wrong("not DER"))?;
        let parsed = CertificateList::from_der(whole).map_err(|_| wrong("not DER"))?;
        if parsed.signature_algorithm != parsed.tbs_cert_list.signature {
            return Err(wrong("two signature algorithms"));
        }
        let extension = extensions(&parsed).find(|extension| extension.extn_id == PARTITION);
        let partition = extension
            .map(|extension| IssuingDistributionPoint::from_der(extension.extn_value.as_bytes()))
            .transpose()
            .map_err(|_| wrong("its distribution point"))?;
        Ok(Self { parsed, signed: signed.to_vec(), partition })
    }

    /// Whether `issuer` signed it under its name and may.
    fn is_by(&self, issuer: &Certificate) -> bool {
        let tbs = issuer.parsed.tbs_certificate();
        let may_sign = match tbs.get_extension::<KeyUsage>() {
            Ok(None) => true,
            Ok(Some((_, usage))) => usage.crl_sign(),
            Err(_) => false,
        };
        let Some(signature) = self.parsed.signature.as_bytes() else {
            return false;
        };
        may_sign
            && *tbs.subject() == self.parsed.tbs_cert_list.issuer
            && verify(
                tbs.subject_public_key_info(),
                &self.parsed.signature_algorithm.oid,
                &self.signed,
                signature,
            )
    }

    /// Whether it takes `certificate`, which has the same issuer, back. A list of several issuers'
    /// certificates is not read: its numbers may be another's.
    fn names(&self, certificate: &Certificate) -> bool {
        let serial = certificate.parsed.tbs_certificate().serial_number();
        let entries = self.parsed.tbs_cert_list.revoked_certificates.iter().flatten();
        !self.partition.as_ref().is_some_and(|partition| partition.indirect_crl)
            && entries
                .filter(|entry| entry.serial_number == *serial)
                .any(|entry| reason(entry) != Some(CrlReason::RemoveFromCRL))
    }

    /// Whether its silence says something of `certificate`.
    fn tells_of(&self, certificate: &Certificate) -> bool {
        // A critical extension that is not known here, such as that it only has changes.
        if extensions(&self.parsed).any(|one| one.critical && one.extn_id != PARTITION) {
            return false;
        }
        let Some(partition) = &self.partition else {
            return true;
        };
        let partial = partition.indirect_crl
            || partition.only_contains_attribute_certs
            || partition.only_contains_ca_certs
            || partition.only_some_reasons.is_some();
        let place = partition.distribution_point.as_ref();
        !partial && place.is_none_or(|place| certificate.is_told_at(place))
    }

    fn is_current(&self, now_s: u64) -> bool {
        let list = &self.parsed.tbs_cert_list;
        let begun = list.this_update.to_unix_duration().as_secs() <= now_s;
        let next = list.next_update.as_ref().map(|next| next.to_unix_duration().as_secs());
        begun && next.is_some_and(|next| now_s <= next)
    }
}

impl Certificate {
    /// Whether `lists` (DER) know that neither it nor the certificate of its issuer among `roots` (DER)
    /// was taken back by `now_s`. To be asked of a certificate that [`Self::verify`] accepted.
    ///
    /// # Errors
    /// [`CertificateError::Revoked`], [`CertificateError::NotListed`].
    pub fn stands(
        &self,
        roots: &[Vec<u8>],
        lists: &[Vec<u8>],
        now_s: u64,
    ) -> Result<(), CertificateError> {
        let roots: Vec<Self> =
            roots.iter().take(ROOTS_MAX).filter_map(|der| Self::parse(der).ok()).collect();
        let lists: Vec<RevocationList> = lists
            .iter()
            .take(LISTS_MAX)
            .filter_map(|der| RevocationList::parse(der).ok())
            .collect();
        let standing = self.standing(&roots, &lists, now_s);
        if standing == Standing::Revoked {
            return Err(CertificateError::Revoked("its certificate"));
        }
        let issuers = roots.iter().filter(|root| root.issued(self));
        let mut standings = issuers.map(|issuer| issuer.standing(&roots, &lists, now_s));
        if standings.any(|standing| standing == Standing::Revoked) {
            return Err(CertificateError::Revoked("the certificate of its issuer"));
        }
        match standing {
            Standing::Good | Standing::Revoked => Ok(()),
            Standing::Unknown(why) => Err(CertificateError::NotListed(why)),
        }
    }

    fn standing(&self, roots: &[Self], lists: &[RevocationList], now_s: u64) -> Standing {
        let mut best = Standing::Unknown("there is none of its issuer's");
        for list in lists {
            let of_issuer =
                list.parsed.tbs_cert_list.issuer == *self.parsed.tbs_certificate().issuer();
            if !of_issuer || !roots.iter().any(|root| list.is_by(root)) {
                continue;
            }
            if list.names(self) {
                return Standing::Revoked;
            }
            if best == Standing::Good {
                continue;
            }
            best = match (list.tells_of(self), list.is_current(now_s)) {
                (true, true) => Standing::Good,
                (true, false) => Standing::Unknown("that of its issuer is out of date"),
                (false, _) => Standing::Unknown("that of its issuer is about other certificates"),
            };
        }
        best
    }

    /// Whether it says that lists about it are at `place`.
    fn is_told_at(&self, place: &DistributionPointName) -> bool {
        let tbs = self.parsed.tbs_certificate();
        let Ok(Some((_, own))) = tbs.get_extension::<CrlDistributionPoints>() else {
            return false;
        };
        let own = own.0.iter().filter_map(|point| point.distribution_point.as_ref());
        own.into_iter().any(|own| names(own).any(|name| names(place).any(|other| other == name)))
    }
}

fn names(place: &DistributionPointName) -> impl Iterator<Item = &GeneralName> {
    match place {
        DistributionPointName::FullName(names) => names.as_slice(),
        DistributionPointName::NameRelativeToCRLIssuer(_) => &[],
    }
    .iter()
}

fn extensions(list: &CertificateList) -> impl Iterator<Item = &Extension> {
    list.tbs_cert_list.crl_extensions.iter().flat_map(|all| all.iter())
}

fn reason(entry: &RevokedCert) -> Option<CrlReason> {
    let mut all = entry.crl_entry_extensions.iter().flat_map(|all| all.iter());
    let found = all.find(|extension| extension.extn_id == REASON)?;
    CrlReason::from_der(found.extn_value.as_bytes()).ok()
}

#[cfg(test)]
mod tests;
