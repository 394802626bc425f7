//! What is written and how much of it: `eve-log` of suricata.yaml.
//!
//! Without one, everything that the writer knows is on. Names and defaults of switches are those of
//! Suricata's manual ("Eve JSON Output").

use hookprobe_rules::yaml::Node;

use super::Xff;

/// Custom fields of one type that are read from a configuration.
const CUSTOM_MAX: usize = 64;

/// Which events are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Types(Vec<String>);

impl Default for Types {
    fn default() -> Self {
        Self(Self::ALL.iter().map(|name| (*name).to_owned()).collect())
    }
}

impl Types {
    /// Every type, by its `event_type`.
    pub const ALL: [&'static str; 18] = [
        "alert", "anomaly", "arp", "dhcp", "dns", "drop", "fileinfo", "flow", "http", "mdns",
        "netflow", "pgsql", "quic", "sip", "smb", "smtp", "ssh", "tls",
    ];

    /// Only these; `Err` names one that does not exist.
    ///
    /// # Errors
    /// The first name that is no type.
    pub fn only(names: &[String]) -> Result<Self, String> {
        match names.iter().find(|name| !Self::ALL.contains(&name.as_str())) {
            Some(unknown) => Err(unknown.clone()),
            None => Ok(Self(names.to_vec())),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }

    /// Whether anything but alerts is wanted.
    pub(super) fn is_only_alerts(&self) -> bool {
        self.0.iter().all(|name| name == "alert")
    }
}

/// Parts of an alert; `eve-log: types: alert:` of suricata.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// `payload`: in base64.
    pub payload: bool,
    /// `payload-printable`.
    pub payload_printable: bool,
    /// `payload-length`.
    pub payload_length: bool,
    /// `packet`: the whole packet in base64.
    pub packet: bool,
    /// `http-body`: in base64.
    pub http_body: bool,
    /// `http-body-printable`.
    pub http_body_printable: bool,
    /// `metadata.app-layer`: what the application layer said.
    pub app: bool,
    /// `metadata.flow`: the flow's counters.
    pub flow: bool,
    /// `metadata.rule.metadata`.
    pub rule_metadata: bool,
    /// `metadata.rule.reference`.
    pub references: bool,
    /// `verdict`: what became of the packet.
    pub verdict: bool,
    /// `tagged-packets`.
    pub tagged: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            payload: false,
            payload_printable: false,
            payload_length: false,
            packet: false,
            http_body: false,
            http_body_printable: false,
            app: true,
            flow: true,
            rule_metadata: true,
            references: true,
            verdict: false,
            tagged: true,
        }
    }
}

impl Parts {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self {
            payload: true,
            payload_printable: true,
            payload_length: true,
            packet: true,
            http_body_printable: true,
            ..Self::default()
        }
    }
}

/// How events of some types look; `eve-log: types:` of suricata.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Details {
    /// `dns.version`: 2 has one event for each query, 3 one for each message.
    pub dns_version: u8,
    /// Questions and answers of DNS are written.
    pub dns: [bool; 2],
    /// SSH: the fingerprint of the key exchange is waited for.
    pub is_hassh_awaited: bool,
    /// `ethernet`: events name the hardware addresses that they were seen with.
    pub has_ethernet: bool,
    /// `community-id`.
    pub has_community_id: bool,
    /// `metadata`: bits and variables that rules set in flows.
    pub has_metadata: bool,
    /// `http.extended`.
    pub is_http_extended: bool,
    /// `http.custom`: further headers by name.
    pub http_custom: Vec<String>,
    /// `http.dump-all-headers`: those of requests, of responses.
    pub http_headers: [bool; 2],
    /// `tls.extended`.
    pub is_tls_extended: bool,
    /// `tls.custom`: these fields and no others.
    pub tls_custom: Vec<String>,
    /// `tls.session-resumption`.
    pub has_resumptions: bool,
    /// `dhcp.extended`.
    pub is_dhcp_extended: bool,
    /// Anomalies of packets, of streams, of application layers.
    pub anomalies: [bool; 3],
    /// `drop.flows: start`: one drop in each direction of a flow.
    pub are_drops_once: bool,
    /// `drop.alerts`: drops name the rule.
    pub has_drop_alerts: bool,
    /// `drop.verdict`.
    pub has_drop_verdicts: bool,
    /// Fingerprints of TLS and QUIC: JA3, JA4.
    pub fingerprints: [bool; 2],
    /// Digests of files: MD5, SHA-1, SHA-256.
    pub digests: [bool; 3],
    /// Who is behind a proxy.
    pub xff: Option<Xff>,
}

