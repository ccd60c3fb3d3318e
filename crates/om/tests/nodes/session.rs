//! Members of the cluster that misbehave in a session: as a home towards a warden, as a host towards a keeper.
//!
//! Whatever they say: no daemon ends or hangs, nothing of a guest stays, and a process is either unharmed at home or,
//! once it was given away, ended.

use crate::hostile::{authority, identity, still_answers};
use crate::world::{self, LIMIT, Node};
use image::{Advice, Area, Backing, FileId, Object, Process, Thread};
use model::{NodeId, ProcessId, Session};
use net::{Channel, Identity, Receiver, Route, Sender, read_preamble};
use serde::Serialize;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use wire::peer::{KIND_PEER_ANSWER, KIND_PEER_REQUEST, NodeInfo, Offer, PeerAnswer, PeerRequest};
use wire::session::{self, Kind, Role};

const OWN: u16 = 1;
const OTHER: u16 = 2;

/// One end of a session.
struct Line {
    sender: Sender,
    receiver: Receiver,
}

impl Line {
    fn say(&mut self, kind: Kind, header: &impl Serialize, raw: &[u8]) {
        // The other side may have had enough.
        let _ = self.sender.send(kind as u16, &[&session::encode(header), raw]);
    }

    fn say_empty(&mut self, kind: Kind) {
        let _ = self.sender.send(kind as u16, &[]);
    }

    /// Reads until the other side refuses or hangs up, which it has to do in time.
    fn hear_the_end(mut self, case: &str) {
        self.receiver.set_timeout(Some(LIMIT)).unwrap();
        let begun = Instant::now();
        loop {
            match self.receiver.recv() {
                Ok(frame) if Kind::new(frame.kind) == Some(Kind::Refused) => return,
                Ok(_) => {}
                Err(net::Error::TimedOut) => panic!("{case}: it says nothing"),
                Err(_) => return,
            }
            assert!(begun.elapsed() < LIMIT, "{case}: it does not end");
        }
    }

    /// Waits for a frame of this kind.
    fn await_kind(&mut self, kind: Kind) {
        while self.receiver.recv().unwrap().kind != kind as u16 {}
    }
}

/// A node of the test's, known to the daemon, with a certificate that is good.
struct Member {
    identity: Identity,
    listener: TcpListener,
}

/// A daemon and somebody that it trusts.
fn two_nodes(base: &Path) -> (Node, Member) {
    let mut node = Node::found(base, "alpha");
    let identity = identity(&authority(&node), OTHER);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    node.stop();
    let text = std::fs::read_to_string(node.config()).unwrap();
    let address = listener.local_addr().unwrap();
    let peer = format!("[[peer]]\nid = {OTHER}\nname = \"beta\"\naddress = \"{address}\"\n");
    std::fs::write(node.config(), format!("{text}\n{peer}")).unwrap();
    node.start();
    (node, Member { identity, listener })
}

fn ask(node: &Node, member: &Member, request: &PeerRequest) -> PeerAnswer {
    let own = NodeId::new(OWN).unwrap();
    let mut channel = Channel::connect(&member.identity, node.address, Route::Control, own, LIMIT).unwrap();
    channel.set_timeout(Some(LIMIT)).unwrap();
    channel.send(KIND_PEER_REQUEST, &[&wire::peer::encode(request).unwrap()]).unwrap();
    wire::peer::decode(&channel.recv().unwrap().payload).unwrap()
}

fn info(node: &Node, member: &Member) -> NodeInfo {
    match ask(node, member, &PeerRequest::Info) {
        PeerAnswer::Info(info) => info,
        other => panic!("{other:?}"),
    }
}

fn connect(node: &Node, member: &Member, session: Session) -> Line {
    let own = NodeId::new(OWN).unwrap();
    let route = Route::Session(session);
    let channel = Channel::connect(&member.identity, node.address, route, own, LIMIT).unwrap();
    let (sender, receiver) = channel.split();
    Line { sender, receiver }
}

fn hello(version: u16, role: Role) -> session::Hello {
    session::Hello { version, role, process: ProcessId { pid: 4711, start_ticks: 1 } }
}

fn keeper() -> session::Hello {
    hello(session::VERSION, Role::Keeper { brings: true })
}

/// Says an image, in one part.
fn say_image(line: &mut Line, spoil: impl FnOnce(&mut Process)) {
    let mut image = image();
    spoil(&mut image);
    line.say(Kind::Image, &session::Part { last: true }, &postcard::to_stdvec(&image).unwrap());
}

const FILE: FileId = FileId([7; 32]);

