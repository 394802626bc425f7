//! TPM2_Quote, the registers it is about, and the TPM's clock (TPM 2.0 Library, Part 3, 18).
//!
//! Must never happen here: register values that are not those of the quote.

use hookprobe_evidence::{
    bundle::PcrClaim,
    digest::{Digest, HashAlg},
    quote::{ClockInfo, Quote},
};
use tss_esapi::{
    handles::KeyHandle,
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::{
        Attest, AttestInfo, Data, PcrSelectSize, PcrSelection, PcrSelectionList, SignatureScheme,
    },
    traits::Marshall,
    tss2_esys::TPML_PCR_SELECTION,
};

use crate::{
    Context, QUOTE_RETRIES_MAX, convert,
    error::{PcrError, TrustError},
    keys,
    structures::{self, SigningKind},
    trust::{Quoted, Selection},
};

const COMMAND: &str = "TPM2_Quote";

impl Context {
    pub(crate) fn make_quote(
        &mut self,
        selection: &Selection,
        extra_data: &[u8; 32],
    ) -> Result<Quoted, TrustError> {
        let asked = selection_list(selection)?;
        for retries in 0..=QUOTE_RETRIES_MAX {
            let (attest, signature) = self.sign_quote(&asked, extra_data)?;
            let AttestInfo::Quote { info } = attest.attested() else {
                return Err(TrustError::Unexpected { what: "TPM2_Quote gave no quote" });
            };
            if attest.extra_data().value() != extra_data {
                return Err(TrustError::Unexpected { what: "the quote is for another challenge" });
            }
            if info.pcr_selection() != &asked {
                return Err(PcrError::Selection { command: COMMAND }.into());
            }
            let pcrs = self.claims(selection)?;
            if hash(&pcrs).as_bytes() != info.pcr_digest().value() {
                continue;
            }
            let quote = Quote {
                attest: attest.marshall().map_err(TrustError::tpm(COMMAND))?.into(),
                signature: signature.into(),
            };
            return Ok(Quoted { quote, pcrs, retries });
        }
        Err(PcrError::Moving { tries: QUOTE_RETRIES_MAX + 1 }.into())
    }

    fn sign_quote(
        &mut self,
        asked: &PcrSelectionList,
        extra_data: &[u8; 32],
    ) -> Result<(Attest, Vec<u8>), TrustError> {
        let ak = self.loaded_ak()?.handle;
        let data = Data::try_from(extra_data.as_slice()).map_err(TrustError::tpm(COMMAND))?;
        let asked = asked.clone();
        // By the key's empty value, not in a session: nothing secret crosses the bus, and whatever
        // is changed on it makes the signature another's. A salted session would cost a third of
        // the time of a challenge.
        let (attest, signature) = self.call_with(AuthSession::Password, COMMAND, |esys| {
            esys.quote(ak, data, SignatureScheme::Null, asked)
        })?;
        Ok((attest, signature.marshall().map_err(TrustError::tpm(COMMAND))?))
    }

    /// Values in the quote's order: banks as asked, indexes ascending.
    fn claims(&mut self, selection: &Selection) -> Result<Vec<PcrClaim>, TrustError> {
        let mut claims = Vec::new();
        for (bank, indexes) in selection {
            let values = self.pcr_read(&[*bank], indexes)?;
            claims.extend(values.into_iter().map(|((bank, index), digest)| PcrClaim {
                alg: bank as u16,
                index: index.get(),
                digest: digest.as_bytes().to_vec().into(),
            }));
        }
        Ok(claims)
    }

    /// tss-esapi has no TPM2_ReadClock; TPM2_GetTime tells the same, and in a salted session nobody on
    /// the bus can change it. A key of the endorsement hierarchy has to sign it: for others, and
    /// without one, the TPM adds a secret number to the counters.
    pub(crate) fn read_clock(&mut self) -> Result<ClockInfo, TrustError> {
        if let Some(ak) = &self.ak {
            return self.time_signed_by(ak.handle);
        }
        let template =
            keys::unmarshall(&structures::signing_public(SigningKind::Attestation, &[], &[]))?;
        let made = self.with_hmac(|tpm, hmac| {
            tpm.call_with(hmac, "TPM2_CreatePrimary", |esys| {
                esys.create_primary(Hierarchy::Endorsement, template, None, None, None, None)
            })
        })?;
        self.with_object(made.key_handle.into(), |tpm| tpm.time_signed_by(made.key_handle))
    }

    fn time_signed_by(&mut self, key: KeyHandle) -> Result<ClockInfo, TrustError> {
        let (attest, _) = self.with_hmac(|tpm, hmac| {
            tpm.call("TPM2_GetTime", |esys| {
                // Both handles have an empty value; one session can't serve two.
                let sessions = (Some(hmac), Some(AuthSession::Password), None);
                esys.execute_with_sessions(sessions, |esys| {
                    esys.get_time(key, Data::default(), SignatureScheme::Null)
                })
            })
        })?;
        let clock = attest.clock_info();
        Ok(ClockInfo {
            clock_ms: clock.clock(),
            reset_count: clock.reset_count(),
            restart_count: clock.restart_count(),
            safe: clock.safe(),
        })
    }
}

/// The quote's pcrDigest, by the hash of the key's scheme.
fn hash(pcrs: &[PcrClaim]) -> Digest {
    let digests: Vec<&[u8]> = pcrs.iter().map(|claim| claim.digest.as_slice()).collect();
    HashAlg::Sha256.digest(&digests)
}

/// In the order given: tss-esapi's own builder shuffles banks, and the order is part of what is hashed.
pub(crate) fn selection_list(selection: &Selection) -> Result<PcrSelectionList, TrustError> {
    let mut list = TPML_PCR_SELECTION {
        count: u32::try_from(selection.len()).unwrap_or(u32::MAX),
        ..Default::default()
    };
    if selection.len() > list.pcrSelections.len() {
        return Err(PcrError::Selection { command: COMMAND }.into());
    }
    for (slot, (bank, indexes)) in list.pcrSelections.iter_mut().zip(selection) {
        let slots = indexes
            .iter()
            .map(|index| convert::slot_of(*index))
            .collect::<Result<Vec<_>, _>>()
            .map_err(TrustError::tpm(COMMAND))?;
        let algorithm = convert::algorithm_of(*bank);
        *slot = PcrSelection::create(algorithm, PcrSelectSize::ThreeOctets, &slots)
            .map_err(TrustError::tpm(COMMAND))?
            .into();
    }
    PcrSelectionList::try_from(list).map_err(TrustError::tpm(COMMAND))
}
