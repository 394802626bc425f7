//! The eBPF programs in the kernel, driven by BPF_PROG_TEST_RUN.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::IpAddr;

use etherparse::PacketBuilder;
use hookprobe_abi::{self as abi, Address, BlockEntry, Counter, Record};
use hookprobe_sensor::{
    causes,
    core::address::from_ip,
    object::{
        Maps, Object, Rings,
        lists::{List, Rule},
        record_from, sample_from,
    },
};

pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
/// TC_ACT_UNSPEC as the kernel returns it.
pub(crate) const TC_NEXT: u32 = u32::MAX;
/// TC_ACT_SHOT.
pub(crate) const TC_DROP: u32 = 2;

pub(crate) const A: [u8; 4] = [192, 0, 2, 1];
pub(crate) const B: [u8; 4] = [192, 0, 2, 2];
pub(crate) const MAC: [u8; 6] = [2; 6];

pub(crate) struct Kernel {
    pub(crate) object: Object,
    pub(crate) maps: Maps,
    pub(crate) rings: Rings,
}

impl Kernel {
    pub(crate) fn new() -> Option<Self> {
        let path = super::object()?;
        match Object::load(&path, None) {
            Ok((object, maps, rings)) => Some(Self { object, maps, rings }),
            Err(error) => panic!("{}", causes(&error)),
        }
    }

    pub(crate) fn ingress(&mut self, frame: &[u8]) -> u32 {
        self.object.test_run(abi::PROGRAM_XDP, frame, 1).unwrap().0
    }

    /// Verdict of any program.
    pub(crate) fn run(&mut self, program: &'static str, frame: &[u8]) -> u32 {
        self.object.test_run(program, frame, 1).unwrap().0
    }

    /// Empties the flow tables: a new one for each frame would be slow.
    pub(crate) fn forget_flows(&mut self) {
        let keys: Vec<abi::FlowKey4> = self.maps.flows4.keys().filter_map(Result::ok).collect();
        for key in keys {
            self.maps.flows4.remove(&key).unwrap();
        }
        let keys: Vec<abi::FlowKey> = self.maps.flows6.keys().filter_map(Result::ok).collect();
        for key in keys {
            self.maps.flows6.remove(&key).unwrap();
        }
    }

    /// Puts a list in force.
    pub(crate) fn list(&mut self, rules: &[Rule]) {
        self.maps.swap_list(&List::new(rules.iter().copied()).unwrap()).unwrap();
    }

    /// Changes what the programs are told.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut abi::config::Config)) {
        let mut config = self.maps.config().unwrap();
        change(&mut config);
        self.maps.configure(&config).unwrap();
    }

    /// Samples that were sent, with their bytes.
    pub(crate) fn take_samples(&mut self) -> Vec<(abi::sample::Header, Vec<u8>)> {
        let mut samples = Vec::new();
        while let Some(item) = self.rings.samples.next() {
            let (header, bytes) = sample_from(&item).unwrap();
            samples.push((header, bytes.to_vec()));
        }
        samples
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.maps.counter(counter).unwrap()
    }

    pub(crate) fn take_records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        while let Some(item) = self.rings.records.next() {
            records.push(record_from((&*item).try_into().unwrap()));
        }
        records
    }

    pub(crate) fn kinds(&mut self) -> Vec<u8> {
        self.take_records().iter().map(|record| record.kind).collect()
    }

    pub(crate) fn block(&mut self, source: &str, expires_ns: u64) {
        let entry = BlockEntry { expires_ns, ..BlockEntry::default() };
        self.maps.insert_block(ip(source), entry).unwrap();
    }
}

pub(crate) fn ip(text: &str) -> Address {
    from_ip(text.parse::<IpAddr>().unwrap())
}

/// A rule for `net`, written as `10.0.0.0/8`.
pub(crate) fn rule(net: &str, flags: u64, expires_ns: u64) -> Rule {
    let (address, bits) = net.split_once('/').unwrap();
    let bits: u8 = bits.parse().unwrap();
    let bits = if address.contains(':') { bits } else { 96 + bits };
    let entry = BlockEntry { expires_ns, flags, ..BlockEntry::default() };
    Rule { address: ip(address), bits, entry }
}

pub(crate) fn syn() -> Vec<u8> {
    let mut out = Vec::new();
    let builder = PacketBuilder::ethernet2(MAC, MAC).ipv4(A, B, 64);
    builder.tcp(40_000, 80, 0, 0).syn().write(&mut out, &[]).unwrap();
    out
}

pub(crate) fn udp_v6() -> Vec<u8> {
    let mut out = Vec::new();
    let (a, b) = (ip("2001:db8::1"), ip("2001:db8::2"));
    let builder = PacketBuilder::ethernet2(MAC, MAC).ipv6(a, b, 64);
    builder.udp(5353, 53).write(&mut out, &[7; 9]).unwrap();
    out
}
