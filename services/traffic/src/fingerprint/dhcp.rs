//! DHCP fingerprint: what a client asks for, in its order, and what it says it is.

use crate::app::dhcp::Message;
use std::fmt::Write as _;

/// Parts of the fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DhcpFingerprint {
    /// Option 55 in decimal with commas: `1,3,6,15,119,252`.
    pub parameters: String,
    /// Order of all options sent, in decimal with commas.
    pub options: String,
    /// Option 60, printable bytes.
    pub vendor_class: String,
}

/// Of a client's message; `None` for a server's and for one without option 55.
#[must_use]
pub fn dhcp(message: &Message) -> Option<DhcpFingerprint> {
    if message.op != 1 {
        return None;
    }
    let vendor = message.vendor_class().unwrap_or_default();
    Some(DhcpFingerprint {
        parameters: decimals(message.parameters()?.iter().copied()),
        options: decimals(message.options.iter().map(|(code, _)| *code)),
        vendor_class: vendor
            .iter()
            .filter(|byte| byte.is_ascii_graphic() || **byte == b' ')
            .map(|byte| char::from(*byte))
            .collect(),
    })
}

fn decimals(values: impl Iterator<Item = u8>) -> String {
    let mut text = String::new();
    for (index, value) in values.enumerate() {
        let _ = write!(text, "{}{value}", if index == 0 { "" } else { "," });
    }
    text
}
