//! Programs on interfaces: attaches, notices what went away, attaches again.

use std::collections::BTreeMap;

use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType, XdpMode,
    tc::{self, NlOptions, SchedClassifierLinkId, TcAttachOptions},
    xdp::XdpLinkId,
};
use hookprobe_wire::{Diagnostic, Severity, sensor::Interface, site::INTERFACES_MAX};
use tracing::{info, warn};

use super::interfaces::Wanted;
use crate::object::{Object, ObjectError};

/// One interface that is, was or should be watched.
#[derive(Debug, Default)]
struct Watched {
    /// Its index while it is there.
    index: Option<u32>,
    ingress: Option<Ingress>,
    egress: Option<SchedClassifierLinkId>,
    /// Why nothing or not everything is attached; told once.
    trouble: Option<String>,
}

/// How packets that come in are seen, best first.
#[derive(Debug)]
enum Ingress {
    /// In the driver.
    Native(XdpLinkId),
    /// XDP in the network stack.
    Generic(XdpLinkId),
    /// TC: after the stack has made a buffer of it, so a drop costs more.
    Tc(SchedClassifierLinkId),
}

impl Ingress {
    fn word(&self) -> &'static str {
        match self {
            Self::Native(_) => "native",
            Self::Generic(_) => "generic",
            Self::Tc(_) => "tc",
        }
    }
}

/// All of them, by name.
#[derive(Debug)]
pub struct Attachments {
    wanted: Wanted,
    watched: BTreeMap<String, Watched>,
}

impl Attachments {
    /// Nothing is attached yet; see [`Self::check`].
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        let mut watched = BTreeMap::new();
        if let Wanted::Named(names) = &wanted {
            for name in names {
                watched.insert(name.clone(), Watched::default());
            }
        }
        Self { wanted, watched }
    }

    /// Looks at what is there now, attaches to what is new and lets go of what is gone.
    pub fn check(&mut self, object: &mut Object) {
        let present = self.wanted.present();
        for (name, watched) in &mut self.watched {
            let there = present.iter().find(|(found, _)| found == name);
            let same = there.map(|(_, index)| *index) == watched.index;
            if watched.index.is_some() && !same {
                warn!("HP-SN-010 {name}: interface vanished; plug it in again, it is re-attached");
                watched.let_go(object);
            }
        }
        for (name, index) in present {
            if !self.watched.contains_key(&name) && self.watched.len() >= INTERFACES_MAX {
                self.forget_one();
            }
            let watched = self.watched.entry(name.clone()).or_default();
            watched.attach(object, &name, index);
        }
    }

    /// Makes room: interfaces that nobody named and that are gone are the first to be forgotten.
    fn forget_one(&mut self) {
        let gone = self
            .watched
            .iter()
            .find(|(_, watched)| watched.index.is_none())
            .map(|(name, _)| name.clone());
        if let Some(name) = gone {
            self.watched.remove(&name);
        }
    }

    /// Number of interfaces on which the ingress program runs.
    #[must_use]
    pub fn attached(&self) -> usize {
        let runs = |watched: &&Watched| watched.ingress.is_some();
        self.watched.values().filter(runs).count()
    }

    /// Name of an interface that is watched.
    #[must_use]
    pub fn name_of(&self, index: u32) -> Option<&str> {
        let found = |(_, watched): &(&String, &Watched)| watched.index == Some(index);
        self.watched.iter().find(found).map(|(name, _)| name.as_str())
    }

    /// Indices of those that are there.
    #[must_use]
    pub fn indices(&self) -> Vec<u32> {
        self.watched.values().filter_map(|watched| watched.index).collect()
    }

    /// For the status.
    #[must_use]
    pub fn interfaces(&self) -> Vec<Interface> {
        self.watched
            .iter()
            .map(|(name, watched)| Interface {
                name: name.clone(),
                xdp_mode: watched.ingress.as_ref().map_or("none", Ingress::word).into(),
            })
            .collect()
    }

    /// What is wrong.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        if self.attached() == 0 {
            diagnostics.push(Diagnostic {
                code: "HP-SN-011".into(),
                severity: Severity::Critical,
                object: "sensor".into(),
                cause: "no interface is watched".into(),
                remedy: "connect one or name one with role lan in hookprobe.toml".into(),
            });
        }
        for (name, watched) in &self.watched {
            if watched.index.is_none() {
                diagnostics.push(Diagnostic {
                    code: "HP-SN-010".into(),
                    severity: Severity::Warn,
                    object: name.clone(),
                    cause: "interface is not there".into(),
                    remedy: "plug it in or correct its name in hookprobe.toml".into(),
                });
            } else if let Some(cause) = &watched.trouble {
                diagnostics.push(Diagnostic {
                    code: watched.trouble_code().into(),
                    severity: Severity::Warn,
                    object: name.clone(),
                    cause: cause.clone(),
                    remedy: "remove other XDP or TC programs from it, or report this line".into(),
                });
            } else if let Some(Ingress::Tc(_)) = &watched.ingress {
                diagnostics.push(Diagnostic {
                    code: "HP-SN-013".into(),
                    severity: Severity::Info,
                    object: name.clone(),
                    cause: "watched by TC: no XDP program can be attached".into(),
                    remedy: "none needed; drops cost more there".into(),
                });
            }
        }
        diagnostics
    }
}

