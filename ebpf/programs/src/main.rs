//! What the kernel runs for the sensor: one program for packets that come in (XDP), one for those
//! that the box sends (TC egress), and an empty one to compare with.
//!
//! Nothing here may decide more than "this source is blocked": detection is in user space. A
//! packet that can't be understood is passed and counted, never dropped. Every loss is counted.
//! The sensor loads, pins and attaches these; `response` writes BLOCK and PROTECTED.

#![no_std]
#![no_main]
// The atomic types of `core` are switched off for this machine, the instructions are there.
#![feature(core_intrinsics)]
#![allow(internal_features)]

mod frame;
mod maps;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    helpers::bpf_ktime_get_boot_ns,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use hookprobe_abi::{
    Counter, FLAG_EGRESS, Record, kind,
    parse::{self, Ip, Network, Packet as _, Transport},
};

use crate::{
    frame::{Egress, Frame, Ingress},
    maps::{Verdict, count, count_by, observe_flow, send, verdict},
};

/// Let later programs on the hook decide (`TCX_NEXT`, `TC_ACT_UNSPEC`).
const TC_NEXT: i32 = -1;

/// What comes in.
#[xdp(frags)]
pub fn hookprobe_ingress(ctx: XdpContext) -> u32 {
    let ctx = Ingress(ctx);
    count(Counter::Packets);
    count_by(Counter::Bytes, u64::from(ctx.bytes()));
    let ip = match parse::network(&ctx) {
        Network::Ip(ip) => ip,
        Network::Other => {
            count(Counter::OtherEther);
            return XDP_PASS;
        }
        Network::Malformed => {
            count(Counter::Malformed);
            return XDP_PASS;
        }
    };
    count(if ip.v6 { Counter::Ipv6 } else { Counter::Ipv4 });
    let now_ns = now_ns();
    // The verdict needs no more than the source, so it is made before hostile bytes are read on.
    match verdict(&ip.source, now_ns, ctx.bytes()) {
        Verdict::Pass => {}
        Verdict::Drop => {
            count(Counter::DroppedBlock);
            return XDP_DROP;
        }
        Verdict::FirstDrop => {
            count(Counter::DroppedBlock);
            let transport = transport_of(&ctx, &ip).unwrap_or_default();
            send(&record(&ctx, &ip, &transport, now_ns, kind::FIRST_DROP, 0));
            return XDP_DROP;
        }
    }
    if ip.fragment {
        count(Counter::Fragments);
    }
    match transport_of(&ctx, &ip) {
        Some(transport) => observe(&ctx, &ip, &transport, now_ns, 0),
        None => count(Counter::Malformed),
    }
    XDP_PASS
}

/// What the box sends; what it forwards passes here too, after it was seen on its way in.
#[classifier]
pub fn hookprobe_egress(ctx: TcContext) -> i32 {
    let ctx = Egress(ctx);
    count_by(Counter::EgressPackets, u64::from(ctx.segments()));
    count_by(Counter::EgressBytes, u64::from(ctx.bytes()));
    if let Network::Ip(ip) = parse::network(&ctx)
        && let Some(transport) = transport_of(&ctx, &ip)
    {
        observe(&ctx, &ip, &transport, now_ns(), FLAG_EGRESS);
    }
    TC_NEXT
}

/// Does nothing: what any XDP program costs, for comparison.
#[xdp(frags)]
pub fn hookprobe_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

#[inline(always)]
fn transport_of<F: Frame>(frame: &F, ip: &Ip) -> Option<Transport> {
    if ip.fragment {
        return Some(Transport::default());
    }
    parse::transport(frame, ip)
}

/// Counts the flow and tells user space what it has to know.
#[inline(always)]
fn observe<F: Frame>(frame: &F, ip: &Ip, transport: &Transport, now_ns: u64, flags: u8) {
    let is_new = observe_flow(frame, ip, transport, now_ns);
    if transport.kind == kind::UNREACHABLE {
        if let Some(about) = parse::about(frame, ip) {
            send(&Record {
                time_ns: now_ns,
                source: about.source,
                destination: about.destination,
                source_port: about.source_port,
                destination_port: about.destination_port,
                bytes: frame.bytes(),
                interface: frame.interface(),
                protocol: about.protocol,
                kind: kind::UNREACHABLE,
                flags,
                tcp_flags: 0,
            });
        }
    } else if transport.kind != 0 {
        let kind = transport.kind;
        send(&record(frame, ip, transport, now_ns, kind, flags));
    } else if is_new && parse::tells_flow(ip.protocol) {
        send(&record(frame, ip, transport, now_ns, kind::FLOW, flags));
    }
}

#[inline(always)]
fn record<F: Frame>(
    frame: &F,
    ip: &Ip,
    transport: &Transport,
    time_ns: u64,
    kind: u8,
    flags: u8,
) -> Record {
    Record {
        time_ns,
        source: ip.source,
        destination: ip.destination,
        source_port: transport.source_port,
        destination_port: transport.destination_port,
        bytes: frame.bytes(),
        interface: frame.interface(),
        protocol: ip.protocol,
        kind,
        flags,
        tcp_flags: transport.tcp_flags,
    }
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: takes nothing, returns a number. Boot time, because it goes on during suspend: a
    // block ends when its wall-clock time is over.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Kernel helpers used here are open to every licence, so this says what the licence is.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 18] = *b"Apache-2.0 OR MIT\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: the verifier refuses a loop without an end, so an object with a panic in it
    // does not load.
    loop {}
}