impl Default for Details {
    fn default() -> Self {
        Self {
            dns_version: 3,
            dns: [true; 2],
            is_hassh_awaited: true,
            has_ethernet: false,
            has_community_id: true,
            has_metadata: true,
            is_http_extended: true,
            http_custom: Vec::new(),
            http_headers: [false; 2],
            is_tls_extended: true,
            tls_custom: Vec::new(),
            has_resumptions: true,
            is_dhcp_extended: true,
            anomalies: [true; 3],
            are_drops_once: false,
            has_drop_alerts: true,
            has_drop_verdicts: false,
            fingerprints: [true; 2],
            digests: [true; 3],
            xff: None,
        }
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Which events.
    pub types: Types,
    /// Parts of alerts.
    pub parts: Parts,
    /// How others look.
    pub details: Details,
}

impl Settings {
    /// Of the first enabled `eve-log` of a suricata.yaml; `None` without one.
    #[must_use]
    pub fn from_yaml(config: &Node) -> Option<Self> {
        let logs = config.get("outputs")?.items().iter().filter_map(|item| item.get("eve-log"));
        let is_on = |node: &&Node| node.get("enabled").and_then(Node::switch) != Some(false);
        let log = logs.into_iter().find(is_on)?;
        let mut names = Vec::new();
        let mut settings = Self::default();
        settings.details.has_community_id = switch(log, "community-id", false);
        settings.details.has_metadata = switch(log, "metadata", true);
        settings.details.has_ethernet = switch(log, "ethernet", false);
        settings.details.xff = xff(log);
        for item in log.get("types").map(Node::items).unwrap_or_default() {
            let (name, node) = match item {
                Node::Text(name, _) => (name.as_str(), &Node::Null),
                Node::Map(entries) => match entries.first() {
                    Some((name, node)) => (name.as_str(), node),
                    None => continue,
                },
                Node::Null | Node::List(_) => continue,
            };
            if node.get("enabled").and_then(Node::switch) == Some(false) {
                continue;
            }
            names.push(if name == "files" { "fileinfo" } else { name }.to_owned());
            settings.read(name, node);
        }
        settings.types = Types(names);
        Some(settings)
    }

    /// What is made where the settings or a rule want it: fingerprints and digests.
    pub fn made<'t>(&mut self, config: &Node, rules: impl Iterator<Item = &'t str>) {
        const WORDS: [&str; 5] = ["ja3", "hassh", "filemd5", "filesha1", "filesha256"];
        let mut named = [false; 5];
        for text in rules {
            for (is_named, word) in named.iter_mut().zip(WORDS) {
                *is_named |= text.contains(word);
            }
        }
        let on = |path: &str, is_named: bool| {
            config.path(path).and_then(Node::switch).unwrap_or(is_named)
        };
        let [ja3, hassh, md5, sha1, sha256] = named;
        self.details.fingerprints = [
            on("app-layer.protocols.tls.ja3-fingerprints", ja3),
            // It is made for rules where they need it, and told in any case.
            true,
        ];
        self.details.is_hassh_awaited = on("app-layer.protocols.ssh.hassh", hassh);
        let forced = digests(config);
        let any = |name: &'static str, is_named| is_named || forced.iter().any(|own| own == name);
        self.details.digests = [any("md5", md5), any("sha1", sha1), any("sha256", sha256)];
    }

