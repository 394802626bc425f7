//! Whole packets of the watched interfaces: a ring that the kernel fills (AF_PACKET, TPACKET_V3).
//!
//! One socket for all interfaces, bound to none; a classic BPF filter lets through those that are
//! watched, so that what is not watched costs no copy. The kernel hands frames over behind XDP:
//! what was dropped there never comes here. Frames that this box sends come, too.
//!
//! The ring is memory that the kernel writes while we read. The rule that keeps it safe: a block is
//! read only between the kernel's "yours" and our "yours again", and bytes of it are given out
//! within that time only. Every number in it is checked against the block before it is used, though
//! only the kernel can have written it. Called by [`super::inspect`], in its thread.

#![allow(unsafe_code, reason = "a ring shared with the kernel has no safe interface")]

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU32, Ordering, fence},
};

use thiserror::Error;

/// Bytes of a block. 256 KiB: a segment that the card put together (64 KiB) fits with others.
const BLOCK_BYTES: usize = 256 * 1024;
/// Blocks. 48 are 12 MiB: a tenth of a second at 1 Gbit/s, while rules are loaded into another core.
const BLOCKS: usize = 48;
/// Bytes of a frame slot, which TPACKET_V3 only checks for divisibility.
const FRAME_BYTES: usize = 2048;
/// After how many milliseconds a block that is not full is handed over. 4: what is in it is looked
/// at within the 5 ms in which a decision is wanted.
const RETIRE_MS: u32 = 4;
/// Interfaces that can be watched at once; the filter has two instructions for each.
const INTERFACES_MAX: usize = hookprobe_wire::site::INTERFACES_MAX;
/// Offset at which classic BPF finds the interface's index (SKF_AD_OFF + SKF_AD_IFINDEX).
const AD_IFINDEX: u32 = (-0x1000_i32 + 8).cast_unsigned();
/// ETH_P_ALL in network order.
const EVERY_PROTOCOL: u16 = 0x0003_u16.to_be();
/// ETH_P_8021Q, where the kernel does not say which tag it took off.
const TAG_DEFAULT: u16 = 0x8100;
/// Where the tag belongs: behind both addresses.
const TAG_OFFSET: usize = 12;

/// Why whole packets can't be had.
#[derive(Debug, Error)]
#[error("HP-SN-085 packets: {step}: {source}; rules and protocols are not looked at, scans are")]
pub struct PacketsError {
    /// What was tried.
    step: &'static str,
    /// What the kernel said.
    source: io::Error,
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> PacketsError {
    move |source| PacketsError { step, source }
}

/// A frame in the ring.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// Length on the wire.
    pub wire_bytes: u32,
    /// Nanoseconds since 1970, by the clock as it was set then.
    pub real_ns: u64,
    /// Interface index.
    pub interface: u32,
    /// The card computes the checksum later, or the other side of a virtual wire left it out.
    pub has_no_checksum: bool,
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    socket: OwnedFd,
    memory: NonNull<u8>,
    next: usize,
    /// With the tag that the kernel took off.
    tagged: Vec<u8>,
    received: u64,
    lost: u64,
}

