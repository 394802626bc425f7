//! Laws of what kernel and replay share: parser, prefixes, buckets, choice of samples.

use hookprobe_abi::{
    bucket::Rate,
    parse::{self, Network, Packet, Words},
    rules::masked,
    sample,
};
use proptest::prelude::*;

struct Bytes<'a>(&'a [u8]);

impl Packet for Bytes<'_> {
    fn bytes(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..)?.first_chunk().copied()
    }
}

/// Ethernet, tags and the start of a header that looks right, then anything.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop_oneof![Just(0_usize), 1..=3_usize];
    let rest = prop::collection::vec(any::<u8>(), 0..200);
    (tags, any::<bool>(), rest, any::<bool>()).prop_map(|(tags, v6, rest, is_honest)| {
        let mut frame = vec![2; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend(if v6 { [0x86, 0xdd] } else { [8, 0] });
        let start = frame.len();
        frame.extend(rest);
        if is_honest && frame.len() > start + 8 {
            frame[start] = if v6 { 0x60 } else { 0x45 };
            let length = frame.len() - start;
            let (at, length) = if v6 { (4, length.saturating_sub(40)) } else { (2, length) };
            let length = u16::try_from(length).unwrap_or(0).to_be_bytes();
            frame[start + at..start + at + 2].copy_from_slice(&length);
        }
        frame
    })
}

proptest! {
    #[test]
    fn parsing_stays_within_the_packet(frame in frames()) {
        let packet = Bytes(&frame);
        if let Network::Ip(ip) = parse::network(&packet) {
            prop_assert!(ip.end <= frame.len());
            let least = if ip.v6 { 54 } else { 34 };
            prop_assert!(ip.offset >= least);
            if let Some(transport) = parse::transport(&packet, &ip) {
                prop_assert!(transport.payload == 0 || transport.payload >= ip.offset + 8);
            }
            let _ = parse::about(&packet, &ip);
        }
    }

    #[test]
    fn words_and_bytes_say_the_same(frame in frames()) {
        let packet = Bytes(&frame);
        prop_assert_eq!(parse::network(&packet), Network::from(parse::network_words(&packet)));
    }

    #[test]
    fn what_is_cut_off_is_never_made_up(frame in frames(), cut in 0..200_usize) {
        let short = &frame[..cut.min(frame.len())];
        if let (Network::Ip(whole), Network::Ip(part)) =
            (parse::network(&Bytes(&frame)), parse::network(&Bytes(short)))
        {
            prop_assert_eq!((whole.source, whole.destination), (part.source, part.destination));
        }
    }

    #[test]
    fn words_are_bytes(bytes in any::<[u8; 16]>()) {
        prop_assert_eq!(Words::from_bytes(bytes).bytes(), bytes);
    }

    #[test]
    fn a_prefix_is_its_first_bits(address in any::<[u8; 16]>(), bits in 0..=128_u8) {
        let expected = u128::from_be_bytes(address)
            & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        prop_assert_eq!(masked(&address, bits), expected.to_be_bytes());
    }

    /// In any stretch of time no more pass than were in the bucket and came back.
    #[test]
    fn a_bucket_gives_no_more_than_it_has(
        per_second in 1..100_000_u32,
        burst in 1..1000_u32,
        pauses in prop::collection::vec(0..50_000_000_u64, 1..400),
    ) {
        let rate = Rate::new(per_second, burst);
        let (mut full_ns, mut now_ns, mut passed) = (0, 1_000_000_000_u64, 0_u64);
        for pause in &pauses {
            now_ns += pause;
            if let Some(next) = rate.take(full_ns, now_ns) {
                full_ns = next;
                passed += 1;
            }
        }
        let elapsed_ns: u64 = pauses.iter().sum();
        prop_assert!(passed <= u64::from(burst) + elapsed_ns / rate.interval_ns + 1);
        prop_assert!(passed >= u64::from(burst).min(pauses.len() as u64));
    }

    #[test]
    fn choice_of_samples_needs_no_more_than_eight_bytes(
        first in any::<[u8; 8]>(), protocol in any::<u8>(), ports in any::<(u16, u16)>(),
        length in 8..2000_usize,
    ) {
        let kind = sample::classify(&first, protocol, ports, length);
        prop_assert!(kind <= sample::kind::SSH);
        prop_assert!(kind == sample::kind::NONE || matches!(protocol, 6 | 17) || ports.0 == 53 || ports.1 == 53);
    }
}
