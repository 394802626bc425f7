//! From the decision that somebody scans to the first packet of his that is dropped, part by part:
//! one attacker after the other on the booted box.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{Spread, row};
use crate::{
    error::{Error, Result, at},
    run,
    tree::{Image, Tree},
    vm::{
        self, Line, Options, Vm,
        wire::{self, Cable, Station},
    },
};

/// Attackers. 32: the largest of them stands for p99, and the response's own bound (120 blocks in
/// ten minutes) is far.
const ATTACKERS: u8 = 32;
/// Last octet of the first attacker's address.
const FIRST: u8 = 100;
/// Between two of his packets: what a block waits for to show. 5 ms: less than what is measured.
const PACE: Duration = Duration::from_millis(5);
/// How long one is waited for; a translated guest is slow.
const WAIT: Duration = Duration::from_secs(30);
/// How long the guest takes to tell what happened, at most.
const TOLD: Duration = Duration::from_secs(20);
/// What detection to the first drop is to take, in milliseconds.
const AIM_MS: f64 = 5.0;

/// What the box says of one incident, in nanoseconds of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Incident {
    decided: u64,
    recorded: u64,
    enforced: u64,
    dropped: u64,
}

/// Prints the table.
///
/// # Errors
/// [`Error::Guest`] when an attacker is not stopped.
pub(super) fn stop(tree: &Tree, image: &Image) -> Result<()> {
    let options = Options::lab("bench");
    let dir = vm::folder(tree, &options.name);
    fs::create_dir_all(&dir).map_err(at(&dir))?;
    vm::prepare(tree, image, &options)?;
    let stations: Vec<Station> = (0..ATTACKERS)
        .map(|number| Station::new(FIRST + number))
        .chain([Station::new(1)])
        .collect();
    let cable = Cable::plug(&dir, &stations)?;
    let mut vm = Vm::start(tree, image, &Options { keep: true, ..options })?;
    run::wait_ready(&mut vm)?;
    for station in stations.iter().take(usize::from(ATTACKERS)) {
        attack(&mut vm, &cable, *station)?;
    }
    let incidents = told(&mut vm)?;
    vm.power_off()?;
    print(&incidents);
    Ok(())
}

/// Tries ports until a packet of his was dropped.
fn attack(vm: &mut Vm, cable: &Cable, from: Station) -> Result<()> {
    let source = from.address.to_string();
    let start = Instant::now();
    for port in 1.. {
        cable.send(&wire::syn(from, port, 40_000))?;
        cable.drain()?;
        std::thread::sleep(PACE);
        if vm.log.all().iter().any(|line| is(line, "first_drop", &source)) {
            return Ok(());
        }
        if start.elapsed() > WAIT || port == u16::MAX {
            break;
        }
    }
    Err(Error::Guest {
        what: format!("a dropped packet of {source}"),
        seconds: WAIT.as_secs(),
        phase: vm.log.last_phase(),
        tail: vm.tail(),
    })
}

fn is(line: &Line, verb: &str, source: &str) -> bool {
    line.verb() == verb && line.field("source") == Some(source)
}

/// All incidents; the last lines come a little later than what they tell.
fn told(vm: &mut Vm) -> Result<Vec<Incident>> {
    let start = Instant::now();
    loop {
        let lines = vm.log.all();
        let sources = (0..ATTACKERS).map(|number| Station::new(FIRST + number).address.to_string());
        let incidents: Option<Vec<_>> = sources.map(|source| incident(lines, &source)).collect();
        match incidents {
            Some(incidents) => return Ok(incidents),
            None if start.elapsed() > TOLD => {
                return Err(Error::Check("the box does not tell all of its incidents".into()));
            }
            None => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn incident(lines: &[Line], source: &str) -> Option<Incident> {
    let dropped = lines.iter().find(|line| is(line, "first_drop", source))?;
    let alert = lines.iter().find(|line| is(line, "alert", source))?;
    let hash = alert.field("hash")?;
    let mitigation = lines
        .iter()
        .find(|line| line.verb() == "mitigation" && line.field("cause") == Some(hash))?;
    Some(Incident {
        decided: alert.number("decided_ns")?,
        recorded: alert.number("acked_ns")?,
        enforced: mitigation.number("enforced_ns")?,
        dropped: dropped.number("time_ns")?,
    })
}

fn print(incidents: &[Incident]) {
    println!("\nfrom the decision to the first dropped packet, {ATTACKERS} attackers one by one");
    let times = |part: fn(&Incident) -> (u64, u64)| {
        let ms = |(from, to): (u64, u64)| to.saturating_sub(from) as f64 / 1e6;
        Spread::of(incidents.iter().map(|incident| ms(part(incident))).collect())
    };
    let recorded = times(|incident| (incident.decided, incident.recorded));
    row("decided to alert block", "ms", recorded, "signed, on disk (two fsyncs): the floor");
    let enforced = times(|incident| (incident.recorded, incident.enforced));
    row("alert block to enforced", "ms", enforced, "followed, policy, map of XDP and nftables");
    let dropped = times(|incident| (incident.enforced, incident.dropped));
    row("enforced to first drop", "ms", dropped, "his next packet");
    let all = times(|incident| (incident.decided, incident.dropped));
    let note = format!(
        "aim {AIM_MS:.0}, ratio {:.1}; {:.1} of the floor; max stands for p99",
        all.1 / AIM_MS,
        all.1 / recorded.1
    );
    row("decided to first drop", "ms", all, &note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_is_put_together_from_its_lines() {
        let text = "\
            1.0 sensor INFO alert seq=3 hash=ab source=10.20.0.100 decided_ns=10 acked_ns=30\n\
            1.0 response INFO mitigation seq=4 hash=cd cause=ab enforced_ns=40 acked_ns=60\n";
        let drop = "1.1 sensor INFO first_drop source=10.20.0.100 time_ns=45\n";
        let lines = |text: &str| -> Vec<Line> {
            text.lines().filter_map(|line| Line::parse(line.trim())).collect()
        };
        assert_eq!(incident(&lines(text), "10.20.0.100"), None);
        let whole = lines(&(text.to_owned() + drop));
        let expect = Incident { decided: 10, recorded: 30, enforced: 40, dropped: 45 };
        assert_eq!(incident(&whole, "10.20.0.100"), Some(expect));
        assert_eq!(incident(&whole, "10.20.0.101"), None);
    }
}
