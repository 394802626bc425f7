//! Settings of detection, and the part of suricata.yaml that they and the traffic engine come from.

use std::collections::BTreeMap;

use hookprobe_traffic::{app::Proto, config as traffic, engine::exception};

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

/// What is done with flows that can't be inspected as they should (Suricata's exception policies).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExceptionPolicy {
    /// Inspect what can be inspected.
    #[default]
    Ignore,
    /// Drop all of the flow.
    DropFlow,
    /// Drop the packet.
    DropPacket,
    /// Inspect none of the flow.
    PassFlow,
    /// Do not inspect the packet.
    PassPacket,
    /// Inspect none of the flow, and track it no more than needed.
    Bypass,
    /// Drop the flow and tell the sender.
    Reject,
    /// Drop the flow and tell both ends.
    RejectBoth,
}

impl ExceptionPolicy {
    /// By its name; `auto` depends on the mode.
    #[must_use]
    pub fn from_name(name: &str, is_ips: bool) -> Option<Self> {
        Some(match name {
            "auto" if is_ips => Self::DropFlow,
            "auto" | "ignore" => Self::Ignore,
            "rejectboth" => Self::RejectBoth,
            "drop-flow" => Self::DropFlow,
            "drop-packet" => Self::DropPacket,
            "pass-flow" => Self::PassFlow,
            "pass-packet" => Self::PassPacket,
            "bypass" => Self::Bypass,
            "reject" => Self::Reject,
            _ => return None,
        })
    }

