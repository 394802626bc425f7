//! `dhcp.log`: the messages of one exchange on one line, joined by their transaction id.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
};

use hookprobe_traffic::app::dhcp::Tx;

use super::{
    Ident,
    files::{Files, Kind},
    log::Value,
};

/// Exchanges that are open at a time; the oldest makes room. 1024: a network of that many clients
/// that all start within seconds.
const OPEN_MAX: usize = 1024;
/// How long an exchange may be silent until it is over.
const QUIET_NS: u64 = 5_000_000_000;
/// How long it may last.
const WHOLE_NS: u64 = 30_000_000_000;
/// Connections and messages on one line, Zeek's limits.
const UIDS_MAX: usize = 10;
const MESSAGES_MAX: usize = 50;
/// Hardware type of Ethernet in a client identifier.
const ETHERNET: u8 = 1;

/// Exchanges that are not over.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    open: VecDeque<Exchange>,
}

#[derive(Debug, Default)]
struct Exchange {
    id: u32,
    first_ns: u64,
    last_ns: u64,
    uids: Vec<String>,
    client: Option<IpAddr>,
    server: Option<IpAddr>,
    mac: Option<String>,
    client_mac: Option<String>,
    host_name: Option<Vec<u8>>,
    client_fqdn: Option<Vec<u8>>,
    domain: Option<Vec<u8>>,
    requested: Option<Ipv4Addr>,
    assigned: Option<Ipv4Addr>,
    lease_s: Option<u32>,
    client_message: Option<Vec<u8>>,
    server_message: Option<Vec<u8>>,
    kinds: Vec<String>,
}

impl Exchanges {
    /// Takes one message.
    pub(super) fn message(
        &mut self,
        ident: &Ident,
        is_from_orig: bool,
        tx: &Tx,
        files: &mut Files,
    ) {
        self.expire(tx.at_ns, files);
        let id = tx.message.xid;
        let full = |exchange: &Exchange| {
            exchange.kinds.len() >= MESSAGES_MAX
                || exchange.uids.len() >= UIDS_MAX && !exchange.uids.contains(&ident.uid)
        };
        if let Some(place) = self.open.iter().position(|one| one.id == id && full(one))
            && let Some(exchange) = self.open.remove(place)
        {
            exchange.write(files);
        }
        if !self.open.iter().any(|exchange| exchange.id == id) {
            if self.open.len() >= OPEN_MAX
                && let Some(oldest) = self.open.pop_front()
            {
                oldest.write(files);
            }
            self.open.push_back(Exchange { id, first_ns: tx.at_ns, ..Exchange::default() });
        }
        if let Some(exchange) = self.open.iter_mut().find(|exchange| exchange.id == id) {
            exchange.take(ident, is_from_orig, tx);
        }
    }

    /// Writes what is over at `now_ns`.
    pub(super) fn expire(&mut self, now_ns: u64, files: &mut Files) {
        let is_over = |exchange: &Exchange| {
            now_ns > exchange.last_ns.saturating_add(QUIET_NS)
                || now_ns > exchange.first_ns.saturating_add(WHOLE_NS)
        };
        while self.open.front().is_some_and(is_over) {
            if let Some(exchange) = self.open.pop_front() {
                exchange.write(files);
            }
        }
    }

    /// Writes everything.
    pub(super) fn end(&mut self, files: &mut Files) {
        for exchange in self.open.drain(..) {
            exchange.write(files);
        }
    }
}

impl Exchange {
    fn take(&mut self, ident: &Ident, is_from_orig: bool, tx: &Tx) {
        let message = &tx.message;
        self.last_ns = self.last_ns.max(tx.at_ns);
        if !self.uids.contains(&ident.uid) {
            self.uids.push(ident.uid.clone());
        }
        let kind = message.kind_name().unwrap_or("unknown").to_ascii_uppercase();
        self.kinds.push(kind);
        let mac = Some(hex(&message.client_mac)).filter(|mac| !mac.is_empty());
        let is_client = is_from_orig
            && (ident.orig_h.is_unspecified() || ident.orig_p == 68 || ident.resp_p == 67);
        let text = |code: u8| message.option(code).map(<[u8]>::to_vec);
        if is_client {
            if !ident.orig_h.is_unspecified() {
                self.client = Some(ident.orig_h);
            }
            self.host_name = text(12).or_else(|| self.host_name.take());
            // Flags and two result codes stand before the name (RFC 4702).
            let fqdn = message.option(81).and_then(|option| option.get(3..)).map(<[u8]>::to_vec);
            self.client_fqdn = fqdn.or_else(|| self.client_fqdn.take());
            self.client_message = text(56).or_else(|| self.client_message.take());
            match message.option(61) {
                Some([ETHERNET, address @ ..]) => self.mac = Some(hex(address)),
                Some(_) | None => self.client_mac = mac,
            }
            let requested = message.address(50).map(Ipv4Addr::from);
            self.requested = requested.or(self.requested);
            return;
        }
        let assigned = Ipv4Addr::from(message.assigned_ip);
        if !assigned.is_unspecified() {
            self.server = Some(if is_from_orig { ident.orig_h } else { ident.resp_h });
            self.assigned = Some(assigned);
        }
        self.server_message = text(56).or_else(|| self.server_message.take());
        self.mac = self.mac.take().or(mac);
        self.client = self.client.or(self.assigned.map(IpAddr::V4));
        self.domain = text(15).or_else(|| self.domain.take());
        self.lease_s = message.seconds(51).or(self.lease_s);
    }

    fn write(&self, files: &mut Files) {
        let uids: Vec<Value<'_>> = self.uids.iter().map(|uid| Value::word(uid)).collect();
        let kinds: Vec<Value<'_>> = self.kinds.iter().map(|kind| Value::word(kind)).collect();
        let addr = |ip: Option<IpAddr>| ip.map_or(Value::Unset, Value::Addr);
        let mac = self.mac.as_ref().or(self.client_mac.as_ref());
        let lease = self.lease_s.map(|seconds| u64::from(seconds) * 1_000_000_000);
        let duration_ns = self.last_ns.saturating_sub(self.first_ns);
        files.row(
            Kind::Dhcp,
            self.first_ns,
            &[
                Value::Time(self.first_ns),
                Value::List(&uids),
                addr(self.client),
                addr(self.server),
                Value::maybe(mac.map(|mac| mac.as_bytes())),
                Value::maybe(self.host_name.as_deref()),
                Value::maybe(self.client_fqdn.as_deref()),
                Value::maybe(self.domain.as_deref()),
                addr(self.requested.map(IpAddr::V4)),
                addr(self.assigned.map(IpAddr::V4)),
                lease.map_or(Value::Unset, Value::Interval),
                Value::maybe(self.client_message.as_deref()),
                Value::maybe(self.server_message.as_deref()),
                Value::List(&kinds),
                Value::Interval(duration_ns),
            ],
        );
    }
}

fn hex(bytes: &[u8]) -> String {
    crate::outputs::eve::text::hex(bytes, ":")
}
