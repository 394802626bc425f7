//! Settings of the traffic engine by suricata.yaml.

use hookprobe_traffic::{
    app::{Personality, Proto},
    config::{self as traffic, Urgent},
};

use super::ExceptionPolicy;
use crate::{number::integer, yaml::Node};

/// libhtp's personality by its name. Without one Suricata leaves URIs nearly as they are, whatever the
/// configuration says that it ships.
fn personality(name: Option<&str>) -> Personality {
    match name.map(str::to_ascii_uppercase).as_deref() {
        Some("IDS") => Personality::Ids,
        Some("APACHE" | "APACHE_2" | "APACHE_2_2") => Personality::Apache2,
        Some("IIS_6_0" | "IIS_7_0" | "IIS_7_5") => Personality::Iis,
        // An older one knows no `%u`.
        Some("GENERIC" | "IIS_5_1") => Personality::Generic,
        // libhtp does not have the oldest, and keeps to what it begins with.
        _ => Personality::Minimal,
    }
}

/// Settings of the traffic engine by suricata.yaml. `is_ips`: packets are inspected inline.
#[must_use]
pub fn traffic(node: &Node, is_ips: bool) -> traffic::Config {
    let mut config = traffic::Config::default();
    let text = |path: &str| node.path(path).and_then(Node::text);
    let switch = |path: &str| node.path(path).and_then(Node::switch);
    let number = |path: &str| text(path).and_then(integer);
    let small = |path: &str| number(path).and_then(|value| u32::try_from(value).ok());
    let stream = &mut config.stream;
    // A policy that forbids such flows leaves nothing to follow.
    let midstream = ExceptionPolicy::midstream(node, is_ips);
    let is_allowed = matches!(midstream, ExceptionPolicy::Ignore | ExceptionPolicy::PassFlow);
    stream.is_midstream = switch("stream.midstream").unwrap_or(false) && is_allowed;
    stream.is_invalid_dropped = switch("stream.drop-invalid").unwrap_or(true);
    stream.urgent = match text("stream.reassembly.urgent.policy") {
        Some("inline") => Urgent::Inline,
        Some("drop") => Urgent::Drop,
        Some("gap") => Urgent::Gap,
        _ => Urgent::OutOfBand,
    };
    stream.is_async_oneside = switch("stream.async-oneside").unwrap_or(false);
    stream.is_checksum_validated = switch("stream.checksum-validation").unwrap_or(true);
    stream.is_inline = match text("stream.inline") {
        None | Some("auto") => is_ips,
        Some(_) => switch("stream.inline").unwrap_or(is_ips),
    };
    if let Some(depth) = small("stream.reassembly.depth") {
        stream.depth_bytes = depth;
    }
    if let Some(bytes) = small("stream.reassembly.toserver-chunk-size") {
        stream.raw_toserver_bytes_min = bytes;
    }
    if let Some(bytes) = small("stream.reassembly.toclient-chunk-size") {
        stream.raw_toclient_bytes_min = bytes;
    }
    leave_to_others(&mut config);
    tunnels(node, &mut config.decode);
    if switch("decoder.vxlan.enabled") == Some(false) {
        config.decode.vxlan_ports.clear();
    }
    if switch("decoder.geneve.enabled") == Some(false) {
        config.decode.geneve_ports.clear();
    }
    if switch("vlan.use-for-tracking") == Some(false) {
        config.flow.is_vlan_used = false;
    }
    flow_timeouts(node, &mut config.flow);
    let app = &mut config.app;
    let ports = |path: &str| node.path(path).and_then(|node| node.get("dp")).map(port_list);
    let dns = "app-layer.protocols.dns";
    let own = ports(&format!("{dns}.detection-ports"));
    let by_carrier = ["udp", "tcp"].map(|name| ports(&format!("{dns}.{name}.detection-ports")));
    if let Some(ports) = own.or_else(|| by_carrier.into_iter().flatten().next()) {
        app.dns_ports = ports;
    }
    app.are_files_hashed = are_files_hashed(node);
    let htp = "app-layer.protocols.http.libhtp.default-config";
    app.http_personality = personality(text(&format!("{htp}.personality")));
    if node.path(htp).is_none() {
        // What Suricata does when its configuration says nothing of HTTP.
        app.request_body_bytes_max = 4096;
        app.response_body_bytes_max = 4096;
        app.response_inspect_bytes_min = 32_768;
        app.response_inspect_window_bytes = 4096;
    }
    if let Some(bytes) = number(&format!("{htp}.request-body-limit")) {
        app.request_body_bytes_max = bytes;
    }
    if let Some(bytes) = number(&format!("{htp}.response-body-limit")) {
        app.response_body_bytes_max = bytes;
    }
    for (slot, path) in [
        (&mut app.request_inspect_bytes_min, "request-body-minimal-inspect-size"),
        (&mut app.request_inspect_window_bytes, "request-body-inspect-window"),
        (&mut app.response_inspect_bytes_min, "response-body-minimal-inspect-size"),
        (&mut app.response_inspect_window_bytes, "response-body-inspect-window"),
        (&mut app.http_layers_max, "response-body-decompress-layer-limit"),
        (&mut app.http_lzma_bytes_max, "lzma-memlimit"),
        (&mut app.http_bomb_bytes_min, "compression-bomb-limit"),
    ] {
        if let Some(bytes) = small(&format!("{htp}.{path}")) {
            *slot = bytes;
        }
    }
    let lzma = format!("{htp}.lzma-enabled");
    // None and `no` are no limit.
    let layers = small(&lzma).or(switch(&lzma).map(u32::from)).filter(|layers| *layers > 0);
    app.http_lzma_layers_max = layers.unwrap_or(app.http_lzma_layers_max);
    for (slot, path) in [
        (&mut app.is_path_decoded_twice, "double-decode-path"),
        (&mut app.is_query_decoded_twice, "double-decode-query"),
    ] {
        if let Some(is_on) = switch(&format!("{htp}.{path}")) {
            *slot = is_on;
        }
    }
    for (name, settings) in node.path("app-layer.protocols").map(Node::entries).unwrap_or_default()
    {
        if settings.get("enabled").and_then(Node::switch) == Some(false)
            && let Some(proto) = Proto::from_name(name)
        {
            app.disabled.push(proto);
        }
    }
    for (name, networks) in node.get("host-os-policy").map(Node::entries).unwrap_or_default() {
        let Some(policy) = traffic::Policy::from_name(name) else { continue };
        for network in networks.items().iter().filter_map(Node::text) {
            if let Some(network) = self::network(network) {
                config.host_os.push((network, policy));
            }
        }
    }
    config
}

