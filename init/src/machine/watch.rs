//! Conditions that have no event of their own, looked at once a second: links, the state disk,
//! counters. Each becomes a diagnostic while it lasts.

use super::*;

use std::{fs, path::Path};

use hookprobe_wire::Diagnostic;

use crate::{
    network::{self, NET_CLASS},
    state,
};

impl Machine {
    pub(super) fn check(&mut self, now: Ms) {
        self.boot.log.find_port();
        self.clients.close_idle(now);
        self.check_links();
        if self.boot.persistent {
            self.condition(state::became_read_only(), || {
                diagnostic(
                    "HP-ST-004",
                    Severity::Critical,
                    "state",
                    "the kernel made it read only because of disk errors; nothing is kept any more",
                    "replace the disk",
                )
            });
        }
        self.say_counters();
    }

    /// Sets or clears a diagnostic, and logs the change.
    fn condition(&mut self, holds: bool, what: impl FnOnce() -> Diagnostic) {
        let what = what();
        if holds {
            self.boot.report(what);
        } else if self.boot.diagnostics.clear(&what.code, &what.object) {
            let text = format!("diagnostic {} {}: over", what.code, what.object);
            self.boot.log.say(Severity::Info, &text);
        }
    }

    fn check_links(&mut self) {
        for at in 0..self.boot.links.len() {
            let Some(name) = self.boot.links.get(at).map(|link| link.name.clone()) else {
                return;
            };
            let path = Path::new(NET_CLASS).join(&name);
            let there = path.exists();
            self.came_back(at, &path);
            self.condition(!there, || {
                diagnostic(
                    "HP-NW-005",
                    Severity::Critical,
                    &name,
                    "the interface is gone, its network is not watched",
                    "check the network card and restart",
                )
            });
            // A link that is down has no carrier file content: that counts as none, too.
            let carrier = fs::read_to_string(path.join("carrier")).unwrap_or_default();
            self.condition(there && carrier.trim() != "1", || {
                diagnostic(
                    "HP-NW-006",
                    Severity::Warn,
                    &name,
                    "no carrier",
                    "check the cable and the switch",
                )
            });
        }
    }

    /// A card that was pulled out and put back is a new link: it is configured as at boot.
    fn came_back(&mut self, at: usize, path: &Path) {
        let number = fs::read_to_string(path.join("ifindex")).unwrap_or_default();
        let Ok(index) = number.trim().parse::<u32>() else {
            return;
        };
        let Some(link) = self.boot.links.get_mut(at).filter(|link| link.index != index) else {
            return;
        };
        link.index = index;
        let link = link.clone();
        // Complaints about the other interfaces of the configuration are not news.
        let _ = network::configure(&self.boot.site, std::slice::from_ref(&link));
        self.boot.log.say(Severity::Info, &format!("network interface={} is back", link.name));
    }

    /// Says every counter of something lost, when it grew.
    fn say_counters(&mut self) {
        let now = Counted {
            strangers: self.strangers,
            clients_refused: self.clients.refused(),
            ledger_dropped: self.ledger.outbox.dropped(),
            diagnostics_dropped: self.boot.diagnostics.dropped(),
        };
        if now != self.counted {
            let text = format!(
                "dropped notify_strangers={} clients={} ledger_events={} diagnostics={}",
                now.strangers, now.clients_refused, now.ledger_dropped, now.diagnostics_dropped
            );
            self.boot.log.say(Severity::Warn, &text);
            self.counted = now;
        }
    }
}
