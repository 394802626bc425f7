//! Fragments against a model, and the policies one by one.

use proptest::prelude::*;

use super::Defragmenter;
use crate::{
    config::{self, Policy},
    counters::Counters,
    decode,
    event::Event,
    packet::{Frame, Link, Packet},
    testing::{ip4_packet, ip6_packet},
};

struct Bench {
    defrag: Defragmenter,
    settings: config::Defrag,
    counters: Counters,
    policy: Policy,
    now_ns: u64,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        let (settings, counters) = (config::Defrag::default(), Counters::default());
        Self { defrag: Defragmenter::new(1), settings, counters, policy, now_ns: 0 }
    }

    /// The whole packet, and whether an overlap was noted.
    fn take(&mut self, bytes: &[u8]) -> (Option<Vec<u8>>, bool) {
        let frame = Frame { time_ns: self.now_ns, wire_bytes: 0, link: Link::Raw, bytes };
        let (mut packet, _): (Packet<'_>, _) =
            decode::decode(&frame, 1, &config::Decode::default());
        let counters = &mut self.counters;
        let whole = self.defrag.take(&mut packet, self.policy, &self.settings, counters);
        let events = packet.events;
        (whole, events.has(Event::Ipv4FragOverlap) || events.has(Event::Ipv6FragOverlap))
    }

    /// A fragment of protocol 200 at `offset` (in bytes).
    fn piece(&mut self, offset: u16, has_more: bool, data: &[u8]) -> Option<Vec<u8>> {
        let field = (offset / 8) | if has_more { 0x2000 } else { 0 };
        let packet = ip4_packet([10, 0, 0, 1], [10, 0, 0, 2], 200, field, data);
        self.take(&packet).0
    }
}

/// Eight bytes each.
fn blocks(text: &str) -> Vec<u8> {
    text.bytes().flat_map(|byte| [byte; 8]).collect()
}

/// The payload in blocks, as letters.
fn letters(packet: &[u8]) -> String {
    packet[20..].chunks(8).map(|block| char::from(block[0])).collect()
}

#[test]
fn pieces_in_any_order_make_the_packet() {
    let mut bench = Bench::new(Policy::Bsd);
    assert!(bench.piece(16, false, &blocks("c")).is_none());
    assert!(bench.piece(0, true, &blocks("a")).is_none());
    let whole = bench.piece(8, true, &blocks("b")).unwrap();
    assert_eq!(letters(&whole), "abc");
    assert_eq!(whole.len(), 44);
    assert_eq!(crate::checksum::sum(&[&whole[..20]]), 0, "the header's checksum is right");
    assert_eq!((bench.defrag.len(), bench.defrag.bytes()), (0, 0));
    assert_eq!(bench.counters.rebuilt, 1);
}

#[test]
fn policies_differ_where_a_later_piece_begins_before() {
    let expect = [
        (Policy::Bsd, "bbbc"),
        (Policy::Linux, "bbbc"),
        (Policy::First, "baac"),
        (Policy::Windows, "baac"),
        (Policy::Last, "bbbc"),
    ];
    for (policy, expected) in expect {
        let mut bench = Bench::new(policy);
        assert!(bench.piece(8, true, &blocks("aa")).is_none());
        assert!(bench.piece(24, false, &blocks("c")).is_none());
        let whole = bench.piece(0, true, &blocks("bbb")).unwrap();
        // Where the old bytes end with the new ones, Windows and First keep them.
        assert_eq!(letters(&whole), expected, "{policy:?}");
    }
}

#[test]
fn policies_differ_where_a_piece_repeats() {
    let expect = [
        (Policy::Bsd, "aac"),
        (Policy::Linux, "bbc"),
        (Policy::First, "aac"),
        (Policy::Windows, "aac"),
        (Policy::Solaris, "aac"),
        (Policy::Last, "bbc"),
    ];
    for (policy, expected) in expect {
        let mut bench = Bench::new(policy);
        assert!(bench.piece(0, true, &blocks("aa")).is_none());
        assert!(bench.piece(0, true, &blocks("bb")).is_none());
        let whole = bench.piece(16, false, &blocks("c")).unwrap();
        assert_eq!(letters(&whole), expected, "{policy:?}");
    }
}

