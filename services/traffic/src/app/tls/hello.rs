//! `ClientHello` and `ServerHello` (RFC 8446, section 4.1; RFC 5246, section 7.4.1).

use crate::app::bytes::Cursor;
use std::ops::Range;

/// Random of a `ServerHello` that is a `HelloRetryRequest` (RFC 8446, section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// An extension: type and where its data is in the hello's `raw`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Type.
    pub kind: u16,
    /// Range of its data in `raw`.
    pub data: Range<usize>,
}

/// The client's hello; lists keep the order and the GREASE values of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The body of the handshake message (without its four-byte head).
    pub raw: Vec<u8>,
    /// `legacy_version`.
    pub version: u16,
    /// `tls.random`: 32 bytes.
    pub random: [u8; 32],
    /// Session id.
    pub session_id: Vec<u8>,
    /// Cipher suites.
    pub ciphers: Vec<u16>,
    /// Compression methods.
    pub compressions: Vec<u8>,
    /// Extensions in order.
    pub extensions: Vec<Extension>,
    /// Server name, first of type `host_name`, as sent.
    pub server_name: Option<Vec<u8>>,
    /// ALPN names: `tls.alpn`.
    pub alpn: Vec<Vec<u8>>,
    /// `supported_versions`.
    pub versions: Vec<u16>,
    /// `supported_groups`.
    pub groups: Vec<u16>,
    /// `ec_point_formats`.
    pub point_formats: Vec<u8>,
    /// `signature_algorithms`.
    pub signatures: Vec<u16>,
    /// Ends before its claimed length, or a list in it lies.
    pub is_truncated: bool,
}

impl ClientHello {
    /// Server name.
    #[must_use]
    pub fn sni(&self) -> Option<&[u8]> {
        self.server_name.as_deref()
    }

    /// Data of the first extension of type `kind`.
    #[must_use]
    pub fn extension(&self, kind: u16) -> Option<&[u8]> {
        let extension = self.extensions.iter().find(|extension| extension.kind == kind)?;
        self.raw.get(extension.data.clone())
    }

    /// Reads the body of a handshake message; what can't be read is absent.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Self {
        read(Self { raw: raw.to_vec(), ..Self::default() }, raw)
    }
}

impl Hello for ClientHello {
    fn ends(&mut self) -> (&mut Vec<Extension>, &mut bool) {
        (&mut self.extensions, &mut self.is_truncated)
    }

    fn fixed(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.version = cursor.u16()?;
        self.random = cursor.array()?;
        self.session_id = cursor.prefixed8()?.to_vec();
        self.ciphers = words(cursor.prefixed16()?);
        self.compressions = cursor.prefixed8()?.to_vec();
        Some(())
    }

    fn read_extension(&mut self, index: usize) -> Option<()> {
        let extension = self.extensions.get(index)?;
        let kind = extension.kind;
        let mut data = Cursor::new(self.raw.get(extension.data.clone())?);
        match kind {
            // An empty list is what a server sends: no name.
            0 if !data.is_empty() => {
                let mut list = Cursor::new(data.prefixed16()?);
                while !list.is_empty() {
                    let is_host = list.u8()? == 0;
                    let name = list.prefixed16()?;
                    if is_host && self.server_name.is_none() {
                        self.server_name = Some(name.to_vec());
                    }
                }
            }
            10 if self.groups.is_empty() => self.groups = words(data.prefixed16()?),
            11 if self.point_formats.is_empty() => self.point_formats = data.prefixed8()?.to_vec(),
            13 if self.signatures.is_empty() => self.signatures = words(data.prefixed16()?),
            16 if self.alpn.is_empty() => self.alpn = names(data.prefixed16()?)?,
            43 if self.versions.is_empty() => self.versions = words(data.prefixed8()?),
            _ => {}
        }
        Some(())
    }
}

/// The server's hello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHello {
    /// The body of the handshake message.
    pub raw: Vec<u8>,
    /// `legacy_version`.
    pub version: u16,
    /// Random: 32 bytes.
    pub random: [u8; 32],
    /// Session id.
    pub session_id: Vec<u8>,
    /// Chosen suite.
    pub cipher: u16,
    /// Chosen compression.
    pub compression: u8,
    /// Extensions in order.
    pub extensions: Vec<Extension>,
    /// ALPN (one name; all that were sent are kept).
    pub alpn: Vec<Vec<u8>>,
    /// `supported_versions`: the chosen one.
    pub chosen_version: Option<u16>,
    /// `key_share`: the chosen group.
    pub group: Option<u16>,
    /// Ends before its claimed length, or a list in it lies.
    pub is_truncated: bool,
}

