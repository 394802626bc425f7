//! What is on the partition, and what a LUKS2 header of ours may say.
//!
//! The header is on a disk that anybody could have changed: nothing in it is used before it was
//! compared with the one shape that this system makes. A header that asks for anything else (another
//! cipher, more memory, a detached or half re-encrypted segment) is not ours. Pure.
//!
//! Spec: LUKS2 On-Disk Format Specification 1.1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Bytes that are looked at, all zero on a blank partition; also the length of header and key slots.
pub const HEAD_BYTES: usize = 4 * 1024 * 1024;
/// First byte of what is encrypted.
pub const DATA_OFFSET: u64 = 16 * 1024 * 1024;
/// Length of one of the two copies of the metadata.
pub const METADATA_BYTES: u64 = 16 * 1024;
/// Length of all key slots.
pub const KEYSLOTS_BYTES: u64 = HEAD_BYTES as u64 - 2 * METADATA_BYTES;
/// Slots that the sealed passphrase moves between.
pub const SEALED_SLOTS: [u32; 2] = [0, 2];
/// Slot of the recovery key.
pub const RECOVERY_SLOT: u32 = 1;
/// The only token.
pub const TOKEN: u32 = 0;
/// Cipher of the volume and of the key slots.
pub const ENCRYPTION: &str = "aes-xts-plain64";
/// XTS: two keys of 256 bits.
pub const VOLUME_KEY_BYTES: usize = 64;
/// A torn write loses a sector, as it does on the disk itself.
pub const SECTOR_BYTES: u32 = 512;
/// First sector of a partition on which a volume is being made: the LUKS magic replaces it last.
pub const UNFINISHED: &[u8; 32] = b"hookprobe: volume being made\n\0\0\0";

/// Type of our token.
const TOKEN_TYPE: &str = "hookprobe";
const TOKEN_VERSION: u32 = 1;
/// Longest sealed passphrase: 32 bytes and a few hundred around them.
const SEALED_BYTES_MAX: usize = 2048;
/// Most PBKDF2 iterations that are waited for: two seconds on a slow machine. Ours are 1000.
const ITERATIONS_MAX: u64 = 1_000_000;
const LUKS_MAGIC: &[u8] = b"LUKS\xba\xbe";
const EXT4_MAGIC_AT: usize = 0x438;
const EXT4_MAGIC: &[u8] = &[0x53, 0xef];

/// What the first bytes of a partition say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Only zeros, or the making of a volume was cut off.
    Blank,
    /// LUKS2 with metadata of our length.
    Luks2,
    /// Another LUKS.
    OtherLuks,
    /// ext2, ext3 or ext4.
    Ext4,
    /// Something else.
    Other,
}

/// Looks at the first [`HEAD_BYTES`].
#[must_use]
pub fn classify(head: &[u8]) -> Head {
    if head.starts_with(LUKS_MAGIC) {
        let version = head.get(6..8);
        let length = head.get(8..16);
        return if version == Some(&[0, 2]) && length == Some(&METADATA_BYTES.to_be_bytes()) {
            Head::Luks2
        } else {
            Head::OtherLuks
        };
    }
    if head.starts_with(UNFINISHED) || head.iter().all(|byte| *byte == 0) {
        return Head::Blank;
    }
    match head.get(EXT4_MAGIC_AT..EXT4_MAGIC_AT + EXT4_MAGIC.len()) {
        Some(EXT4_MAGIC) => Head::Ext4,
        _ => Head::Other,
    }
}

/// Our token: the sealed passphrase of one key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Slot that the passphrase opens.
    pub slot: u32,
    /// Lowest generation of images that can unseal it. A claim, until it unseals.
    pub generation: u32,
    /// The sealed passphrase.
    pub sealed: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenJson {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    version: u32,
    generation: u32,
    /// Hexadecimal.
    sealed: String,
}

impl Token {
    /// As it stands in the header.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "type": TOKEN_TYPE,
            "keyslots": [self.slot.to_string()],
            "version": TOKEN_VERSION,
            "generation": self.generation,
            "sealed": to_hex(&self.sealed),
        })
    }

    fn from_json(json: TokenJson) -> Result<Self, ShapeError> {
        if json.kind != TOKEN_TYPE || json.version != TOKEN_VERSION {
            return Err(ShapeError("its token is of another type or version"));
        }
        let [slot] = json.keyslots.as_slice() else {
            return Err(ShapeError("its token is for more than one key slot, or for none"));
        };
        let slot = SEALED_SLOTS
            .into_iter()
            .find(|known| known.to_string() == *slot)
            .ok_or(ShapeError("its token is for a key slot that is not ours"))?;
        let sealed =
            from_hex(&json.sealed).ok_or(ShapeError("its token has no sealed passphrase"))?;
        Ok(Self { slot, generation: json.generation, sealed })
    }
}

/// A header of our shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its token.
    pub token: Token,
    /// Slots in use that are neither the token's nor the recovery key's.
    pub leftover: Vec<u32>,
}

