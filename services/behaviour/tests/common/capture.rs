//! Captures through the whole engine into the detectors.

use std::{collections::BTreeMap, fs::File, path::Path};

use hookprobe_behaviour::{Behaviour, Config, Finding, traffic::Glue};
use hookprobe_traffic::{
    engine::Engine,
    packet::{Frame, Link},
};
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

const SECOND_NS: u64 = 1_000_000_000;

/// What the detectors find in a capture, and their counters.
pub(crate) fn run(path: &Path, config: &Config) -> (Vec<Finding>, BTreeMap<&'static str, u64>) {
    // Captures that a sender made of itself have no checksums yet: its card adds them.
    let mut traffic = hookprobe_traffic::config::Config::default();
    traffic.stream.is_checksum_validated = false;
    let mut engine = Engine::new(traffic);
    let mut glue = Glue::new(Behaviour::new(config));
    let mut ticked_ns = 0;
    frames(path, |frame| {
        if frame.time_ns >= ticked_ns + SECOND_NS {
            ticked_ns = frame.time_ns;
            engine.tick(ticked_ns, &mut glue);
            glue.tick(ticked_ns);
        }
        engine.handle(frame, &mut glue);
    });
    engine.finish(&mut glue);
    glue.finish();
    let found = glue.take_findings();
    (found, glue.counters().into_iter().collect())
}

fn frames(path: &Path, mut each: impl FnMut(Frame<'_>)) {
    let mut reader = create_reader(1 << 20, File::open(path).unwrap()).unwrap();
    let mut links = Vec::new();
    let mut legacy_ns = 1000;
    let link = |number: i32| Link::from_linktype(u32::try_from(number).unwrap());
    loop {
        match reader.next() {
            Ok((offset, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => {
                        links = vec![link(header.network.0).unwrap()];
                        legacy_ns = if header.is_nanosecond_precision() { 1 } else { 1000 };
                    }
                    PcapBlockOwned::Legacy(packet) => each(Frame {
                        time_ns: u64::from(packet.ts_sec) * SECOND_NS
                            + u64::from(packet.ts_usec) * legacy_ns,
                        wire_bytes: packet.origlen,
                        link: links[0],
                        bytes: packet.data,
                    }),
                    PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                        links.push(link(interface.linktype.0).unwrap());
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => each(Frame {
                        time_ns: (u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low))
                            * 1000,
                        wire_bytes: packet.origlen,
                        link: links[usize::try_from(packet.if_id).unwrap()],
                        bytes: packet.data.get(..packet.caplen as usize).unwrap_or(packet.data),
                    }),
                    PcapBlockOwned::NG(_) => {}
                }
                reader.consume(offset);
            }
            Err(PcapError::Eof) => return,
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Err(error) => panic!("{}: {error:?}", path.display()),
        }
    }
}
