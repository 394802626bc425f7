//! Who is behind a proxy: the address in `X-Forwarded-For` in an alert, or in place of the proxy's.

use std::net::IpAddr;

use crate::outputs::json::{Value, json};
use hookprobe_traffic::{Direction, app::TxRef};

use super::{alert::Place, base};

/// `xff` of suricata.yaml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xff {
    /// The proxy's address is replaced; in either case the other one stands beside it.
    pub is_overwritten: bool,
    /// A forward proxy: the first address of the list is the client's. Else the last one.
    pub is_forward: bool,
    /// The header.
    pub header: String,
}

impl Xff {
    /// Puts the address into `alert`, if the request at `place` has one.
    pub fn put(&self, alert: &mut Value, place: &Place<'_, '_>) {
        let Some(address) = self.address(place) else { return };
        let address = base::address(address);
        if self.is_overwritten {
            let key = match place.direction {
                Direction::ToServer => "src_ip",
                Direction::ToClient => "dest_ip",
            };
            if let Some(object) = alert.as_object_mut() {
                object.insert(key.into(), json!(&address));
            }
        }
        if let Some(object) = alert.get_mut("alert").and_then(Value::as_object_mut) {
            object.insert("xff".into(), json!(address));
        }
    }

    fn address(&self, place: &Place<'_, '_>) -> Option<IpAddr> {
        let txs = place.flow?.app.txs();
        let mut own = txs.filter(|tx| place.tx_id.is_none_or(|id| tx.id() == id));
        own.find_map(|tx| match tx {
            TxRef::Http(tx) => self.client(tx.request.headers.get(&self.header)?),
            _ => None,
        })
    }

    fn client(&self, value: &[u8]) -> Option<IpAddr> {
        let text = std::str::from_utf8(value).ok()?;
        let mut list = text.split(',');
        let address = if self.is_forward { list.next() } else { list.next_back() };
        address?.trim().trim_matches(['[', ']']).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployment_decides_which_of_the_list() {
        let xff = |is_forward| Xff { is_overwritten: false, is_forward, header: String::new() };
        let list = b"192.0.2.1, 2001:db8::2";
        assert_eq!(xff(true).client(list), Some("192.0.2.1".parse().unwrap()));
        assert_eq!(xff(false).client(list), Some("2001:db8::2".parse().unwrap()));
        assert_eq!(xff(false).client(b"unknown"), None);
    }
}
