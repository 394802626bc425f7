//! NV memory: the boot counter and the endorsement key's certificate (TPM 2.0 Library, Part 3, 31).
//!
//! The boot counter is what makes a restored backup evidence instead of a fork: a counter index only
//! counts up, and one that was removed and defined again begins above every counter that the TPM
//! ever had. Must never happen here: a counter that another index could stand in for.

use tss_esapi::{
    attributes::NvIndexAttributesBuilder,
    constants::NvIndexType,
    handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle},
    interface_types::{
        algorithm::HashingAlgorithm,
        resource_handles::{NvAuth, Provision},
        session_handles::AuthSession,
    },
    structures::{NvPublic, NvPublicBuilder},
};

use crate::{Context, error::TrustError, structures::EkKind};

/// The boot counter, in the owner's range (TCG Registry of Reserved TPM 2.0 Handles, 2.2.2:
/// 0x01800000 to 0x01bfffff); the low half is `HP` in ASCII.
pub const EPOCH_INDEX: u32 = 0x0180_4850;
/// A counter has eight bytes.
const COUNTER_BYTES: u16 = 8;
/// Certificates have 1 to 2 KiB; NV memory has little more for everything.
const CERTIFICATE_BYTES_MAX: usize = 4096;
/// Bytes of one TPM2_NV_Read: every PC Client TPM takes that many.
const READ_BYTES_MAX: u16 = 512;

impl Context {
    pub(crate) fn read_epoch(&mut self) -> Result<Option<u64>, TrustError> {
        if !self.has_handle(EPOCH_INDEX)? {
            return Ok(None);
        }
        self.with_index(EPOCH_INDEX, |tpm, index, public| {
            if !is_counter(public)? {
                return Err(TrustError::Index { index: EPOCH_INDEX });
            }
            // Defined and never incremented: power was lost in between.
            if !public.attributes().written() {
                return Ok(None);
            }
            tpm.with_hmac(|tpm, hmac| tpm.read_counter(hmac, index)).map(Some)
        })
    }

    pub(crate) fn increment_epoch(&mut self) -> Result<u64, TrustError> {
        if !self.has_handle(EPOCH_INDEX)? {
            self.define_counter()?;
        }
        self.with_index(EPOCH_INDEX, |tpm, index, public| {
            if !is_counter(public)? {
                return Err(TrustError::Index { index: EPOCH_INDEX });
            }
            tpm.with_hmac(|tpm, hmac| {
                tpm.call_with(hmac, "TPM2_NV_Increment", |esys| {
                    esys.nv_increment(NvAuth::NvIndex(index), index)
                })?;
                tpm.read_counter(hmac, index)
            })
        })
    }

    fn define_counter(&mut self) -> Result<(), TrustError> {
        let public = counter_public(false)?;
        self.with_hmac(|tpm, hmac| {
            tpm.call_with(hmac, "TPM2_NV_DefineSpace", |esys| {
                let index = esys.nv_define_space(Provision::Owner, None, public)?;
                esys.tr_close(&mut index.into())
            })
        })
    }

