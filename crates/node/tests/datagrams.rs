//! Two nodes in one process: they find each other, and other protocols' datagrams go between them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

use model::NodeId;
use node::Setup;
use node::cluster::{Founding, Places, init};
use node::config::Config;
use node::counts::Counts;
use node::discovery::{DATAGRAM_BYTES_MAX, Discovery};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A node of the cluster whose authority and key are in `first`.
fn node(base: &Path, first: &Path, number: u16) -> (Discovery, Arc<Counts>) {
    let directory = base.join(format!("n{number}"));
    let id = NodeId::new(number).unwrap();
    let founding =
        Founding { cluster: "pair".to_owned(), id, name: format!("n{number}"), listen: free_address() };
    init(&Places::below(&directory), &founding).unwrap();
    if directory != first {
        let authority = net::Authority::from_pem(
            &std::fs::read_to_string(first.join("ca.pem")).unwrap(),
            &std::fs::read_to_string(first.join("ca.key")).unwrap(),
        )
        .unwrap();
        let issued = authority.issue(id, "x").unwrap();
        std::fs::write(directory.join("node.pem"), issued.cert_pem).unwrap();
        std::fs::write(directory.join("node.key"), issued.key_pem).unwrap();
        for file in ["ca.pem", "cluster.key"] {
            std::fs::copy(first.join(file), directory.join(file)).unwrap();
        }
    }
    let config = directory.join("omd.toml");
    let mut setup = Setup::load(&config).unwrap();
    setup.config.cluster.beacon_seconds = 1;
    // Other tests of this machine may be in the usual group.
    setup.config.cluster.multicast_v4 = "239.192.46.61".parse().unwrap();
    assert_eq!(Config::load(&config).unwrap().peers, []);
    let counts = Arc::new(Counts::default());
    let (discovery, _) = Discovery::new(&setup, counts.clone()).unwrap();
    discovery.begin();
    (discovery, counts)
}

fn await_that(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn two_nodes_find_each_other_and_talk_over_channels() {
    let base = tempfile::tempdir().unwrap();
    let first = base.path().join("n1");
    let (one, counts) = node(base.path(), &first, 1);
    let (two, _) = node(base.path(), &first, 2);
    let (one_id, two_id) = (NodeId::new(1).unwrap(), NodeId::new(2).unwrap());
    await_that("they find each other", || one.view().len() == 1 && two.view().len() == 1);
    assert_eq!(one.view()[0].id, two_id);

    let (from_one, from_two) = (one.datagrams(), two.datagrams());
    let heard = from_one.register(7).unwrap();
    assert!(from_one.register(7).is_err(), "a channel has one receiver");
    assert!(from_one.register(0).is_err(), "membership's own channel is taken");
    let largest = vec![9; DATAGRAM_BYTES_MAX];
    from_two.send(one_id, 7, b"small").unwrap();
    from_two.send(one_id, 7, &largest).unwrap();
    let first = heard.recv_timeout(LIMIT).unwrap();
    assert_eq!((first.from, &first.payload[..]), (two_id, &b"small"[..]));
    assert_eq!(heard.recv_timeout(LIMIT).unwrap().payload, largest);
    assert!(from_two.send(one_id, 7, &vec![9; DATAGRAM_BYTES_MAX + 1]).is_err());
    assert!(from_two.send(NodeId::new(9).unwrap(), 7, b"x").is_err(), "nobody knows node 9");

    // Nobody listens any more.
    drop(heard);
    from_two.send(one_id, 8, b"x").unwrap();
    await_that("it is counted", || counts.datagrams_unwanted.get() > 0);
    assert!(from_one.register(9).is_ok());
}
