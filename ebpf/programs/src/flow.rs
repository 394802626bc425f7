//! The flow table: one entry per direction of a conversation, one copy per CPU.

use aya_ebpf::bindings::BPF_NOEXIST;
use hookprobe_abi::{
    FlowKey, FlowKey4, FlowStat,
    parse::{self, Transport, Words},
};

use crate::maps::{FLOWS4, FLOWS6};

type Ip = parse::Ip<Words>;

/// Keys as words: what is put together of bytes is put together byte by byte.
type Key4 = [u32; 4];
type Key6 = [u32; 10];
const _: () = assert!(size_of::<Key4>() == size_of::<FlowKey4>());
const _: () = assert!(size_of::<Key6>() == size_of::<FlowKey>());

#[inline(always)]
fn key4(ip: &Ip, transport: &Transport) -> Key4 {
    let ([.., source], [.., destination]) = (ip.source.0, ip.destination.0);
    [source, destination, ports(transport), u32::from(ip.protocol)]
}

#[inline(always)]
fn key6(ip: &Ip, transport: &Transport) -> Key6 {
    let ([a, b, c, d], [e, f, g, h]) = (ip.source.0, ip.destination.0);
    [a, b, c, d, e, f, g, h, ports(transport), u32::from(ip.protocol)]
}

/// Both ports as they stand in memory one after the other; this machine is little-endian.
#[inline(always)]
fn ports(transport: &Transport) -> u32 {
    u32::from(transport.source_port) | u32::from(transport.destination_port) << 16
}

#[inline(always)]
fn as_key4(words: &Key4) -> &FlowKey4 {
    // SAFETY: of the same size (asserted above) and alignment, and valid for every bit pattern.
    unsafe { &*(&raw const *words).cast() }
}

#[inline(always)]
fn as_key6(words: &Key6) -> &FlowKey {
    // SAFETY: as above.
    unsafe { &*(&raw const *words).cast() }
}

/// This CPU's copy of an entry.
#[inline(always)]
pub fn find(ip: &Ip, transport: &Transport) -> Option<*mut FlowStat> {
    if ip.v6 {
        FLOWS6.get_ptr_mut(as_key6(&key6(ip, transport)))
    } else {
        FLOWS4.get_ptr_mut(as_key4(&key4(ip, transport)))
    }
}

/// A new entry; `false` when the table refused it.
#[inline(always)]
pub fn insert(ip: &Ip, transport: &Transport, stat: &FlowStat) -> bool {
    let flags = u64::from(BPF_NOEXIST);
    let done = if ip.v6 {
        FLOWS6.insert(as_key6(&key6(ip, transport)), stat, flags)
    } else {
        FLOWS4.insert(as_key4(&key4(ip, transport)), stat, flags)
    };
    done.is_ok()
}
