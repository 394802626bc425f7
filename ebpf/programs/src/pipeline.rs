//! What is done to one packet, in order: parse, single blocks, flow, list, limits, count, tell.
//!
//! A known flow that the list in force had nothing against is not held against it again: then a
//! packet costs three lookups (counters, BLOCK, flow). Generic over the kind of program, so that XDP
//! and TC can't differ.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use hookprobe_abi::{
    Counter, FLAG_EGRESS, FlowStat, Record,
    config::{Config, flag},
    kind,
    parse::{self, Network, Transport, Words},
};

use crate::{
    flow,
    frame::Frame,
    maps::{Counters, Parsed, config, room, send},
    sampler::{self, Seen},
    verdict::{Subject, Verdict, apply, blocked, bytes_of, limited, listed, now_ns},
};

type Ip = parse::Ip<Words>;

/// A packet that is worked on.
struct Work<'a, F> {
    frame: &'a F,
    counters: Counters,
    config: &'a Config,
    /// 0 or [`FLAG_EGRESS`].
    flags: u8,
}

/// A packet comes in; `false` drops it.
#[inline(always)]
pub fn ingress<F: Frame>(frame: &F) -> bool {
    let (Some(counters), Some(config)) = (Counters::get(), config()) else { return true };
    counters.add(Counter::Packets, u64::from(frame.segments()));
    counters.add(Counter::Bytes, u64::from(frame.bytes()));
    match parse::network_words(frame) {
        Network::Ip(ip) => {
            counters.count(if ip.v6 { Counter::Ipv6 } else { Counter::Ipv4 });
            Work { frame, counters, config, flags: 0 }.run(&ip)
        }
        Network::Other => {
            counters.count(Counter::OtherEther);
            true
        }
        Network::Malformed => {
            counters.count(Counter::Malformed);
            true
        }
    }
}

/// A packet goes out; `false` drops it, because of where it goes.
#[inline(always)]
pub fn egress<F: Frame>(frame: &F) -> bool {
    let (Some(counters), Some(config)) = (Counters::get(), config()) else { return true };
    counters.add(Counter::EgressPackets, u64::from(frame.segments()));
    counters.add(Counter::EgressBytes, u64::from(frame.bytes()));
    let Network::Ip(ip) = parse::network_words(frame) else { return true };
    let passes = Work { frame, counters, config, flags: FLAG_EGRESS }.run(&ip);
    if !passes {
        counters.count(Counter::EgressDropped);
    }
    passes
}

/// Reads the headers and lets go: what parsing costs, for comparison.
#[inline(always)]
pub fn parse_only<F: Frame>(frame: &F) -> u32 {
    let Network::Ip(ip) = parse::network_words(frame) else { return 0 };
    match transport_of(frame, &ip) {
        Some(transport) => u32::from(transport.destination_port) + u32::from(ip.protocol),
        None => 0,
    }
}

#[inline(always)]
fn transport_of<F: Frame>(frame: &F, ip: &Ip) -> Option<Transport> {
    if ip.fragment {
        return Some(Transport::default());
    }
    parse::transport(frame, ip)
}

