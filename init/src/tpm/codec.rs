//! TPM 2.0 commands as bytes, responses as values. Pure.
//!
//! ```text
//! command:  | tag u16 | size u32 | code u32 | handles | auth size u32, auth | parameters |
//! response: | tag u16 | size u32 | rc u32   | parameter size u32 | parameters | auth |
//! ```
//!
//! All numbers are big-endian. The auth fields stand only under the tag TPM_ST_SESSIONS; a response
//! that reports an error is always the ten bytes of its header.

use hookprobe_evidence::{
    digest::{Digest, HashAlg},
    pcr::PcrIndex,
};

use super::error::TpmError;

/// Longest response that is read: the buffer of the kernel's TPM driver.
pub const RESPONSE_BYTES_MAX: usize = 4096;
/// Most banks in one PCR selection list; TPMs have at most five hash algorithms today.
pub const BANKS_MAX: usize = 16;
/// Bytes of a header, command or response.
pub const HEADER_BYTES: usize = 10;

/// Bytes of a PCR bitmap that we send: 24 PCRs (PC Client Platform TPM Profile, 4.6).
const SELECT_BYTES: u8 = 3;
/// Most bytes of a PCR bitmap that are accepted.
const SELECT_BYTES_MAX: u8 = 4;

const ST_NO_SESSIONS: u16 = 0x8001;
const ST_SESSIONS: u16 = 0x8002;
/// TPM_RS_PW, the password session.
const RS_PW: u32 = 0x4000_0009;
/// An authorization with the empty password: handle, empty nonce, no attributes, empty password.
const EMPTY_AUTH_BYTES: u32 = 4 + 2 + 1 + 2;
/// What is left of it in a response: empty nonce, attributes, empty acknowledgement.
const EMPTY_AUTH_RESPONSE_BYTES: usize = 2 + 1 + 2;

/// TPM_RC_SUCCESS
pub const RC_SUCCESS: u32 = 0;
/// TPM_RC_INITIALIZE: TPM2_Startup was already done.
pub const RC_INITIALIZE: u32 = 0x100;
/// TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_RETRY: the same command again may work.
pub const RC_AGAIN: [u32; 3] = [0x908, 0x90a, 0x922];

const CAP_PCRS: u32 = 5;
const CAP_TPM_PROPERTIES: u32 = 6;
/// TPM_PT_MANUFACTURER, the first of those that [`parse_identity`] wants.
const PT_MANUFACTURER: u32 = 0x105;
/// TPM_PT_VENDOR_STRING_1 to 4.
const PT_VENDOR_STRING: [u32; 4] = [0x106, 0x107, 0x108, 0x109];
/// TPM_PT_FIRMWARE_VERSION_1 and 2.
const PT_FIRMWARE_VERSION: [u32; 2] = [0x10b, 0x10c];
/// From TPM_PT_MANUFACTURER to TPM_PT_FIRMWARE_VERSION_2.
const IDENTITY_PROPERTIES: u32 = 8;

/// A command that PID 1 sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CommandCode {
    /// TPM2_Startup
    Startup = 0x144,
    /// TPM2_GetCapability
    GetCapability = 0x17a,
    /// TPM2_PCR_Read
    PcrRead = 0x17e,
    /// TPM2_PCR_Extend
    PcrExtend = 0x182,
}

impl CommandCode {
    /// Name in the specification.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "TPM2_Startup",
            Self::GetCapability => "TPM2_GetCapability",
            Self::PcrRead => "TPM2_PCR_Read",
            Self::PcrExtend => "TPM2_PCR_Extend",
        }
    }

    /// Name of the command that starts with `command`, for errors.
    #[must_use]
    pub fn name_of(command: &[u8]) -> &'static str {
        let code = command.get(6..).and_then(|rest| rest.first_chunk());
        [Self::Startup, Self::GetCapability, Self::PcrRead, Self::PcrExtend]
            .into_iter()
            .find(|known| code.is_some_and(|code| u32::from_be_bytes(*code) == *known as u32))
            .map_or("unknown command", Self::name)
    }

    fn malformed(self, why: &'static str) -> TpmError {
        TpmError::Malformed { command: self.name(), why }
    }
}

