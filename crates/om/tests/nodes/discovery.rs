//! Nodes that find each other: by multicast on the loopback, at seeds, through another node.

use crate::world::{LIMIT, Node, bad, free_address, good, om};
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

/// Takes out what joining has written, and what the daemon remembers.
fn forget_peers(node: &Node) {
    let text = std::fs::read_to_string(node.config()).unwrap();
    let own = text.split("\n[[peer]]").next().unwrap();
    std::fs::write(node.config(), own).unwrap();
    let _ = std::fs::remove_file(node.directory.join("run/nodes.json"));
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
        let by_multicast = |row: &NodeRow| {
            row.found == NodeFound::Own
                || row.found == NodeFound::Multicast && row.address.starts_with("127.0.0.1:")
        };
        await_rows(node, "everybody is found", |rows| all_up(3)(rows) && rows.iter().all(by_multicast));
        println!("found after {:?}", began.elapsed());
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
    let mut back = Node::new(directory, free_address());
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
    // Of beta and gamma, one hears of the other from alpha; the other one is then spoken to.
    let (beta, gamma) = (rows(&nodes[1]), rows(&nodes[2]));
    assert_eq!((beta[0].found, gamma[0].found), (NodeFound::Seed, NodeFound::Seed), "{beta:#?} {gamma:#?}");
    let relayed = [beta[2].found, gamma[1].found].contains(&NodeFound::Relay);
    assert!(relayed, "{beta:#?} {gamma:#?}");
}

