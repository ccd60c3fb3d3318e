//! Making a cluster, joining it, asking it.

use crate::world::{self, Node, bad, good, om, run};
use control::{Answer, Event, FailureKind, Request};
use model::{Destination, NodeId, ReasonCode};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

#[test]
fn three_nodes_know_each_other() {
    let base = tempfile::tempdir().unwrap();
    let first = Node::found(base.path(), "alpha");
    let second = first.joined_by("beta");
    let third = first.joined_by("gamma");
    // The second heard of the third from the first, which tells after it has answered the third.
    second.await_count("peer_requests", 1);
    for node in [&first, &second, &third] {
        let table = good(&mut node.om(&["nodes"]));
        assert_eq!(table.matches(" up ").count(), 3, "{table}");
        assert!(["alpha", "beta", "gamma"].iter().all(|name| table.contains(name)), "{table}");
    }
    let json: serde_json::Value = serde_json::from_str(&good(&mut second.om(&["nodes", "--json"]))).unwrap();
    let ids: Vec<_> =
        json["nodes"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(json["nodes"][0]["round_trip_us"].as_u64().unwrap() > 0);

    // A node that is gone is shown as such, and one that comes back is found by the others again.
    let mut third = third;
    third.stop();
    assert!(!third.socket().exists());
    let table = good(&mut first.om(&["nodes"]));
    assert_eq!((table.matches(" up ").count(), table.matches(" down ").count()), (2, 1), "{table}");
    third.start();
    assert_eq!(good(&mut first.om(&["nodes"])).matches(" up ").count(), 3);
}

#[test]
fn keys_are_readable_by_nobody_else_and_nothing_is_overwritten() {
    let base = tempfile::tempdir().unwrap();
    let first = Node::found(base.path(), "alpha");
    for file in ["ca.key", "node.key"] {
        assert_eq!(
            first.directory.join(file).metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{file}"
        );
    }
    let line = bad(om().arg("init").arg("--directory").arg(&first.directory), 1);
    assert!(line.contains("node already"), "{line}");
    let line = bad(om().args(["init", "--cluster", "No Good", "--directory"]).arg(base.path().join("x")), 1);
    assert!(line.contains("small letters"), "{line}");
    assert!(!base.path().join("x").exists());
}

#[test]
fn bad_invitations_are_refused_in_one_line() {
    let base = tempfile::tempdir().unwrap();
    let first = Node::found(base.path(), "alpha");
    let invite = |arguments: &[&str]| {
        let line = good(om().arg("invite").args(arguments).arg("--config").arg(first.config()));
        line.trim().strip_prefix("om join ").unwrap().to_owned()
    };
    let join = |token: &str, directory: &str| {
        let mut command = om();
        let listen = world::free_address().to_string();
        command.args(["join", token, "--listen", &listen, "--directory"]).arg(base.path().join(directory));
        command
    };
    let token = invite(&["--id", "7", "--name", "seven"]);

    let (head, secret) = token.rsplit_once('/').unwrap();
    let line = bad(&mut join(&format!("{head}/{}", "0".repeat(secret.len())), "wrong"), 1);
    assert!(line.contains("not known"), "{line}");
    assert!(!base.path().join("wrong/omd.toml").exists());

    let (start, fingerprint) = head.rsplit_once('/').unwrap();
    let line = bad(&mut join(&format!("{start}/{}/{secret}", "0".repeat(fingerprint.len())), "wrong"), 1);
    assert!(line.contains("invitation from this cluster"), "{line}");

    let line = bad(&mut join("nonsense", "wrong"), 2);
    assert!(line.contains("no invitation"), "{line}");

    let json: serde_json::Value = serde_json::from_str(&good(join(&token, "seven").arg("--json"))).unwrap();
    assert_eq!((json["node"].as_u64(), json["name"].as_str()), (Some(7), Some("seven")));
    let line = bad(&mut join(&token, "again"), 1);
    assert!(line.contains("used already"), "{line}");

    let token = invite(&[]);
    let invites = first.directory.join("state/invites");
    assert_eq!(invites.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(invites).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["expires"] = 1.into();
        std::fs::write(&path, record.to_string()).unwrap();
    }
    let line = bad(&mut join(&token, "late"), 1);
    assert!(line.contains("expired"), "{line}");

    let token = invite(&[]);
    std::fs::remove_file(first.directory.join("ca.key")).unwrap();
    let line = bad(&mut join(&token, "keyless"), 1);
    assert!(line.contains("ca.key"), "{line}");
    let line = bad(om().arg("invite").arg("--config").arg(first.config()), 1);
    assert!(line.contains("ca.key"), "{line}");
    // Four were turned away by the daemon; the rest did not get that far.
    assert_eq!(first.counts()["joins_refused"], 4);
    first.await_count("joins_accepted", 1);
}

#[test]
fn odd_processes_are_named_for_what_they_are() {
    let base = tempfile::tempdir().unwrap();
    let node = Node::found(base.path(), "alpha");
    let mut sleeper = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let pid = sleeper.id().to_string();

    assert!(good(&mut node.om(&["where", &pid])).contains("at home"));
    assert!(good(&mut node.om(&["why", &pid])).contains("nothing known"));
    let output = run(&mut node.om(&["why", "1"]));
    assert_eq!(output.status.code(), Some(3));
    assert!(world::text(&output).contains("[init]"));
    for gone in ["0", "-5", "2147483647"] {
        bad(&mut node.om(&["why", gone]), 4);
        bad(&mut node.om(&["where", gone]), 4);
        bad(&mut node.om(&["migrate", gone, "home"]), 4);
    }
    // Every thread has a directory in /proc, but it is no process. This test runs in a thread of its own.
    let thread = rustix::thread::gettid().as_raw_pid().to_string();
    assert!(bad(&mut node.om(&["why", &thread]), 4).contains(&thread));

    let number = sleeper.id() as i32;
    let reasons = |to| match node.ask(&Request::Migrate { pid: number, to }) {
        Event::Failed { kind: FailureKind::Refused | FailureKind::NotFound, reasons, .. } => {
            reasons.into_iter().map(|reason| reason.code).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(reasons(Destination::Home), [ReasonCode::SameNode]);
    assert_eq!(reasons(Destination::Node(NodeId::new(1).unwrap())), [ReasonCode::SameNode]);
    assert_eq!(reasons(Destination::Node(NodeId::new(9).unwrap())), [ReasonCode::UnknownNode]);
    assert!(bad(&mut node.om(&["migrate", &pid, "nowhere"]), 4).contains("'nowhere'"));
    assert!(bad(&mut node.om(&["migrate", &pid, "9"]), 4).contains("unknown-node"));

    sleeper.kill().unwrap();
    // It has ended when its state is that of a zombie; it is one until it is waited for.
    nix::sys::wait::waitid(
        nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(sleeper.id() as i32)),
        nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
    )
    .unwrap();
    assert_eq!(
        reasons(Destination::Node(NodeId::new(9).unwrap())),
        [ReasonCode::Zombie, ReasonCode::UnknownNode]
    );
    sleeper.wait().unwrap();
    bad(&mut node.om(&["why", &pid]), 4);
}

#[test]
fn the_daemon_itself_and_its_peers_failures_are_seen() {
    let base = tempfile::tempdir().unwrap();
    let first = Node::found(base.path(), "alpha");
    let mut second = first.joined_by("beta");
    let mut sleeper = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let pid = sleeper.id() as i32;

    // The engine is a placeholder or a real one: either way the request ends with one line, and the process lives.
    let to = Destination::Node(NodeId::new(2).unwrap());
    let event = first.ask(&Request::Migrate { pid, to });
    assert!(!matches!(event, Event::Progress(_)));
    assert!(first.counts()["keepers_started"] >= 1);
    assert!(sleeper.try_wait().unwrap().is_none());

    second.stop();
    if let Event::Failed { reasons, .. } =
        first.ask(&Request::Migrate { pid, to: Destination::Node(NodeId::new(2).unwrap()) })
    {
        assert!(reasons.iter().any(|reason| reason.code == ReasonCode::DeadNode), "{reasons:?}");
    } else {
        panic!("a dead node took it");
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();

    assert!(matches!(first.ask(&Request::Ps), Event::Done { answer: Answer::Processes { .. } }));
    assert!(bad(&mut first.om(&["expel", "5", "2"]), 4).contains("guest"));
    let mut none = om();
    none.args(["ps", "--socket"]).arg(base.path().join("none.sock"));
    assert!(bad(&mut none, 1).contains("omd"));
    assert!(bad(om().args(["ps", "--socket", "/dev/null"]), 1).contains("start it"));
}

#[test]
fn another_user_may_look_but_not_move() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let node = Node::found(base.path(), "alpha");
    let mut sleeper = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let pid = sleeper.id().to_string();
    // The tool is copied to where another user can execute it.
    let tool = base.path().join("om");
    std::fs::copy(env!("CARGO_BIN_EXE_om"), &tool).unwrap();
    let nobody = |arguments: &[&str]| {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&tool);
        command.env("OM_SOCKET", node.socket()).args(arguments).current_dir("/").uid(65534).gid(65534);
        command
    };
    assert!(bad(&mut nobody(&["migrate", &pid, "home"]), 5).contains("not yours"));
    bad(&mut nobody(&["expel", "5", "2"]), 5);
    good(&mut nobody(&["where", &pid]));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn a_program_is_started_and_its_end_relayed() {
    let base = tempfile::tempdir().unwrap();
    let node = Node::found(base.path(), "alpha");
    let output = run(&mut node.om(&["run", "9", "--", "sh", "-c", "echo here; exit 7"]));
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(7), &b"here\n"[..]));
    bad(&mut node.om(&["run", "9", "no-such-program-here"]), 4);

    let mosrun = base.path().join("mosrun");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_om"), &mosrun).unwrap();
    let mut command = Command::new(&mosrun);
    // The program's parent is mosrun: the signal goes to mosrun, and from there to the program.
    command.env("OM_SOCKET", node.socket()).args([
        "9",
        "sh",
        "-c",
        "trap 'exit 3' USR1; kill -USR1 $PPID; while :; do sleep 0.01; done",
    ]);
    assert_eq!(run(&mut command).status.code(), Some(3));
    let mut command = Command::new(&mosrun);
    command.env("OM_SOCKET", node.socket()).args(["9", "sh", "-c", "kill -KILL $$"]);
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(run(&mut command).status.signal(), Some(9));
}