impl Watched {
    /// Attaches what is not attached yet.
    fn attach(&mut self, object: &mut Object, name: &str, index: u32) {
        self.index = Some(index);
        if self.ingress.is_some() && self.egress.is_some() {
            return;
        }
        let mut trouble = None;
        if self.ingress.is_none() {
            match attach_ingress(object, name, index) {
                Ok(ingress) => {
                    info!(interface = %name, mode = %ingress.word(), "attached");
                    self.ingress = Some(ingress);
                }
                Err(cause) => trouble = Some(format!("ingress can't be attached: {cause}")),
            }
        }
        if self.egress.is_none() {
            match attach_egress(object, name) {
                Ok(link) => self.egress = Some(link),
                Err(cause) => {
                    trouble.get_or_insert(format!("egress can't be attached: {cause}"));
                }
            }
        }
        if trouble != self.trouble {
            if let Some(cause) = &trouble {
                warn!("{} {name}: {cause}; tried again each second", self.trouble_code());
            }
            self.trouble = trouble;
        }
    }

    /// Without ingress nothing is seen and nothing dropped; without egress answers of the box
    /// itself are missing.
    fn trouble_code(&self) -> &'static str {
        if self.ingress.is_some() { "HP-SN-014" } else { "HP-SN-012" }
    }

    /// Forgets links of an interface that is gone; the kernel has undone them already.
    fn let_go(&mut self, object: &mut Object) {
        match self.ingress.take() {
            Some(Ingress::Native(link) | Ingress::Generic(link)) => {
                if let Ok(program) = object.ingress() {
                    let _ = program.detach(link);
                }
            }
            Some(Ingress::Tc(link)) => {
                if let Ok(program) = object.ingress_tc() {
                    let _ = program.detach(link);
                }
            }
            None => {}
        }
        if let (Some(link), Ok(program)) = (self.egress.take(), object.egress()) {
            let _ = program.detach(link);
        }
        self.index = None;
        self.trouble = None;
    }
}

/// In the driver where it can, else in the network stack, else as TC.
fn attach_ingress(object: &mut Object, name: &str, index: u32) -> Result<Ingress, String> {
    let program = object.ingress().map_err(|error| error.to_string())?;
    if let Ok(link) = program.attach_to_if_index(index, XdpMode::Driver) {
        return Ok(Ingress::Native(link));
    }
    let refused = match program.attach_to_if_index(index, XdpMode::Skb) {
        Ok(link) => return Ok(Ingress::Generic(link)),
        Err(error) => causes(&error),
    };
    let program = object.ingress_tc().map_err(|error| error.to_string())?;
    attach_tc(program, name, TcAttachType::Ingress)
        .map(Ingress::Tc)
        .map_err(|error| format!("XDP: {refused}; TC: {error}"))
}

fn attach_egress(object: &mut Object, name: &str) -> Result<SchedClassifierLinkId, String> {
    let program = object.egress().map_err(|error: ObjectError| error.to_string())?;
    attach_tc(program, name, TcAttachType::Egress)
}

/// With TCX (Linux 6.6), else with the clsact queueing discipline.
fn attach_tc(
    program: &mut SchedClassifier,
    name: &str,
    hook: TcAttachType,
) -> Result<SchedClassifierLinkId, String> {
    if let Ok(link) = program.attach(name, hook) {
        return Ok(link);
    }
    // It may be there already; whether it is shows in the next call.
    let _ = tc::qdisc_add_clsact(name);
    let options = TcAttachOptions::Netlink(NlOptions::default());
    program.attach_with_options(name, hook, options).map_err(|error| causes(&error))
}

/// The error and what it is made of, on one line.
fn causes(error: &ProgramError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    hookprobe_wire::text::escape(&text, 200)
}
