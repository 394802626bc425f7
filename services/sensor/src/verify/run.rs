//! One test: its capture through engine, rules and outputs, then its checks.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Write},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use hookprobe_rules::{Config, Detector, Mode, Ruleset, config, yaml::Node};
use hookprobe_traffic::{
    Direction,
    engine::{Engine, Inspector, View},
    flow::{Fate, Flow, Reason},
    packet::{Frame, Link, Origin},
    zeek,
};
use serde_json::{Map, Value, json};

use super::{Outcome, case::Case, expect};
use crate::{
    outputs::{
        eve::{self, Details, Parts, Types, Writer, Xff},
        told,
    },
    replay::capture,
};

/// Lines of the writer, held in memory.
#[derive(Clone, Default)]
struct Lines(Rc<RefCell<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Rules and outputs of one test.
struct Judge {
    detector: Detector,
    writer: Writer<Lines>,
    events: Vec<Value>,
    parts: Parts,
    is_ips: bool,
    dropped_flows: Vec<(u64, Direction)>,
    are_drops_once: bool,
    has_verdicts: bool,
    xff: Option<Xff>,
    /// Packets that rules tag are told.
    are_tagged_told: bool,
    /// Flows that were dropped or passed, by the number that EVE shows.
    actions: Vec<(u64, Map<String, Value>)>,
}

/// Runs the test in `folder`: its outcome, and how many checks could not be made.
pub(super) fn test(folder: &Path) -> (Outcome, usize) {
    let case = match Case::read(folder) {
        Ok(case) => case,
        Err(why) => return (Outcome::Fail(why), 0),
    };
    if let Some(why) = Case::refusal(case.description.get("requires")) {
        return (Outcome::Skip(why), 0);
    }
    let events = match events(&case) {
        Ok(events) => events,
        Err(why) => return (Outcome::Fail(why), 0),
    };
    checks(&case, &events)
}

fn checks(case: &Case, events: &[Value]) -> (Outcome, usize) {
    let mut skipped = 0;
    let mut failed: Option<(String, usize)> = None;
    let checks = case.description.get("checks").map(Node::items).unwrap_or_default();
    for check in checks {
        let Some(filter) = check.get("filter") else {
            skipped += 1;
            continue;
        };
        let is_other =
            filter.get("filename").and_then(Node::text).is_some_and(|name| name != "eve.json");
        let requires = filter.get("requires").or_else(|| check.get("requires"));
        if is_other || Case::refusal(requires).is_some() {
            skipped += 1;
            continue;
        }
        let Some(wanted) = filter.get("match") else { continue };
        let is_stats = wanted.get("event_type").and_then(Node::text) == Some("stats");
        if is_stats {
            // Counters have our names.
            skipped += 1;
            continue;
        }
        let count: usize = filter
            .get("count")
            .and_then(Node::text)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let found = events.iter().filter(|event| expect::fits(event, wanted)).count();
        if found != count {
            let why = || (format!("{found} events instead of {count} for {wanted}"), 0);
            failed.get_or_insert_with(why).1 += 1;
        }
    }
    let outcome = match failed {
        None => Outcome::Pass,
        Some((why, 1)) => Outcome::Fail(why),
        Some((why, checks)) => Outcome::Fail(format!("{why}; {} more checks", checks - 1)),
    };
    (outcome, skipped)
}

fn events(case: &Case) -> Result<Vec<Value>, String> {
    let capture = case.capture().ok_or("no capture")?;
    let mut settings = config::traffic(&case.config, case.is_ips);
    settings.stream.is_checksum_validated &= case.has_checksums;
    settings.seed = 1;
    case.faults.apply(&mut settings);
    let mut judge = judge(case);
    let mut engine = Engine::new(settings);
    let file = File::open(&capture).map_err(|error| format!("{}: {error}", capture.display()))?;
    let result = capture::read(file, |packet, _| {
        let number = u32::try_from(packet.link.0).unwrap_or(u32::MAX);
        let Some(link) = Link::from_linktype(number) else { return };
        if case.port.is_some_and(|port| !has_port(packet.data, port)) {
            return;
        }
        let frame = Frame {
            time_ns: packet.time_ns,
            wire_bytes: packet.wire_bytes,
            link,
            bytes: packet.data,
        };
        engine.handle(frame, &mut judge);
    });
    engine.finish(&mut judge);
    match result {
        Ok(_) | Err(capture::CaptureError::Truncated { .. }) => Ok(judge.finish()),
        Err(error) => Err(error.to_string()),
    }
}

/// TCP or UDP over IPv4 over Ethernet with this port.
fn has_port(data: &[u8], port: u16) -> bool {
    let header = data.get(14).map_or(0, |byte| usize::from(byte & 15) * 4);
    let word = |at: usize| Some(u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]));
    word(14 + header) == Some(port) || word(16 + header) == Some(port)
}

