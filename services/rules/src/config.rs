//! Settings of detection, and the part of suricata.yaml that they and the traffic engine come from.

mod classes;
mod engine;
mod exception;

pub use engine::traffic;
pub use exception::ExceptionPolicy;

use std::collections::BTreeMap;

use hookprobe_traffic::engine::exception as met;

use crate::{
    address::{Addresses, Variables},
    compile::RuleError,
    number::integer,
    rule::{Action, RejectTarget},
    sets::Kind,
    threshold::{Configured, Kind as LimitKind, Limit, Suppress, SuppressSide},
    yaml::Node,
};

/// A dataset declared in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// File, if any.
    pub load: Option<String>,
}

/// How the members of a JSON dataset are found in its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Name of the set.
    pub name: String,
    /// `json`, `ndjson`, `csv`.
    pub format: String,
    /// Key of the value.
    pub value_key: String,
    /// Where the array is.
    pub array_key: String,
    /// Under which key alerts show the member.
    pub context_key: String,
    /// The value is left out of what alerts show.
    pub is_key_removed: bool,
}

/// Settings.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of suricata.yaml")]
pub struct Config {
    /// `vars`: addresses and ports together, names do not overlap.
    pub variables: Variables,
    /// `action-order`: pass, drop, reject, alert.
    pub action_order: Vec<Order>,
    /// `packet-alert-max`.
    pub alerts_max: usize,
    /// Description and priority of each class.
    pub classes: BTreeMap<String, (String, u8)>,
    /// Address prefix of each reference system.
    pub references: BTreeMap<String, String>,
    /// `datasets`.
    pub datasets: Vec<Dataset>,
    /// Text of files that rules may name (datasets), by the name that rules use.
    pub files: BTreeMap<String, String>,
    /// Body bytes that are waited for, to server and to client.
    pub body_bytes_min: [u64; 2],
    /// Bodies are inspected as they come.
    pub is_body_inline: bool,
    /// `detect.guess-applayer-tx`.
    pub is_tx_guessed: bool,
    /// Dropped packets are truly dropped.
    pub is_ips: bool,
    /// `app-layer.protocols.tls.ja4-fingerprints: no`: rules that require them are skipped.
    pub is_ja4_off: bool,
    /// Rules keep their text, for alerts that show it.
    pub is_text_kept: bool,
    /// What becomes of flows that are picked up in their middle.
    pub midstream: ExceptionPolicy,
    /// What becomes of flows whose parser fails (`app-layer.error-policy`).
    pub app_error: ExceptionPolicy,
    /// Where segments find no memory (`stream.reassembly.memcap-policy`).
    pub reassembly_memory: ExceptionPolicy,
    /// Where sessions find none (`stream.memcap-policy`).
    pub session_memory: ExceptionPolicy,
    /// Where flows find none (`flow.memcap-policy`).
    pub flow_memory: ExceptionPolicy,
    /// Where fragments find none (`defrag.memcap-policy`).
    pub defrag_memory: ExceptionPolicy,
    pub(crate) limits: Vec<Configured>,
    pub(crate) suppressed: Vec<Suppress>,
}

/// Kinds of actions in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `pass`.
    Pass,
    /// `drop`.
    Drop,
    /// `reject`.
    Reject,
    /// `alert`.
    Alert,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            variables: Variables::new(),
            action_order: vec![Order::Pass, Order::Drop, Order::Reject, Order::Alert],
            alerts_max: 15,
            classes: classes::classes(),
            references: BTreeMap::new(),
            datasets: Vec::new(),
            files: BTreeMap::new(),
            body_bytes_min: [32_768, 40_960],
            is_body_inline: false,
            is_tx_guessed: false,
            is_ips: false,
            is_ja4_off: false,
            is_text_kept: false,
            midstream: ExceptionPolicy::Ignore,
            app_error: ExceptionPolicy::Ignore,
            reassembly_memory: ExceptionPolicy::Ignore,
            session_memory: ExceptionPolicy::Ignore,
            flow_memory: ExceptionPolicy::Ignore,
            defrag_memory: ExceptionPolicy::Ignore,
            limits: Vec::new(),
            suppressed: Vec::new(),
        }
    }
}