fn command(tag: u16, code: CommandCode, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend(tag.to_be_bytes());
    out.extend(size.to_be_bytes());
    out.extend((code as u32).to_be_bytes());
    out.extend(body);
    out
}

/// TPM2_Startup(TPM_SU_CLEAR), Part 3, 9.3.
#[must_use]
pub fn startup() -> Vec<u8> {
    command(ST_NO_SESSIONS, CommandCode::Startup, &[0, 0])
}

fn get_capability(capability: u32, property: u32, count: u32) -> Vec<u8> {
    let body = [capability, property, count].map(u32::to_be_bytes).concat();
    command(ST_NO_SESSIONS, CommandCode::GetCapability, &body)
}

/// TPM2_GetCapability for the allocation of PCRs to banks, Part 3, 30.2.
#[must_use]
pub fn get_banks() -> Vec<u8> {
    get_capability(CAP_PCRS, 0, 1)
}

/// TPM2_GetCapability for maker, vendor string and firmware version.
#[must_use]
pub fn get_identity() -> Vec<u8> {
    get_capability(CAP_TPM_PROPERTIES, PT_MANUFACTURER, IDENTITY_PROPERTIES)
}

/// TPM2_PCR_Read of one PCR of one bank, Part 3, 22.4.
#[must_use]
pub fn pcr_read(alg: HashAlg, pcr: PcrIndex) -> Vec<u8> {
    let mut body = 1u32.to_be_bytes().to_vec();
    body.extend((alg as u16).to_be_bytes());
    body.push(SELECT_BYTES);
    body.extend(bitmap(pcr));
    command(ST_NO_SESSIONS, CommandCode::PcrRead, &body)
}

fn bitmap(pcr: PcrIndex) -> [u8; SELECT_BYTES as usize] {
    let [low, middle, high, _] = (1u32 << pcr.get()).to_le_bytes();
    [low, middle, high]
}

/// TPM2_PCR_Extend with one digest per bank, Part 3, 22.2.
///
/// # Errors
/// [`TpmError::Digests`] when there is no digest, or two of one bank.
pub fn pcr_extend(pcr: PcrIndex, digests: &[Digest]) -> Result<Vec<u8>, TpmError> {
    let mut algs: Vec<HashAlg> = digests.iter().map(Digest::alg).collect();
    algs.sort_unstable();
    algs.dedup();
    if digests.is_empty() || algs.len() != digests.len() {
        return Err(TpmError::Digests { pcr, got: digests.len() });
    }
    let mut body = u32::from(pcr.get()).to_be_bytes().to_vec();
    body.extend(EMPTY_AUTH_BYTES.to_be_bytes());
    body.extend(RS_PW.to_be_bytes());
    body.extend([0; 5]);
    // At most one per known algorithm, checked above.
    body.extend((algs.len() as u32).to_be_bytes());
    for digest in digests {
        body.extend((digest.alg() as u16).to_be_bytes());
        body.extend(digest.as_bytes());
    }
    Ok(command(ST_SESSIONS, CommandCode::PcrExtend, &body))
}

