//! `cargo xtask drill`: an attack on the booted box, followed from its first packet to the first
//! packet that was dropped, while a bystander keeps talking.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    error::{Error, Result, at},
    run,
    tree::{Image, Tree},
    vm::{
        Line, Options, Vm,
        wire::{self, Cable, Heard, Station},
    },
};

/// A scan is decided after a handful of refused ports; the rest is a translated, busy guest.
const INCIDENT_WAIT: Duration = Duration::from_secs(60);
/// How long both stations go on after the block, to see who is still answered.
const AFTER: Duration = Duration::from_secs(6);
/// How late an answer may be.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Between two packets of a station.
const PACE: Duration = Duration::from_millis(25);
/// Ports that the built-in scan tries, round and round.
const PORTS: u16 = 1000;
/// Most frames taken from a capture.
const CAPTURE_FRAMES_MAX: usize = 100_000;

/// What was seen on the wire in one span of time.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    attacker_sent: u64,
    attacker_answered: u64,
    bystander_sent: u64,
    bystander_answered: u64,
}

/// What plays the attacker.
enum Attack {
    Scan { next: u16 },
    Capture { frames: Vec<Vec<u8>>, next: usize },
}

impl Attack {
    fn frame(&mut self, from: Station) -> Vec<u8> {
        match self {
            Self::Scan { next } => {
                *next = *next % PORTS + 1;
                wire::syn(from, *next, 40_000 + *next)
            }
            Self::Capture { frames, next } => {
                *next += 1;
                frames.get((*next - 1) % frames.len().max(1)).cloned().unwrap_or_default()
            }
        }
    }
}

struct Drill {
    cable: Cable,
    attack: Attack,
    attacker: Station,
    bystander: Station,
    echo: u16,
    last: Option<Instant>,
}

impl Drill {
    /// Sends what is due and counts what came back.
    fn step(&mut self, tally: &mut Tally) -> Result<()> {
        if self.last.is_none_or(|last| last.elapsed() >= PACE) {
            self.last = Some(Instant::now());
            self.cable.send(&self.attack.frame(self.attacker))?;
            tally.attacker_sent += 1;
            self.echo = self.echo.wrapping_add(1);
            self.cable.send(&wire::echo(self.bystander, self.echo))?;
            tally.bystander_sent += 1;
        }
        self.hear(tally)?;
        std::thread::sleep(Duration::from_millis(2));
        Ok(())
    }