/// What Suricata does not take apart: rules that were tried with it would see packets and protocols
/// that are not there for it.
fn leave_to_others(config: &mut traffic::Config) {
    config.decode.gtp_ports.clear();
    (config.decode.gre_port, config.decode.ayiya_port) = (0, 0);
    config.decode.is_llc_on = false;
    config.app.disabled.extend([Proto::Socks, Proto::Xmpp]);
}

/// Files that are stored are named by a digest; their log can ask for digests, too.
fn are_files_hashed(node: &Node) -> bool {
    let Some(outputs) = node.get("outputs") else { return false };
    let is_stored = outputs.path("file-store.enabled").and_then(Node::switch) == Some(true);
    is_stored
        || outputs.path("file-store.force-hash").is_some()
        || outputs.path("eve-log.types.files.force-hash").is_some()
}

/// What may be behind which port.
fn tunnels(node: &Node, decode: &mut traffic::Decode) {
    let ports = |name: &str| {
        let ports = node.path(&format!("decoder.{name}.ports"))?;
        let variable = ports.text().and_then(|text| text.trim().strip_prefix('$'));
        let ports = match variable {
            Some(variable) => node.path(&format!("vars.port-groups.{variable}"))?,
            None => ports,
        };
        let list = port_list(ports);
        let is_any = ports.text().is_some_and(|text| text.trim() == "any");
        // A range or a negation that is not read is no reason to look nowhere.
        (is_any || !list.is_empty()).then_some(list)
    };
    for (slot, name) in [(&mut decode.vxlan_ports, "vxlan"), (&mut decode.geneve_ports, "geneve")] {
        if let Some(list) = ports(name).filter(|list| !list.is_empty()) {
            *slot = list;
        }
    }
    // Behind any, where nothing is said.
    decode.teredo_ports = ports("teredo").unwrap_or_default();
    if node.path("decoder.teredo.enabled").and_then(Node::switch) == Some(false) {
        decode.is_teredo_on = false;
    }
}

/// `53, 5353` or a list of such.
fn port_list(node: &Node) -> Vec<u16> {
    let one = |text: &str| -> Vec<u16> {
        let text = text.trim_matches(|letter| matches!(letter, '[' | ']'));
        text.split(',').filter_map(|port| port.trim().parse().ok()).collect()
    };
    match node.text() {
        Some(text) => one(text),
        None => node.items().iter().filter_map(Node::text).flat_map(one).collect(),
    }
}

/// `flow-timeouts`; where nothing is said, what is built into Suricata.
fn flow_timeouts(node: &Node, flow: &mut traffic::Flow) {
    let seconds = |path: String| node.path(&path).and_then(Node::text).and_then(integer);
    for (name, timeouts, defaults) in [
        ("tcp", &mut flow.tcp, [30, 300, 10]),
        ("udp", &mut flow.udp, [30, 300, 0]),
        ("icmp", &mut flow.icmp, [30, 300, 0]),
        ("default", &mut flow.other, [30, 300, 0]),
    ] {
        let slots = [&mut timeouts.new_ns, &mut timeouts.established_ns, &mut timeouts.closed_ns];
        for ((slot, state), default) in
            slots.into_iter().zip(["new", "established", "closed"]).zip(defaults)
        {
            let own = seconds(format!("flow-timeouts.{name}.{state}")).unwrap_or(default);
            *slot = own.saturating_mul(1_000_000_000);
        }
    }
}

fn network(text: &str) -> Option<traffic::Network> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: std::net::IpAddr = address.trim().parse().ok()?;
    let prefix_bits = bits.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    Some(traffic::Network { address, prefix_bits })
}