// SAFETY: the mapping belongs to this value alone and does not care which thread reads it.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens the socket, with a filter that lets nothing through yet.
    ///
    /// # Errors
    /// [`PacketsError`].
    pub fn open() -> Result<Self, PacketsError> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain call; protocol 0 receives nothing until `bind`.
        let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if raw < 0 {
            return Err(failed("socket")(io::Error::last_os_error()));
        }
        // SAFETY: the descriptor is fresh and owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &version)
            .map_err(failed("version"))?;
        let request = libc::tpacket_req3 {
            tp_block_size: u32_of(BLOCK_BYTES),
            tp_block_nr: u32_of(BLOCKS),
            tp_frame_size: u32_of(FRAME_BYTES),
            tp_frame_nr: u32_of(BLOCK_BYTES / FRAME_BYTES * BLOCKS),
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request).map_err(failed("ring"))?;
        // SAFETY: a new mapping at an address that the kernel chooses; unmapped in `drop`.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BLOCK_BYTES * BLOCKS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        let memory = match NonNull::new(memory.cast::<u8>()) {
            Some(memory) if memory.as_ptr().cast() != libc::MAP_FAILED => memory,
            _ => return Err(failed("mapping")(io::Error::last_os_error())),
        };
        let mut ring = Self { socket, memory, next: 0, tagged: Vec::new(), received: 0, lost: 0 };
        ring.watch(&[])?;
        ring.bind()?;
        Ok(ring)
    }

    fn bind(&self) -> Result<(), PacketsError> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: EVERY_PROTOCOL,
            sll_ifindex: 0,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address lives for the call and its length is its size.
        let result =
            unsafe { libc::bind(self.socket.as_raw_fd(), (&raw const address).cast(), length) };
        if result < 0 { Err(failed("bind")(io::Error::last_os_error())) } else { Ok(()) }
    }

    /// Lets frames of these interfaces through, and of no other; more than the filter has room for
    /// are left out.
    ///
    /// # Errors
    /// [`PacketsError`]; the filter before stays.
    pub fn watch(&mut self, interfaces: &[u32]) -> Result<(), PacketsError> {
        let mut program = filter(interfaces);
        let described = libc::sock_fprog {
            len: u16::try_from(program.len()).unwrap_or(0),
            filter: program.as_mut_ptr(),
        };
        set(&self.socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &described)
            .map_err(failed("filter"))
    }

    /// What to poll for reading.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Gives the frames of the next block that the kernel filled to `each` and the block back;
    /// `false` when there is none.
    pub fn block(&mut self, mut each: impl FnMut(Seen<'_>)) -> bool {
        let offset = self.next * BLOCK_BYTES;
        // SAFETY: `next` is below BLOCKS, so the block is within the mapping; its status word is
        // only touched atomically by us, and the kernel aligns blocks to pages.
        let status = unsafe {
            let block = self.memory.add(offset);
            let word = block.add(std::mem::offset_of!(libc::tpacket_block_desc, hdr));
            AtomicU32::from_ptr(word.cast::<u32>().as_ptr())
        };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: the block is ours until the status is written below, and no reference into it
        // outlives this call: `each` takes frames of any lifetime.
        let bytes = unsafe { slice::from_raw_parts(self.memory.add(offset).as_ptr(), BLOCK_BYTES) };
        frames(bytes, &mut self.tagged, &mut each);
        fence(Ordering::Release);
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % BLOCKS;
        true
    }

    /// Frames that came, and of these those for which the ring had no room, since it was opened.
    pub fn counts(&mut self) -> (u64, u64) {
        let mut seen = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into a value of that size. The numbers
        // start over with each call.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut seen).cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            self.received += u64::from(seen.tp_packets);
            self.lost += u64::from(seen.tp_drops);
        }
        (self.received, self.lost)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and nothing points into it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), BLOCK_BYTES * BLOCKS) };
    }
}

