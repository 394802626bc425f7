//! Observations for the tests of the detectors.

use crate::observation::{Connection, Protocol, Service, State, Volume};

/// A TCP connection at time 0 that nobody answered.
pub(crate) fn connection<'a>(source: &str, destination: &str, port: u16) -> Connection<'a> {
    let parse = |text: &str| text.parse().expect("an address");
    Connection {
        source: parse(source),
        destination: parse(destination),
        source_port: 40_000,
        destination_port: port,
        protocol: Protocol::Tcp,
        first_ns: 0,
        last_ns: 0,
        state: State::S0,
        service: Service::Unknown,
        sent: Volume { packets: 1, payload_bytes: 0, ip_bytes: 60 },
        received: Volume::default(),
        sent_bytes_new: 0,
        received_bytes_new: 0,
        source_mac: None,
        server_name: None,
    }
}
