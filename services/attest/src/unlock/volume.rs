//! The LUKS2 volume through libcryptsetup: make, open, change.
//!
//! Two key slots: the sealed passphrase (32 random bytes) in slot 0 or 2, the recovery key (200
//! random bits) in slot 1. Both are beyond guessing, so PBKDF2 runs its least iterations: stretching
//! helps weak secrets only, and a memory-hard function would need the memory that this helper is
//! denied.
//!
//! Must never happen here: a slot that is tried with an empty passphrase or with one that is not for
//! it; a header that is used before [`Header::from_json`] accepted it; a change after which, cut off
//! at any point, nothing opens the volume; a key in the kernel's keyring (the filter ends whoever
//! asks for it).

use std::{fmt, path::Path};

use hmac::{Hmac, KeyInit, Mac};
use hookprobe_wire::Hash;
use libcryptsetup_rs::{
    CryptDevice, CryptInit, CryptParamsLuks2, CryptParamsLuks2Ref, CryptPbkdfType, Either,
    LibcryptErr, TokenInput,
    consts::{
        flags::{CryptActivate, CryptDeactivate, CryptPbkdf, CryptVolumeKey},
        vals::{CryptKdf, EncryptionFormat, KeyslotsSize, MetadataSize},
    },
};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    error::UnlockError,
    header::{
        DATA_OFFSET, Header, KEYSLOTS_BYTES, METADATA_BYTES, RECOVERY_SLOT, SECTOR_BYTES, TOKEN,
        Token, VOLUME_KEY_BYTES,
    },
    recovery::RecoveryKey,
};

/// In front of the UUID in what identifies a volume key.
const IDENTITY_DOMAIN: &[u8] = b"hookprobe.volume.v1\0";
/// PBKDF2's least; see above.
const ITERATIONS: u32 = 1000;
/// Directory of libcryptsetup's locks; PID 1 makes it.
const LOCKS: &str = "/run/cryptsetup";
/// libcryptsetup counts data offsets in sectors of 512 bytes, whatever the disk's.
const OFFSET_UNIT: u64 = 512;

/// The key of the volume itself: wiped when dropped, not printed.
pub(super) struct VolumeKey(Zeroizing<[u8; VOLUME_KEY_BYTES]>);

impl VolumeKey {
    /// What PCR 15 gets: HMAC-SHA-256 under the volume key over a domain and the UUID. Who knows it
    /// can't tell the key.
    #[must_use]
    pub(super) fn identity(&self, uuid: &str) -> Hash {
        // The key is exactly as long as a block of SHA-256, which no HMAC can refuse.
        let mut mac = Hmac::<Sha256>::new(&(*self.0).into());
        mac.update(IDENTITY_DOMAIN);
        mac.update(uuid.as_bytes());
        Hash::new(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VolumeKey(redacted)")
    }
}

/// A change of the header that just reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Leftover slots are gone.
    Tidied,
    /// The new passphrase opens a slot of its own.
    Added,
    /// The token seals the new passphrase.
    Sealed,
    /// The old slot is gone.
    Destroyed,
}

/// A volume whose header is of our shape.
pub(super) struct Volume {
    device: CryptDevice,
    header: Header,
    uuid: String,
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

/// Result of loading a header.
#[derive(Debug)]
pub(super) enum Loaded {
    /// Ours.
    Ours(Box<Volume>),
    /// Not ours; why.
    Foreign(String),
}

impl Volume {
    /// Loads the header on `device`. libcryptsetup chooses between the two copies by their
    /// checksums, reads at most 4 MiB of metadata, and mends a copy that a power cut tore.
    ///
    /// # Errors
    /// [`UnlockError::Luks`].
    pub(super) fn load(device: &Path) -> Result<Loaded, UnlockError> {
        let mut device = CryptInit::init(device).map_err(UnlockError::luks("init"))?;
        quiet(&mut device)?;
        let loaded = device.context_handle().load::<()>(Some(EncryptionFormat::Luks2), None);
        match loaded {
            Ok(()) => {}
            Err(error) => return Ok(Loaded::Foreign(super::error::cause(&error))),
        }
        Self::checked(device)
    }

    fn checked(mut device: CryptDevice) -> Result<Loaded, UnlockError> {
        let json =
            device.status_handle().dump_json().map_err(UnlockError::luks("reading metadata"))?;
        let header = match Header::from_json(json) {
            Ok(header) => header,
            Err(shape) => return Ok(Loaded::Foreign(shape.to_string())),
        };
        let uuid = device.status_handle().get_uuid().map_err(UnlockError::luks("reading UUID"))?;
        Ok(Loaded::Ours(Box::new(Self { device, header, uuid: uuid.to_string() })))
    }