fn judge(case: &Case) -> Judge {
    let mut settings = Config::from_yaml(&case.config);
    if settings.variables.is_empty() {
        settings.variables = Config::shipped_variables();
    }
    if !case.has_config {
        settings.body_bytes_min = Config::default().body_bytes_min;
    }
    settings.is_body_inline = case.is_ips;
    settings.is_ips = case.is_ips;
    settings.read_exceptions(&case.config, case.is_ips);
    let raw = "eve-log.types.alert.metadata.rule.raw";
    let output = case.config.get("outputs");
    settings.is_text_kept =
        output.and_then(|output| output.path(raw)).and_then(Node::switch).unwrap_or(false);
    settings.files = case.files().into_iter().collect();
    let named = case.config.get("threshold-file").and_then(Node::text).map(str::to_owned);
    let thresholds = named
        .and_then(|path| std::fs::read_to_string(path).ok())
        .or_else(|| std::fs::read_to_string(case.folder.join("threshold.config")).ok());
    if let Some(text) = thresholds {
        settings.read_thresholds(&text);
    }
    if let Ok(text) = std::fs::read_to_string(case.folder.join("classification.config")) {
        settings.read_classes(&text);
    }
    let rules = case.rules();
    let pairs: Vec<(&str, &str)> =
        rules.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let (ruleset, sets) = Ruleset::new(&pairs, settings);
    for problem in &ruleset.problems {
        tracing::debug!(line = problem.line, error = %problem.error, "rule did not load");
    }
    let mode = if case.is_ips { Mode::Inline } else { Mode::Passive };
    let parts =
        Parts { payload: true, payload_printable: true, packet: true, http_body_printable: true };
    let ethernet = output.and_then(|output| output.path("eve-log.ethernet"));
    let details = Details {
        dns_version: case.dns_version,
        is_hassh_awaited: has_hassh(case, &rules),
        has_ethernet: ethernet.and_then(Node::switch).unwrap_or(false),
    };
    let drop = output.and_then(|outputs| outputs.path("eve-log.types.drop"));
    Judge {
        detector: Detector::new(Arc::new(ruleset), sets, mode),
        writer: Writer::new(Lines::default(), Types::default(), parts).with_details(details),
        events: Vec::new(),
        parts,
        is_ips: case.is_ips,
        dropped_flows: Vec::new(),
        are_drops_once: drop.and_then(|drop| drop.get("flows")).and_then(Node::text)
            == Some("start"),
        has_verdicts: output
            .and_then(|outputs| outputs.path("eve-log.types.alert.verdict"))
            .and_then(Node::switch)
            .unwrap_or(false),
        xff: xff(&case.config),
        are_tagged_told: output
            .and_then(|outputs| outputs.path("eve-log.types.alert.tagged-packets"))
            .and_then(Node::switch)
            .unwrap_or(false),
        actions: Vec::new(),
    }
}

