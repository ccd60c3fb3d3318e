//! The daemon and its agents: here the agents are threads of the test behind the sockets that real ones would have.

use crate::world::{LIMIT, Node, bad, good};
use control::{AgentRequest, Answer, Event, KeeperStatus, Progress, WardenStatus};
use model::{NodeId, ProcessId, Session};
use net::{Channel, Route};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

fn node_id(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
}

fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

fn say<Word: serde::Serialize>(mut stream: &UnixStream, word: &Word) {
    stream.write_all((serde_json::to_string(word).unwrap() + "\n").as_bytes()).unwrap();
}

/// Where the daemon looks for the keeper of a process.
fn socket(process: ProcessId) -> String {
    format!("run/keeper/{}-{}.sock", process.pid, process.start_ticks)
}

/// A keeper that tells of two steps and is done; it notes what it was asked.
fn keep(node: &Node, process: ProcessId) -> Arc<Mutex<Vec<AgentRequest>>> {
    let listener = UnixListener::bind(node.directory.join(socket(process))).unwrap();
    let asked: Arc<Mutex<Vec<AgentRequest>>> = Arc::default();
    let notes = asked.clone();
    std::thread::spawn(move || {
        let mut here = node_id(1);
        for stream in listener.incoming().map_while(Result::ok) {
            for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                let request: AgentRequest = serde_json::from_str(&line).unwrap();
                match &request {
                    AgentRequest::Status => {
                        let status = KeeperStatus {
                            process,
                            node: here,
                            moving: false,
                            moves: 3,
                            memory_bytes: 5 << 20,
                            away_cpu_ms: 61_000,
                            forwarded: 42,
                            carried_bytes: 0,
                            home_comings: vec![("execve".to_owned(), 2)],
                        };
                        say(&stream, &[status]);
                        continue;
                    }
                    AgentRequest::MoveTo { node, .. } => here = *node,
                    _ => here = node_id(1),
                }
                say(
                    &stream,
                    &Event::Progress(Progress { phase: "memory".to_owned(), done_bytes: 1, total_bytes: 2 }),
                );
                let answer = Answer::Moved {
                    pid: process.pid,
                    node: here,
                    freeze_us: 1500,
                    total_us: 9000,
                    bytes: 7 << 20,
                };
                // Before the answer: whoever hears that looks here.
                notes.lock().unwrap().push(request);
                say(&stream, &Event::Done { answer });
            }
        }
    });
    asked
}

#[test]
fn a_keeper_is_asked_and_found_again_by_the_next_daemon() {
    let base = tempfile::tempdir().unwrap();
    let mut first = Node::found(base.path(), "alpha");
    let second = first.joined_by("beta");
    let mut sleeper = sleeper();
    let pid = sleeper.id().to_string();
    let process = ProcessId { pid: sleeper.id() as i32, start_ticks: start_ticks(sleeper.id()) };
    let asked = keep(&first, process);

    let text = good(&mut first.om(&["migrate", &pid, "beta"]));
    assert!(text.contains("runs on node 2") && text.contains("1.5 ms"), "{text}");
    assert_eq!(
        *asked.lock().unwrap(),
        [AgentRequest::MoveTo {
            pid: process.pid,
            node: node_id(2),
            address: second.address.to_string().parse().unwrap(),
            reservation: None,
            sake: control::Sake::People,
        }]
    );
    assert!(bad(&mut first.om(&["migrate", &pid, "2"]), 3).contains("same-node"));
    let table = good(&mut first.om(&["ps"]));
    assert!(["sleep", "away", "5 MiB", "1:01", "42"].iter().all(|word| table.contains(word)), "{table}");

    first.stop();
    assert!(first.directory.join(socket(process)).exists(), "an agent's socket is not the daemon's");
    first.start();
    assert!(good(&mut first.om(&["where", &pid])).contains("on node 2 (home: node 1); moved 3 times"));
    assert!(good(&mut first.om(&["why", &pid])).contains("execve: 2"));
    let json: serde_json::Value =
        serde_json::from_str(&good(&mut first.om(&["migrate", &pid, "home", "--json"]))).unwrap();
    assert_eq!((json["answer"].as_str(), json["node"].as_u64()), (Some("moved"), Some(1)));
    assert_eq!(first.counts()["keepers_started"], 0);

    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(good(&mut first.om(&["ps"])).contains("no process"));
}

