//! The syslog listener beside the loop, where the site wants one.

use std::net::{Ipv6Addr, SocketAddr};

use hookprobe_wire::site::Syslog;
use tracing::{info, warn};

use super::clock::real_ns;
use crate::syslog::{Listener, Options, queue::Queue};

/// Listens for ever; without a port, or when a port can't be had, waits for ever.
pub async fn run(ports: Syslog, queue: Queue) {
    // Both families: an IPv4 sender comes as a mapped address, which the intake makes plain.
    let every = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let options = Options { udp: ports.udp.map(every), tcp: ports.tcp.map(every), tls: None };
    if options.udp.is_some() || options.tcp.is_some() {
        match Listener::bind(&options).await {
            Ok(listener) => {
                info!(udp = ports.udp, tcp = ports.tcp, "listening for syslog");
                listener.run(queue, real_ns).await;
            }
            Err(error) => warn!("{}", crate::causes(&error)),
        }
    }
    std::future::pending().await
}