    fn read_counter(&mut self, hmac: AuthSession, index: NvIndexHandle) -> Result<u64, TrustError> {
        let bytes = self.call_with(hmac, "TPM2_NV_Read", |esys| {
            esys.nv_read(NvAuth::NvIndex(index), index, COUNTER_BYTES, 0)
        })?;
        let bytes: [u8; COUNTER_BYTES as usize] = bytes
            .value()
            .try_into()
            .map_err(|_| TrustError::Unexpected { what: "the boot counter has not eight bytes" })?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// The certificate, `None` where the maker stored none.
    pub(crate) fn ek_certificate(&mut self, kind: EkKind) -> Result<Option<Vec<u8>>, TrustError> {
        let certificate = kind.certificate();
        if !self.has_handle(certificate)? {
            return Ok(None);
        }
        self.with_index(certificate, |tpm, index, public| {
            let size = public.data_size();
            if size > CERTIFICATE_BYTES_MAX {
                return Err(TrustError::Unexpected {
                    what: "the endorsement key's certificate is longer than 4096 bytes",
                });
            }
            if !public.attributes().written() {
                return Ok(None);
            }
            let mut der = Vec::with_capacity(size);
            tpm.with_hmac(|tpm, hmac| tpm.read_index(hmac, index, size, &mut der))?;
            trim_der(&mut der);
            Ok(Some(der))
        })
    }

    fn read_index(
        &mut self,
        hmac: AuthSession,
        index: NvIndexHandle,
        size: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), TrustError> {
        while out.len() < size {
            let offset = u16::try_from(out.len()).unwrap_or(u16::MAX);
            let wanted = u16::try_from(size - out.len()).unwrap_or(u16::MAX).min(READ_BYTES_MAX);
            let chunk = self.call_with(hmac, "TPM2_NV_Read", |esys| {
                esys.nv_read(NvAuth::NvIndex(index), index, wanted, offset)
            })?;
            if chunk.len() != usize::from(wanted) {
                return Err(TrustError::Unexpected { what: "TPM2_NV_Read gave another length" });
            }
            out.extend_from_slice(chunk.value());
        }
        Ok(())
    }

    /// Runs `work` with an NV index and its public area.
    fn with_index<T>(
        &mut self,
        index: u32,
        work: impl FnOnce(&mut Self, NvIndexHandle, &NvPublic) -> Result<T, TrustError>,
    ) -> Result<T, TrustError> {
        const COMMAND: &str = "TPM2_NV_ReadPublic";
        let handle = NvIndexTpmHandle::new(index).map_err(TrustError::tpm(COMMAND))?;
        let mut object =
            self.call(COMMAND, |esys| esys.tr_from_tpm_public(TpmHandle::NvIndex(handle)))?;
        let result = self
            .call(COMMAND, |esys| esys.nv_read_public(NvIndexHandle::from(object)))
            .and_then(|(public, _)| work(self, NvIndexHandle::from(object), &public));
        let closed = self.esys.tr_close(&mut object).map_err(TrustError::tpm(COMMAND));
        let value = result?;
        closed.map(|()| value)
    }
}

/// The counter: read and incremented by the owner or by its own empty value, never subject to the
/// dictionary-attack lockout, which others could trigger.
fn counter_public(written: bool) -> Result<NvPublic, TrustError> {
    const COMMAND: &str = "TPM2_NV_DefineSpace";
    let attributes = NvIndexAttributesBuilder::new()
        .with_nv_index_type(NvIndexType::Counter)
        .with_owner_write(true)
        .with_owner_read(true)
        .with_auth_write(true)
        .with_auth_read(true)
        .with_no_da(true)
        .with_written(written)
        .build()
        .map_err(TrustError::tpm(COMMAND))?;
    NvPublicBuilder::new()
        .with_nv_index(NvIndexTpmHandle::new(EPOCH_INDEX).map_err(TrustError::tpm(COMMAND))?)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes)
        .with_data_area_size(usize::from(COUNTER_BYTES))
        .build()
        .map_err(TrustError::tpm(COMMAND))
}

/// Whether an index is what [`counter_public`] defines, written or not.
fn is_counter(public: &NvPublic) -> Result<bool, TrustError> {
    let ours = counter_public(public.attributes().written())?;
    Ok(public.attributes() == ours.attributes()
        && public.name_algorithm() == ours.name_algorithm()
        && public.authorization_policy() == ours.authorization_policy()
        && public.data_size() == ours.data_size())
}

/// Cuts what follows the certificate: makers fill the index up. Bytes without the head of a long
/// DER sequence stay as they are; the verifier names what is wrong with them.
fn trim_der(der: &mut Vec<u8>) {
    if let [0x30, 0x82, high, low, ..] = der.as_slice() {
        let length = 4 + usize::from(u16::from_be_bytes([*high, *low]));
        der.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_end_where_they_say() {
        let check = |bytes: &[u8], expect: usize| {
            let mut der = bytes.to_vec();
            trim_der(&mut der);
            assert_eq!(der.len(), expect);
        };
        check(&[0x30, 0x82, 0, 2, 1, 2, 0xff, 0xff], 6);
        check(&[0x30, 0x82, 1, 0, 1, 2], 6);
        check(&[0x31, 0x82, 0, 2, 1, 2, 0xff], 7);
        check(&[], 0);
    }
}
