//! Connection logs that others made, and what others found in them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use std::{fs, net::IpAddr};

use hookprobe_behaviour::{
    Behaviour, Config, Finding, Networks, Observation, Weight,
    network::Prefix,
    observation::{Connection, State},
    peer::Peer,
};

/// All connections of a folder of logs, in the order in which they ended.
fn connections(folder: &str) -> Option<Vec<Connection<'static>>> {
    let folder = common::testdata(folder)?;
    let mut connections = Vec::new();
    for day in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if !day.is_dir() {
            continue;
        }
        for log in fs::read_dir(day).unwrap().map(|entry| entry.unwrap().path()) {
            if log.file_name().unwrap().to_str().unwrap().starts_with("conn.") {
                connections.extend(common::zeek::lines(&log).iter().map(common::zeek::connection));
            }
        }
    }
    connections.sort_by_key(|connection| connection.last_ns);
    Some(connections)
}

/// RITA finds 73.54.23.243 -> 64.225.56.201 in three days of a small server's traffic. Its test
/// counts the inbound direction, so it is judged here.
#[test]
fn ritas_beacon_has_ritas_score() {
    let Some(connections) = connections("behaviour/rita/missing_host") else {
        return;
    };
    let (source, server): (IpAddr, IpAddr) =
        ("73.54.23.243".parse().unwrap(), "64.225.56.201".parse().unwrap());
    let mut config = Config {
        networks: Networks::with([Prefix { address: server, length: 32 }]),
        ..Config::default()
    };
    config.beacon.is_inbound_judged = true;
    let mut behaviour = Behaviour::new(&config);
    let mut found = Vec::new();
    for connection in &connections {
        behaviour.handle(connection.last_ns, &Observation::Ended(*connection), &mut found);
    }
    let closed = behaviour.beacon(source, Peer::Ip(server)).unwrap();
    let score = closed.score.unwrap();
    println!("{score:?}");
    let is_ritas = (score.total - 0.963).abs() <= 0.01 && closed.connections == 331;
    common::rate("RITA: score of the beacon within 0.01, connections equal", is_ritas);
    assert_eq!(closed.connections, 331);
    assert!((score.total - 0.963).abs() <= 0.001, "{score:?}");
    assert!((closed.duration_s - 35.3).abs() < 0.1, "closed ones only: {}", closed.duration_s);

    // The rest of RITA's 270036.63 s is one SSH session that never closed. RITA reads it from
    // open_conn.log, which is not among the shared logs; its last line there says 270001.331436 s.
    let mut ssh = *connections.iter().find(|it| it.source == source).unwrap();
    (ssh.source_port, ssh.destination_port, ssh.state) = (56_394, 22, State::S1);
    ssh.first_ns = 1_713_470_872_451_585_000;
    ssh.last_ns = ssh.first_ns + 270_001_331_436_000;
    behaviour.handle(ssh.last_ns, &Observation::Continued(ssh), &mut found);
    let all = behaviour.beacon(source, Peer::Ip(server)).unwrap();
    assert!((all.duration_s - 270_036.63).abs() < 0.5, "{}", all.duration_s);
    assert_eq!((all.connections, all.score), (331, closed.score));

    behaviour.finish(&mut found);
    let beacons: Vec<&Finding> = found
        .iter()
        .filter(|finding| finding.detector == "beacon" && finding.source == source)
        .collect();
    assert!((1..=4).contains(&beacons.len()), "once a day at most: {beacons:#?}");
    assert!(beacons.iter().all(|finding| !finding.weight.may_block()));
}

#[test]
fn slips_horizontal_scan_is_one_incident() {
    let Some(log) = common::testdata("behaviour/slips/port-scans/horizontal/conn.log") else {
        return;
    };
    let mut behaviour = Behaviour::new(&Config::default());
    let mut found = Vec::new();
    for line in &common::zeek::lines(&log) {
        let connection = common::zeek::connection(line);
        behaviour.handle(connection.last_ns, &Observation::Ended(connection), &mut found);
    }
    behaviour.finish(&mut found);
    for finding in &found {
        println!("{finding}");
    }
    let scans: Vec<_> =
        found.iter().filter(|finding| finding.detector == "scan.horizontal").collect();
    common::rate("Behaviour, logs with an incident", scans.len() == 1);
    assert_eq!(scans.len(), 1, "{found:#?}");
    assert_eq!(scans[0].source, "10.0.2.112".parse::<IpAddr>().unwrap());
    assert!(scans[0].weight >= Weight::Suspicion);
}

#[test]
fn both_forms_of_a_log_read_the_same() {
    let folder = std::env::temp_dir().join(format!("hookprobe-zeek-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let tabs = "#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\
                \torig_bytes\tconn_state\n1.5\t10.0.0.1\t9\t192.0.2.1\t80\ttcp\t0.25\t7\tSF\n";
    let json = r#"{"ts":1.5,"id.orig_h":"10.0.0.1","id.orig_p":9,"id.resp_h":"192.0.2.1",
"id.resp_p":80,"proto":"tcp","duration":0.25,"orig_bytes":7,"conn_state":"SF"}"#;
    let read = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        common::zeek::connection(&common::zeek::lines(&path)[0])
    };
    let connection = read("tabs.log", tabs);
    assert_eq!(connection, read("json.log", &json.replace('\n', "")));
    assert_eq!((connection.first_ns, connection.last_ns), (1_500_000_000, 1_750_000_000));
    fs::remove_dir_all(&folder).unwrap();
}
