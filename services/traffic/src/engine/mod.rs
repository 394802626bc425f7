//! The engine: frames in, inspectors called.
//!
//! For each packet (the wire's, those in tunnels, those rebuilt from fragments): decode, defragment,
//! find the flow, follow TCP, feed the application layer, then call [`Inspector::packet`]. Inner
//! packets come before the outer one, as in Suricata. Time is that of the frames; it may be pushed
//! on with [`Engine::tick`].
//!
//! What must never happen here: a clock, a wait, memory without a cap, a loss that is not counted.
//! Callers: the sensor's live and replay loops, tests.

mod ending;
mod inspector;
mod memory;
mod offload;
mod packet;
mod tcp;
#[cfg(test)]
mod tests;

pub use inspector::{Inspector, View, exception};
pub use offload::SAMPLE_PACKETS_MAX;

use crate::{
    config::{Config, SECOND_NS},
    counters::Counters,
    decode::{self, Inner},
    defrag::Defragmenter,
    flow::Table,
    packet::{Frame, Ip, Origin, Packet},
    stream::Memory,
};

/// How often flows are looked through for those whose time has come.
const SWEEP_EVERY_NS: u64 = SECOND_NS / 4;

/// The whole pipeline.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    counters: Counters,
    table: Table,
    defrag: Defragmenter,
    memory: Memory,
    /// Bytes that the application layers of all flows hold.
    app_bytes: usize,
    offload: offload::Offload,
    /// Frames so far.
    number: u64,
    /// Flows so far.
    last_id: u64,
    /// Time: never goes back.
    now_ns: u64,
    sweep_ns: u64,
}