impl<F: Frame> Work<'_, F> {
    #[inline(always)]
    fn run(&self, ip: &Ip) -> bool {
        let Some(room) = room() else { return true };
        let (transport, is_cut) = match transport_of(self.frame, ip) {
            Some(transport) => (transport, false),
            None => (Transport::default(), true),
        };
        // SAFETY: this CPU's own entry; programs for packets are not preempted by each other on it.
        unsafe { room.write(Parsed { ip: *ip, transport, is_cut }) };
        // SAFETY: takes nothing, returns a number. It stands here for LLVM, too: across a call into
        // the kernel it has to read again what was written to a map.
        let coarse_ns = unsafe { bpf_ktime_get_coarse_ns() };
        // SAFETY: it was written above and nothing writes to it until the program ends.
        self.judge(unsafe { &*room }, coarse_ns)
    }

    #[inline(always)]
    fn judge(&self, parsed: &Parsed, coarse_ns: u64) -> bool {
        let Parsed { ip, transport, is_cut } = parsed;
        let is_out = self.flags == FLAG_EGRESS;
        let words = if is_out { &ip.destination } else { &ip.source };
        let address = bytes_of(words);
        let subject = Subject { address, words, v6: ip.v6, bytes: self.frame.bytes() };
        let mut found = blocked(self.counters, address);
        if ip.fragment && !is_out {
            self.counters.count(Counter::Fragments);
        }
        let has_flow = !*is_cut && self.config.flags & flag::NO_FLOWS == 0;
        let stat = if has_flow { flow::find(ip, transport) } else { None };
        if found.rule.is_null() && !self.is_cleared(stat) {
            found = listed(self.counters, self.config, subject);
        }
        let mut generation = self.config.generation;
        let mut has_limits = !is_out;
        if !found.rule.is_null() {
            generation = 0;
            match apply(self.counters, subject, found) {
                Verdict::Met => {}
                Verdict::Allow => has_limits = false,
                Verdict::Drop => return false,
                Verdict::FirstDrop => {
                    send(self.counters, &self.record(ip, transport, kind::FIRST_DROP));
                    return false;
                }
            }
        }
        if has_limits && limited(self.counters, self.config, subject, coarse_ns) {
            return false;
        }
        if *is_cut {
            if !is_out {
                self.counters.count(Counter::Malformed);
            }
            return true;
        }
        let is_new = self.count(ip, transport, stat, coarse_ns, generation);
        self.tell(ip, transport, is_new);
        true
    }

    /// Whether the list in force is known to have nothing about this flow.
    #[inline(always)]
    fn is_cleared(&self, stat: Option<*mut FlowStat>) -> bool {
        let Some(stat) = stat else { return false };
        // SAFETY: this CPU's own copy of a live map value.
        let stat = unsafe { &*stat };
        stat.generation == self.config.generation
            && stat.packets != 0
            && self.config.flags & flag::NO_CACHE == 0
    }

    /// Counts the packet in its flow; `true` when it is the first one of it.
    #[inline(always)]
    fn count(
        &self,
        ip: &Ip,
        transport: &Transport,
        stat: Option<*mut FlowStat>,
        coarse_ns: u64,
        generation: u64,
    ) -> bool {
        let packets = u64::from(self.frame.segments());
        let bytes = u64::from(self.frame.bytes());
        if let Some(stat) = stat {
            // SAFETY: this CPU's own copy of a live map value.
            let stat = unsafe { &mut *stat };
            if stat.packets == 0 {
                // Another CPU made the entry; ours starts here.
                stat.first_ns = now_ns();
            }
            stat.packets += packets;
            stat.bytes += bytes;
            stat.last_coarse_ns = coarse_ns;
            stat.generation = generation;
            stat.interface = self.frame.interface();
            stat.tcp_flags |= transport.tcp_flags;
            let before = Seen { looked_at: stat.looked_at, sampled_as: stat.sampled_as };
            let seen = self.sample(ip, transport, before);
            stat.looked_at = seen.looked_at;
            stat.sampled_as = seen.sampled_as;
            return false;
        }
        if self.config.flags & flag::NO_FLOWS != 0 {
            return false;
        }
        let seen = self.sample(ip, transport, Seen { looked_at: 0, sampled_as: 0 });
        let stat = FlowStat {
            packets,
            bytes,
            first_ns: now_ns(),
            last_coarse_ns: coarse_ns,
            generation,
            interface: self.frame.interface(),
            tcp_flags: transport.tcp_flags,
            looked_at: seen.looked_at,
            sampled_as: seen.sampled_as,
            reserved: 0,
        };
        if !flow::insert(ip, transport, &stat) {
            self.counters.count(Counter::FlowsLost);
        }
        true
    }

    #[inline(always)]
    fn sample(&self, ip: &Ip, transport: &Transport, seen: Seen) -> Seen {
        if self.config.flags & flag::SAMPLE == 0 {
            return seen;
        }
        sampler::look(self.counters, self.frame, ip, transport, self.flags, seen)
    }

    /// Tells user space what it has to know of a packet that passes.
    #[inline(always)]
    fn tell(&self, ip: &Ip, transport: &Transport, is_new: bool) {
        if transport.kind == kind::UNREACHABLE {
            if let Some(about) = parse::about(self.frame, ip) {
                send(
                    self.counters,
                    &Record {
                        time_ns: now_ns(),
                        source: about.source,
                        destination: about.destination,
                        source_port: about.source_port,
                        destination_port: about.destination_port,
                        bytes: self.frame.bytes(),
                        interface: self.frame.interface(),
                        protocol: about.protocol,
                        kind: kind::UNREACHABLE,
                        flags: self.flags,
                        tcp_flags: 0,
                    },
                );
            }
        } else if transport.kind != 0 {
            send(self.counters, &self.record(ip, transport, transport.kind));
        } else if is_new && parse::tells_flow(ip.protocol) {
            send(self.counters, &self.record(ip, transport, kind::FLOW));
        }
    }

    #[inline(always)]
    fn record(&self, ip: &Ip, transport: &Transport, kind: u8) -> Record {
        Record {
            time_ns: now_ns(),
            source: ip.source.bytes(),
            destination: ip.destination.bytes(),
            source_port: transport.source_port,
            destination_port: transport.destination_port,
            bytes: self.frame.bytes(),
            interface: self.frame.interface(),
            protocol: ip.protocol,
            kind,
            flags: self.flags,
            tcp_flags: transport.tcp_flags,
        }
    }
}