impl Config {
    /// The variables that Suricata ships.
    #[must_use]
    pub fn shipped_variables() -> Variables {
        [
            ("HOME_NET", "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]"),
            ("EXTERNAL_NET", "!$HOME_NET"),
            ("HTTP_SERVERS", "$HOME_NET"),
            ("SMTP_SERVERS", "$HOME_NET"),
            ("SQL_SERVERS", "$HOME_NET"),
            ("DNS_SERVERS", "$HOME_NET"),
            ("TELNET_SERVERS", "$HOME_NET"),
            ("AIM_SERVERS", "$EXTERNAL_NET"),
            ("DC_SERVERS", "$HOME_NET"),
            ("DNP3_SERVER", "$HOME_NET"),
            ("DNP3_CLIENT", "$HOME_NET"),
            ("MODBUS_CLIENT", "$HOME_NET"),
            ("MODBUS_SERVER", "$HOME_NET"),
            ("ENIP_CLIENT", "$HOME_NET"),
            ("ENIP_SERVER", "$HOME_NET"),
            ("HTTP_PORTS", "80"),
            ("SHELLCODE_PORTS", "!80"),
            ("ORACLE_PORTS", "1521"),
            ("SSH_PORTS", "22"),
            ("DNP3_PORTS", "20000"),
            ("MODBUS_PORTS", "502"),
            ("FILE_DATA_PORTS", "[$HTTP_PORTS,110,143]"),
            ("FTP_PORTS", "21"),
            ("GENEVE_PORTS", "6081"),
            ("VXLAN_PORTS", "4789"),
            ("TEREDO_PORTS", "3544"),
            ("SIP_PORTS", "[5060,5061]"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Reads suricata.yaml.
    #[must_use]
    pub fn from_yaml(node: &Node) -> Self {
        let mut config = Self::default();
        for group in ["vars.address-groups", "vars.port-groups"] {
            for (name, value) in node.path(group).map(Node::entries).unwrap_or_default() {
                if let Some(text) = value.text() {
                    config.variables.insert(name.clone(), text.to_owned());
                }
            }
        }
        let order: Vec<Order> = node
            .get("action-order")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|item| match item.text()? {
                "pass" => Some(Order::Pass),
                "drop" => Some(Order::Drop),
                "reject" => Some(Order::Reject),
                "alert" => Some(Order::Alert),
                _ => None,
            })
            .collect();
        if order.len() == 4 {
            config.action_order = order;
        }
        let number = |path: &str| node.path(path).and_then(Node::text).and_then(integer);
        // Suricata takes one byte and falls back to its default.
        if let Some(max) = number("packet-alert-max").filter(|max| (1..=255).contains(max)) {
            config.alerts_max = usize::try_from(max).unwrap_or(15);
        }
        config.is_tx_guessed =
            node.path("detect.guess-applayer-tx").and_then(Node::switch).unwrap_or(false);
        for (name, set) in node.get("datasets").map(Node::entries).unwrap_or_default() {
            let kind = set.get("type").and_then(Node::text).and_then(Kind::from_name);
            if let Some(kind) = kind {
                let load = set.get("load").or_else(|| set.get("state"));
                let load = load.and_then(Node::text).map(str::to_owned);
                config.datasets.push(Dataset { name: name.clone(), kind, load });
            }
        }
        config.is_ja4_off =
            node.path("app-layer.protocols.tls.ja4-fingerprints").and_then(Node::switch)
                == Some(false);
        let htp = "app-layer.protocols.http.libhtp.default-config";
        for (slot, name) in config.body_bytes_min.iter_mut().zip(["request", "response"]) {
            *slot = number(&format!("{htp}.{name}-body-minimal-inspect-size")).unwrap_or(32_768);
        }
        config
    }

    /// Reads every exception policy.
    pub fn read_exceptions(&mut self, node: &Node, is_ips: bool) {
        let of = |option, has_flow| ExceptionPolicy::of(node, option, is_ips, has_flow);
        self.midstream = ExceptionPolicy::midstream(node, is_ips);
        self.app_error = of("app-layer.error-policy", true);
        self.reassembly_memory = of("stream.reassembly.memcap-policy", true);
        self.session_memory = of("stream.memcap-policy", true);
        self.flow_memory = of("flow.memcap-policy", false);
        self.defrag_memory = of("defrag.memcap-policy", false);
    }

    /// The policy for one bit of [`met`], with Suricata's name of what it is for.
    pub(crate) const fn exception(&self, bit: u8) -> (ExceptionPolicy, &'static str) {
        match bit {
            met::DEFRAG_MEMORY => (self.defrag_memory, "defrag_memcap"),
            met::SESSION_MEMORY => (self.session_memory, "stream_memcap"),
            met::REASSEMBLY_MEMORY => (self.reassembly_memory, "stream_reassembly_memcap"),
            met::FLOW_MEMORY => (self.flow_memory, "flow_memcap"),
            met::MIDSTREAM => (self.midstream, "stream_midstream"),
            _ => (self.app_error, "app_layer_error"),
        }
    }

    /// Reads classification.config.
    pub fn read_classes(&mut self, text: &str) {
        for line in text.lines() {
            let Some(rest) = line.trim().strip_prefix("config classification:") else { continue };
            let parts: Vec<&str> = rest.split(',').map(str::trim).collect();
            if let [name, description, priority] = parts.as_slice()
                && let Ok(priority) = priority.parse()
            {
                self.classes.insert((*name).to_owned(), ((*description).to_owned(), priority));
            }
        }
    }

    /// Reads reference.config.
    pub fn read_references(&mut self, text: &str) {
        for line in text.lines() {
            let Some(rest) = line.trim().strip_prefix("config reference:") else { continue };
            if let Some((name, prefix)) = rest.trim().split_once(char::is_whitespace) {
                self.references.insert(name.to_owned(), prefix.trim().to_owned());
            }
        }
    }

    /// Reads threshold.config; returns the lines that are not understood.
    pub fn read_thresholds(&mut self, text: &str) -> Vec<(usize, String)> {
        let mut problems = Vec::new();
        for line in crate::syntax::lines(text) {
            let (word, rest) =
                line.text.split_once(char::is_whitespace).unwrap_or((line.text.as_str(), ""));
            let done = match word {
                "suppress" => self.suppress(rest),
                "threshold" | "event_filter" => self.event_filter(rest),
                "rate_filter" => self.rate_filter(rest),
                other => Err(format!("{other:?} is unknown")),
            };
            if let Err(why) = done {
                problems.push((line.number, why));
            }
        }
        problems
    }

    fn ids(fields: &BTreeMap<String, String>) -> Result<(u32, u32), String> {
        let number = |key: &str| {
            fields.get(key).and_then(|text| text.parse().ok()).ok_or(format!("needs {key}"))
        };
        Ok((number("gen_id")?, number("sig_id")?))
    }

    fn suppress(&mut self, text: &str) -> Result<(), String> {
        let fields = fields(text);
        let (gid, sid) = Self::ids(&fields)?;
        let side = match fields.get("track").map(String::as_str) {
            None => SuppressSide::Always,
            Some("by_src") => SuppressSide::Source,
            Some("by_dst") => SuppressSide::Destination,
            Some("by_either") => SuppressSide::Either,
            Some(other) => return Err(format!("track {other:?} is unknown")),
        };
        let addresses = match fields.get("ip") {
            Some(text) => {
                Addresses::parse(text, &self.variables).map_err(|error| error.to_string())?
            }
            None if side == SuppressSide::Always => Addresses::default(),
            None => return Err("needs ip".to_owned()),
        };
        self.suppressed.push(Suppress { gid, sid, side, addresses });
        Ok(())
    }

    fn event_filter(&mut self, text: &str) -> Result<(), String> {
        let (gid, sid) = Self::ids(&fields(text))?;
        let limit = crate::compile::limit("threshold", text)
            .map_err(|error: RuleError| error.to_string())?;
        self.limits.push(Configured { gid, sid, limit });
        Ok(())
    }

    fn rate_filter(&mut self, text: &str) -> Result<(), String> {
        let fields = fields(text);
        let (gid, sid) = Self::ids(&fields)?;
        let number = |key: &str| {
            fields.get(key).and_then(|text| text.parse().ok()).ok_or(format!("needs {key}"))
        };
        let track = fields.get("track").ok_or("needs track")?;
        let track = crate::compile::track("rate_filter", track)
            .map_err(|error: RuleError| error.to_string())?;
        let action = match fields.get("new_action").map(String::as_str) {
            Some("alert") => Action::Alert,
            Some("drop") => Action::Drop,
            Some("pass") => Action::Pass,
            Some("reject") => Action::Reject(RejectTarget::Source),
            other => return Err(format!("new_action {other:?} is unknown")),
        };
        let limit = Limit {
            kind: LimitKind::Rate,
            track,
            count: number("count")?,
            seconds: number("seconds")?,
            action: Some(action),
            timeout_s: number("timeout")?,
            distinct: None,
        };
        self.limits.push(Configured { gid, sid, limit });
        Ok(())
    }

    /// The limits that apply to a rule beside its own.
    pub(crate) fn limits_of(&self, gid: u32, sid: u32) -> impl Iterator<Item = &Limit> {
        let fits = move |known: u32, own: u32| known == 0 || known == own;
        self.limits
            .iter()
            .filter(move |configured| fits(configured.gid, gid) && fits(configured.sid, sid))
            .map(|configured| &configured.limit)
    }

    /// Whether events of the rule with just this number are filtered.
    pub(crate) fn is_filtered_by_number(&self, gid: u32, sid: u32) -> bool {
        self.limits.iter().any(|own| {
            (own.gid, own.sid) == (gid, sid)
                && matches!(
                    own.limit.kind,
                    LimitKind::Limit | LimitKind::Threshold | LimitKind::Both
                )
        })
    }

    /// Whether an alert of a rule between these is to be kept quiet.
    pub(crate) fn is_suppressed(
        &self,
        (gid, sid): (u32, u32),
        source: Option<std::net::IpAddr>,
        destination: Option<std::net::IpAddr>,
    ) -> bool {
        self.suppressed.iter().any(|suppress| {
            let fits = |known: u32, own: u32| known == 0 || known == own;
            let has = |address: Option<std::net::IpAddr>| {
                address.is_some_and(|address| suppress.addresses.contains(address))
            };
            fits(suppress.gid, gid)
                && fits(suppress.sid, sid)
                && match suppress.side {
                    SuppressSide::Always => true,
                    SuppressSide::Source => has(source),
                    SuppressSide::Destination => has(destination),
                    SuppressSide::Either => has(source) || has(destination),
                }
        })
    }
}

/// `key value, key value`; commas within brackets do not separate.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut depth = 0_i32;
    let mut from = 0;
    let mut put = |part: &str| {
        if let Some((key, value)) = part.trim().split_once(char::is_whitespace) {
            out.insert(key.to_owned(), value.trim().to_owned());
        }
    };
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            b',' if depth == 0 => {
                put(text.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    put(text.get(from..).unwrap_or_default());
    out
}
