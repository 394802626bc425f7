//! Bytes of a packet, for both kinds of program.
//!
//! Headers at the places where nearly every packet has them are read in place; everything else
//! goes through a helper that checks the bounds in the kernel. Nothing here reads past `data_end`.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::{TcContext, XdpContext},
};
use hookprobe_abi::parse::{ETHERNET, Packet};

/// Four bytes of which the last two are the EtherType.
const BEFORE_ETHERTYPE: usize = ETHERNET - 4;
/// Where TCP starts when there is neither VLAN tag nor IPv4 option.
const AFTER_IPV4: usize = ETHERNET + 20;
/// Where TCP starts when there is neither VLAN tag nor IPv6 extension header.
const AFTER_IPV6: usize = ETHERNET + 40;

/// A packet on its way through the kernel.
pub trait Frame: Packet {
    /// First byte of the linear part.
    fn data(&self) -> usize;
    /// First byte after the linear part.
    fn data_end(&self) -> usize;
    /// Packets on the wire that this buffer stands for (segmentation offload).
    fn segments(&self) -> u32;
    /// Interface index.
    fn interface(&self) -> u32;

    /// Copies `bytes` bytes, not 0, at `offset` to `to`; `false` when the packet ends before.
    ///
    /// # Safety
    /// `to` has room for them.
    unsafe fn load_into(&self, offset: usize, to: *mut c_void, bytes: u32) -> bool;

    /// `W` words at the constant `OFFSET` of the linear part.
    #[inline(always)]
    fn direct<const OFFSET: usize, const W: usize>(&self) -> Option<[u32; W]> {
        let start = self.data();
        if start + OFFSET + W * 4 > self.data_end() {
            return None;
        }
        // Trap: LLVM reads what has no alignment byte by byte, which made parsing twice as slow.
        // This machine has no alignment: the kernel's JIT emits plain loads of the host, and both
        // architectures have those for any address.
        // SAFETY: the comparison above is the one that the verifier demands of this very pointer.
        Some(unsafe { *((start + OFFSET) as *const [u32; W]) })
    }
}

/// A packet of an XDP program; its length is asked for once.
pub struct Xdp {
    ctx: XdpContext,
    bytes: u32,
}

impl Xdp {
    #[inline(always)]
    pub fn new(ctx: XdpContext) -> Self {
        // SAFETY: the context is the one that the kernel gave to this run.
        let bytes = unsafe { bpf_xdp_get_buff_len(ctx.ctx) as u32 };
        Self { ctx, bytes }
    }
}

/// A packet of a TC program.
pub struct Tc(pub TcContext);

/// `W` words at `offset`: in place where most packets have them, else by the kernel's helper.
#[inline(always)]
fn direct_or_load<F: Frame, const W: usize>(frame: &F, offset: usize) -> Option<[u32; W]> {
    // Trap: `data + variable` loses the bound in the verifier, so only constants are added.
    let direct = match offset {
        BEFORE_ETHERTYPE => frame.direct::<BEFORE_ETHERTYPE, W>(),
        ETHERNET => frame.direct::<ETHERNET, W>(),
        AFTER_IPV4 => frame.direct::<AFTER_IPV4, W>(),
        AFTER_IPV6 => frame.direct::<AFTER_IPV6, W>(),
        _ => None,
    };
    if direct.is_some() {
        return direct;
    }
    // Trap: filling it with zeros is a call of a function to LLVM, and Linux 6.1 counts its stack
    // in addition to ours.
    let mut words = MaybeUninit::<[u32; W]>::uninit();
    // SAFETY: there is room for as many bytes.
    if !unsafe { frame.load_into(offset, words.as_mut_ptr().cast(), W as u32 * 4) } {
        return None;
    }
    // SAFETY: the helper wrote all of it.
    Some(unsafe { words.assume_init() })
}

impl Packet for Xdp {
    #[inline(always)]
    fn bytes(&self) -> u32 {
        self.bytes
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes exactly N bytes into a buffer of N bytes, or fails.
        let failed = unsafe {
            bpf_xdp_load_bytes(self.ctx.ctx, offset as u32, bytes.as_mut_ptr().cast(), N as u32)
        };
        if failed != 0 {
            return None;
        }
        // SAFETY: the helper wrote all of it.
        Some(unsafe { bytes.assume_init() })
    }

    #[inline(always)]
    fn words<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        direct_or_load(self, offset)
    }
}

impl Frame for Xdp {
    #[inline(always)]
    fn data(&self) -> usize {
        self.ctx.data()
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        self.ctx.data_end()
    }

    #[inline(always)]
    fn segments(&self) -> u32 {
        1
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    unsafe fn load_into(&self, offset: usize, to: *mut c_void, bytes: u32) -> bool {
        // SAFETY: promised by the caller.
        unsafe { bpf_xdp_load_bytes(self.ctx.ctx, offset as u32, to, bytes) == 0 }
    }
}

impl Packet for Tc {
    #[inline(always)]
    fn bytes(&self) -> u32 {
        self.0.len()
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes exactly N bytes into a buffer of N bytes, or fails.
        let failed = unsafe {
            bpf_skb_load_bytes(self.0.as_ptr(), offset as u32, bytes.as_mut_ptr().cast(), N as u32)
        };
        if failed != 0 {
            return None;
        }
        // SAFETY: the helper wrote all of it.
        Some(unsafe { bytes.assume_init() })
    }

    #[inline(always)]
    fn words<const W: usize>(&self, offset: usize) -> Option<[u32; W]> {
        direct_or_load(self, offset)
    }
}

impl Frame for Tc {
    #[inline(always)]
    fn data(&self) -> usize {
        self.0.data()
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        self.0.data_end()
    }

    #[inline(always)]
    fn segments(&self) -> u32 {
        // SAFETY: the context is the one that the kernel gave to this run.
        let segments = unsafe { (*self.0.skb.skb).gso_segs };
        if segments == 0 { 1 } else { segments }
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0.skb.skb).ifindex }
    }

    #[inline(always)]
    unsafe fn load_into(&self, offset: usize, to: *mut c_void, bytes: u32) -> bool {
        // SAFETY: promised by the caller.
        unsafe { bpf_skb_load_bytes(self.0.as_ptr(), offset as u32, to, bytes) == 0 }
    }
}