    /// Makes a volume: its header in the file `header`, its data on `data`. The header's bytes are
    /// meant to be copied to the head of `data`. `seal` gives the token for slot 0.
    ///
    /// # Errors
    /// [`UnlockError::Luks`], and what `seal` says.
    pub(super) fn format(
        header: &Path,
        data: &Path,
        passphrase: &[u8; 32],
        recovery: &RecoveryKey,
        token: &Token,
    ) -> Result<(Self, VolumeKey), UnlockError> {
        let luks = UnlockError::luks;
        let mut device = CryptInit::init_with_data_device(Either::Right((header, data)))
            .map_err(luks("init"))?;
        quiet(&mut device)?;
        set_sizes(&mut device)?;
        let parameters = parameters();
        let mut parameters: CryptParamsLuks2Ref<'_> =
            (&parameters).try_into().map_err(luks("format"))?;
        device
            .context_handle()
            .format(
                EncryptionFormat::Luks2,
                ("aes", "xts-plain64"),
                None,
                Either::Right(VOLUME_KEY_BYTES),
                Some(&mut parameters),
            )
            .map_err(luks("format"))?;
        // No key given: the one that `format` drew and that is in the handle.
        let mut slots = device.keyslot_handle();
        for (slot, secret) in
            [(token.slot, passphrase.as_slice()), (RECOVERY_SLOT, recovery.expose().as_bytes())]
        {
            slots
                .add_by_key(Some(slot), None, secret, CryptVolumeKey::empty())
                .map_err(luks("adding a key slot"))?;
        }
        device
            .token_handle()
            .json_set(TokenInput::ReplaceToken(TOKEN, &token.to_json()))
            .map_err(luks("writing the token"))?;
        let mut volume = match Self::checked(device)? {
            Loaded::Ours(volume) => *volume,
            Loaded::Foreign(cause) => return Err(UnlockError::Luks { step: "format", cause }),
        };
        let key = volume.open_slot(token.slot, passphrase)?.ok_or_else(|| UnlockError::Luks {
            step: "format",
            cause: "the new slot does not open".into(),
        })?;
        Ok((volume, key))
    }

    /// UUID as text.
    #[must_use]
    pub(super) fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The header.
    #[must_use]
    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// Tries the sealed passphrase on the token's slot.
    ///
    /// # Errors
    /// [`UnlockError::Luks`] for what is not just another passphrase.
    pub(super) fn open_sealed(
        &mut self,
        passphrase: &[u8; 32],
    ) -> Result<Option<VolumeKey>, UnlockError> {
        self.open_slot(self.header.token.slot, passphrase)
    }

    /// Tries a recovery key on its slot.
    ///
    /// # Errors
    /// [`UnlockError::Luks`].
    pub(super) fn open_recovery(
        &mut self,
        key: &RecoveryKey,
    ) -> Result<Option<VolumeKey>, UnlockError> {
        self.open_slot(RECOVERY_SLOT, key.expose().as_bytes())
    }

    fn open_slot(&mut self, slot: u32, secret: &[u8]) -> Result<Option<VolumeKey>, UnlockError> {
        let mut key = Zeroizing::new([0; VOLUME_KEY_BYTES]);
        match self.device.volume_key_handle().get(Some(slot), key.as_mut_slice(), Some(secret)) {
            Ok((_, length)) if length == VOLUME_KEY_BYTES => Ok(Some(VolumeKey(key))),
            Ok((_, length)) => Err(UnlockError::Luks {
                step: "opening a key slot",
                cause: format!("a key of {length} bytes"),
            }),
            // libcryptsetup's answer to a passphrase that does not fit.
            Err(LibcryptErr::IOError(error)) if error.raw_os_error() == Some(libc::EPERM) => {
                Ok(None)
            }
            Err(error) => Err(UnlockError::luks("opening a key slot")(error)),
        }
    }