/// What is not as we make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ShapeError(pub &'static str);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    keyslots: BTreeMap<String, Keyslot>,
    tokens: BTreeMap<String, TokenJson>,
    segments: BTreeMap<String, Segment>,
    digests: BTreeMap<String, VolumeDigest>,
    config: Config,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keyslot {
    #[serde(rename = "type")]
    kind: String,
    key_size: u64,
    af: AntiForensic,
    area: Area,
    kdf: Kdf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AntiForensic {
    #[serde(rename = "type")]
    kind: String,
    stripes: u64,
    hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Area {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    encryption: String,
    key_size: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    #[serde(rename = "type")]
    kind: String,
    hash: String,
    iterations: u64,
    #[serde(rename = "salt")]
    _salt: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    iv_tweak: String,
    encryption: String,
    sector_size: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeDigest {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    segments: Vec<String>,
    hash: String,
    iterations: u64,
    #[serde(rename = "salt")]
    _salt: String,
    #[serde(rename = "digest")]
    _digest: String,
}

/// No `flags`, no `requirements`: what weakens the mapping or speaks of a re-encryption is foreign.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    json_size: String,
    keyslots_size: String,
}

impl Header {
    /// Compares metadata with the shape that is made here.
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn from_json(json: Value) -> Result<Self, ShapeError> {
        let metadata: Metadata = serde_json::from_value(json)
            .map_err(|_| ShapeError("its metadata has parts that we never write"))?;
        let slots = metadata.keyslots()?;
        metadata.segment()?;
        metadata.digest()?;
        if metadata.config.json_size != (METADATA_BYTES - 4096).to_string()
            || metadata.config.keyslots_size != KEYSLOTS_BYTES.to_string()
        {
            return Err(ShapeError("its areas have other lengths"));
        }
        let mut tokens = metadata.tokens.into_iter();
        let token = match (tokens.next(), tokens.next()) {
            (Some((id, token)), None) if id == TOKEN.to_string() => Token::from_json(token)?,
            (None, _) => return Err(ShapeError("it has no token")),
            _ => return Err(ShapeError("it has a token that is not ours")),
        };
        if !slots.contains(&token.slot) || !slots.contains(&RECOVERY_SLOT) {
            return Err(ShapeError("a key slot is missing"));
        }
        let leftover =
            slots.into_iter().filter(|slot| ![token.slot, RECOVERY_SLOT].contains(slot)).collect();
        Ok(Self { token, leftover })
    }

    /// The sealed slot that is not the token's: where the next passphrase goes.
    #[must_use]
    pub fn next_slot(&self) -> u32 {
        let [first, second] = SEALED_SLOTS;
        if self.token.slot == first { second } else { first }
    }
}

impl Metadata {
    fn keyslots(&self) -> Result<Vec<u32>, ShapeError> {
        let mut numbers = Vec::new();
        for (id, slot) in &self.keyslots {
            let number = SEALED_SLOTS
                .into_iter()
                .chain([RECOVERY_SLOT])
                .find(|known| known.to_string() == *id)
                .ok_or(ShapeError("it has a key slot that is not ours"))?;
            numbers.push(number);
            slot.check()?;
        }
        Ok(numbers)
    }

    fn segment(&self) -> Result<(), ShapeError> {
        let mut segments = self.segments.iter();
        let (Some((id, segment)), None) = (segments.next(), segments.next()) else {
            return Err(ShapeError("it has more than one segment, or none"));
        };
        let ours = id == "0"
            && segment.kind == "crypt"
            && segment.offset == DATA_OFFSET.to_string()
            && segment.size == "dynamic"
            && segment.iv_tweak == "0"
            && segment.encryption == ENCRYPTION
            && segment.sector_size == SECTOR_BYTES;
        if ours { Ok(()) } else { Err(ShapeError("its segment is not as we make it")) }
    }

    fn digest(&self) -> Result<(), ShapeError> {
        let mut digests = self.digests.iter();
        let (Some((id, digest)), None) = (digests.next(), digests.next()) else {
            return Err(ShapeError("it has more than one digest, or none"));
        };
        let ours = id == "0"
            && digest.kind == "pbkdf2"
            && digest.hash == "sha256"
            && digest.iterations <= ITERATIONS_MAX
            && digest.segments == ["0"]
            && digest.keyslots.iter().all(|slot| self.keyslots.contains_key(slot));
        if ours { Ok(()) } else { Err(ShapeError("its digest is not as we make it")) }
    }
}

impl Keyslot {
    fn check(&self) -> Result<(), ShapeError> {
        let key_bytes = u64::try_from(VOLUME_KEY_BYTES).unwrap_or(u64::MAX);
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        let end = number(&self.area.offset).saturating_add(number(&self.area.size));
        let ours = self.kind == "luks2"
            && self.key_size == key_bytes
            && (self.af.kind.as_str(), self.af.stripes, self.af.hash.as_str())
                == ("luks1", 4000, "sha256")
            && self.area.kind == "raw"
            && self.area.encryption == ENCRYPTION
            && self.area.key_size == key_bytes
            && end <= 2 * METADATA_BYTES + KEYSLOTS_BYTES
            && (self.kdf.kind.as_str(), self.kdf.hash.as_str()) == ("pbkdf2", "sha256")
            && self.kdf.iterations <= ITERATIONS_MAX;
        if ours { Ok(()) } else { Err(ShapeError("a key slot is not as we make it")) }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) || text.len() > 2 * SEALED_BYTES_MAX {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            let digits = std::str::from_utf8(pair).ok()?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
        })
        .collect()
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