impl Engine {
    /// An engine without flows.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            table: Table::new(config.seed),
            defrag: Defragmenter::new(config.seed.rotate_left(32)),
            config,
            counters: Counters::default(),
            memory: Memory::default(),
            app_bytes: 0,
            offload: offload::Offload::default(),
            number: 0,
            last_id: 0,
            now_ns: 0,
            sweep_ns: 0,
        }
    }

    /// Looks at a frame of the beginning of a capture, before any is given to [`Self::handle`]: a sender
    /// none of whose first packets has a right checksum leaves them to its network card, and is not
    /// checked. Up to [`SAMPLE_PACKETS_MAX`] frames count.
    pub fn sample(&mut self, frame: &Frame<'_>) {
        if self.config.stream.is_checksum_validated {
            self.offload.sample(frame, &self.config.decode);
        }
    }

    /// Senders whose checksums are not looked at, see [`Self::sample`].
    #[must_use]
    pub fn offloading_senders(&self) -> usize {
        self.offload.len()
    }

    /// Takes one frame.
    pub fn handle(&mut self, frame: Frame<'_>, inspector: &mut dyn Inspector) {
        self.number += 1;
        self.counters.frames += 1;
        self.counters.frame_bytes += frame.bytes.len() as u64;
        self.advance(frame.time_ns, inspector);
        self.memory.is_full = self.config.stream.no_memory_at == Some(self.number);
        let (mut packet, inner) = decode::decode(&frame, self.number, &self.config.decode);
        self.layer(&mut packet, inner, None, inspector);
        self.bound(inspector);
    }

    /// Lets time pass without a frame: flows end, fragments are given up. Once a second is enough.
    pub fn tick(&mut self, now_ns: u64, inspector: &mut dyn Inspector) {
        self.advance(now_ns, inspector);
    }

    /// Ends every flow, the oldest first.
    pub fn finish(&mut self, inspector: &mut dyn Inspector) {
        for slot in self.table.by_age() {
            self.end(slot, crate::flow::Reason::Shutdown, inspector);
        }
    }

    /// What was seen and lost.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Its settings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// New settings, for packets from now on; flows and their streams stay as they are.
    pub fn set_config(&mut self, config: Config) {
        let seed = self.config.seed;
        self.config = Config { seed, ..config };
    }

    /// Whether checksums of the frames from now on say anything: a card that computes them later
    /// hands frames over without.
    pub const fn validate_checksums(&mut self, is_validated: bool) {
        self.config.stream.is_checksum_validated = is_validated;
    }

    /// Flows in the table now, those that only wait for Zeek's timers included.
    #[must_use]
    pub fn flows(&self) -> u32 {
        u32::try_from(self.table.len()).unwrap_or(u32::MAX)
    }

    /// An upper bound of every [`crate::flow::Flow::slot`].
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.table.slots()
    }

    /// Bytes that streams and fragments hold now.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.memory.used + self.defrag.bytes()
    }

    /// Bytes that the application layers of all flows hold now.
    #[must_use]
    pub const fn app_bytes(&self) -> usize {
        self.app_bytes
    }

    fn advance(&mut self, now_ns: u64, inspector: &mut dyn Inspector) {
        self.now_ns = self.now_ns.max(now_ns);
        if self.now_ns < self.sweep_ns {
            return;
        }
        self.sweep_ns = self.now_ns.saturating_add(SWEEP_EVERY_NS);
        self.defrag.expire(self.now_ns, &self.config.defrag, &mut self.counters);
        while let Some(slot) = self.table.expired(self.now_ns, &self.config.flow) {
            self.end(slot, crate::flow::Reason::Timeout, inspector);
        }
    }

    /// A packet and what is in it, the innermost first.
    fn layer<'a>(
        &mut self,
        packet: &mut Packet<'a>,
        inner: Option<Inner<'a>>,
        outer: Option<&Packet<'a>>,
        inspector: &mut dyn Inspector,
    ) {
        self.counters.packets += 1;
        self.counters.packets_invalid += u64::from(packet.is_invalid);
        packet.is_checksum_wrong = self.is_checksum_wrong(packet);
        packet.is_outside_wrong |= self.is_header_wrong(packet);
        if let Some(inner) = inner {
            if packet.tunnel_depth >= self.config.decode.tunnel_depth_max {
                self.counters.packets_too_deep += 1;
            } else {
                self.counters.packets_tunnelled += 1;
                let is_wrong = packet.is_outside_wrong || packet.is_checksum_wrong;
                let (mut own, inner) = decode::decode_inner(packet, &inner, &self.config.decode);
                own.is_outside_wrong = is_wrong;
                self.layer(&mut own, inner, Some(outer.unwrap_or(&*packet)), inspector);
                packet.is_carrier = true;
            }
        }
        let mut exceptions = 0;
        if packet.ip.as_ref().is_some_and(Ip::is_fragment) && !packet.is_invalid {
            if self.config.defrag.no_memory_at == Some(self.number) {
                exceptions = exception::DEFRAG_MEMORY;
            } else {
                self.fragment(packet, outer, inspector);
            }
        }
        self.inspect(packet, outer, exceptions, inspector);
    }

    /// Whether the checksum of what is above IP is wrong, and that counts.
    fn is_checksum_wrong(&mut self, packet: &Packet<'_>) -> bool {
        let is_wrong = self.config.stream.is_checksum_validated
            && packet.is_transport_checksum_right() == Some(false);
        if !is_wrong {
            return false;
        }
        let is_passed = packet.ip.as_ref().is_some_and(|ip| self.offload.is_at_end_of(ip));
        self.counters.checksum_offloaded += u64::from(is_passed);
        !is_passed
    }

    /// The same of the IP header; that of a rebuilt packet is not one that was sent.
    fn is_header_wrong(&self, packet: &Packet<'_>) -> bool {
        self.config.stream.is_checksum_validated
            && packet.origin != Origin::Rebuilt
            && packet.ip.is_some_and(|ip| {
                ip.is_checksum_right() == Some(false) && !self.offload.is_at_end_of(&ip)
            })
    }

    fn fragment(
        &mut self,
        packet: &mut Packet<'_>,
        outer: Option<&Packet<'_>>,
        inspector: &mut dyn Inspector,
    ) {
        let Some(ip) = packet.ip else { return };
        let policy = self.config.policy_of(ip.destination);
        let settings = &self.config.defrag;
        let Some(whole) = self.defrag.take(packet, policy, settings, &mut self.counters) else {
            return;
        };
        let (mut rebuilt, inner) = decode::decode_rebuilt(packet, &whole, &self.config.decode);
        // A packet that was put together is no fragment: this does not come here again for it.
        self.layer(&mut rebuilt, inner, Some(outer.unwrap_or(&*packet)), inspector);
    }
}