fn set<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of a value of that size.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn u32_of(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Loads the interface's index, compares, and takes the whole frame or nothing.
fn filter(interfaces: &[u32]) -> Vec<libc::sock_filter> {
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = vec![instruction(load, 0, 0, AD_IFINDEX)];
    for index in interfaces.iter().take(INTERFACES_MAX) {
        program.push(instruction(equal, 0, 1, *index));
        program.push(instruction(end, 0, 0, u32::MAX));
    }
    program.push(instruction(end, 0, 0, 0));
    program
}

/// Reads a header of the kernel at `offset`; its fields are plain numbers.
fn header<T: Copy>(block: &[u8], offset: usize) -> Option<T> {
    let bytes = block.get(offset..offset.checked_add(size_of::<T>())?)?;
    // SAFETY: the slice has the size of T, which is one of the kernel's structures of plain
    // numbers below; `read_unaligned` asks for no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Walks the frames of one block.
fn frames(block: &[u8], tagged: &mut Vec<u8>, each: &mut impl FnMut(Seen<'_>)) {
    let Some(described) =
        header::<libc::tpacket_hdr_v1>(block, std::mem::offset_of!(libc::tpacket_block_desc, hdr))
    else {
        return;
    };
    let mut offset = described.offset_to_first_pkt as usize;
    for _ in 0..described.num_pkts {
        let Some(frame) = header::<libc::tpacket3_hdr>(block, offset) else { return };
        if let Some(seen) = seen(block, offset, &frame, tagged) {
            each(seen);
        }
        if frame.tp_next_offset == 0 {
            return;
        }
        offset = offset.saturating_add(frame.tp_next_offset as usize);
    }
}

/// One frame, with the tag that the kernel took off in its place again.
fn seen<'a>(
    block: &'a [u8],
    offset: usize,
    frame: &libc::tpacket3_hdr,
    tagged: &'a mut Vec<u8>,
) -> Option<Seen<'a>> {
    // Behind the header, at the next multiple of TPACKET_ALIGNMENT (16).
    let link = offset.checked_add(size_of::<libc::tpacket3_hdr>().next_multiple_of(16))?;
    let address = header::<libc::sockaddr_ll>(block, link)?;
    let start = offset.checked_add(usize::from(frame.tp_mac))?;
    let bytes = block.get(start..start.checked_add(frame.tp_snaplen as usize)?)?;
    let has_tag = frame.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    let (bytes, added) = match bytes.split_at_checked(TAG_OFFSET) {
        Some((addresses, rest)) if has_tag => {
            let has_type = frame.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let tag = if has_type { frame.hv1.tp_vlan_tpid } else { TAG_DEFAULT };
            let control = u16::try_from(frame.hv1.tp_vlan_tci & 0xffff).unwrap_or(0);
            tagged.clear();
            tagged.extend_from_slice(addresses);
            tagged.extend_from_slice(&tag.to_be_bytes());
            tagged.extend_from_slice(&control.to_be_bytes());
            tagged.extend_from_slice(rest);
            (tagged.as_slice(), 4)
        }
        _ => (bytes, 0),
    };
    Some(Seen {
        bytes,
        wire_bytes: frame.tp_len.saturating_add(added),
        real_ns: u64::from(frame.tp_sec) * 1_000_000_000 + u64::from(frame.tp_nsec),
        interface: u32::try_from(address.sll_ifindex).unwrap_or(0),
        has_no_checksum: frame.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block as the kernel writes it, with frames of these bytes.
    fn block(frames: &[(&[u8], u32, u32)]) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        let put = |block: &mut Vec<u8>, at: usize, bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let header_at = std::mem::offset_of!(libc::tpacket_block_desc, hdr);
        put(&mut block, header_at + 4, &u32_of(frames.len()).to_ne_bytes());
        put(&mut block, header_at + 8, &48_u32.to_ne_bytes());
        let mut at = 48;
        for (number, (bytes, status, tci)) in frames.iter().enumerate() {
            let next = if number + 1 < frames.len() { 512_u32 } else { 0 };
            let fields = [next, 7, 8, u32_of(bytes.len()), u32_of(bytes.len()), *status];
            for (index, field) in fields.iter().enumerate() {
                put(&mut block, at + index * 4, &field.to_ne_bytes());
            }
            put(&mut block, at + 24, &96_u16.to_ne_bytes());
            put(&mut block, at + 32, &tci.to_ne_bytes());
            put(&mut block, at + 36, &0x88a8_u16.to_ne_bytes());
            // Behind the header of 48 bytes; the index is its second word.
            put(&mut block, at + 48 + 4, &3_u32.to_ne_bytes());
            put(&mut block, at + 96, bytes);
            at += 512;
        }
        block
    }

    fn read(block: &[u8]) -> Vec<(Vec<u8>, u32, u64, u32, bool)> {
        let mut out = Vec::new();
        frames(block, &mut Vec::new(), &mut |seen| {
            let Seen { bytes, wire_bytes, real_ns, interface, has_no_checksum } = seen;
            out.push((bytes.to_vec(), wire_bytes, real_ns, interface, has_no_checksum));
        });
        out
    }

    #[test]
    fn frames_of_a_block_in_order() {
        let plain = [7_u8; 60];
        let got = read(&block(&[
            (&plain, libc::TP_STATUS_USER, 0),
            (&[9; 14], libc::TP_STATUS_USER | libc::TP_STATUS_CSUMNOTREADY, 0),
        ]));
        assert_eq!(
            got,
            [
                (plain.to_vec(), 60, 7_000_000_008, 3, false),
                (vec![9; 14], 14, 7_000_000_008, 3, true),
            ]
        );
    }

    #[test]
    fn a_tag_that_the_kernel_took_off_is_put_back() {
        let mut frame = vec![1; 12];
        frame.extend([8, 0, 0x45]);
        let valid = libc::TP_STATUS_USER | libc::TP_STATUS_VLAN_VALID;
        let expect = |tag: [u8; 2]| {
            let mut out = vec![1; 12];
            out.extend(tag);
            out.extend([0, 42, 8, 0, 0x45]);
            out
        };
        let got = read(&block(&[(&frame, valid, 42)]));
        assert_eq!((got[0].0.clone(), got[0].1), (expect([0x81, 0]), 19));
        let got = read(&block(&[(&frame, valid | libc::TP_STATUS_VLAN_TPID_VALID, 42)]));
        assert_eq!(got[0].0, expect([0x88, 0xa8]));
    }

    #[test]
    fn numbers_that_lead_out_of_the_block_end_it() {
        let whole = block(&[(&[7; 60], 1, 0), (&[7; 60], 1, 0)]);
        for at in 0..200 {
            for value in [0_u8, 1, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                assert!(read(&broken).len() <= 2 || at < 16);
            }
        }
        let mut endless = whole.clone();
        endless[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(read(&endless).len() <= 2);
    }

    #[test]
    fn the_filter_names_each_interface() {
        assert_eq!(filter(&[]).len(), 2);
        assert_eq!(filter(&[2, 3]).len(), 6);
        assert_eq!(filter(&[1; 99]).len(), 2 + 2 * INTERFACES_MAX);
    }
}
