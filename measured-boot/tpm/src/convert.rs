//! Between `evidence`'s types and tss-esapi's.

use hookprobe_evidence::{digest::HashAlg, pcr::PcrIndex};
use tss_esapi::{
    handles::PcrHandle, interface_types::algorithm::HashingAlgorithm, structures::PcrSlot,
};

use crate::error::PcrError;

pub(crate) fn algorithm_of(bank: HashAlg) -> HashingAlgorithm {
    match bank {
        HashAlg::Sha1 => HashingAlgorithm::Sha1,
        HashAlg::Sha256 => HashingAlgorithm::Sha256,
        HashAlg::Sha384 => HashingAlgorithm::Sha384,
        HashAlg::Sha512 => HashingAlgorithm::Sha512,
    }
}

pub(crate) fn bank_of(algorithm: HashingAlgorithm) -> Result<HashAlg, PcrError> {
    HashAlg::ALL
        .into_iter()
        .find(|bank| algorithm_of(*bank) == algorithm)
        .ok_or(PcrError::UnknownBank { algorithm })
}

pub(crate) fn slot_of(index: PcrIndex) -> Result<PcrSlot, tss_esapi::Error> {
    PcrSlot::try_from(1u32 << index.get())
}

pub(crate) fn handle_of(index: PcrIndex) -> Result<PcrHandle, tss_esapi::Error> {
    // ESYS_TR_PCR0 is 0, and so on.
    PcrHandle::try_from(u32::from(index.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bank_and_index_has_its_counterpart() {
        for bank in HashAlg::ALL {
            assert_eq!(bank_of(algorithm_of(bank)).unwrap(), bank);
        }
        assert!(matches!(bank_of(HashingAlgorithm::Sm3_256), Err(PcrError::UnknownBank { .. })));
        for index in (0..24).filter_map(PcrIndex::new) {
            assert_eq!(u32::from(slot_of(index).unwrap()), 1 << index.get());
            assert_eq!(u32::from(handle_of(index).unwrap()), u32::from(index.get()));
        }
    }
}