    /// As EVE writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::DropFlow => "drop_flow",
            Self::DropPacket => "drop_packet",
            Self::PassFlow => "pass_flow",
            Self::PassPacket => "pass_packet",
            Self::Bypass => "bypass",
            Self::Reject => "reject",
            Self::RejectBoth => "reject_both",
        }
    }

    /// The policy of `option`, else that of the master switch `exception-policy`, else what the mode
    /// says. `has_flow`: there may be a flow to act upon.
    #[must_use]
    pub fn of(node: &Node, option: &str, is_ips: bool, has_flow: bool) -> Self {
        let text = |path: &str| node.path(path).and_then(Node::text);
        let default = if is_ips { Self::DropFlow } else { Self::Ignore };
        let policy = match (text(option), text("exception-policy")) {
            (Some(own), _) => Self::from_name(own, is_ips),
            (None, Some(master)) => Self::from_name(master, is_ips)
                .filter(|policy| is_ips || !matches!(policy, Self::DropFlow | Self::DropPacket)),
            (None, None) => Some(default),
        };
        match policy.unwrap_or_default() {
            Self::DropFlow if !has_flow => Self::DropPacket,
            Self::PassFlow if !has_flow => Self::PassPacket,
            Self::Bypass if !has_flow => Self::Ignore,
            policy => policy,
        }
    }

    /// `stream.midstream-policy`, else the master switch `exception-policy`.
    #[must_use]
    pub fn midstream(node: &Node, is_ips: bool) -> Self {
        let text = |path: &str| node.path(path).and_then(Node::text);
        let is_followed = node.path("stream.midstream").and_then(Node::switch).unwrap_or(false);
        let own = text("stream.midstream-policy");
        let name = own.or_else(|| text("exception-policy")).unwrap_or("auto");
        if is_followed && name == "auto" {
            return Self::Ignore;
        }
        match Self::from_name(name, is_ips).unwrap_or_default() {
            Self::DropFlow | Self::DropPacket if !is_ips => Self::Ignore,
            policy => policy,
        }
    }
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
            classes: classes(),
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
        if let Some(max) = number("packet-alert-max").filter(|max| *max > 0) {
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

    /// The policy for one bit of [`exception`], with Suricata's name of what it is for.
    pub(crate) const fn exception(&self, bit: u8) -> (ExceptionPolicy, &'static str) {
        match bit {
            exception::DEFRAG_MEMORY => (self.defrag_memory, "defrag_memcap"),
            exception::SESSION_MEMORY => (self.session_memory, "stream_memcap"),
            exception::REASSEMBLY_MEMORY => (self.reassembly_memory, "stream_reassembly_memcap"),
            exception::FLOW_MEMORY => (self.flow_memory, "flow_memcap"),
            exception::MIDSTREAM => (self.midstream, "stream_midstream"),
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

/// Settings of the traffic engine by suricata.yaml. `is_ips`: packets are inspected inline.
#[must_use]
pub fn traffic(node: &Node, is_ips: bool) -> traffic::Config {
    let mut config = traffic::Config::default();
    let text = |path: &str| node.path(path).and_then(Node::text);
    let switch = |path: &str| node.path(path).and_then(Node::switch);
    let number = |path: &str| text(path).and_then(integer);
    let small = |path: &str| number(path).and_then(|value| u32::try_from(value).ok());
    let stream = &mut config.stream;
    // A policy that forbids such flows leaves nothing to follow.
    let midstream = ExceptionPolicy::midstream(node, is_ips);
    let is_allowed = matches!(midstream, ExceptionPolicy::Ignore | ExceptionPolicy::PassFlow);
    stream.is_midstream = switch("stream.midstream").unwrap_or(false) && is_allowed;
    stream.is_async_oneside = switch("stream.async-oneside").unwrap_or(false);
    stream.is_checksum_validated = switch("stream.checksum-validation").unwrap_or(true);
    stream.is_inline = match text("stream.inline") {
        None | Some("auto") => is_ips,
        Some(_) => switch("stream.inline").unwrap_or(is_ips),
    };
    if let Some(depth) = small("stream.reassembly.depth") {
        stream.depth_bytes = depth;
    }
    if let Some(bytes) = small("stream.reassembly.toserver-chunk-size") {
        stream.raw_toserver_bytes_min = bytes;
    }
    if let Some(bytes) = small("stream.reassembly.toclient-chunk-size") {
        stream.raw_toclient_bytes_min = bytes;
    }
    if switch("decoder.vxlan.enabled") == Some(false) {
        config.decode.vxlan_ports.clear();
    }
    if switch("decoder.geneve.enabled") == Some(false) {
        config.decode.geneve_ports.clear();
    }
    if switch("vlan.use-for-tracking") == Some(false) {
        config.flow.is_vlan_used = false;
    }
    flow_timeouts(node, &mut config.flow);
    let app = &mut config.app;
    let ports = |path: &str| node.path(path).and_then(|node| node.get("dp")).map(port_list);
    let dns = "app-layer.protocols.dns";
    let own = ports(&format!("{dns}.detection-ports"));
    let by_carrier = ["udp", "tcp"].map(|name| ports(&format!("{dns}.{name}.detection-ports")));
    if let Some(ports) = own.or_else(|| by_carrier.into_iter().flatten().next()) {
        app.dns_ports = ports;
    }
    let htp = "app-layer.protocols.http.libhtp.default-config";
    let has_htp = node.path("app-layer.protocols.http").is_some();
    if !has_htp {
        // What Suricata does when its configuration says nothing of HTTP.
        app.response_inspect_bytes_min = 32_768;
        app.response_inspect_window_bytes = 4096;
    }
    if let Some(bytes) = number(&format!("{htp}.request-body-limit")) {
        app.request_body_bytes_max = bytes;
    }
    if let Some(bytes) = number(&format!("{htp}.response-body-limit")) {
        app.response_body_bytes_max = bytes;
    }
    for (slot, path) in [
        (&mut app.request_inspect_bytes_min, "request-body-minimal-inspect-size"),
        (&mut app.request_inspect_window_bytes, "request-body-inspect-window"),
        (&mut app.response_inspect_bytes_min, "response-body-minimal-inspect-size"),
        (&mut app.response_inspect_window_bytes, "response-body-inspect-window"),
        (&mut app.http_layers_max, "response-body-decompress-layer-limit"),
    ] {
        if let Some(bytes) = small(&format!("{htp}.{path}")) {
            *slot = bytes;
        }
    }
    for (slot, path) in [
        (&mut app.is_path_decoded_twice, "double-decode-path"),
        (&mut app.is_query_decoded_twice, "double-decode-query"),
    ] {
        if let Some(is_on) = switch(&format!("{htp}.{path}")) {
            *slot = is_on;
        }
    }
    for (name, settings) in node.path("app-layer.protocols").map(Node::entries).unwrap_or_default()
    {
        if settings.get("enabled").and_then(Node::switch) == Some(false)
            && let Some(proto) = Proto::from_name(name)
        {
            app.disabled.push(proto);
        }
    }
    for (name, networks) in node.get("host-os-policy").map(Node::entries).unwrap_or_default() {
        let Some(policy) = traffic::Policy::from_name(name) else { continue };
        for network in networks.items().iter().filter_map(Node::text) {
            if let Some(network) = self::network(network) {
                config.host_os.push((network, policy));
            }
        }
    }
    config
}

/// `53, 5353` or a list of such.
fn port_list(node: &Node) -> Vec<u16> {
    let one = |text: &str| -> Vec<u16> {
        let text = text.trim_matches(|letter| matches!(letter, '[' | ']'));
        text.split(',').filter_map(|port| port.trim().parse().ok()).collect()
    };
    match node.text() {
        Some(text) => one(text),
        None => node.items().iter().filter_map(Node::text).flat_map(one).collect(),
    }
}

/// `flow-timeouts`; where nothing is said, what is built into Suricata.
fn flow_timeouts(node: &Node, flow: &mut traffic::Flow) {
    let seconds = |path: String| node.path(&path).and_then(Node::text).and_then(integer);
    for (name, timeouts, defaults) in [
        ("tcp", &mut flow.tcp, [30, 300, 10]),
        ("udp", &mut flow.udp, [30, 300, 0]),
        ("icmp", &mut flow.icmp, [30, 300, 0]),
        ("default", &mut flow.other, [30, 300, 0]),
    ] {
        let slots = [&mut timeouts.new_ns, &mut timeouts.established_ns, &mut timeouts.closed_ns];
        for ((slot, state), default) in
            slots.into_iter().zip(["new", "established", "closed"]).zip(defaults)
        {
            let own = seconds(format!("flow-timeouts.{name}.{state}")).unwrap_or(default);
            *slot = own.saturating_mul(1_000_000_000);
        }
    }
}

fn network(text: &str) -> Option<traffic::Network> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: std::net::IpAddr = address.trim().parse().ok()?;
    let prefix_bits = bits.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    Some(traffic::Network { address, prefix_bits })
}

/// The classes that Suricata ships.
fn classes() -> BTreeMap<String, (String, u8)> {
    [
        ("not-suspicious", "Not Suspicious Traffic", 3),
        ("unknown", "Unknown Traffic", 3),
        ("bad-unknown", "Potentially Bad Traffic", 2),
        ("attempted-recon", "Attempted Information Leak", 2),
        ("successful-recon-limited", "Information Leak", 2),
        ("successful-recon-largescale", "Large Scale Information Leak", 2),
        ("attempted-dos", "Attempted Denial of Service", 2),
        ("successful-dos", "Denial of Service", 2),
        ("attempted-user", "Attempted User Privilege Gain", 1),
        ("unsuccessful-user", "Unsuccessful User Privilege Gain", 1),
        ("successful-user", "Successful User Privilege Gain", 1),
        ("attempted-admin", "Attempted Administrator Privilege Gain", 1),
        ("successful-admin", "Successful Administrator Privilege Gain", 1),
        ("rpc-portmap-decode", "Decode of an RPC Query", 2),
        ("shellcode-detect", "Executable code was detected", 1),
        ("string-detect", "A suspicious string was detected", 3),
        ("suspicious-filename-detect", "A suspicious filename was detected", 2),
        ("suspicious-login", "An attempted login using a suspicious username was detected", 2),
        ("system-call-detect", "A system call was detected", 2),
        ("tcp-connection", "A TCP connection was detected", 4),
        ("trojan-activity", "A Network Trojan was detected", 1),
        ("unusual-client-port-connection", "A client was using an unusual port", 2),
        ("network-scan", "Detection of a Network Scan", 3),
        ("denial-of-service", "Detection of a Denial of Service Attack", 2),
        ("non-standard-protocol", "Detection of a non-standard protocol or event", 2),
        ("protocol-command-decode", "Generic Protocol Command Decode", 3),
        ("web-application-activity", "access to a potentially vulnerable web application", 2),
        ("web-application-attack", "Web Application Attack", 1),
        ("misc-activity", "Misc activity", 3),
        ("misc-attack", "Misc Attack", 2),
        ("icmp-event", "Generic ICMP event", 3),
        ("inappropriate-content", "Inappropriate Content was Detected", 1),
        ("policy-violation", "Potential Corporate Privacy Violation", 1),
        ("default-login-attempt", "Attempt to login by a default username and password", 2),
        ("targeted-activity", "Targeted Malicious Activity was Detected", 1),
        ("exploit-kit", "Exploit Kit Activity Detected", 1),
        ("external-ip-check", "Device Retrieving External IP Address Detected", 2),
        ("domain-c2", "Domain Observed Used for C2 Detected", 1),
        ("pup-activity", "Possibly Unwanted Program Detected", 2),
        ("credential-theft", "Successful Credential Theft Detected", 1),
        ("social-engineering", "Possible Social Engineering Attempted", 2),
        ("coin-mining", "Crypto Currency Mining Activity Detected", 2),
        ("command-and-control", "Malware Command and Control Activity Detected", 1),
    ]
    .into_iter()
    .map(|(name, text, priority)| (name.to_owned(), (text.to_owned(), priority)))
    .collect()
}