fn area(start: u64, end: u64) -> Area {
    Area {
        start,
        end,
        protection: 3,
        shared: false,
        backing: Backing::Anonymous,
        kind: image::Kind::Plain,
        unreserved: false,
        charged: true,
        advice: Advice::default(),
    }
}

/// An image that is well-formed, though no process could live by it.
fn image() -> Process {
    Process {
        pid: 4711,
        executable: FILE,
        areas: vec![area(0x10_0000, 0x20_0000), area(0x20_0000, 0x30_0000)],
        threads: vec![Thread { tid: 4711, ..Thread::default() }],
        actions: vec![[0; 4]; 64],
        limits: [(u64::MAX, u64::MAX); 3],
        ..Process::default()
    }
}

/// Pages of the process's own.
fn pages(ranges: Vec<(u64, u64)>) -> session::Pages {
    session::Pages { object: None, ranges }
}

/// Makes the second area one of an object that is there, spoiled.
fn say_shared(line: &mut Line, spoil: impl FnOnce(&mut Process)) {
    say_image(line, |image| {
        image.objects = vec![Object { length: 0x10_0000, file: None }];
        image.areas[1].shared = true;
        image.areas[1].backing = Backing::Object { index: 0, offset: 0 };
        spoil(image);
    });
}

fn embody() -> session::Embody {
    session::Embody { pid: 4711, uid: 0, gid: 0, monotonic_ns: 0, boottime_ns: 0 }
}

/// Offers a file of one byte and sends it.
fn say_file(line: &mut Line) -> FileId {
    // BLAKE3 of "x".
    let id = blake3_of_x();
    line.say(Kind::Files, &session::Files(vec![session::FileEntry { id, length: 1 }]), &[]);
    line.say(Kind::FilePart, &session::FilePart { id, last: true }, b"x");
    id
}

fn blake3_of_x() -> FileId {
    FileId(*blake3::hash(b"x").as_bytes())
}

type Script = fn(&mut Line);

/// What a bad home says after a good greeting.
const HOMES: &[(&str, Script)] = &[
    ("a kind that nobody knows", |line| drop(line.sender.send(999, &[b"x"]))),
    ("a call before there is a process", |line| line.say_empty(Kind::Call)),
    ("the word before there is a process", |line| line.say(Kind::Commit, &session::Commit::default(), &[])),
    ("pages before the image", |line| line.say(Kind::Pages, &pages(vec![(0, 1)]), b"x")),
    ("a header that is longer than its frame", |line| {
        drop(line.sender.send(Kind::Files as u16, &[&[255; 4], &[0; 9]]));
    }),
    ("a list that claims to be endless", |line| {
        drop(
            line.sender
                .send(Kind::Files as u16, &[&[9, 0, 0, 0], &[255, 255, 255, 255, 255, 255, 255, 255, 127]]),
        );
    }),
    ("a file with the bytes of another", |line| {
        line.say(Kind::FilePart, &session::FilePart { id: FILE, last: true }, b"x");
    }),
    ("a file that ends before it begins", |line| {
        line.say(Kind::FilePart, &session::FilePart { id: FILE, last: true }, &[]);
    }),
    ("an image of nothing", |line| line.say(Kind::Image, &session::Part { last: true }, &[])),
    ("an image of noise", |line| line.say(Kind::Image, &session::Part { last: true }, &[0xa5; 5000])),
    ("an image without end", |line| {
        for _ in 0..20 {
            line.say(Kind::Image, &session::Part { last: false }, &vec![0; 4_000_000]);
        }
    }),
    ("an image without threads", |line| say_image(line, |image| image.threads.clear())),
    ("an image of the init", |line| say_image(line, |image| (image.pid, image.threads[0].tid) = (1, 1))),
    ("an image with a stranger for its leader", |line| say_image(line, |image| image.threads[0].tid = 9)),
    ("an image with overlapping areas", |line| say_image(line, |image| image.areas[1].start -= 4096)),
    ("an image with its areas turned around", |line| say_image(line, |image| image.areas.swap(0, 1))),
    ("an image with an area of the kernel's", |line| {
        say_image(line, |image| image.areas[1] = area(0xffff_8000_0000_0000, 0xffff_9000_0000_0000));
    }),
    ("an image with half a page", |line| say_image(line, |image| image.areas[0].end -= 1)),
    ("an image with its vDSO beyond everything", |line| {
        say_image(line, |image| image.vdso = (u64::MAX, u64::MAX));
    }),
    ("an image with an action too few", |line| say_image(line, |image| image.actions.truncate(63))),
    ("an image with shared memory of nobody", |line| {
        say_shared(line, |image| image.areas[1].backing = Backing::Object { index: 1, offset: 0 });
    }),
    ("an image with shared memory that nobody has", |line| {
        say_shared(line, |image| image.objects.push(Object { length: 4096, file: None }));
    }),
    ("an image with shared memory beyond everything", |line| {
        say_shared(line, |image| {
            image.areas[1].backing = Backing::Object { index: 0, offset: u64::MAX - 4095 }
        });
    }),
    ("an image with shared memory of endless length", |line| {
        say_shared(line, |image| image.objects[0].length = u64::MAX - 4095);
    }),
    ("an image with shared memory that is none", |line| {
        say_shared(line, |image| image.areas[1].shared = false);
    }),
    ("an image whose files never came", |line| say_image(line, |image| image.executable = FILE)),
    ("a body for the init", |line| line.say(Kind::Embody, &session::Embody { pid: 1, ..embody() }, &[])),
    ("a body for nobody", |line| line.say(Kind::Embody, &session::Embody { pid: -5, ..embody() }, &[])),
    ("a body with a pid beyond all", |line| {
        line.say(Kind::Embody, &session::Embody { pid: i32::MAX, ..embody() }, &[]);
    }),
    ("a body of no user", |line| line.say(Kind::Embody, &session::Embody { uid: u32::MAX, ..embody() }, &[])),
    ("a body before all time", |line| {
        line.say(Kind::Embody, &session::Embody { monotonic_ns: i64::MIN, ..embody() }, &[]);
        line.say_empty(Kind::PagesEnd);
    }),
    ("a body for another process", |line| {
        line.say(Kind::Embody, &embody(), &[]);
        let executable = say_file(line);
        say_image(line, |image| {
            (image.pid, image.threads[0].tid, image.executable) = (4712, 4712, executable)
        });
    }),
    ("a process that could not live", |line| {
        let executable = say_file(line);
        say_image(line, |image| image.executable = executable);
        line.say(Kind::Pages, &pages(vec![(0x10_0000, 1)]), b"x");
        line.say_empty(Kind::PagesEnd);
    }),
    ("nothing more", |_| {}),
    ("nothing more after files", |line| _ = say_file(line)),
    ("nothing more after a body", |line| line.say(Kind::Embody, &embody(), &[])),
    ("nothing more after half an image", |line| line.say(Kind::Image, &session::Part { last: false }, b"x")),
];