#[test]
fn a_keeper_of_an_earlier_process_with_the_same_pid_is_not_taken_for_this_ones() {
    let base = tempfile::tempdir().unwrap();
    let first = Node::found(base.path(), "alpha");
    let mut sleeper = sleeper();
    let pid = sleeper.id() as i32;
    let asked = keep(&first, ProcessId { pid, start_ticks: 1 });
    assert!(good(&mut first.om(&["where", &pid.to_string()])).contains("moved 0 times"));
    assert!(good(&mut first.om(&["ps"])).contains("no process"));
    bad(&mut first.om(&["migrate", &pid.to_string(), "home"]), 3);
    assert!(asked.lock().unwrap().is_empty());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

#[test]
fn sockets_of_dead_agents_are_removed() {
    let base = tempfile::tempdir().unwrap();
    let node = Node::found(base.path(), "alpha");
    let dead = [node.directory.join("run/keeper/77.sock"), node.directory.join("run/warden/88.sock")];
    for path in &dead {
        // The daemon may look by itself at any time.
        drop(UnixListener::bind(path).unwrap());
    }
    good(&mut node.om(&["ps"]));
    assert!(dead.iter().all(|path| !path.exists()));
}

/// Reads one line and the descriptor that comes with it, if one does.
fn receive(stream: &UnixStream) -> (AgentRequest, Option<TcpStream>) {
    let mut bytes = [0; 256];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::net::recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    let line = bytes[..message.bytes].strip_suffix(b"\n").unwrap();
    let mut descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    (serde_json::from_slice(line).unwrap(), descriptors.next().map(TcpStream::from))
}

#[test]
fn a_connection_for_a_session_reaches_its_warden() {
    let base = tempfile::tempdir().unwrap();
    let first = Node::found(base.path(), "alpha");
    let second = first.joined_by("beta");
    let session = Session([0xab; 16]);
    let listener = UnixListener::bind(second.directory.join(format!("run/warden/{session}.sock"))).unwrap();
    let host = net::Identity::load(&second.directory).unwrap();
    let warden = std::thread::spawn(move || {
        let connection = loop {
            let (stream, _) = listener.accept().unwrap();
            match receive(&stream) {
                (AgentRequest::Connection, Some(connection)) => break connection,
                // The daemon asks once a second how its guests are; here is none yet.
                (AgentRequest::Status, None) => say(&stream, &Vec::<WardenStatus>::new()),
                other => panic!("{other:?}"),
            }
        };
        let mut channel = Channel::accept(&host, connection, LIMIT).unwrap();
        assert_eq!(channel.peer(), node_id(1));
        let frame = channel.recv().unwrap();
        channel.send(frame.kind, &[&frame.payload]).unwrap();
        listener
    });
    let home = net::Identity::load(&first.directory).unwrap();
    let mut channel =
        Channel::connect(&home, second.address, Route::Session(session), node_id(2), LIMIT).unwrap();
    channel.send(9, &[b"through"]).unwrap();
    assert_eq!(channel.recv().unwrap().payload, b"through");
    let listener = warden.join().unwrap();
    // It is counted when the connection has been handed over, and by then the warden may have answered.
    second.await_count("sessions_routed", 1);

    // The same warden answers for its guest, which root may send home.
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                match serde_json::from_str(&line).unwrap() {
                    AgentRequest::Status => say(
                        &stream,
                        &[WardenStatus {
                            pid: 4242,
                            local_pid: std::process::id() as i32,
                            name: "x264".to_owned(),
                            home: node_id(1),
                            memory_bytes: 3 << 30,
                            cpu_ms: 1000,
                            forwarded: 7,
                            carried_bytes: 0,
                        }],
                    ),
                    AgentRequest::BringHome { pid: 4242, .. } => {
                        let answer = Answer::Moved {
                            pid: 4242,
                            node: node_id(1),
                            freeze_us: 1,
                            total_us: 2,
                            bytes: 3,
                        };
                        say(&stream, &Event::Done { answer });
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
    let table = good(&mut second.om(&["ps"]));
    assert!(["4242", "x264", "3.0 GiB"].iter().all(|word| table.contains(word)), "{table}");
    assert!(bad(&mut second.om(&["migrate", &std::process::id().to_string(), "1"]), 3).contains("[guest]"));
    if rustix::process::geteuid().is_root() {
        assert!(good(&mut second.om(&["expel", "4242", "alpha"])).contains("runs on node 1"));
        bad(&mut second.om(&["expel", "4243", "1"]), 4);
    } else {
        println!("skipped: only root can expel");
    }
}