/// Takes fields off the front of a response.
struct Reader<'a> {
    code: CommandCode,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], TpmError> {
        let (field, rest) =
            self.rest.split_first_chunk().ok_or_else(|| self.code.malformed("cut short"))?;
        self.rest = rest;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, TpmError> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, TpmError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, TpmError> {
        self.array().map(u32::from_be_bytes)
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], TpmError> {
        let (field, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.code.malformed("cut short"))?;
        self.rest = rest;
        Ok(field)
    }

    fn end(self) -> Result<(), TpmError> {
        self.expect(self.rest.is_empty(), "bytes after the last field")
    }

    fn expect(&self, ok: bool, why: &'static str) -> Result<(), TpmError> {
        if ok { Ok(()) } else { Err(self.code.malformed(why)) }
    }

    /// TPML_PCR_SELECTION (Part 2, 10.9.7): `(TPM_ALG_ID, bitmap)`.
    fn pcr_selection(&mut self) -> Result<Vec<(u16, u32)>, TpmError> {
        let count = self.u32()?;
        self.expect(count as usize <= BANKS_MAX, "too many banks")?;
        let mut out: Vec<(u16, u32)> = Vec::new();
        for _ in 0..count {
            let alg = self.u16()?;
            let select_bytes = self.u8()?;
            self.expect(select_bytes <= SELECT_BYTES_MAX, "PCR bitmap too long")?;
            let mut bits = [0; SELECT_BYTES_MAX as usize];
            for (slot, byte) in bits.iter_mut().zip(self.bytes(select_bytes.into())?) {
                *slot = *byte;
            }
            let known = out.iter().any(|(other, _)| *other == alg);
            self.expect(!known, "one bank twice")?;
            out.push((alg, u32::from_le_bytes(bits)));
        }
        Ok(out)
    }
}

/// The response code, after the header was checked against the length and itself.
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn response_code(code: CommandCode, response: &[u8]) -> Result<u32, TpmError> {
    let mut reader = Reader { code, rest: response };
    reader.expect(response.len() <= RESPONSE_BYTES_MAX, "too long")?;
    let (tag, size, rc) = (reader.u16()?, reader.u32()?, reader.u32()?);
    let length_matches = usize::try_from(size).is_ok_and(|size| size == response.len());
    reader.expect(length_matches, "size differs from length")?;
    if rc != RC_SUCCESS {
        // A TPM 1.2 answers a 2.0 command with its own tag 0x00c4.
        reader.expect(tag == ST_NO_SESSIONS, "tag of an error")?;
        reader.expect(reader.rest.is_empty(), "bytes after an error")?;
        return Ok(rc);
    }
    let expected = match code {
        CommandCode::PcrExtend => ST_SESSIONS,
        CommandCode::Startup | CommandCode::GetCapability | CommandCode::PcrRead => ST_NO_SESSIONS,
    };
    reader.expect(tag == expected, "tag")?;
    Ok(rc)
}

fn body(code: CommandCode, response: &[u8]) -> Reader<'_> {
    Reader { code, rest: response.get(HEADER_BYTES..).unwrap_or_default() }
}

/// A response to TPM2_Startup has nothing after its header.
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn parse_startup(response: &[u8]) -> Result<(), TpmError> {
    body(CommandCode::Startup, response).end()
}

/// A response to TPM2_PCR_Extend has no parameters and acknowledges the password session.
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn parse_extend(response: &[u8]) -> Result<(), TpmError> {
    let mut reader = body(CommandCode::PcrExtend, response);
    let parameter_bytes = reader.u32()?;
    reader.expect(parameter_bytes == 0, "parameters")?;
    reader.expect(reader.rest.len() == EMPTY_AUTH_RESPONSE_BYTES, "length of the session area")?;
    let nonce_bytes = reader.u16()?;
    let _attributes = reader.u8()?;
    let acknowledgement_bytes = reader.u16()?;
    reader.expect(
        nonce_bytes == 0 && acknowledgement_bytes == 0,
        "session is not the password session",
    )?;
    reader.end()
}

/// Banks as the TPM reports them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Banks {
    /// Active for the PCR asked about, in the order of the TPM.
    pub known: Vec<HashAlg>,
    /// TPM_ALG_IDs of active banks whose algorithm we lack.
    pub unknown: Vec<u16>,
}