    /// Seals the volume anew: `token` holds `passphrase` sealed, for [`Header::next_slot`]. `after`
    /// is called when a step is on the disk; whichever is the last, the volume opens by the token
    /// that is then in the header, and by the recovery key.
    ///
    /// # Errors
    /// [`UnlockError::Luks`], and what `after` says.
    pub(super) fn reseal(
        &mut self,
        key: &VolumeKey,
        passphrase: &[u8; 32],
        token: Token,
        after: &mut dyn FnMut(Step) -> Result<(), UnlockError>,
    ) -> Result<(), UnlockError> {
        let old = self.header.token.slot;
        self.tidy(after)?;
        self.device
            .keyslot_handle()
            .add_by_key(
                Some(token.slot),
                Some(Either::Left(key.0.as_slice())),
                passphrase,
                CryptVolumeKey::empty(),
            )
            .map_err(UnlockError::luks("adding a key slot"))?;
        after(Step::Added)?;
        self.device
            .token_handle()
            .json_set(TokenInput::ReplaceToken(TOKEN, &token.to_json()))
            .map_err(UnlockError::luks("writing the token"))?;
        self.header.token = token;
        after(Step::Sealed)?;
        // What the old token sealed opens nothing any more, whoever kept a copy of it.
        self.device
            .keyslot_handle()
            .destroy(old)
            .map_err(UnlockError::luks("destroying the old key slot"))?;
        after(Step::Destroyed)
    }

    /// Destroys the slots that a change left over which was cut off.
    ///
    /// # Errors
    /// [`UnlockError::Luks`], and what `after` says.
    pub(super) fn tidy(
        &mut self,
        after: &mut dyn FnMut(Step) -> Result<(), UnlockError>,
    ) -> Result<(), UnlockError> {
        for slot in std::mem::take(&mut self.header.leftover) {
            self.device
                .keyslot_handle()
                .destroy(slot)
                .map_err(UnlockError::luks("destroying a leftover key slot"))?;
            after(Step::Tidied)?;
        }
        Ok(())
    }

    /// Maps the volume below /dev/mapper.
    ///
    /// # Errors
    /// [`UnlockError::Map`].
    pub(super) fn activate(&mut self, name: &str, key: &VolumeKey) -> Result<(), UnlockError> {
        self.device
            .activate_handle()
            .activate_by_volume_key(Some(name), Some(key.0.as_slice()), CryptActivate::empty())
            .map_err(|error| UnlockError::Map(super::error::cause(&error)))
    }

    /// Takes the mapping back.
    ///
    /// # Errors
    /// [`UnlockError::Map`].
    pub(super) fn deactivate(&mut self, name: &str) -> Result<(), UnlockError> {
        self.device
            .activate_handle()
            .deactivate(name, CryptDeactivate::empty())
            .map_err(|error| UnlockError::Map(super::error::cause(&error)))
    }
}

/// No kernel keyring, and slots that are added from now on get our PBKDF. Locks stay on where their
/// directory is: nobody else is there, but without them libcryptsetup does not mend a torn copy.
fn quiet(device: &mut CryptDevice) -> Result<(), UnlockError> {
    let luks = UnlockError::luks;
    let mut settings = device.settings_handle();
    if !Path::new(LOCKS).is_dir() {
        settings.metadata_locking(false).map_err(luks("switching locks off"))?;
    }
    settings.set_pbkdf_type(&pbkdf()).map_err(luks("setting PBKDF2"))?;
    device
        .context_handle()
        .volume_key_keyring(false)
        .map_err(luks("switching the kernel keyring off"))
}

fn set_sizes(device: &mut CryptDevice) -> Result<(), UnlockError> {
    let size = |_| UnlockError::Luks { step: "format", cause: "sizes of the header".into() };
    let metadata = MetadataSize::try_from(METADATA_BYTES).map_err(size)?;
    let keyslots = KeyslotsSize::try_from(KEYSLOTS_BYTES).map_err(size)?;
    device
        .settings_handle()
        .set_metadata_size(metadata, keyslots)
        .map_err(UnlockError::luks("setting the header's size"))?;
    device
        .set_data_offset(DATA_OFFSET / OFFSET_UNIT)
        .map_err(UnlockError::luks("setting the data's offset"))
}

fn pbkdf() -> CryptPbkdfType {
    CryptPbkdfType {
        type_: CryptKdf::Pbkdf2,
        hash: Some("sha256".into()),
        time_ms: 0,
        iterations: ITERATIONS,
        max_memory_kb: 0,
        parallel_threads: 0,
        flags: CryptPbkdf::NO_BENCHMARK,
    }
}

fn parameters() -> CryptParamsLuks2 {
    CryptParamsLuks2 {
        pbkdf: Some(pbkdf()),
        integrity: None,
        integrity_params: None,
        data_alignment: 0,
        data_device: None,
        sector_size: SECTOR_BYTES,
        label: Some("hookprobe-state".into()),
        subsystem: Some("hookprobe".into()),
    }
}

#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