#[test]
fn bad_homes_leave_nothing_behind() {
    let base = tempfile::tempdir().unwrap();
    let (node, member) = two_nodes(base.path());
    let own = info(&node, &member);
    for (case, script) in HOMES {
        let offer = Offer {
            home: NodeId::new(OTHER).unwrap(),
            process: ProcessId { pid: 4711, start_ticks: 1 },
            name: "bad\u{1b}[2J\nhome".to_owned(),
            uid: 0,
            threads: 1,
            memory_bytes: 1 << 20,
            cpu: own.cpu.clone(),
            kernel: own.kernel.clone(),
            reservation: None,
            bonds: wire::peer::Bonds::default(),
        };
        let session = match ask(&node, &member, &PeerRequest::Offer(offer)) {
            PeerAnswer::Accepted { session } => session,
            other => panic!("{case}: {other:?}"),
        };
        // Connections that are not due: the warden goes on waiting for the one that is.
        let mut odd = connect(&node, &member, session);
        odd.say(Kind::Hello, &hello(77, Role::Source), &[]);
        odd.hear_the_end(case);
        let mut line = connect(&node, &member, session);
        line.say(Kind::Hello, &keeper(), &[]);
        script(&mut line);
        if case.starts_with("nothing more") {
            drop(line);
        } else {
            line.hear_the_end(case);
        }
        await_no_wardens(&node, case);
    }
    still_answers(&node);
    assert_eq!(node.counts()["wardens_started"], HOMES.len() as u64);
    assert_eq!(node.counts()["offers_refused"], 0);
    let left: Vec<_> = std::fs::read_dir(node.directory.join("cache/files"))
        .map(|files| files.flatten().map(|file| file.file_name()).collect())
        .unwrap_or_default();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "half a file stays: {left:?}");
}

fn await_no_wardens(node: &Node, case: &str) {
    let deadline = Instant::now() + LIMIT;
    let sockets = node.directory.join("run/warden");
    while std::fs::read_dir(&sockets).unwrap().next().is_some() {
        assert!(Instant::now() < deadline, "{case}: its warden stays");
        std::thread::yield_now();
    }
}