impl ServerHello {
    /// Negotiated version: `supported_versions`, else `legacy_version`.
    #[must_use]
    pub fn negotiated(&self) -> u16 {
        self.chosen_version.unwrap_or(self.version)
    }

    /// It asks for another `ClientHello`.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        self.random == RETRY_RANDOM
    }

    /// Whether there is an extension of type `kind`.
    #[must_use]
    pub fn has_extension(&self, kind: u16) -> bool {
        self.extensions.iter().any(|extension| extension.kind == kind)
    }

    /// Reads the body of a handshake message; what can't be read is absent.
    #[must_use]
    pub fn parse(raw: &[u8]) -> Self {
        read(Self { raw: raw.to_vec(), ..Self::default() }, raw)
    }
}

impl Hello for ServerHello {
    fn ends(&mut self) -> (&mut Vec<Extension>, &mut bool) {
        (&mut self.extensions, &mut self.is_truncated)
    }

    fn fixed(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.version = cursor.u16()?;
        self.random = cursor.array()?;
        // Drafts of TLS 1.3 up to 21 (0x7f..) have neither session id nor compression here.
        let is_draft = self.version >> 8 == 0x7f;
        if !is_draft {
            self.session_id = cursor.prefixed8()?.to_vec();
        }
        self.cipher = cursor.u16()?;
        if !is_draft {
            self.compression = cursor.u8()?;
        }
        Some(())
    }

    fn read_extension(&mut self, index: usize) -> Option<()> {
        let extension = self.extensions.get(index)?;
        let mut data = Cursor::new(self.raw.get(extension.data.clone())?);
        match extension.kind {
            16 => self.alpn = names(data.prefixed16()?)?,
            43 => self.chosen_version = Some(data.u16()?),
            51 => self.group = Some(data.u16()?),
            _ => {}
        }
        Some(())
    }
}

/// What both hellos have in common: fixed fields, then extensions.
trait Hello {
    /// Extensions, and whether something could not be read.
    fn ends(&mut self) -> (&mut Vec<Extension>, &mut bool);

    /// Reads what comes before the extensions.
    fn fixed(&mut self, cursor: &mut Cursor<'_>) -> Option<()>;

    /// Understands the extension at `index`.
    fn read_extension(&mut self, index: usize) -> Option<()>;
}

/// Fills an empty `hello` from its bytes.
fn read<H: Hello>(mut hello: H, raw: &[u8]) -> H {
    let mut cursor = Cursor::new(raw);
    let mut is_whole = hello.fixed(&mut cursor).is_some();
    if is_whole {
        let (found, is_complete) = extensions(raw, cursor);
        is_whole = is_complete;
        let count = found.len();
        *hello.ends().0 = found;
        for index in 0..count {
            is_whole &= hello.read_extension(index).is_some();
        }
    }
    *hello.ends().1 = !is_whole;
    hello
}

/// The extensions at `cursor` of `raw`, and whether all of them could be read.
fn extensions(raw: &[u8], mut cursor: Cursor<'_>) -> (Vec<Extension>, bool) {
    let mut found = Vec::new();
    if cursor.is_empty() {
        return (found, true);
    }
    let Some(claimed) = cursor.u16() else { return (found, false) };
    let is_whole = cursor.len() >= usize::from(claimed);
    let mut list = Cursor::new(cursor.take_up_to(usize::from(claimed)));
    let behind = cursor.len();
    while !list.is_empty() {
        let (Some(kind), Some(data)) = (list.u16(), list.prefixed16()) else {
            return (found, false);
        };
        let end = raw.len() - behind - list.len();
        found.push(Extension { kind, data: end - data.len()..end });
    }
    (found, is_whole)
}

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
}

fn names(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Cursor::new(bytes);
    let mut names = Vec::new();
    while !list.is_empty() {
        names.push(list.prefixed8()?.to_vec());
    }
    Some(names)
}