    /// Counts what came back.
    fn hear(&self, tally: &mut Tally) -> Result<()> {
        for heard in self.cable.drain()? {
            match heard {
                Heard::Reset(to) if to == self.attacker.address => tally.attacker_answered += 1,
                Heard::EchoReply(to, _) if to == self.bystander.address => {
                    tally.bystander_answered += 1
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits for answers that a busy machine still owes.
    fn hear_the_rest(&self, tally: &mut Tally) -> Result<()> {
        let start = Instant::now();
        while tally.bystander_answered < tally.bystander_sent && start.elapsed() < LATE_MAX {
            self.hear(tally)?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Goes on attacking until the log has a line that fits, written now or earlier.
    fn wait(
        &mut self,
        vm: &mut Vm,
        tally: &mut Tally,
        what: &str,
        want: impl Fn(&Line) -> bool,
    ) -> Result<Line> {
        let start = Instant::now();
        loop {
            self.step(tally)?;
            if let Some(line) = vm.log.all().iter().find(|line| want(line)) {
                return Ok(line.clone());
            }
            if start.elapsed() > INCIDENT_WAIT {
                return Err(Error::Guest {
                    what: what.into(),
                    seconds: INCIDENT_WAIT.as_secs(),
                    phase: vm.log.last_phase(),
                    tail: vm.tail(),
                });
            }
        }
    }

    fn run_for(&mut self, span: Duration) -> Result<Tally> {
        let (start, mut tally) = (Instant::now(), Tally::default());
        while start.elapsed() < span {
            self.step(&mut tally)?;
        }
        Ok(tally)
    }
}

fn value<'a>(line: &'a Line, key: &str) -> Result<&'a str> {
    line.field(key).ok_or_else(|| Error::Check(format!("the log line lacks {key}: {}", line.text)))
}

fn number(line: &Line, key: &str) -> Result<u64> {
    value(line, key)?
        .parse()
        .map_err(|_| Error::Check(format!("{key} is no number: {}", line.text)))
}

/// Frames of a capture.
///
/// # Errors
/// [`Error::Io`], [`Error::Check`] when it is no Ethernet capture.
pub fn capture(path: &Path) -> Result<Vec<Vec<u8>>> {
    use pcap_parser::{PcapBlockOwned, PcapError, create_reader, traits::PcapNGPacketBlock};
    let file = fs::File::open(path).map_err(at(path))?;
    let wrong = |why: String| {
        Error::Check(format!("{}: not a capture that can be played: {why}", path.display()))
    };
    let mut reader = create_reader(1 << 20, file).map_err(|error| wrong(error.to_string()))?;
    let mut frames = Vec::new();
    while frames.len() < CAPTURE_FRAMES_MAX {
        match reader.next() {
            Ok((consumed, block)) => {
                match block {
                    PcapBlockOwned::Legacy(packet) => frames.push(packet.data.to_vec()),
                    PcapBlockOwned::NG(pcap_parser::Block::EnhancedPacket(packet)) => {
                        frames.push(packet.packet_data().to_vec());
                    }
                    _ => {}
                }
                reader.consume(consumed);
            }
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|error| wrong(error.to_string()))?
            }
            Err(error) => return Err(wrong(error.to_string())),
        }
    }
    frames.retain(|frame| wire::is_frame(frame));
    if frames.is_empty() {
        return Err(wrong("no Ethernet frame in it".into()));
    }
    Ok(frames)
}

/// Boots the box, attacks it and returns the trace of the incident.
///
/// # Errors
/// [`Error::Guest`] when a step does not come, [`Error::Check`] when the attacker is still answered
/// or the bystander is not.
pub fn drill(tree: &Tree, image: &Image, pcap: Option<&Path>) -> Result<String> {
    let attack = match pcap {
        Some(path) => Attack::Capture { frames: capture(path)?, next: 0 },
        None => Attack::Scan { next: 0 },
    };
    let options = Options::lab("drill");
    let dir = crate::vm::folder(tree, &options.name);
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    crate::vm::prepare(tree, image, &options)?;
    let (attacker, bystander) = (Station::new(66), Station::new(77));
    let gateway = Station::new(1);
    let cable = Cable::plug(&dir, &[attacker, bystander, gateway])?;
    let mut vm = Vm::start(tree, image, &Options { keep: true, ..options })?;
    run::wait_ready(&mut vm)?;
    let mut drill = Drill { cable, attack, attacker, bystander, echo: 0, last: None };
    let mut before = Tally::default();
    let rule = if pcap.is_none() { Some(rule(&mut vm, &drill.cable, bystander)?) } else { None };
    let mitigation =
        drill.wait(&mut vm, &mut before, "a mitigation", |line| line.verb() == "mitigation")?;
    let cause = value(&mitigation, "cause")?.to_owned();
    let alert = drill.wait(&mut vm, &mut before, "the alert that it answers", |line| {
        line.verb() == "alert" && line.field("hash") == Some(cause.as_str())
    })?;
    let source = value(&alert, "source")?.to_owned();
    let dropped = drill.wait(&mut vm, &mut before, "the first dropped packet", |line| {
        line.verb() == "first_drop" && line.field("source") == Some(source.as_str())
    })?;
    let _ = drill.run_for(Duration::from_millis(500))?; // answers that were already on the way
    let mut after = drill.run_for(AFTER)?;
    drill.hear_the_rest(&mut after)?;
    let drops = drill.wait(&mut vm, &mut Tally::default(), "the drop counter", |line| {
        line.verb() == "drops"
            && line.number("total").is_some_and(|total| total >= after.attacker_sent)
    })?;
    let text = rule.unwrap_or_default();
    let text = text + &trace(&alert, &mitigation, &dropped, &drops, (before, after))?;
    if pcap.is_none() && (before.attacker_answered == 0 || after.attacker_answered > 0) {
        return Err(Error::Check(format!("{text}the attacker is still answered, or never was")));
    }
    if after.bystander_answered * 10 < after.bystander_sent * 9 {
        return Err(Error::Check(format!("{text}the bystander is not answered any more")));
    }
    vm.power_off()?;
    Ok(text)
}

/// Sends the datagram that a rule of the laboratory names, until its alert stands in the ledger.
fn rule(vm: &mut Vm, cable: &Cable, from: Station) -> Result<String> {
    let start = Instant::now();
    loop {
        cable.send(&wire::datagram(from, 9, b"hookprobe-lab"))?;
        cable.drain()?;
        std::thread::sleep(Duration::from_millis(100));
        let all = vm.log.all();
        let alert = all
            .iter()
            .find(|line| line.verb() == "alert" && line.field("detector") == Some("rule"));
        if let Some(alert) = alert {
            return Ok(format!(
                "a rule matched a datagram of {}: block seq={} hash={}, {:.1} ms after its packet\n",
                value(alert, "source")?,
                value(alert, "seq")?,
                value(alert, "hash")?,
                number(alert, "acked_ns")?.saturating_sub(number(alert, "decided_ns")?) as f64
                    / 1e6,
            ));
        }
        if start.elapsed() > INCIDENT_WAIT {
            return Err(Error::Guest {
                what: "the alert of a rule".into(),
                seconds: INCIDENT_WAIT.as_secs(),
                phase: vm.log.last_phase(),
                tail: vm.tail(),
            });
        }
    }
}

fn trace(
    alert: &Line,
    mitigation: &Line,
    dropped: &Line,
    drops: &Line,
    (before, after): (Tally, Tally),
) -> Result<String> {
    let first = number(alert, "first_ns")?;
    let ms = |ns: u64| ns.saturating_sub(first) as f64 / 1e6;
    let mut out = String::new();
    let mut row = |what: &str, at: f64, detail: String| {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{what:16} {at:>10.1} ms  {detail}");
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_secs());
    row(
        "first packet",
        0.0,
        format!(
            "source={} ({} s before the end)",
            value(alert, "source")?,
            now.saturating_sub(first / 1_000_000_000)
        ),
    );
    row(
        "decided",
        ms(number(alert, "decided_ns")?),
        format!("detector={}", value(alert, "detector")?),
    );
    row(
        "alert block",
        ms(number(alert, "acked_ns")?),
        format!("seq={} hash={}", value(alert, "seq")?, value(alert, "hash")?),
    );
    row(
        "enforced",
        ms(number(mitigation, "enforced_ns")?),
        format!("by={}", value(mitigation, "enforced_by")?),
    );
    row(
        "mitigation block",
        ms(number(mitigation, "acked_ns")?),
        format!(
            "seq={} hash={} cause={}",
            value(mitigation, "seq")?,
            value(mitigation, "hash")?,
            value(mitigation, "cause")?,
        ),
    );
    row(
        "first drop",
        ms(number(dropped, "time_ns")?),
        format!("source={} in XDP", value(dropped, "source")?),
    );
    let _ = writeln!(
        out,
        "before: attacker {} sent {} answered, bystander {} sent {} answered",
        before.attacker_sent,
        before.attacker_answered,
        before.bystander_sent,
        before.bystander_answered
    );
    let _ = writeln!(
        out,
        "after:  attacker {} sent {} answered, bystander {} sent {} answered, XDP dropped {}",
        after.attacker_sent,
        after.attacker_answered,
        after.bystander_sent,
        after.bystander_answered,
        value(drops, "total")?
    );
    Ok(out)
}