/// What becomes of a process whose host misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It goes on at home as if nothing had happened.
    Unharmed,
    /// It was given away and nobody knows what became of it.
    Ended,
}
use Fate::{Ended, Unharmed};

/// Plays an honest host up to the frame of this kind, which it does not answer.
fn play(line: &mut Line, until: Kind) {
    loop {
        let frame = line.receiver.recv().unwrap();
        // Others are the channel's own.
        let Some(kind) = Kind::new(frame.kind) else { continue };
        if kind == until {
            return;
        }
        match kind {
            Kind::Files => line.say(Kind::Missing, &session::Files::default(), &[]),
            Kind::ClockProbe => {
                let reading = session::ClockReading { monotonic_ns: 0, boottime_ns: 0 };
                line.say(Kind::ClockReading, &reading, &[]);
            }
            Kind::Embody => line.say_empty(Kind::Embodied),
            Kind::PagesEnd => line.say(Kind::Prepared, &session::Prepared { local_pid: 99 }, &[]),
            Kind::Commit => line.say(Kind::Started, &session::Started { local_pid: 99 }, &[]),
            _ => {}
        }
    }
}

/// Takes the process as an honest host does; then it is away.
fn take(line: &mut Line) {
    play(line, Kind::Commit);
    line.say(Kind::Started, &session::Started { local_pid: 99 }, &[]);
}

fn bad_call(spoil: impl FnOnce(&mut session::CallHeader)) -> session::CallHeader {
    let call = wire::Call { nr: nix::libc::SYS_getppid as u32, ..wire::Call::default() };
    let mut header = session::CallHeader { slot: 0, seq: 1, signals_seen: 0, call };
    spoil(&mut header);
    header
}

/// What a bad host says.
const HOSTS: &[(&str, Fate, Script)] = &[
    ("nothing", Unharmed, |_| {}),
    ("nothing to the files", Unharmed, |line| play(line, Kind::Files)),
    ("that it lacks a file nobody offered", Unharmed, |line| {
        play(line, Kind::Files);
        line.say(
            Kind::Missing,
            &session::Files(vec![session::FileEntry { id: FILE, length: u64::MAX }]),
            &[],
        );
    }),
    ("that it lacks everything a thousand times", Unharmed, |line| {
        play(line, Kind::Files);
        let entry = session::FileEntry { id: FILE, length: u64::MAX };
        line.say(Kind::Missing, &session::Files(vec![entry; 1000]), &[]);
    }),
    ("noise to the files", Unharmed, |line| {
        play(line, Kind::Files);
        drop(line.sender.send(Kind::Missing as u16, &[&[0xff; 100]]));
    }),
    ("something else to the files", Unharmed, |line| {
        play(line, Kind::Files);
        line.say_empty(Kind::Embodied);
    }),
    ("that its clock is before all time", Unharmed, |line| {
        play(line, Kind::ClockProbe);
        for _ in 0..5 {
            line.say(
                Kind::ClockReading,
                &session::ClockReading { monotonic_ns: i64::MIN, boottime_ns: i64::MAX },
                &[],
            );
        }
        play(line, Kind::Embody);
    }),
    ("nothing to the body", Unharmed, |line| play(line, Kind::Embody)),
    ("nothing to the image", Unharmed, |line| play(line, Kind::Image)),
    ("nothing to the pages", Unharmed, |line| play(line, Kind::Pages)),
    ("nothing at the end of the pages", Unharmed, |line| play(line, Kind::PagesEnd)),
    ("a refusal of many lines", Unharmed, |line| {
        play(line, Kind::PagesEnd);
        let message = "no\nno\u{1b}[2J\r\nno".repeat(1000);
        line.say(Kind::Refused, &session::Refusal { reasons: model::Reasons::default(), message }, &[]);
    }),
    ("that it runs before it may", Unharmed, |line| {
        play(line, Kind::PagesEnd);
        line.say(Kind::Started, &session::Started { local_pid: 1 }, &[]);
    }),
    ("nothing to the word", Ended, |line| play(line, Kind::Commit)),
    ("something else to the word", Ended, |line| {
        play(line, Kind::Commit);
        line.say_empty(Kind::Quiet);
    }),
    ("nothing more once it has it", Ended, take),
    ("a call of a thread that is not there", Ended, |line| {
        take(line);
        line.say(Kind::Call, &bad_call(|header| header.slot = 9), &[]);
    }),
    ("a call with more input than there is room", Ended, |line| {
        take(line);
        line.say(Kind::Call, &bad_call(|header| header.call.area_len = 1), b"more than one");
    }),
    ("a call with an area beyond all", Ended, |line| {
        take(line);
        line.say(Kind::Call, &bad_call(|header| header.call.area_len = u32::MAX), &[]);
    }),
    ("a call that points outside", Ended, |line| {
        take(line);
        let point =
            |header: &mut session::CallHeader| (header.call.pointers, header.call.args[0]) = (1, u64::MAX);
        line.say(Kind::Call, &bad_call(point), &[]);
    }),
    ("a second call while the first waits", Ended, |line| {
        take(line);
        let pause = |header: &mut session::CallHeader| header.call.nr = nix::libc::SYS_pause as u32;
        line.say(Kind::Call, &bad_call(pause), &[]);
        line.say(Kind::Call, &bad_call(pause), &[]);
    }),
    ("that it has seen signals which never were", Ended, |line| {
        take(line);
        line.say(Kind::SignalSeen, &session::SignalSeen { slot: 0, tail: 77 }, &[]);
    }),
    ("that it shall die of a signal beyond all", Ended, |line| {
        take(line);
        line.say(
            Kind::Die,
            &session::SignalOrder { slot: 0, seq: 1, signal: 4711, action: [u64::MAX; 4] },
            &[],
        );
    }),
    ("noise instead of a call", Ended, |line| {
        take(line);
        drop(line.sender.send(Kind::Call as u16, &[&[0xff; 64]]));
    }),
    ("that it ended, in words that are no line", Ended, |line| {
        take(line);
        line.say(Kind::Ended, &session::Ended { cause: "\u{1b}[2J\nboo".repeat(10_000) }, &[]);
    }),
];

