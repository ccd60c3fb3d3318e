//! Garbage, strangers and slow peers: dropped, counted, and the daemon still answers.

use crate::world::{self, LIMIT, Node, good};
use control::{Event, FailureKind, Request};
use model::limits::{CONTROL_LINE_BYTES_MAX, PEER_MESSAGE_BYTES_MAX};
use model::{NodeId, Session};
use net::{Authority, Channel, Identity, Preamble, Route};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use wire::peer::{KIND_PEER_ANSWER, KIND_PEER_REQUEST, PeerAnswer, PeerRequest};

pub(crate) fn still_answers(node: &Node) {
    assert_eq!(good(&mut node.om(&["nodes"])).matches(" up ").count(), 1);
}

/// Sends bytes to the TCP port and waits until the daemon hangs up.
fn throw(node: &Node, bytes: &[u8]) {
    let mut stream = TcpStream::connect(node.address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the daemon keeps the connection")
        }
        Ok(_) => assert!(rest.len() < 100),
    }
}

pub(crate) fn identity(authority: &Authority, number: u16) -> Identity {
    let issued = authority.issue(NodeId::new(number).unwrap(), "n").unwrap();
    Identity::from_pem(authority.ca_pem(), &issued.cert_pem, &issued.key_pem).unwrap()
}

/// The cluster's real authority, to make members that nobody invited.
pub(crate) fn authority(node: &Node) -> Authority {
    let read = |file| std::fs::read_to_string(node.directory.join(file)).unwrap();
    Authority::from_pem(&read("ca.pem"), &read("ca.key")).unwrap()
}

#[test]
fn garbage_on_the_tcp_port() {
    let base = tempfile::tempdir().unwrap();
    let node = Node::found(base.path(), "alpha");
    let preamble = |route| Preamble { route }.encode().to_vec();
    let mut noise = vec![0x5a; 1 << 20];
    throw(&node, b"");
    throw(&node, b"GET / HTTP/1.1\r\n\r\n");
    throw(&node, &noise);
    throw(&node, b"OMX1");
    throw(&node, b"OMX2\x01\x01\0\0................");
    node.await_count("peer_garbage", 5);
    for route in [Route::Control, Route::Join] {
        throw(&node, &preamble(route));
        throw(&node, &[preamble(route), noise.split_off(noise.len() / 2)].concat());
        throw(&node, &[preamble(route), vec![22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 0]].concat());
    }
    node.await_count("peer_handshakes_failed", 6);
    throw(&node, &preamble(Route::Session(Session([9; 16]))));
    node.await_count("sessions_unknown", 1);
    still_answers(&node);
}

#[test]
fn garbage_on_the_unix_socket() {
    let base = tempfile::tempdir().unwrap();
    let node = Node::found(base.path(), "alpha");
    let long = [vec![b'['; CONTROL_LINE_BYTES_MAX * 2], b"\n".to_vec()].concat();
    let cases: [&[u8]; 8] = [
        b"\n",
        b"nonsense\n",
        b"\xff\xfe\0\n",
        b"{\"op\":\"ps\"",
        b"{\"op\":\"no-such\"}\n",
        b"{\"op\":\"where\",\"pid\":\"1\"}\n",
        b"{\"op\":\"where\",\"pid\":1,\"more\":2}\n",
        &long,
    ];
    for case in cases {
        let lines = node.say(case);
        let shown = String::from_utf8_lossy(&case[..case.len().min(40)]).into_owned();
        // Of a line that is too long the daemon reads only a part, and the kernel may then take its answer back.
        if let [line] = &lines[..] {
            let event: Event = serde_json::from_str(line).unwrap();
            assert!(
                matches!(event, Event::Failed { kind: FailureKind::BadRequest, .. }),
                "{shown}: {event:?}"
            );
        } else {
            assert!(case.len() > CONTROL_LINE_BYTES_MAX && lines.is_empty(), "{shown}: {lines:?}");
        }
    }
    node.await_count("tool_garbage", 8);
    assert!(node.say(b"").is_empty());
    // Several questions on one connection are answered in their order.
    assert_eq!(node.say(b"{\"op\":\"ps\"}\n{\"op\":\"counts\"}\n").len(), 2);
    still_answers(&node);
}

