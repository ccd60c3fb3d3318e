//! Nodes that find each other: by multicast on the loopback, at seeds, through another node.

use crate::world::{LIMIT, Node, bad, good, om};
use control::{Answer, Event, NodeFound, NodeRow, NodeState, Request};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

/// Nodes of one cluster, none of them running and none of them in another's configuration.
fn cluster(base: &std::path::Path, names: &[&str], rules: &str) -> Vec<Node> {
    let mut nodes = vec![Node::found(base, names[0])];
    for name in &names[1..] {
        let node = nodes[0].joined_by(name);
        nodes.push(node);
    }
    for node in &mut nodes {
        node.stop();
        forget_peers(node);
        configure(node, rules);
    }
    nodes
}

/// Takes out what joining has written.
fn forget_peers(node: &Node) {
    let text = std::fs::read_to_string(node.config()).unwrap();
    let own = text.split("\n[[peer]]").next().unwrap();
    std::fs::write(node.config(), own).unwrap();
}

fn configure(node: &Node, rules: &str) {
    let text = std::fs::read_to_string(node.config()).unwrap();
    let text = text.replace("[cluster]\n", &format!("[cluster]\nbeacon_seconds = 1\n{rules}\n"));
    std::fs::write(node.config(), text).unwrap();
}

fn rows(node: &Node) -> Vec<NodeRow> {
    match node.ask(&Request::Nodes) {
        Event::Done { answer: Answer::Nodes { nodes } } => nodes,
        other => panic!("{other:?}"),
    }
}

/// Waits until a node's view of the cluster is as it should be.
fn await_rows(node: &Node, what: &str, good: impl Fn(&[NodeRow]) -> bool) -> Vec<NodeRow> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let rows = rows(node);
        if good(&rows) {
            return rows;
        }
        assert!(Instant::now() < deadline, "{what}: {rows:#?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn all_up(count: usize) -> impl Fn(&[NodeRow]) -> bool {
    move |rows| rows.len() == count && rows.iter().all(|row| row.alive && row.state == NodeState::Alive)
}

#[test]
fn nodes_find_each_other_by_multicast_with_nothing_configured() {
    let base = tempfile::tempdir().unwrap();
    let mut nodes = cluster(base.path(), &["alpha", "beta", "gamma"], "");
    let began = Instant::now();
    nodes.iter_mut().for_each(Node::start);
    for node in &nodes {
        let rows = await_rows(node, "everybody is found", all_up(3));
        println!("found after {:?}", began.elapsed());
        let others = rows.iter().filter(|row| row.found != NodeFound::Own);
        assert!(others.clone().all(|row| row.found == NodeFound::Multicast), "{rows:#?}");
        assert!(others.clone().all(|row| row.address.starts_with("127.0.0.1:")), "{rows:#?}");
        let table = good(&mut node.om(&["nodes"]));
        assert_eq!((table.matches(" up ").count(), table.matches("multicast").count()), (3, 2), "{table}");
        // A node that was found is as good as a listed one: it is found by its name, and asked for room.
        assert!(bad(&mut node.om(&["migrate", "1", "gamma"]), 3).contains("[init]"));
    }
    assert_eq!(nodes[0].counts()["datagrams_forged"], 0);

    // One dies, and comes back elsewhere.
    let gone = nodes.pop().unwrap();
    let directory = gone.directory.clone();
    drop(gone);
    await_rows(&nodes[0], "it is gone", |rows| rows.iter().any(|row| row.state == NodeState::Gone));
    let mut back = Node::new(directory, crate::world::free_address());
    let text = std::fs::read_to_string(back.config()).unwrap();
    let listen = text.lines().find(|line| line.starts_with("listen")).unwrap().to_owned();
    let text = text.replace(&listen, &format!("listen = \"{}\"", back.address));
    std::fs::write(back.config(), text).unwrap();
    back.start();
    let rows = await_rows(&nodes[1], "it is back", all_up(3));
    assert_eq!(rows[2].address, back.address.to_string());
}

#[test]
fn without_multicast_nodes_are_found_at_a_seed_and_through_it() {
    let base = tempfile::tempdir().unwrap();
    // Each listens to another group, so nobody hears anybody's beacons.
    let mut nodes = cluster(base.path(), &["alpha", "beta", "gamma"], "");
    let seed = nodes[0].address;
    for (number, node) in nodes.iter_mut().enumerate() {
        let seeds = if number == 0 { String::new() } else { format!("seeds = [\"{seed}\"]") };
        configure(node, &format!("multicast_v4 = \"239.192.99.{number}\"\n{seeds}"));
        let text = std::fs::read_to_string(node.config()).unwrap();
        std::fs::write(node.config(), text.replacen("beacon_seconds = 1\n", "", 1)).unwrap();
        node.start();
    }
    for node in &nodes {
        await_rows(node, "everybody is found", all_up(3));
    }
    let rows = rows(&nodes[2]);
    assert_eq!((rows[0].found, rows[1].found), (NodeFound::Seed, NodeFound::Relay), "{rows:#?}");
}
