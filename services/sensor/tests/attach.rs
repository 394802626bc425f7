//! The programs on interfaces that the test makes: what is sent is what is counted, natively,
//! generically and by TC.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can not go on has to fail there"
)]

mod support;

use std::{net::UdpSocket, process::Command};

use aya::programs::XdpMode;
use hookprobe_abi::Counter;
use hookprobe_sensor::live::{attach::Attachments, interfaces::Wanted};
use support::kernel::{Kernel, ip};

/// Two ends of a cable: one here, one in a namespace of its own. No packet that nobody sent.
struct Cable {
    id: u32,
}

impl Cable {
    fn new() -> Option<Self> {
        if Command::new("ip").arg("-V").output().is_err() {
            println!("skipped: ip is not installed");
            return None;
        }
        let cable = Self { id: std::process::id() };
        let (here, peer, space) = (cable.here(), cable.peer(), cable.space());
        sh(&format!(
            "ip netns add {space}
            ip link add {here} type veth peer name {peer} netns {space}
            echo 1 > /proc/sys/net/ipv6/conf/{here}/disable_ipv6
            ip netns exec {space} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/{peer}/disable_ipv6'
            ip link set {here} address 02:00:00:00:00:06
            ip -n {space} link set {peer} address 02:00:00:00:00:07
            ip addr add 10.213.7.1/30 dev {here}
            ip -n {space} addr add 10.213.7.2/30 dev {peer}
            ip link set {here} up; ip -n {space} link set {peer} up
            ip neigh add 10.213.7.2 lladdr 02:00:00:00:00:07 dev {here} nud permanent
            ip -n {space} neigh add 10.213.7.1 lladdr 02:00:00:00:00:06 dev {peer} nud permanent"
        ));
        Some(cable)
    }

    fn here(&self) -> String {
        format!("hpa{}", self.id)
    }

    fn peer(&self) -> String {
        format!("hpb{}", self.id)
    }

    fn space(&self) -> String {
        format!("hpx{}", self.id)
    }

    /// `count` datagrams from the other end.
    fn send(&self, count: u32) {
        sh(&format!(
            "ip netns exec {} bash -c 'exec 3>/dev/udp/10.213.7.1/9999
            for i in $(seq {count}); do echo x >&3; done'",
            self.space()
        ));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.here()]).status();
        let _ = Command::new("ip").args(["netns", "del", &self.space()]).status();
    }
}

fn sh(script: &str) {
    assert!(Command::new("bash").arg("-ec").arg(script).status().unwrap().success(), "{script}");
}

/// Sends, blocks, sends, answers; returns the mode that was obtained. A socket takes what is sent:
/// refusals would be counted too, as many as the kernel's limit of them leaves in that second.
fn counted(kernel: &mut Kernel, cable: &Cable) -> String {
    let socket = UdpSocket::bind("10.213.7.1:9999").unwrap();
    let mut attachments = Attachments::new(Wanted::Named(vec![cable.here()]));
    attachments.check(&mut kernel.object);
    let mode = attachments.interfaces()[0].xdp_mode.clone();
    let before = kernel.maps.counters().unwrap();
    let since =
        |kernel: &Kernel, counter: Counter| kernel.count(counter) - before[counter as usize];
    cable.send(100);
    assert_eq!(since(kernel, Counter::Packets), 100, "{mode}");
    assert_eq!(since(kernel, Counter::Ipv4), 100, "{mode}");
    // 2 bytes in UDP, IPv4 and Ethernet.
    assert_eq!(since(kernel, Counter::Bytes), 100 * 44, "{mode}");
    assert_eq!(since(kernel, Counter::EgressPackets), 0, "{mode}: nobody answered");
    kernel.block("10.213.7.2", 0);
    cable.send(50);
    assert_eq!(since(kernel, Counter::DroppedBlock), 50, "{mode}");
    assert_eq!(since(kernel, Counter::Packets), 150, "{mode}");
    kernel.maps.block.remove(&ip("10.213.7.2")).unwrap();
    for _ in 0..20 {
        socket.send_to(b"x\n", "10.213.7.2:9999").unwrap();
    }
    assert_eq!(since(kernel, Counter::EgressPackets), 20, "{mode}");
    mode
}

#[test]
fn packets_sent_are_packets_counted_in_every_mode() {
    let Some(mut kernel) = Kernel::new() else { return };
    let Some(cable) = Cable::new() else { return };
    assert_eq!(counted(&mut kernel, &cable), "native");

    // Another program sits in the driver's place: neither kind of XDP can be attached.
    let Some(mut other) = Kernel::new() else { return };
    let index: u32 = std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", cable.here()))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    drop(kernel);
    let Some(mut kernel) = Kernel::new() else { return };
    let program = other.object.ingress().unwrap();
    let link = program.attach_to_if_index(index, XdpMode::Driver).unwrap();
    assert_eq!(counted(&mut kernel, &cable), "tc");
    other.object.ingress().unwrap().detach(link).unwrap();
}
