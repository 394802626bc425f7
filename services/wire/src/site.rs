//! The site configuration: what a person may set on a box.
//!
//! The file `hookprobe.toml` stands on the boot partition. PID 1 reads it once, measures it into
//! PCR 12, and writes what it accepted to [`crate::SITE_FILE`]; services read only that. A file
//! that can't be used never stops the box: defaults apply and a diagnostic says which line.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::Mode;

/// Largest file that is read.
pub const SITE_BYTES_MAX: usize = 64 * 1024;
/// Most interfaces that can be named.
pub const INTERFACES_MAX: usize = 16;
/// Most protected addresses that can be named.
pub const ADMINISTRATORS_MAX: usize = 64;
/// Most networks in [`Detection::home`].
pub const HOME_MAX: usize = 64;
/// Most keys in [`Detection::name_keys`].
pub const NAME_KEYS_MAX: usize = 8;
/// Longest block that policy may ask for: one day.
pub const BLOCK_S_MAX: u64 = 86_400;

/// Why a site configuration is not accepted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SiteError {
    /// Too long.
    #[error("HP-CF-001 hookprobe.toml: {got} bytes, at most {SITE_BYTES_MAX} are read; shorten it")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not UTF-8.
    #[error("HP-CF-002 hookprobe.toml: not UTF-8 text; save it as UTF-8")]
    NotText,
    /// Not TOML, or a key that does not exist.
    #[error("HP-CF-003 hookprobe.toml: {why}; correct that line and restart")]
    Syntax {
        /// What the parser said, on one line.
        why: String,
    },
    /// A value that makes no sense.
    #[error(
        "HP-CF-004 hookprobe.toml: {key} is {got}, expected {expected}; correct it and restart"
    )]
    Value {
        /// Which key.
        key: String,
        /// What stands there.
        got: String,
        /// What may stand there.
        expected: String,
    },
}

impl SiteError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "HP-CF-001",
            Self::NotText => "HP-CF-002",
            Self::Syntax { .. } => "HP-CF-003",
            Self::Value { .. } => "HP-CF-004",
        }
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Site {
    /// The box.
    pub node: Node,
    /// Its interfaces; empty: every Ethernet interface is watched and the first one asks for an
    /// address by DHCP.
    pub interface: Vec<Interface>,
    /// What is looked for.
    pub detection: Detection,
    /// What is done about alerts.
    pub response: Response,
}

/// The box.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Shown on every screen; empty: `hp-` and four digits of the first hardware address.
    pub name: String,
    /// Resolvers, protected from being blocked. Those that DHCP names are not known to the box yet:
    /// name them here, unless the gateway is the resolver.
    pub resolvers: Vec<IpAddr>,
}

/// What an interface is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Watched and defended.
    Lan,
    /// Only used for the box's own connections.
    Uplink,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Kernel name, e.g. `eth1`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// `dhcp`, `none`, or an address with prefix length, e.g. `10.20.0.2/24`.
    pub address: String,
    /// Default gateway, for a static address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// How an interface gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// Not at all.
    None,
    /// By DHCP.
    Dhcp,
    /// Fixed.
    Static {
        /// Address.
        address: IpAddr,
        /// Prefix length.
        prefix: u8,
    },
}

impl Interface {
    /// How it gets its address.
    ///
    /// # Errors
    /// [`SiteError::Value`] when `address` is none of the allowed forms.
    pub fn addressing(&self) -> Result<Addressing, SiteError> {
        match self.address.as_str() {
            "none" => return Ok(Addressing::None),
            "dhcp" => return Ok(Addressing::Dhcp),
            _ => {}
        }
        let wrong = || SiteError::Value {
            key: format!("interface {}: address", self.name),
            got: format!("{:?}", self.address),
            expected: "\"dhcp\", \"none\" or an address such as \"10.20.0.2/24\"".into(),
        };
        let (address, prefix) = self.address.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        Ok(Addressing::Static { address, prefix })
    }
}

/// What is looked for, and with what. Rules (`*.rules`) and lists of names stand beside the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Detection {
    /// The site's networks, e.g. `10.20.0.0/24`: `$HOME_NET` of rules, and ours for the detectors.
    /// Empty: private addresses.
    pub home: Vec<String>,
    /// Ed25519 keys, 64 hexadecimal digits each, whose lists of names are believed.
    pub name_keys: Vec<String>,
    /// Where syslog is listened to, on every address of the box.
    pub syslog: Syslog,
}

/// Ports of the syslog listener; none: it does not listen there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Syslog {
    /// Datagrams; 514 by custom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<u16>,
    /// Connections; 601 by custom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u16>,
    /// Connections over TLS 1.3, with an identity that the box makes itself; 6514 by custom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<u16>,
}

/// What is done about alerts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Response {
    /// `observe` (default), `suggest`, `autonomous`.
    pub mode: Mode,
    /// How long a source is blocked, in seconds.
    pub block_s: u64,
    /// Addresses that are never blocked.
    pub administrators: Vec<IpAddr>,
}

impl Default for Response {
    fn default() -> Self {
        Self { mode: Mode::Observe, block_s: 600, administrators: Vec::new() }
    }
}

