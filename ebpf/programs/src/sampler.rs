//! Copies the first payload of a flow for user space, when it begins like something that is read
//! there.

use core::mem::MaybeUninit;

use aya_ebpf::{macros::map, maps::PerCpuArray};
use hookprobe_abi::{
    Counter,
    parse::{Ip, Transport, Words},
    sample::{self, BYTES_MAX, BYTES_MIN, HEADER_BYTES, Header},
};

use crate::{
    frame::Frame,
    maps::{Counters, SAMPLES},
    verdict::now_ns,
};

/// Room for what the mask below can let through.
const ROOM: usize = 2048;

#[repr(C)]
struct Scratch {
    header: Header,
    bytes: [u8; ROOM],
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// What was seen of a flow's payload.
#[derive(Clone, Copy)]
pub struct Seen {
    /// Packets with payload.
    pub looked_at: u8,
    /// What the first was.
    pub sampled_as: u8,
}

/// Looks at one more packet of a flow.
#[inline(always)]
pub fn look<F: Frame>(
    counters: Counters,
    frame: &F,
    ip: &Ip<Words>,
    transport: &Transport,
    flags: u8,
    mut seen: Seen,
) -> Seen {
    if seen.looked_at >= sample::PACKETS_PER_FLOW || transport.payload == 0 || ip.fragment {
        return seen;
    }
    let payload_bytes = ip.end.saturating_sub(transport.payload);
    if payload_bytes < BYTES_MIN {
        return seen;
    }
    let kind = if seen.looked_at == 0 {
        let Some(first) = frame.load::<BYTES_MIN>(transport.payload) else { return seen };
        let ports = (transport.source_port, transport.destination_port);
        seen.sampled_as = sample::classify(&first, ip.protocol, ports, payload_bytes);
        seen.sampled_as
    } else {
        sample::continues(seen.sampled_as)
    };
    if kind != sample::kind::NONE {
        let header = Header {
            time_ns: now_ns(),
            source: ip.source.bytes(),
            destination: ip.destination.bytes(),
            source_port: transport.source_port,
            destination_port: transport.destination_port,
            interface: frame.interface(),
            payload_bytes: payload_bytes as u16,
            bytes: 0,
            protocol: ip.protocol,
            kind,
            flags,
            number: seen.looked_at,
        };
        copy(counters, frame, transport.payload, payload_bytes, header);
    }
    seen.looked_at += 1;
    seen
}

#[inline(always)]
fn copy<F: Frame>(
    counters: Counters,
    frame: &F,
    offset: usize,
    payload_bytes: usize,
    mut header: Header,
) {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return };
    // Trap: the verifier must see the bound on the very register that it checks, and LLVM knows
    // too much to leave the mask there; a volatile read makes it forget.
    let wanted = MaybeUninit::new(payload_bytes.min(BYTES_MAX) - 1);
    // SAFETY: initialised in the line above.
    let bytes = (unsafe { wanted.as_ptr().read_volatile() } & (ROOM - 1)) + 1;
    header.bytes = bytes as u16;
    // SAFETY: this CPU's own entry; the program is not preempted by another that uses it.
    let (head, body) = unsafe { (&raw mut (*scratch).header, &raw mut (*scratch).bytes) };
    // SAFETY: `bytes` is at most ROOM, the length of the body.
    if !unsafe { frame.load_into(offset, body.cast(), bytes as u32) } {
        return;
    }
    // SAFETY: as above.
    unsafe { head.write(header) };
    // SAFETY: header and `bytes` bytes of the body were written, they lie next to each other.
    let whole = unsafe { core::slice::from_raw_parts(scratch.cast::<u8>(), HEADER_BYTES + bytes) };
    let sent = SAMPLES.output::<[u8]>(whole, 0);
    counters.count(if sent.is_ok() { Counter::Samples } else { Counter::SamplesLost });
}
