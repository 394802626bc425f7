//! Capture files: pcap and pcapng, as a stream of packets with times.
//!
//! The bytes are hostile. Nothing is allocated by a length from the file beyond
//! [`BLOCK_BYTES_MAX`], every number is checked, and a file that breaks off or lies ends the
//! stream with an error after the packets before it were given out.

use std::io::Read;

use pcap_parser::{
    Block, InterfaceDescriptionBlock, Linktype, PcapBlockOwned, PcapError, PcapHeader,
    create_reader, traits::PcapReaderIterator,
};
use thiserror::Error;

/// Bytes that are read at once, and largest packet that needs no growth.
const BUFFER_BYTES: usize = 256 * 1024;
/// Largest block. Packets end at 256 KiB (the largest snapshot length of libpcap); 4 MiB leaves
/// room for the other blocks of pcapng.
const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most interfaces of one pcapng section.
const INTERFACES_MAX: usize = 1024;
/// Resolution of a pcapng interface that names none: microseconds.
const UNITS_PER_SECOND: u64 = 1_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// Why a capture can't be read (on).
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CaptureError {
    /// No bytes.
    #[error("HP-SN-040 capture: empty; was it written to the end?")]
    Empty,
    /// Neither format.
    #[error("HP-SN-041 capture: neither pcap nor pcapng; convert it with editcap")]
    Format,
    /// Ends inside a block.
    #[error("HP-SN-042 capture: breaks off after {packets} packets; what came before was used")]
    Truncated {
        /// Whole packets before.
        packets: u64,
    },
    /// A block longer than allowed.
    #[error(
        "HP-SN-043 capture: block after {packets} packets is longer than {BLOCK_BYTES_MAX} bytes; repair it with editcap"
    )]
    TooLong {
        /// Whole packets before.
        packets: u64,
    },
    /// A block that contradicts itself.
    #[error("HP-SN-044 capture: block after {packets} packets is damaged; repair it with editcap")]
    Damaged {
        /// Whole packets before.
        packets: u64,
    },
    /// More interfaces than allowed.
    #[error("HP-SN-045 capture: more than {INTERFACES_MAX} interfaces in a section; split it")]
    Interfaces,
    /// The system can't read the file.
    #[error("HP-SN-046 capture: can't be read on after {packets} packets; check the disk")]
    Read {
        /// Whole packets before.
        packets: u64,
    },
}

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Nanoseconds since 1970 by the capture's clock.
    pub time_ns: u64,
    /// Index of the interface in its section.
    pub interface: u32,
    /// What the first header is.
    pub link: Linktype,
    /// Length on the wire.
    pub wire_bytes: u32,
    /// What was captured of it.
    pub data: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: Linktype,
    units_per_second: u64,
    offset_s: i64,
}

/// What a block was, without its bytes.
#[derive(Default)]
struct State {
    interfaces: Vec<Interface>,
    nanoseconds: bool,
    last_ns: u64,
    packets: u64,
}