#[test]
fn extension_headers_of_ip6_are_put_right() {
    // Hop-by-hop, then the fragment header, then UDP.
    let piece = |offset: u16, more: u16, data: &[u8]| {
        let mut payload = vec![44, 0, 1, 4, 0, 0, 0, 0, 17, 0];
        payload.extend((offset | more).to_be_bytes());
        payload.extend([0, 0, 0, 9]);
        payload.extend(data);
        ip6_packet(0, &payload)
    };
    let datagram = crate::testing::udp(5, 6, &[7; 16]);
    let mut bench = Bench::new(Policy::Bsd);
    assert!(bench.take(&piece(0, 1, &datagram[..16])).0.is_none());
    let whole = bench.take(&piece(16, 0, &datagram[16..])).0.unwrap();
    let frame = Frame { time_ns: 0, wire_bytes: 0, link: Link::Raw, bytes: &whole };
    let (packet, _) = decode::decode(&frame, 1, &config::Decode::default());
    assert_eq!(packet.ports(), Some((5, 6)));
    assert_eq!(packet.payload, [7; 16]);
}

#[test]
fn what_is_not_complete_in_time_is_given_up() {
    let mut bench = Bench::new(Policy::Bsd);
    assert!(bench.piece(0, true, &blocks("a")).is_none());
    bench.now_ns = bench.settings.timeout_ns + 1;
    assert!(bench.piece(8, false, &blocks("b")).is_none());
    assert_eq!(bench.counters.defrag_timeouts, 1);
}

#[test]
fn a_packet_that_would_be_too_long_is_refused() {
    let mut bench = Bench::new(Policy::Bsd);
    assert!(bench.piece(65_528, false, &blocks("a")).is_none());
    assert_eq!((bench.counters.defrag_dropped, bench.defrag.len()), (1, 0));
}

const POLICIES: [Policy; 7] = [
    Policy::Bsd,
    Policy::BsdRight,
    Policy::Linux,
    Policy::Solaris,
    Policy::Windows,
    Policy::First,
    Policy::Last,
];

proptest! {
    #[test]
    fn without_overlap_every_policy_gives_the_packet(
        cuts in prop::collection::btree_set(1..40u16, 0..8),
        order in any::<u64>(),
        policy in prop::sample::select(&POLICIES),
    ) {
        let whole: Vec<u8> = (0..325).map(|byte| byte as u8).collect();
        let mut borders: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) * 8).collect();
        borders.insert(0, 0);
        borders.push(whole.len());
        let mut pieces: Vec<_> = borders.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let count = pieces.len();
        for at in 0..count {
            pieces.swap(at, (order.rotate_left(at as u32 * 7) as usize) % count);
        }
        let mut bench = Bench::new(policy);
        let mut found = None;
        for (from, to) in pieces {
            found = found.or(bench.piece(from as u16, to != whole.len(), &whole[from..to]));
        }
        if borders.len() == 2 {
            prop_assert!(found.is_none(), "one piece that is all is no fragment");
        } else {
            prop_assert_eq!(&found.unwrap()[20..], &whole[..]);
        }
    }

    #[test]
    fn overlaps_never_break_anything(
        pieces in prop::collection::vec((0..64u16, 1..8usize, any::<bool>(), any::<u8>()), 1..60),
        policy in prop::sample::select(&POLICIES),
    ) {
        let mut bench = Bench::new(policy);
        bench.settings.bytes_max = 4000;
        bench.settings.fragments_max = 20;
        for (offset, length, has_more, byte) in pieces {
            if let Some(whole) = bench.piece(offset * 8, has_more, &vec![byte; length * 8]) {
                prop_assert!(whole.len() <= 65_535);
                let stated = u16::from_be_bytes([whole[2], whole[3]]);
                prop_assert_eq!(usize::from(stated), whole.len());
            }
            prop_assert!(bench.defrag.bytes() <= 4000);
        }
    }
}

#[test]
fn a_flood_of_first_pieces_stays_within_its_limits() {
    let mut bench = Bench::new(Policy::Linux);
    bench.settings.packets_max = 100;
    for source in 0..5000u16 {
        let [high, low] = source.to_be_bytes();
        let packet = ip4_packet([10, 1, high, low], [10, 0, 0, 2], 17, 0x2000, &[1; 64]);
        assert!(bench.take(&packet).0.is_none());
        assert!(bench.defrag.len() <= 100 && bench.defrag.order.len() < 300);
    }
    assert_eq!(bench.counters.defrag_evicted, 4900);
}