/// `xff` of alerts or of all events.
fn xff(config: &Node) -> Option<Xff> {
    let log = config.get("outputs")?.path("eve-log")?;
    let node = log.path("types.alert.xff").or_else(|| log.get("xff"))?;
    let text = |name: &str| node.get(name).and_then(Node::text);
    node.get("enabled").and_then(Node::switch).filter(|is_on| *is_on)?;
    Some(Xff {
        is_overwritten: text("mode") == Some("overwrite"),
        is_forward: text("deployment") == Some("forward"),
        header: text("header").unwrap_or("X-Forwarded-For").to_owned(),
    })
}

/// Fingerprints of SSH are made where the settings or a rule want them.
fn has_hassh(case: &Case, rules: &[(String, String)]) -> bool {
    let own = case.config.path("app-layer.protocols.ssh.hassh").and_then(Node::switch);
    own.unwrap_or_else(|| rules.iter().any(|(_, text)| text.contains("hassh")))
}

impl Judge {
    fn finish(self) -> Vec<Value> {
        let Self { mut events, writer, actions, .. } = self;
        let lines = writer.into_inner();
        let text = lines.0.borrow();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Ok(mut event) = serde_json::from_slice::<Value>(line) else { continue };
            let id = event.get("flow_id").and_then(Value::as_u64);
            let is_flow = event.get("event_type").and_then(Value::as_str) == Some("flow");
            let more = actions.iter().find(|(known, _)| is_flow && Some(*known) == id);
            if let (Some((_, more)), Some(event)) = (more, event.as_object_mut()) {
                for (key, value) in more {
                    match (event.get_mut(key).and_then(Value::as_object_mut), value.as_object()) {
                        (Some(own), Some(value)) => own.extend(value.clone()),
                        _ => {
                            event.insert(key.clone(), value.clone());
                        }
                    }
                }
            }
            events.push(event);
        }
        events
    }

    fn tell(&mut self, view: &View<'_, '_>) {
        let verdict = self.detector.verdict();
        let rules = self.detector.rules().rules();
        let find = |index: u32| rules.get(usize::try_from(index).ok()?);
        for alert in &verdict.alerts {
            let Some(rule) = find(alert.rule) else { continue };
            let signature = told::signature(rule, alert, self.is_ips);
            let place = told::place(view, alert);
            let mut value = eve::alert(&signature, &place, self.parts);
            if let Some(xff) = &self.xff {
                xff.put(&mut value, &place);
            }
            if self.has_verdicts
                && let Some(object) = value.as_object_mut()
            {
                object.insert("verdict".into(), self.verdict(view));
            }
            if let (Some(object), Some(metadata)) = (value.as_object_mut(), self.variables(view)) {
                object.insert("metadata".into(), metadata);
            }
            self.events.push(value);
            if let Some(flow) = view.flow.as_deref() {
                self.writer.mark_alerted(flow);
            }
        }
        if verdict.is_tagged && self.are_tagged_told {
            self.events.push(eve::tagged(&told::place_of(view)));
        }
        let Some(reason) = verdict.drop.filter(|_| self.is_ips) else { return };
        if view.packet.origin == Origin::FlowEnd {
            return;
        }
        if let (true, Some(flow)) = (self.are_drops_once, view.flow.as_deref()) {
            let key = (flow.id, view.direction);
            if self.dropped_flows.contains(&key) {
                return;
            }
            self.dropped_flows.push(key);
        }
        let by = verdict.dropped_by.and_then(find);
        let alert = verdict.dropped_by.map(|rule| hookprobe_rules::Alert {
            rule,
            action: by.map_or(hookprobe_rules::rule::Action::Drop, |rule| rule.action),
            tx_id: None,
            is_tx_guessed: false,
            is_stream: false,
            contexts: Vec::new(),
        });
        let none = hookprobe_rules::Alert {
            rule: 0,
            action: hookprobe_rules::rule::Action::Drop,
            tx_id: None,
            is_tx_guessed: false,
            is_stream: false,
            contexts: Vec::new(),
        };
        let place = told::place(view, alert.as_ref().unwrap_or(&none));
        let signature = match (by, &alert) {
            (Some(rule), Some(alert)) => Some(told::signature(rule, alert, true)),
            _ => None,
        };
        let mut value = eve::dropped(&place, told::drop_reason(reason), signature.as_ref());
        if self.has_verdicts
            && let Some(object) = value.as_object_mut()
        {
            object.insert("verdict".into(), self.verdict(view));
        }
        self.events.push(value);
    }

    /// Variables that rules captured in the flow and in the packet.
    fn variables(&self, view: &View<'_, '_>) -> Option<Value> {
        let flow = view.flow.as_deref().map(|flow| self.detector.flow_variables(flow.slot));
        let flow = list(flow.unwrap_or_default());
        let packet = list(&self.detector.verdict().packet_variables);
        let mut out = Map::new();
        for (name, list) in [("flowvars", flow), ("pktvars", packet)] {
            if !list.is_empty() {
                out.insert(name.into(), Value::Array(list));
            }
        }
        (!out.is_empty()).then_some(Value::Object(out))
    }

    fn verdict(&self, view: &View<'_, '_>) -> Value {
        let verdict = self.detector.verdict();
        let action = if verdict.drop.is_some() && self.is_ips {
            "drop"
        } else if verdict.is_passed {
            "pass"
        } else {
            "alert"
        };
        match verdict.reject {
            Some(target) => json!({
                "action": action,
                "reject-target": told::reject_target(target),
                "reject_target": told::reject_target(target),
                "reject": [if view.packet.protocol() == Some(6) { "tcp-reset" } else { "icmp-prohib" }],
            }),
            None => json!({ "action": action }),
        }
    }
}

