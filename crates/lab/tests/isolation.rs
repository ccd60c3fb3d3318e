//! Nodes differ where machines differ, and reach each other only through the network.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod world;

use lab::{Lab, Rate};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use world::{ask, await_ready, inside, plays, spec, start};

const PORT: u16 = 4000;
/// Bytes that travel in the test of the rate: a second's worth.
const LOAD_BYTES: usize = 10_000_000;

#[test]
fn files_of_a_node_are_its_own() {
    let Some(lab) = world::lab("files", 2) else { return };
    let token = format!("lab-test-{}", std::process::id());
    for place in
        ["/tmp", "/run", "/home", "/root", "/var/tmp", "/dev/shm", "/var/lib/openmosix", "/etc", "/usr"]
    {
        ask(&lab, "n1", &format!("echo mine > {place}/{token}"));
        ask(&lab, "n2", &format!("test ! -e {place}/{token}"));
        assert!(!std::path::Path::new(place).join(&token).exists(), "{place}");
    }
    // The machine's own are hidden, its programs are not.
    ask(&lab, "n1", "test -z \"$(ls /root | grep -v lab-test)\" && test -x /bin/sh");
    let hosts = ask(&lab, "n1", "cat /etc/hosts /etc/hostname");
    assert!(hosts.contains("10.77.0.2 n2") && hosts.ends_with("n1"), "{hosts}");
}

#[test]
fn pids_of_a_node_are_its_own() {
    let Some(lab) = world::lab("pids", 2) else { return };
    let (mut child, _out) = start(&lab, "n1", "echo ready; exec sleep 1000");
    let seen = |node: &str| {
        ask(&lab, node, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").contains("sleep 1000")
    };
    assert!(seen("n1"));
    assert!(!seen("n2"));
    assert_eq!(ask(&lab, "n1", "cat /proc/1/comm"), "om-lab-init");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn orphans_are_collected_by_the_nodes_init() {
    let Some(lab) = world::lab("orphans", 1) else { return };
    ask(&lab, "n1", "(sleep 0.05 & sleep 0.05 &) ; true");
    world::until("the orphans are gone", || {
        let states = ask(&lab, "n1", "cat /proc/[0-9]*/stat 2>/dev/null; true");
        states.lines().all(|line| !line.contains("(sleep)"))
    });
}

#[test]
fn clocks_of_nodes_differ() {
    let Some(lab) = world::lab("clocks", 2) else { return };
    let uptime = |text: &str| text.split(' ').next().unwrap().parse::<f64>().unwrap();
    let here = uptime(&fs::read_to_string("/proc/uptime").unwrap());
    let [n1, n2] = ["n1", "n2"].map(|node| uptime(&ask(&lab, node, "cat /proc/uptime")));
    assert!((2999.0..3060.0).contains(&(n1 - here)), "{here} {n1}");
    assert!((2999.0..3060.0).contains(&(n2 - n1)), "{n1} {n2}");
    let output = inside(&lab, "n2", "tells_the_time").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let there =
        text.lines().find_map(|line| line.strip_prefix("monotonic ")).unwrap().parse::<i64>().unwrap();
    assert!((1999..2060).contains(&(there - monotonic())), "{there}");
}

fn monotonic() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec
}

#[test]
fn tells_the_time() {
    if plays("tells_the_time") {
        println!("\nmonotonic {}", monotonic());
    }
}

#[test]
fn takes_a_load() {
    if plays("takes_a_load") {
        let listener = TcpListener::bind(("0.0.0.0", PORT)).unwrap();
        println!("\nready");
        let (mut stream, peer) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), LOAD_BYTES);
        println!("from {}", peer.ip());
    }
}

#[test]
fn sends_a_load() {
    if plays("sends_a_load") {
        let mut stream = TcpStream::connect("10.77.0.2:4000").unwrap();
        stream.write_all(&vec![1; LOAD_BYTES]).unwrap();
    }
}

/// Sends the load from n1 to n2; the result is how long that took.
fn transfer(lab: &Lab) -> Duration {
    let (mut taker, mut out) = await_ready(inside(lab, "n2", "takes_a_load"));
    let start = Instant::now();
    assert!(inside(lab, "n1", "sends_a_load").output().unwrap().status.success());
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert!(taker.wait().unwrap().success());
    assert!(text.contains("from 10.77.0.1"), "{text}");
    start.elapsed()
}

#[test]
fn nodes_reach_each_other() {
    let Some(lab) = world::lab("net", 2) else { return };
    transfer(&lab);
}

#[test]
fn the_network_is_as_slow_as_asked() {
    let Some(mut spec) = spec("rate", 2) else { return };
    spec.rate = Some(Rate { bits: LOAD_BYTES as u64 * 8 });
    let lab = Lab::up(&spec).unwrap();
    let took = transfer(&lab);
    // The bucket's burst and the socket buffers make it a little faster at the start.
    assert!(took > Duration::from_millis(800), "{took:?}");
    if lab.exec("n1", ["tc", "-V"]).unwrap().status().is_ok_and(|status| status.success()) {
        let queues = ask(&lab, "n1", "tc qdisc show dev eth0");
        assert!(queues.contains("tbf") && queues.contains("rate 80Mbit"), "{queues}");
    }
}

#[test]
fn a_node_can_have_another_root() {
    let Some(mut spec) = spec("root", 1) else { return };
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("mark"), "below").unwrap();
    spec.root = root.path().to_owned();
    let lab = Lab::up(&spec).unwrap();
    // Nothing is in there but what a lab brings along; this program may need libraries, so ask from outside.
    let seen = |path| lab.state().nodes[0].seen_from_outside(path);
    assert_eq!(fs::read_to_string(seen("/mark")).unwrap(), "below");
    assert!(!seen("/usr").exists());
    assert!(seen("/proc/1/comm").exists());
    drop(lab);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}
