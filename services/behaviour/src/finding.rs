//! What a detector is convinced of.

use std::{fmt, net::IpAddr};

use crate::observation::{Mac, TimeNs};

/// Most named numbers of one finding: what an alert on the wire carries.
pub const EVIDENCE_MAX: usize = 16;

/// What may follow from a finding alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Something is unusual. Never a reason to block; at most one per device and day.
    Anomaly,
    /// Something suspicious that has harmless explanations too. Never blocks alone.
    Suspicion,
    /// A method with a known error rate is convinced.
    Conviction,
}

impl Weight {
    /// Whether a response may act on this finding alone.
    #[must_use]
    pub fn may_block(self) -> bool {
        self == Self::Conviction
    }

    /// Word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
            Self::Suspicion => "suspicion",
            Self::Conviction => "conviction",
        }
    }
}

/// One incident, told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which detector, e.g. `scan.vertical`.
    pub detector: &'static str,
    /// Technique of MITRE ATT&CK, e.g. `T1046`.
    pub technique: &'static str,
    /// What may follow.
    pub weight: Weight,
    /// Who does it.
    pub source: IpAddr,
    /// Its Ethernet address, where the network shows it.
    pub source_mac: Option<Mac>,
    /// Against or with whom, when it is one only.
    pub destination: Option<IpAddr>,
    /// Destination port, when it is one only.
    pub port: Option<u16>,
    /// A domain or another name that it is about.
    pub name: Option<String>,
    /// One sentence for people.
    pub summary: String,
    /// Named numbers that led to the decision, units in their names; at most [`EVIDENCE_MAX`].
    pub evidence: Vec<(&'static str, u64)>,
    /// First packet that counted.
    pub first_ns: TimeNs,
    /// Packet, or end of a wait, that decided.
    pub decided_ns: TimeNs,
}

impl Finding {
    /// With what every finding needs; the rest is set by the methods below.
    #[must_use]
    pub fn new(
        detector: &'static str,
        technique: &'static str,
        weight: Weight,
        source: IpAddr,
        summary: String,
    ) -> Self {
        Self {
            detector,
            technique,
            weight,
            source,
            source_mac: None,
            destination: None,
            port: None,
            name: None,
            summary,
            evidence: Vec::new(),
            first_ns: 0,
            decided_ns: 0,
        }
    }

    /// Against one host.
    #[must_use]
    pub fn against(mut self, destination: Option<IpAddr>, port: Option<u16>) -> Self {
        self.destination = destination;
        self.port = port;
        self
    }

    /// From a station of the link.
    #[must_use]
    pub fn by(mut self, mac: Option<Mac>) -> Self {
        self.source_mac = mac;
        self
    }

    /// About a name.
    #[must_use]
    pub fn about(mut self, name: String) -> Self {
        self.name = Some(name);
        self
    }

    /// When.
    #[must_use]
    pub fn during(mut self, first_ns: TimeNs, decided_ns: TimeNs) -> Self {
        self.first_ns = first_ns;
        self.decided_ns = decided_ns;
        self
    }

    /// The numbers.
    #[must_use]
    pub fn because(mut self, evidence: Vec<(&'static str, u64)>) -> Self {
        self.evidence = evidence;
        self.evidence.truncate(EVIDENCE_MAX);
        self
    }

    /// A number of the evidence.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.evidence.iter().find(|(held, _)| *held == name).map(|(_, value)| *value)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] {}", self.detector, self.weight.word(), self.summary)?;
        for (name, value) in &self.evidence {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// A share or a score in thousandths, for evidence.
#[must_use]
pub fn thousandths(value: f64) -> u64 {
    // Saturates, and NaN is 0.
    (value * 1000.0).round() as u64
}

/// A length as a number of the evidence.
#[must_use]
pub fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Bytes of a name from the network as text for people: ASCII, at most 100 characters.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    /// Enough to recognise a name.
    const CHARS_MAX: usize = 100;
    let shown =
        |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { *byte as char } else { '?' };
    bytes.iter().take(CHARS_MAX).map(shown).collect()
}