#[test]
fn a_new_key_is_in_use_everywhere_without_a_restart_and_fetched_by_who_was_away() {
    let base = tempfile::tempdir().unwrap();
    let mut nodes = cluster(base.path(), &["alpha", "beta", "gamma"], "");
    nodes.iter_mut().for_each(Node::start);
    for node in &nodes {
        await_rows(node, "everybody is found", all_up(3));
    }
    let key = |node: &Node| std::fs::read_to_string(node.directory.join("cluster.key")).unwrap();
    let generations = |node: &Node| {
        let text = key(node);
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = key(&nodes[0]);
    nodes[2].stop();
    await_rows(&nodes[1], "it is gone", |rows| rows[2].state == NodeState::Gone);
    let json: serde_json::Value =
        serde_json::from_str(&good(&mut nodes[1].om(&["key", "rotate", "--json"]))).unwrap();
    assert_eq!(
        (json["generation"].as_u64(), &json["told"], &json["missed"]),
        (Some(2), &[1].into(), &[3].into())
    );
    for node in &nodes[..2] {
        assert_eq!(generations(node), ["2", "1"]);
        let mode = node.directory.join("cluster.key").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(key(&nodes[2]), first);
    nodes[2].start();
    nodes[2].await_log(&["took in its cluster key", "generation=2"]);
    await_rows(&nodes[2], "with the new key everybody is there", all_up(3));
    await_rows(&nodes[0], "with the new key everybody is there", all_up(3));
    assert_eq!(key(&nodes[2]), key(&nodes[0]));
}

#[test]
fn two_clusters_and_a_stranger_in_one_network_do_not_mix() {
    let base = tempfile::tempdir().unwrap();
    let mut ours = cluster(base.path(), &["alpha", "beta"], "");
    let mut theirs = cluster(&base.path().join("other"), &["alpha", "delta"], "");
    ours.iter_mut().chain(&mut theirs).for_each(Node::start);
    await_rows(&ours[0], "only our own are found", all_up(2));
    await_rows(&theirs[0], "only their own are found", all_up(2));
    let line = ours[0].await_log(&["key that this node does not have"]);
    assert!(line.contains("another cluster") && line.contains("dropped"), "{line}");
    ours[0].await_count("datagrams_unknown_key", 3);
    assert_eq!(ours[0].counts()["datagrams_forged"], 0);

    // Somebody without a key: no word of his is answered, whatever he sends.
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    for bytes in [
        &b""[..],
        b"OM",
        &[0; 1400],
        &[255; 1500],
        b"OM\x01\0aaaaaaaabbccccccccddddddddeeeeeeeeeeeeffffffffffffffffff",
    ] {
        stranger.send_to(bytes, ours[0].address).unwrap();
    }
    ours[0].await_count("datagrams_foreign", 4);
    assert!(stranger.recv(&mut [0; 2000]).is_err());
    assert!(all_up(2)(&rows(&ours[0])));
    // A node that is refused is not let in, neither by datagrams nor otherwise.
    ours[0].stop();
    configure(&ours[0], "refuse = [2]");
    let text = std::fs::read_to_string(ours[0].config()).unwrap();
    std::fs::write(ours[0].config(), text.replacen("beacon_seconds = 1\n", "", 1)).unwrap();
    ours[0].start();
    ours[0].await_count("datagrams_refused", 2);
    assert_eq!(rows(&ours[0]).len(), 1);
}

#[test]
fn two_machines_with_one_id_are_named_and_the_elder_one_goes_on_alone() {
    let base = tempfile::tempdir().unwrap();
    let mut nodes = cluster(base.path(), &["alpha", "beta", "gamma"], "");
    // Somebody has copied a machine, and named the copy.
    let copy = base.path().join("copy");
    good(std::process::Command::new("cp").arg("-a").arg(&nodes[2].directory).arg(&copy));
    let mut copy = Node::new(copy, free_address());
    let from = |text: &str| text.replace("/gamma/", "/copy/").replace("\"gamma\"", "\"copy\"");
    let text = from(&std::fs::read_to_string(copy.config()).unwrap());
    let text = text.replace(&nodes[2].directory.display().to_string(), &copy.directory.display().to_string());
    std::fs::write(copy.config(), text.replace(&nodes[2].address.to_string(), &copy.address.to_string()))
        .unwrap();
    nodes.iter_mut().for_each(Node::start);
    await_rows(&nodes[0], "everybody is found", all_up(3));
    copy.start();
    for node in [&nodes[0], &nodes[1], &nodes[2], &copy] {
        let line = node.await_log(&["two machines have the id 3"]);
        assert!(line.contains("'copy' at") && line.contains("'gamma' at"), "{line}");
        assert!(line.find("'copy'") < line.find("'gamma'"), "the younger one is kept: {line}");
    }
    nodes[2].await_log(&["goes on alone"]);
    let rows =
        await_rows(&nodes[0], "the younger one is used", |rows| rows[2].address == copy.address.to_string());
    assert_eq!(rows.len(), 3);
    assert!(good(&mut nodes[2].om(&["ps"])).contains("no process"));
}

#[test]
fn who_leaves_is_shown_as_left_at_once_and_comes_back_when_it_is_started() {
    let base = tempfile::tempdir().unwrap();
    let mut nodes = cluster(base.path(), &["alpha", "beta"], "");
    nodes.iter_mut().for_each(Node::start);
    await_rows(&nodes[0], "everybody is found", all_up(2));
    let output = crate::world::run(&mut nodes[1].om(&["leave"]));
    assert!(output.status.success(), "{}", crate::world::text(&output));
    assert!(String::from_utf8(output.stderr).unwrap().contains("saying farewell"));
    assert!(nodes[1].await_end().success());
    let rows = rows(&nodes[0]);
    assert_eq!((rows[1].state, rows[1].alive), (NodeState::Left, false));
    assert!(good(&mut nodes[0].om(&["nodes"])).contains(" left "));
    nodes[1].start();
    await_rows(&nodes[0], "it is back", all_up(2));
}

#[test]
fn without_a_key_or_a_network_a_node_goes_on_alone_and_says_so_in_one_line() {
    let base = tempfile::tempdir().unwrap();
    let mut node = cluster(base.path(), &["alpha"], "").remove(0);
    std::fs::write(node.directory.join("cluster.key"), "nonsense\n").unwrap();
    node.start();
    assert!(node.await_log(&["cannot use the cluster key"]).contains("line 1"));
    node.await_log(&["no cluster key", "om key rotate"]);
    assert_eq!(rows(&node).len(), 1);
    // A new one begins at once.
    good(&mut node.om(&["key", "rotate"]));
    node.await_log(&["looking for other nodes", &node.address.to_string()]);
    node.stop();
    // Nowhere to keep its number.
    std::fs::remove_dir_all(node.directory.join("state")).unwrap();
    std::fs::write(node.directory.join("state"), "").unwrap();
    configure(&node, "interfaces = [\"none\"]");
    let text = std::fs::read_to_string(node.config()).unwrap();
    let text = text.replacen("beacon_seconds = 1\n", "", 1);
    let everywhere = format!("0.0.0.0:{}", node.address.port());
    std::fs::write(node.config(), text.replace(&node.address.to_string(), &everywhere)).unwrap();
    node.start();
    node.await_log(&["cannot keep this life's number"]);
    node.await_log(&["no network", "goes on alone"]);
    assert!(all_up(1)(&rows(&node)));
}

#[test]
fn nodes_find_each_other_by_ipv6_alone() {
    if UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let mut nodes = cluster(base.path(), &["alpha", "beta"], "");
    // The loopback carries no multicast by IPv6: the kernel gives it no route for it.
    let seed = format!("seeds = [\"[::1]:{}\"]", nodes[0].address.port());
    for node in &mut nodes {
        let text = std::fs::read_to_string(node.config()).unwrap();
        let listen = format!("[::1]:{}", node.address.port());
        let text = text.replace(&node.address.to_string(), &listen);
        std::fs::write(node.config(), text.replace("# seeds = []", &seed)).unwrap();
        node.start();
    }
    let rows = await_rows(&nodes[0], "everybody is found", all_up(2));
    assert!(rows[1].address.starts_with("[::1]:") && rows[1].found == NodeFound::Seed, "{rows:#?}");
}

#[test]
fn the_cluster_is_shown_as_a_map_and_a_map_is_taken_over() {
    let base = tempfile::tempdir().unwrap();
    let mut node = cluster(base.path(), &["alpha"], "").remove(0);
    node.start();
    assert!(good(&mut node.om(&["showmap"])).contains("My Node-Id: 0x0001"));
    let map = base.path().join("map");
    good(node.om(&["setpe", "-r", "-f"]).arg(&map));
    assert_eq!(std::fs::read_to_string(&map).unwrap(), "1 127.0.0.1 1\n");
    std::fs::write(&map, "1 10.0.0.1 3\n").unwrap();
    let setpe = base.path().join("setpe");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_om"), &setpe).unwrap();
    let take = || {
        let mut command = std::process::Command::new(&setpe);
        command.args(["-w", "-g", "1", "-p", "1", "-f"]).arg(&map).arg("--config").arg(node.config());
        command
    };
    assert!(good(&mut take()).contains("2 nodes of the map are new"));
    assert!(good(&mut take()).contains("0 nodes"));
    let listed = std::fs::read_to_string(node.config()).unwrap();
    assert!(listed.contains("10.0.0.2:4660") && listed.contains("10.0.0.3:4660"), "{listed}");
    assert!(
        bad(om().args(["setpe", "-w", "-p", "9", "-f"]).arg(&map).arg("--config").arg(node.config()), 2)
            .contains("not 9")
    );
    assert!(bad(om().args(["setpe", "-w", "-f", "/no/such/map"]), 4).contains("/no/such/map"));
    node.stop();
    node.start();
    assert_eq!(
        rows(&node).iter().map(|row| row.found).collect::<Vec<_>>(),
        [NodeFound::Own, NodeFound::Configured, NodeFound::Configured]
    );
}
