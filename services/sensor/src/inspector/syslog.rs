//! The syslog listener beside the loop, where the site wants one.

use std::net::{Ipv6Addr, SocketAddr};

use hookprobe_wire::site::Syslog;
use tracing::{info, warn};

use crate::{
    clock::real_ns,
    syslog::{Listener, Options, queue::Queue},
};

/// Takes the ports that the site wants; none, or when they can't be had.
pub async fn bind(ports: Syslog) -> Option<Listener> {
    // Both families: an IPv4 sender comes as a mapped address, which the intake makes plain.
    let every = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let options = Options { udp: ports.udp.map(every), tcp: ports.tcp.map(every), tls: None };
    if options.udp.is_none() && options.tcp.is_none() {
        return None;
    }
    match Listener::bind(&options).await {
        Ok(listener) => {
            info!(udp = ports.udp, tcp = ports.tcp, "listening for syslog");
            Some(listener)
        }
        Err(error) => {
            warn!("{}", crate::causes(&error));
            None
        }
    }
}

/// Listens for ever, or waits for ever.
pub async fn run(listener: Option<Listener>, queue: Queue) {
    if let Some(listener) = listener {
        listener.run(queue, real_ns).await;
    }
    std::future::pending().await
}
