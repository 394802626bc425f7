//! Captures straight to `App`: links, IP and TCP no more than honest captures need.

#![expect(clippy::unwrap_used, reason = "test support")]

use hookprobe_traffic::Direction;
use hookprobe_traffic::app::{App, Config, Meta, Transport, TxRef};
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Both ends; the client sent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowKey {
    pub(crate) client: (IpAddr, u16),
    pub(crate) server: (IpAddr, u16),
}

#[derive(Default)]
struct Flow {
    app: App,
    next: [Option<u32>; 2],
    later: [BTreeMap<u32, Vec<u8>>; 2],
}

/// All flows of a capture.
#[derive(Default)]
pub(crate) struct Harness {
    pub(crate) config: Config,
    flows: BTreeMap<(u8, FlowKey), Flow>,
}

impl Harness {
    /// Reads a capture; `seen` gets every transaction after every packet.
    pub(crate) fn run(&mut self, path: &Path, mut seen: impl FnMut(&FlowKey, TxRef<'_>)) {
        let file = std::fs::File::open(path).unwrap();
        let mut reader = create_reader(1 << 20, file).unwrap();
        let mut link = 1;
        loop {
            match reader.next() {
                Ok((used, block)) => {
                    match block {
                        PcapBlockOwned::LegacyHeader(header) => link = header.network.0,
                        PcapBlockOwned::Legacy(packet) => self.frame(link, packet.data, &mut seen),
                        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                            link = interface.linktype.0;
                        }
                        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                            let length = usize::try_from(packet.caplen).unwrap();
                            self.frame(link, &packet.data[..length], &mut seen);
                        }
                        PcapBlockOwned::NG(_) => {}
                    }
                    reader.consume(used);
                }
                Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
                Err(_) => return,
            }
        }
    }

    fn frame(&mut self, link: i32, bytes: &[u8], seen: &mut impl FnMut(&FlowKey, TxRef<'_>)) {
        let start = match link {
            0 => 4,
            1 => {
                let mut at = 12;
                while bytes.get(at..at + 2) == Some(&[0x81, 0]) {
                    at += 4;
                }
                at + 2
            }
            113 => 16,
            _ => 0,
        };
        let Some(ip) = bytes.get(start..) else { return };
        let Some((source, target, proto, rest)) = addresses(ip) else { return };
        if rest.len() < 8 {
            return;
        }
        let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
        let (from, to) = ((source, port(0)), (target, port(2)));
        let forward = FlowKey { client: from, server: to };
        let backward = FlowKey { client: to, server: from };
        let (key, direction) = if self.flows.contains_key(&(proto, backward)) {
            (backward, Direction::ToClient)
        } else {
            (forward, Direction::ToServer)
        };
        let flow = self.flows.entry((proto, key)).or_default();
        let config = &self.config;
        let meta = |transport| Meta {
            config,
            transport,
            ports: (key.client.1, key.server.1),
            gap: 0,
            eof: false,
            is_midstream: false,
            offset: 0,
            is_alone: false,
        };
        match proto {
            17 => {
                flow.app.feed(1, direction, &rest[8..], meta(Transport::Udp));
            }
            6 if rest.len() >= 20 => flow.tcp(direction, rest, meta(Transport::Tcp)),
            _ => return,
        }
        flow.app.txs().for_each(|tx| seen(&key, tx));
        flow.app.prune();
    }
}

fn addresses(ip: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    match ip.first()? >> 4 {
        4 if ip.len() >= 20 => {
            let head = usize::from(ip[0] & 15) * 4;
            let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            let end = if length == 0 { ip.len() } else { length.min(ip.len()) };
            let source: [u8; 4] = ip[12..16].try_into().unwrap();
            let target: [u8; 4] = ip[16..20].try_into().unwrap();
            let rest = ip.get(head..end)?;
            Some((Ipv4Addr::from(source).into(), Ipv4Addr::from(target).into(), ip[9], rest))
        }
        6 if ip.len() >= 40 => {
            let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            let end = (40 + length).min(ip.len());
            let source: [u8; 16] = ip[8..24].try_into().unwrap();
            let target: [u8; 16] = ip[24..40].try_into().unwrap();
            let rest = ip.get(40..end)?;
            Some((Ipv6Addr::from(source).into(), Ipv6Addr::from(target).into(), ip[6], rest))
        }
        _ => None,
    }
}

impl Flow {
    fn tcp(&mut self, direction: Direction, segment: &[u8], meta: Meta<'_>) {
        let seq = u32::from_be_bytes(segment[4..8].try_into().unwrap());
        let payload = segment.get(usize::from(segment[12] >> 4) * 4..).unwrap_or_default();
        let index = direction.index();
        if segment[13] & 2 != 0 {
            self.next[index] = Some(seq.wrapping_add(1));
            return;
        }
        let is_end = segment[13] & 1 != 0;
        if payload.is_empty() {
            if is_end {
                self.app.feed(1, direction, &[], Meta { eof: true, ..meta });
            }
            return;
        }
        let mut next = *self.next[index].get_or_insert(seq);
        self.later[index].entry(seq).or_insert_with(|| payload.to_vec());
        loop {
            let ready = self.later[index].iter().find_map(|(seq, data)| {
                let behind = usize::try_from(next.wrapping_sub(*seq)).unwrap();
                (behind < data.len()).then(|| (*seq, data[behind..].to_vec()))
            });
            let Some((seq, data)) = ready else { break };
            self.later[index].remove(&seq);
            next = next.wrapping_add(u32::try_from(data.len()).unwrap());
            self.app.feed(1, direction, &data, meta);
        }
        self.next[index] = Some(next);
        if is_end {
            self.app.feed(1, direction, &[], Meta { eof: true, ..meta });
        }
    }
}
