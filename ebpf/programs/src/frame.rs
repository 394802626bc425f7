//! Bytes of a packet, for both kinds of program.
//!
//! Headers at the places where nearly every packet has them are read in place; everything else
//! goes through a helper that checks the bounds in the kernel. Nothing here reads past `data_end`.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::{TcContext, XdpContext},
};
use hookprobe_abi::parse::{ETHERNET, Packet};

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

    /// `N` bytes at the constant `OFFSET` of the linear part.
    #[inline(always)]
    fn direct<const OFFSET: usize, const N: usize>(&self) -> Option<[u8; N]> {
        let start = self.data();
        if start + OFFSET + N > self.data_end() {
            return None;
        }
        // SAFETY: the comparison above is the one that the verifier demands of this very pointer;
        // an array of bytes has no alignment.
        Some(unsafe { *((start + OFFSET) as *const [u8; N]) })
    }
}

/// A packet that comes in.
pub struct Ingress(pub XdpContext);

/// A packet that goes out.
pub struct Egress(pub TcContext);

/// `N` bytes at `offset`: in place where most packets have them, else by the kernel's helper.
#[inline(always)]
fn direct_or_load<F: Frame, const N: usize>(frame: &F, offset: usize) -> Option<[u8; N]> {
    // Trap: `data + variable` loses the bound in the verifier, so only constants are added.
    let direct = match offset {
        0 => frame.direct::<0, N>(),
        ETHERNET => frame.direct::<ETHERNET, N>(),
        AFTER_IPV4 => frame.direct::<AFTER_IPV4, N>(),
        AFTER_IPV6 => frame.direct::<AFTER_IPV6, N>(),
        _ => None,
    };
    match direct {
        Some(bytes) => Some(bytes),
        None => frame.load(offset),
    }
}

impl Packet for Ingress {
    #[inline(always)]
    fn bytes(&self) -> u32 {
        // SAFETY: the context is the one that the kernel gave to this run.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) as u32 }
    }

    #[inline(always)]
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes exactly N bytes into a buffer of N bytes, or fails.
        let failed = unsafe {
            bpf_xdp_load_bytes(self.0.ctx, offset as u32, bytes.as_mut_ptr().cast(), N as u32)
        };
        if failed != 0 {
            return None;
        }
        // SAFETY: the helper wrote all of it.
        Some(unsafe { bytes.assume_init() })
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        direct_or_load(self, offset)
    }
}

impl Frame for Ingress {
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
        1
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }
}

impl Packet for Egress {
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
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        direct_or_load(self, offset)
    }
}

impl Frame for Egress {
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
}