#[test]
fn bad_hosts_harm_nobody_who_was_not_given_to_them() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can move the processes of others");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let (node, member) = two_nodes(base.path());
    let own = info(&node, &member);
    for (case, fate, script) in HOSTS {
        let mut process = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pid = process.id().to_string();
        let output = std::thread::scope(|scope| {
            let host = scope.spawn(|| be_host(&member, &own, script));
            let output = world::run(&mut node.om(&["migrate", &pid, "2"]));
            host.join().unwrap();
            output
        });
        let said = world::text(&output);
        assert!(!said.contains('\u{1b}') && said.lines().count() <= 2, "{case}: {said:?}");
        match fate {
            Unharmed => {
                assert!(!output.status.success(), "{case}: {said}");
                assert!(process.try_wait().unwrap().is_none(), "{case}: it has ended");
                await_freedom(process.id(), case);
                process.kill().unwrap();
                process.wait().unwrap();
            }
            Ended => {
                let deadline = Instant::now() + LIMIT;
                let status = loop {
                    match process.try_wait().unwrap() {
                        Some(status) => break status,
                        None => assert!(Instant::now() < deadline, "{case}: it goes on"),
                    }
                    std::thread::yield_now();
                };
                assert_eq!(status.signal(), Some(9), "{case}");
            }
        }
        still_answers_with_two(&node, case);
    }
}

fn still_answers_with_two(node: &Node, case: &str) {
    assert!(world::run(&mut node.om(&["ps"])).status.success(), "{case}: the daemon does not answer");
}

/// Answers the daemon until the keeper comes, plays the script to it, and hangs up.
fn be_host(member: &Member, own: &NodeInfo, script: &Script) {
    loop {
        let (mut stream, _) = member.listener.accept().unwrap();
        let route = read_preamble(&mut stream, LIMIT).unwrap().route;
        let mut channel = Channel::accept(&member.identity, stream, LIMIT).unwrap();
        channel.set_timeout(Some(LIMIT)).unwrap();
        if let Route::Session(_) = route {
            let (sender, receiver) = channel.split();
            let mut line = Line { sender, receiver };
            line.await_kind(Kind::Hello);
            script(&mut line);
            let _ = line.sender.close();
            return;
        }
        while let Ok(frame) = channel.recv() {
            let answer = match wire::peer::decode(&frame.payload).unwrap() {
                PeerRequest::Offer(_) => PeerAnswer::Accepted { session: Session([5; 16]) },
                _ => PeerAnswer::Info(NodeInfo { name: "beta".to_owned(), ..own.clone() }),
            };
            channel.send(KIND_PEER_ANSWER, &[&wire::peer::encode(&answer).unwrap()]).unwrap();
        }
    }
}

/// Waits until nobody traces the process any more, and it sleeps as before.
fn await_freedom(pid: u32, case: &str) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            value.split_whitespace().next().unwrap_or_default().to_owned()
        };
        if field("TracerPid:") == "0" && field("State:") == "S" {
            return;
        }
        assert!(Instant::now() < deadline, "{case}: it is not free: {status}");
        std::thread::yield_now();
    }
}
