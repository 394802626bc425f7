//! The syslog listener beside the loop, where the site wants one.

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::Path,
};

use hookprobe_wire::site::Site;
use tracing::{info, warn};

use super::identity::Identity;
use crate::{
    clock::real_ns,
    syslog::{Listener, Options, queue::Queue},
};

/// Takes the ports that the site wants; none, or when they can't be had. Without an identity (`state` keeps
/// it) there is no TLS, and the others go on.
pub async fn bind(site: &Site, state: &Path) -> Option<Listener> {
    let ports = site.detection.syslog;
    // Both families: an IPv4 sender comes as a mapped address, which the intake makes plain.
    let every = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let mut options = Options { udp: ports.udp.map(every), tcp: ports.tcp.map(every), tls: None };
    if let Some(port) = ports.tls {
        // A box that was not given a name has one that only PID 1 knows.
        let name = if site.node.name.is_empty() { "hookprobe" } else { &site.node.name };
        match Identity::of_the_box(state, name) {
            Ok(own) => {
                info!(port, fingerprint = own.fingerprint, "syslog over TLS; senders pin this");
                options.tls = Some((every(port), own.server));
            }
            Err(error) => warn!("{}", crate::causes(&error)),
        }
    }
    if options.udp.is_none() && options.tcp.is_none() && options.tls.is_none() {
        return None;
    }
    match Listener::bind(&options).await {
        Ok(listener) => {
            info!(udp = ports.udp, tcp = ports.tcp, tls = ports.tls, "listening for syslog");
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