/// Calls `each` with every packet; returns the number of bytes read.
///
/// # Errors
/// Any [`CaptureError`]; every packet before it was given to `each`.
pub fn read<R: Read + Send>(
    input: R,
    mut each: impl FnMut(&Packet<'_>, u64),
) -> Result<u64, CaptureError> {
    let mut reader = create_reader(BUFFER_BYTES, input).map_err(|error| match error {
        PcapError::Eof => CaptureError::Empty,
        PcapError::ReadError => CaptureError::Read { packets: 0 },
        _ => CaptureError::Format,
    })?;
    let mut state = State::default();
    let mut capacity = BUFFER_BYTES;
    let mut bytes = 0_u64;
    loop {
        match reader.next() {
            Ok((length, block)) => {
                state.block(&block, |packet| each(packet, bytes))?;
                bytes += u64::try_from(length).unwrap_or(u64::MAX);
                // What is left moves to the front when more is read, not twice for each buffer.
                reader.consume_noshift(length);
            }
            Err(PcapError::Eof) => return Ok(bytes),
            Err(PcapError::Incomplete(_)) => {
                let before = reader.data().len();
                let refilled = reader.refill().is_ok();
                if !refilled {
                    return Err(CaptureError::Read { packets: state.packets });
                }
                let grown = reader.data().len() > before;
                if !grown && reader.data().is_empty() {
                    return Ok(bytes);
                }
                if !grown && reader.reader_exhausted() {
                    return Err(CaptureError::Truncated { packets: state.packets });
                }
                if !grown {
                    grow(&mut *reader, &mut capacity, state.packets)?;
                }
            }
            Err(PcapError::BufferTooSmall) => {
                grow(&mut *reader, &mut capacity, state.packets)?;
            }
            Err(PcapError::UnexpectedEof) => {
                return Err(CaptureError::Truncated { packets: state.packets });
            }
            Err(PcapError::ReadError) => {
                return Err(CaptureError::Read { packets: state.packets });
            }
            Err(
                PcapError::HeaderNotRecognized
                | PcapError::NomError(..)
                | PcapError::OwnedNomError(..),
            ) => {
                return Err(CaptureError::Damaged { packets: state.packets });
            }
        }
    }
}

/// Doubles the buffer, up to the limit.
fn grow(
    reader: &mut dyn PcapReaderIterator,
    capacity: &mut usize,
    packets: u64,
) -> Result<(), CaptureError> {
    let wanted = capacity.saturating_mul(2);
    if wanted > BLOCK_BYTES_MAX || !reader.grow(wanted) {
        return Err(CaptureError::TooLong { packets });
    }
    *capacity = wanted;
    reader.refill().map_err(|_| CaptureError::Read { packets })
}

impl State {
    fn block(
        &mut self,
        block: &PcapBlockOwned<'_>,
        mut each: impl FnMut(&Packet<'_>),
    ) -> Result<(), CaptureError> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => self.legacy(header),
            PcapBlockOwned::Legacy(packet) => {
                let fraction = u64::from(packet.ts_usec);
                let scale = if self.nanoseconds { 1 } else { 1000 };
                let time_ns = u64::from(packet.ts_sec) * NS_PER_SECOND + fraction * scale;
                self.emit(0, time_ns, packet.origlen, packet.data, &mut each);
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => self.interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                if self.interfaces.len() >= INTERFACES_MAX {
                    return Err(CaptureError::Interfaces);
                }
                self.interfaces.push(Interface::new(description));
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let Some(interface) = self.interface(packet.if_id) else {
                    return Err(CaptureError::Damaged { packets: self.packets });
                };
                let time_ns = interface.time_ns(units);
                let captured = usize::try_from(packet.caplen).unwrap_or(usize::MAX);
                let data = packet.data.get(..captured).unwrap_or(packet.data);
                self.emit(packet.if_id, time_ns, packet.origlen, data, &mut each);
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let whole = usize::try_from(packet.origlen).unwrap_or(usize::MAX);
                let data = packet.data.get(..whole).unwrap_or(packet.data);
                // These have no time of their own.
                self.emit(0, self.last_ns, packet.origlen, data, &mut each);
            }
            PcapBlockOwned::NG(
                Block::NameResolution(_)
                | Block::InterfaceStatistics(_)
                | Block::SystemdJournalExport(_)
                | Block::DecryptionSecrets(_)
                | Block::ProcessInformation(_)
                | Block::Custom(_)
                | Block::Unknown(_),
            ) => {}
        }
        Ok(())
    }

    fn legacy(&mut self, header: &PcapHeader) {
        self.nanoseconds = header.is_nanosecond_precision();
        self.interfaces = vec![Interface {
            link: header.network,
            units_per_second: UNITS_PER_SECOND,
            offset_s: 0,
        }];
    }

    fn interface(&self, index: u32) -> Option<Interface> {
        self.interfaces.get(usize::try_from(index).ok()?).copied()
    }

    fn emit(
        &mut self,
        index: u32,
        time_ns: u64,
        wire_bytes: u32,
        data: &[u8],
        each: &mut impl FnMut(&Packet<'_>),
    ) {
        self.packets += 1;
        self.last_ns = time_ns;
        let Some(interface) = self.interface(index) else {
            return;
        };
        each(&Packet {
            time_ns,
            interface: index,
            // The upper bits of a pcap header's link type are about the frame check sequence.
            link: Linktype(interface.link.0 & 0xffff),
            wire_bytes,
            data,
        });
    }
}

impl Interface {
    fn new(description: &InterfaceDescriptionBlock<'_>) -> Self {
        let units = description.ts_resolution().filter(|units| *units > 0);
        Self {
            link: description.linktype,
            units_per_second: units.unwrap_or(UNITS_PER_SECOND),
            offset_s: description.ts_offset(),
        }
    }

    /// Saturates at both ends of what a `u64` holds.
    fn time_ns(&self, units: u64) -> u64 {
        let ns = u128::from(units) * u128::from(NS_PER_SECOND) / u128::from(self.units_per_second);
        let offset_ns = i128::from(self.offset_s) * i128::from(NS_PER_SECOND);
        let ns = i128::try_from(ns).unwrap_or(i128::MAX);
        let shifted = ns.saturating_add(offset_ns).max(0);
        u64::try_from(shifted).unwrap_or(u64::MAX)
    }
}