/// Banks in which `pcr` is allocated.
///
/// # Errors
/// [`TpmError::Malformed`].
pub fn parse_banks(response: &[u8], pcr: PcrIndex) -> Result<Banks, TpmError> {
    let mut reader = body(CommandCode::GetCapability, response);
    let more = reader.u8()?;
    // A bank that was left out is a bank that would not be extended.
    reader.expect(more == 0, "list of banks is not complete")?;
    let capability = reader.u32()?;
    reader.expect(capability == CAP_PCRS, "another capability")?;
    let selection = reader.pcr_selection()?;
    reader.end()?;
    let mut banks = Banks::default();
    for (id, bits) in selection {
        if bits & (1 << pcr.get()) == 0 {
            continue;
        }
        match HashAlg::from_tpm(id) {
            Some(alg) => banks.known.push(alg),
            None => banks.unknown.push(id),
        }
    }
    Ok(banks)
}

/// Fixed properties of a TPM, as it reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties {
    /// TPM_PT_MANUFACTURER, e.g. `IFX\0`.
    pub manufacturer: [u8; 4],
    /// TPM_PT_VENDOR_STRING_1 to 4.
    pub vendor: [u8; 16],
    /// TPM_PT_FIRMWARE_VERSION_1 (high half) and 2 (low half).
    pub firmware: u64,
}

/// Maker, vendor string, firmware version.
///
/// # Errors
/// [`TpmError::Malformed`], also when the maker or the first half of the version is missing.
pub fn parse_identity(response: &[u8]) -> Result<Properties, TpmError> {
    let mut reader = body(CommandCode::GetCapability, response);
    let _more = reader.u8()?;
    let capability = reader.u32()?;
    reader.expect(capability == CAP_TPM_PROPERTIES, "another capability")?;
    let count = reader.u32()?;
    reader.expect(count <= IDENTITY_PROPERTIES, "too many properties")?;
    let mut values = Vec::new();
    for _ in 0..count {
        values.push((reader.u32()?, reader.u32()?));
    }
    let value = |wanted: u32| values.iter().find(|(id, _)| *id == wanted).map(|(_, v)| *v);
    let [version_high, version_low] = PT_FIRMWARE_VERSION;
    let (Some(manufacturer), Some(high)) = (value(PT_MANUFACTURER), value(version_high)) else {
        return Err(CommandCode::GetCapability.malformed("maker or firmware version missing"));
    };
    reader.end()?;
    let mut vendor = [0; 16];
    for (slot, id) in vendor.chunks_exact_mut(4).zip(PT_VENDOR_STRING) {
        slot.copy_from_slice(&value(id).unwrap_or_default().to_be_bytes());
    }
    Ok(Properties {
        manufacturer: manufacturer.to_be_bytes(),
        vendor,
        firmware: u64::from(high) << 32 | u64::from(value(version_low).unwrap_or_default()),
    })
}

/// Value of the one PCR that was asked for.
///
/// # Errors
/// [`TpmError::Malformed`], [`TpmError::NotAllocated`].
pub fn parse_read(response: &[u8], alg: HashAlg, pcr: PcrIndex) -> Result<Digest, TpmError> {
    let mut reader = body(CommandCode::PcrRead, response);
    let _update_counter = reader.u32()?;
    let selection = reader.pcr_selection()?;
    let digests = reader.u32()?;
    if selection.iter().all(|(_, bits)| *bits == 0) && digests == 0 {
        return Err(TpmError::NotAllocated { alg, pcr });
    }
    let asked = selection == [(alg as u16, 1 << pcr.get())] && digests == 1;
    reader.expect(asked, "another selection than asked for")?;
    let digest_bytes = reader.u16()?;
    let bytes = reader.bytes(digest_bytes.into())?;
    let digest = Digest::new(alg, bytes)
        .ok_or_else(|| CommandCode::PcrRead.malformed("length of the digest"))?;
    reader.end()?;
    Ok(digest)
}
