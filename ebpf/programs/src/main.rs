//! What the kernel runs for the sensor: packets that come in (XDP, or TC where XDP can't be had),
//! packets that the box sends (TC egress), what happens on the box itself, and two programs to
//! compare with.
//!
//! Nothing here may decide more than rules say that user space wrote: detection is in user space. A
//! packet that can't be understood is passed and counted, never dropped for it. Every loss is
//! counted. The sensor loads, pins and attaches these; `response` writes BLOCK and PROTECTED.

#![no_std]
#![no_main]
// The atomic types of `core` are switched off for this machine, the instructions are there.
#![feature(core_intrinsics)]
#![allow(internal_features)]

mod flow;
mod frame;
mod host;
mod maps;
mod pipeline;
mod sampler;
mod verdict;

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::frame::{Tc, Xdp};

/// Let later programs on the hook decide (`TCX_NEXT`, `TC_ACT_UNSPEC`).
const TC_NEXT: i32 = -1;
/// `TC_ACT_SHOT`.
const TC_DROP: i32 = 2;

/// What comes in.
#[xdp(frags)]
pub fn hookprobe_ingress(ctx: XdpContext) -> u32 {
    if pipeline::ingress(&Xdp::new(ctx)) { XDP_PASS } else { XDP_DROP }
}

/// What comes in, where no XDP program can be attached.
#[classifier]
pub fn hookprobe_ingress_tc(ctx: TcContext) -> i32 {
    if pipeline::ingress(&Tc(ctx)) { TC_NEXT } else { TC_DROP }
}

/// What the box sends; what it forwards passes here too, after it was seen on its way in.
#[classifier]
pub fn hookprobe_egress(ctx: TcContext) -> i32 {
    if pipeline::egress(&Tc(ctx)) { TC_NEXT } else { TC_DROP }
}

/// Does nothing: what any XDP program costs, for comparison.
#[xdp(frags)]
pub fn hookprobe_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Only parses, for comparison; its result is used, so that the compiler can't leave it out.
#[xdp(frags)]
pub fn hookprobe_parse(ctx: XdpContext) -> u32 {
    if pipeline::parse_only(&Xdp::new(ctx)) == u32::MAX { XDP_TX } else { XDP_PASS }
}

/// Some kernel helpers used here (reading the kernel's memory, events) are open to the GPL only;
/// this says what the licence is.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: the verifier refuses a loop without an end, so an object with a panic in it
    // does not load.
    loop {}
}