impl Site {
    /// Parses and checks a whole file.
    ///
    /// # Errors
    /// Any [`SiteError`]; nothing of the file is used then.
    pub fn parse(bytes: &[u8]) -> Result<Self, SiteError> {
        if bytes.len() > SITE_BYTES_MAX {
            return Err(SiteError::TooLong { got: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SiteError::NotText)?;
        let site: Self = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(1, |before| before.matches('\n').count() + 1);
            SiteError::Syntax {
                why: format!("line {line}: {}", crate::text::escape(error.message(), 200)),
            }
        })?;
        site.check()?;
        Ok(site)
    }

    fn check(&self) -> Result<(), SiteError> {
        let value = |key: &str, got: String, expected: &str| {
            Err(SiteError::Value { key: key.into(), got, expected: expected.into() })
        };
        let name = &self.node.name;
        let plain = |text: &str, bytes_max: usize| {
            text.len() <= bytes_max
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if !plain(name, 32) {
            return value("node.name", format!("{name:?}"), "at most 32 letters, digits, - _ .");
        }
        if self.interface.len() > INTERFACES_MAX {
            return value("interface", format!("{} entries", self.interface.len()), "at most 16");
        }
        for interface in &self.interface {
            if interface.name.is_empty() || !plain(&interface.name, 15) {
                return value(
                    "interface.name",
                    format!("{:?}", interface.name),
                    "a kernel name such as eth0",
                );
            }
            interface.addressing()?;
        }
        self.check_detection()?;
        if !(1..=BLOCK_S_MAX).contains(&self.response.block_s) {
            return value(
                "response.block_s",
                self.response.block_s.to_string(),
                "1 to 86400 seconds",
            );
        }
        if self.response.administrators.len() > ADMINISTRATORS_MAX {
            return value(
                "response.administrators",
                format!("{} entries", self.response.administrators.len()),
                "at most 64",
            );
        }
        Ok(())
    }

    fn check_detection(&self) -> Result<(), SiteError> {
        let value = |key: &str, got: String, expected: &str| {
            Err(SiteError::Value { key: key.into(), got, expected: expected.into() })
        };
        let Detection { home, name_keys, syslog: _ } = &self.detection;
        if home.len() > HOME_MAX {
            return value("detection.home", format!("{} entries", home.len()), "at most 64");
        }
        if let Some(wrong) = home.iter().find(|text| !is_network(text)) {
            return value("detection.home", format!("{wrong:?}"), "networks such as 10.20.0.0/24");
        }
        if name_keys.len() > NAME_KEYS_MAX {
            let got = format!("{} entries", name_keys.len());
            return value("detection.name_keys", got, "at most 8");
        }
        let is_key =
            |text: &String| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match name_keys.iter().find(|text| !is_key(text)) {
            Some(wrong) => value(
                "detection.name_keys",
                format!("{wrong:?}"),
                "64 hexadecimal digits, as the publisher of the list names its key",
            ),
            None => Ok(()),
        }
    }

    /// The text that [`Self::parse`] reads back to the same value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Plain structs of strings and numbers always serialise.
        toml::to_string(self).unwrap_or_default()
    }
}

/// An address, a slash, and a prefix length that it can have.
fn is_network(text: &str) -> bool {
    let parts = text.split_once('/').and_then(|(address, prefix)| {
        Some((address.parse::<IpAddr>().ok()?, prefix.parse::<u8>().ok()?))
    });
    parts.is_some_and(|(address, prefix)| prefix <= if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_the_safe_default() {
        let site = Site::parse(b"").unwrap();
        assert_eq!(site.response.mode, Mode::Observe);
        assert!(site.interface.is_empty());
    }

    #[test]
    fn round_trip() {
        let text = br#"
            [node]
            name = "hp-lab"
            resolvers = ["10.20.0.1"]
            [[interface]]
            name = "eth0"
            role = "uplink"
            address = "dhcp"
            [[interface]]
            name = "eth1"
            role = "lan"
            address = "10.20.0.2/24"
            gateway = "10.20.0.1"
            [detection]
            home = ["10.20.0.0/24", "fd00::/8"]
            name_keys = ["0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]
            [detection.syslog]
            udp = 514
            tls = 6514
            [response]
            mode = "autonomous"
            block_s = 60
            administrators = ["10.20.0.9"]
        "#;
        let site = Site::parse(text).unwrap();
        assert_eq!(Site::parse(site.to_toml().as_bytes()).unwrap(), site);
    }

    #[test]
    fn errors_name_the_line_or_the_key() {
        let check = |text: &str, expect: &str| {
            let got = Site::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(got.contains(expect), "{got}");
        };
        check("[node]\nnam = \"x\"\n", "line 2");
        check("[node]\nname = \"a b\"\n", "node.name");
        check("[response]\nmode = \"kill\"\n", "line 2");
        check("[response]\nblock_s = 0\n", "block_s");
        check("[detection]\nhome = [\"10.0.0.0\"]\n", "detection.home");
        check("[detection]\nhome = [\"10.0.0.0/33\"]\n", "detection.home");
        check("[detection]\nname_keys = [\"00\"]\n", "detection.name_keys");
        check("[detection.syslog]\nudp = 70000\n", "line 2");
        check("[[interface]]\nname=\"eth0\"\nrole=\"lan\"\naddress=\"10.0.0.1\"\n", "address");
        check("[[interface]]\nname=\"eth0\"\nrole=\"lan\"\naddress=\"10.0.0.1/33\"\n", "address");
        assert_eq!(Site::parse(&[0xff]).unwrap_err(), SiteError::NotText);
        assert_eq!(Site::parse(&vec![b' '; SITE_BYTES_MAX + 1]).unwrap_err().code(), "HP-CF-001");
    }
}