/// Objects of one key each.
fn list(variables: &[(String, Vec<u8>)]) -> Vec<Value> {
    let objects = variables.iter().map(|(name, value)| {
        let mut object = Map::new();
        object.insert(name.clone(), json!(String::from_utf8_lossy(value)));
        Value::Object(object)
    });
    objects.collect()
}

impl Inspector for Judge {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        let was_dropped = view.flow.as_deref().is_some_and(|flow| flow.fate == Fate::Dropped);
        self.detector.inspect(view);
        self.tell(view);
        if !was_dropped {
            self.writer.packet(view);
        }
    }

    fn connection_end(&mut self, flow: &Flow, connection: &zeek::Connection) {
        self.writer.connection_end(flow, connection);
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        let (_, is_dropped, is_passed) = self.detector.flow_marks(flow.slot);
        let mut own = Map::new();
        if is_dropped || is_passed {
            own.insert("action".into(), json!(if is_dropped { "drop" } else { "pass" }));
        }
        let policies = self.detector.flow_exceptions(flow.slot);
        let policies: Vec<Value> = policies
            .map(|(target, policy)| json!({ "target": target, "policy": policy.name() }))
            .collect();
        if !policies.is_empty() {
            own.insert("exception_policy".into(), json!(policies));
        }
        if flow.fate == Fate::Bypassed {
            own.insert("state".into(), json!("bypassed"));
            own.insert("bypass".into(), json!("local"));
        }
        let mut more = Map::new();
        more.insert("flow".into(), Value::Object(own));
        let variables = list(self.detector.flow_variables(flow.slot));
        if !variables.is_empty() {
            more.insert("metadata".into(), json!({ "flowvars": variables }));
        }
        let bits = self.detector.flow_bits(flow.slot);
        let traffic: Vec<&str> =
            bits.iter().filter_map(|bit| bit.strip_prefix("traffic/id/")).collect();
        if !traffic.is_empty() {
            more.insert("traffic".into(), json!({ "id": traffic }));
        }
        self.actions.push((eve::base::flow_id(flow), more));
        self.writer.flow_end(flow, reason);
        self.detector.flow_end(flow, reason);
    }

    fn app_lost(&mut self, flow: &Flow) {
        self.detector.app_lost(flow);
    }

    fn reads_raw_streams(&self) -> bool {
        true
    }
}