#[test]
fn strangers_and_members_that_misbehave() {
    let base = tempfile::tempdir().unwrap();
    let node = Node::found(base.path(), "alpha");
    let own = NodeId::new(1).unwrap();
    let connect = |identity: &Identity| Channel::connect(identity, node.address, Route::Control, own, LIMIT);

    // Another cluster of the same name.
    let other = Authority::create("openmosix").unwrap();
    assert!(connect(&identity(&other, 2)).is_err());
    node.await_count("peer_handshakes_failed", 1);

    // A good certificate, but nobody knows the node, and this one wants listed nodes only.
    let authority = authority(&node);
    let mut node = node;
    node.stop();
    let text = std::fs::read_to_string(node.config()).unwrap();
    std::fs::write(node.config(), text.replace("# discover = true", "discover = false")).unwrap();
    node.start();
    let connect = |identity: &Identity| Channel::connect(identity, node.address, Route::Control, own, LIMIT);
    let mut stranger = connect(&identity(&authority, 2)).unwrap();
    assert!(stranger.recv().is_err());
    node.await_count("peer_strangers", 1);

    // A known node with good and bad messages. Without being invited it is only known after a restart.
    node.stop();
    let text = std::fs::read_to_string(node.config()).unwrap();
    let peer = format!("[[peer]]\nid = 2\nname = \"n2\"\naddress = \"{}\"\n", world::free_address());
    std::fs::write(node.config(), format!("{text}\n{peer}")).unwrap();
    node.start();
    let member = identity(&authority, 2);
    let connect = || {
        let mut channel = Channel::connect(&member, node.address, Route::Control, own, LIMIT).unwrap();
        channel.set_timeout(Some(LIMIT)).unwrap();
        channel
    };
    let mut channel = connect();
    for _ in 0..3 {
        channel.send(KIND_PEER_REQUEST, &[&wire::peer::encode(&PeerRequest::Info).unwrap()]).unwrap();
        let frame = channel.recv().unwrap();
        assert_eq!(frame.kind, KIND_PEER_ANSWER);
        assert!(
            matches!(wire::peer::decode(&frame.payload), Ok(PeerAnswer::Info(info)) if info.name == "alpha")
        );
    }
    for (kind, payload) in [
        (KIND_PEER_REQUEST, vec![]),
        (KIND_PEER_REQUEST, vec![255; 100]),
        (KIND_PEER_REQUEST, vec![0; PEER_MESSAGE_BYTES_MAX + 1]),
        (77, vec![0]),
    ] {
        let mut channel = connect();
        channel.send(kind, &[&payload]).unwrap();
        assert!(channel.recv().is_err());
    }
    node.await_count("peer_garbage", 4);

    // It offers what it does not own, and what this machine cannot hold: refused with all reasons.
    let offer = wire::peer::Offer {
        home: NodeId::new(3).unwrap(),
        process: model::ProcessId { pid: 5, start_ticks: 6 },
        name: "x".to_owned(),
        uid: 0,
        threads: u32::MAX,
        memory_bytes: u64::MAX,
        cpu: model::CpuProfile::new([u32::MAX; 9], u64::MAX, u32::MAX),
        kernel: String::new(),
        reservation: None,
        bonds: wire::peer::Bonds::default(),
    };
    let mut channel = connect();
    channel.send(KIND_PEER_REQUEST, &[&wire::peer::encode(&PeerRequest::Offer(offer)).unwrap()]).unwrap();
    match wire::peer::decode(&channel.recv().unwrap().payload).unwrap() {
        PeerAnswer::Refused(reasons) => assert_eq!(reasons.0.len(), 4, "{reasons}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(node.counts()["offers_refused"], 1);
    assert_eq!(node.counts()["wardens_started"], 0);
    assert!(matches!(node.ask(&Request::Ps), Event::Done { .. }));
}

#[test]
fn too_many_connections_are_turned_away_and_places_come_back() {
    let base = tempfile::tempdir().unwrap();
    let node = Node::found(base.path(), "alpha");
    let idle: Vec<_> =
        (0..model::limits::CONNECTIONS_MAX + 10).map(|_| TcpStream::connect(node.address).unwrap()).collect();
    node.await_count("peer_turned_away", 10);
    drop(idle);
    node.await_count("peer_garbage", model::limits::CONNECTIONS_MAX as u64);
    still_answers(&node);
}

#[test]
fn a_second_daemon_does_not_start_and_does_no_harm() {
    let base = tempfile::tempdir().unwrap();
    let node = Node::found(base.path(), "alpha");
    let output =
        std::process::Command::new(world::omd()).arg("--config").arg(node.config()).output().unwrap();
    assert!(!output.status.success());
    assert!(world::text(&output).contains("another daemon answers"), "{}", world::text(&output));
    still_answers(&node);
    let output =
        std::process::Command::new(world::omd()).args(["--config", "/no/such/file"]).output().unwrap();
    assert!(world::text(&output).contains("/no/such/file"));
}

/// What another user of the machine tries on the files and sockets of a node.
const INTRUSIONS: &[&str] = &[
    "ls run/keeper",
    "ls run/warden",
    "cat node.key",
    "cat ca.key",
    "ls state/invites/*",
    "ln -s /etc/passwd run/keeper/1.sock",
    "ln -s /etc/passwd run/warden/00000000000000000000000000000000.sock",
    "ln -s /etc/passwd run/new.sock",
    "ln -s /etc/passwd cache/files/x",
    "mv run/omd.sock run/old.sock",
    "rm -f run/omd.sock",
    "rmdir run/warden",
    "cp /etc/passwd omd.toml",
];

#[test]
fn another_user_of_the_machine_gets_in_nowhere() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let node = Node::found(base.path(), "alpha");
    std::fs::set_permissions(&node.directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(node.directory.join("cache/files")).unwrap();
    good(&mut node.om(&["ps"]));
    good(world::om().args(["invite", "--name", "beta", "--config"]).arg(node.config()));
    for line in INTRUSIONS {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", line]).current_dir(&node.directory).uid(65534).gid(65534);
        assert!(!shell.output().unwrap().status.success(), "another user may: {line}");
    }
    still_answers(&node);
}

#[test]
fn a_directory_of_somebody_else_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a directory away");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::found(base.path(), "alpha");
    node.stop();
    let run = node.directory.join("run");
    let refused = |node: &Node| {
        let output =
            std::process::Command::new(world::omd()).arg("--config").arg(node.config()).output().unwrap();
        assert!(!output.status.success());
        assert!(world::text(&output).contains("remove it"), "{}", world::text(&output));
    };
    std::os::unix::fs::chown(&run, Some(65534), Some(65534)).unwrap();
    refused(&node);
    let elsewhere = base.path().join("elsewhere");
    std::fs::rename(&run, &elsewhere).unwrap();
    std::os::unix::fs::chown(&elsewhere, Some(0), Some(0)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &run).unwrap();
    refused(&node);
}
