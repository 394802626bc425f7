//! [`Trust`] as a real TPM answers it.

use hookprobe_evidence::{
    bundle::Endorsement,
    digest::HashAlg,
    policy::{Purpose, ReleaseKey, SignedPolicy},
    quote::ClockInfo,
};
use tss_esapi::constants::PropertyTag;

use crate::{
    Context,
    error::TrustError,
    structures::SigningKind,
    trust::{AkBlob, Maker, Quoted, Secret, Selection, Trust},
};

/// TPM_PT_VENDOR_STRING_1 to 4.
const VENDOR: [PropertyTag; 4] = [
    PropertyTag::VendorString1,
    PropertyTag::VendorString2,
    PropertyTag::VendorString3,
    PropertyTag::VendorString4,
];

impl Context {
    /// Four characters of each property; what is no printable ASCII is left out.
    fn text(&mut self, properties: &[PropertyTag]) -> Result<String, TrustError> {
        let mut text = String::new();
        for property in properties {
            let word = self
                .call("TPM2_GetCapability", |esys| esys.get_tpm_property(*property))?
                .unwrap_or_default();
            let printable = |byte: &u8| matches!(byte, b' '..=b'~');
            text.extend(word.to_be_bytes().into_iter().filter(printable).map(char::from));
        }
        Ok(text.trim().to_owned())
    }
}

impl Trust for Context {
    fn banks(&mut self) -> Result<Vec<HashAlg>, TrustError> {
        Ok(self.active_banks()?)
    }

    fn maker(&mut self) -> Result<Maker, TrustError> {
        let manufacturer = self.text(&[PropertyTag::Manufacturer])?;
        let vendor = self.text(&VENDOR)?;
        // The reference code and libtpms, which is made of it, call themselves so.
        let software = manufacturer == "IBM" && vendor.starts_with("SW ");
        Ok(Maker { manufacturer, vendor, software })
    }

    fn clock(&mut self) -> Result<ClockInfo, TrustError> {
        self.read_clock()
    }

    fn endorsement(&mut self) -> Result<Endorsement, TrustError> {
        self.read_endorsement()
    }

    fn create_ak(&mut self) -> Result<AkBlob, TrustError> {
        let blob = self.create_child(SigningKind::Attestation)?;
        self.replace_ak(&blob)?;
        self.prove_ak()?;
        Ok(blob)
    }

    fn load_ak(&mut self, ak: &AkBlob) -> Result<(), TrustError> {
        self.replace_ak(ak)
    }

    fn activate(&mut self, credential: &[u8], secret: &[u8]) -> Result<Vec<u8>, TrustError> {
        self.activate_credential(credential, secret)
    }

    fn quote(
        &mut self,
        selection: &Selection,
        extra_data: &[u8; 32],
    ) -> Result<Quoted, TrustError> {
        self.make_quote(selection, extra_data)
    }

    fn epoch(&mut self) -> Result<Option<u64>, TrustError> {
        self.read_epoch()
    }

    fn next_epoch(&mut self) -> Result<u64, TrustError> {
        self.increment_epoch()
    }

    fn wrapping_key(
        &mut self,
        release: &ReleaseKey,
        purpose: Purpose,
        generation: u32,
        policies: &[SignedPolicy],
    ) -> Result<Secret, TrustError> {
        self.derive_wrapping_key(release, purpose, generation, policies)
    }

    fn commands(&self) -> u64 {
        self.commands
    }
}