    fn read(&mut self, name: &str, node: &Node) {
        let on = |name: &'static str, otherwise: bool| switch(node, name, otherwise);
        let details = &mut self.details;
        match name {
            "alert" => {
                self.parts = parts(node);
                if let Some(xff) = xff(node) {
                    details.xff = Some(xff);
                }
            }
            "anomaly" => {
                let types = node.get("types").unwrap_or(&Node::Null);
                // Without a word about them only those of application layers.
                details.anomalies = [("decode", false), ("stream", false), ("applayer", true)]
                    .map(|(name, otherwise)| switch(types, name, otherwise));
            }
            "dns" => {
                if node.get("version").and_then(Node::text) == Some("2") {
                    details.dns_version = 2;
                }
                details.dns = [("requests", "query"), ("responses", "answer")]
                    .map(|(name, old)| on(name, true) && on(old, true));
            }
            "http" => {
                details.is_http_extended = on("extended", false);
                details.http_custom = custom(node);
                details.http_headers = match node.get("dump-all-headers").and_then(Node::text) {
                    Some("both") => [true; 2],
                    Some("request") => [true, false],
                    Some("response") => [false, true],
                    _ => [false; 2],
                };
            }
            "tls" => {
                details.is_tls_extended = on("extended", false);
                details.tls_custom = custom(node);
                details.has_resumptions = on("session-resumption", true);
            }
            "dhcp" => details.is_dhcp_extended = on("extended", false),
            "drop" => {
                details.are_drops_once = node.get("flows").and_then(Node::text) != Some("all");
                details.has_drop_alerts = on("alerts", false);
                details.has_drop_verdicts = on("verdict", false);
            }
            _ => {}
        }
    }
}

/// Digests that outputs want of every file; a store of files names them by SHA-256.
fn digests(config: &Node) -> Vec<String> {
    let mut out = Vec::new();
    for item in config.get("outputs").map(Node::items).unwrap_or_default() {
        let store = item.get("file-store");
        if store.is_some_and(|store| switch(store, "enabled", false)) {
            out.push("sha256".to_owned());
        }
        let files = item.path("eve-log.types.files");
        for node in store.into_iter().chain(files) {
            let names = node.get("force-hash").map(Node::items).unwrap_or_default();
            out.extend(names.iter().filter_map(Node::text).map(str::to_owned));
        }
    }
    out
}

fn switch(node: &Node, path: &str, otherwise: bool) -> bool {
    node.path(path).and_then(Node::switch).unwrap_or(otherwise)
}

fn parts(node: &Node) -> Parts {
    let on = |name: &str| switch(node, name, false);
    // `metadata: no` is all of it; as a mapping it is told part by part.
    let has_any = switch(node, "metadata", true);
    Parts {
        payload: on("payload"),
        payload_printable: on("payload-printable"),
        payload_length: on("payload-length"),
        packet: on("packet"),
        http_body: on("http-body"),
        http_body_printable: on("http-body-printable"),
        app: has_any && switch(node, "metadata.app-layer", true),
        flow: has_any && switch(node, "metadata.flow", true),
        rule_metadata: has_any && switch(node, "metadata.rule.metadata", true),
        references: has_any && switch(node, "metadata.rule.reference", false),
        verdict: on("verdict"),
        tagged: switch(node, "tagged-packets", true),
    }
}

fn custom(node: &Node) -> Vec<String> {
    let names = node.get("custom").map(Node::items).unwrap_or_default();
    names.iter().filter_map(Node::text).take(CUSTOM_MAX).map(str::to_owned).collect()
}

/// `xff` of alerts or of all events.
fn xff(node: &Node) -> Option<Xff> {
    let node = node.get("xff")?;
    let text = |name: &str| node.get(name).and_then(Node::text);
    node.get("enabled").and_then(Node::switch).filter(|is_on| *is_on)?;
    Some(Xff {
        is_overwritten: text("mode") == Some("overwrite"),
        is_forward: text("deployment") == Some("forward"),
        header: text("header").unwrap_or("X-Forwarded-For").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use hookprobe_rules::yaml;

    use super::*;

    #[test]
    fn what_suricata_would_write() {
        let text = "outputs:\n  - eve-log:\n      enabled: yes\n      types:\n        - alert:\n            \
                    metadata:\n              flow: no\n        - files\n        - http:\n            enabled: no\n";
        let settings = Settings::from_yaml(&yaml::parse(text).unwrap()).unwrap();
        assert!(settings.types.has("fileinfo") && settings.types.has("alert"));
        assert!(!settings.types.has("http") && !settings.types.has("flow"));
        assert!(settings.parts.app && !settings.parts.flow);
        assert!(!settings.details.has_community_id);
        assert_eq!(Settings::from_yaml(&Node::Null), None);
    }
}
