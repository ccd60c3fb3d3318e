//! Writes the inputs that fuzzing begins with, good ones of every kind, into `fuzz/corpus`.
//!
//! `cargo xtask fuzz` builds it with the targets. When a format has changed, run `target/fuzz/*/release/seeds -runs=0`, and
//! commit what it writes.
#![no_main]
#![forbid(unsafe_code)]

use control::{AgentRequest, Request, Sake};
use image::{
    Advice, Area, Backing, Clocks, FileId, Kind, MmFields, Object, Process, Registers, Resume, Rseq, Thread,
};
use model::{Destination, NodeId, ProcessId, Session};
use std::error::Error;
use std::fs;
use std::path::Path;
use wire::balance::{AGE_CLASSES, Aged, Entry, Message, Refusal, Switches};
use wire::peer::{JoinRequest, NodeAddress, PeerAnswer, PeerRequest, SharedKey};
use wire::session::{self, Kind as Frame};
use wire::{Call, Out, OutLen, When};

type Seed = (&'static str, &'static str, Vec<u8>);

// It is built like the targets, whose flags want the fuzzer's `main`: what it does is in the preparation.
libfuzzer_sys::fuzz_target!(init: write().expect("seeds are written"), |_bytes: &[u8]| {});

fn write() -> Result<(), Box<dyn Error>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (target, name, bytes) in seeds()? {
        fs::create_dir_all(corpus.join(target))?;
        fs::write(corpus.join(target).join(name), bytes)?;
    }
    Ok(())
}

fn seeds() -> Result<Vec<Seed>, Box<dyn Error>> {
    let node = NodeId::new(2).ok_or("a node")?;
    let address = "10.77.0.2:4660".parse()?;
    let framed = |kind: Frame, header: Vec<u8>| [vec![kind as u8], header].concat();
    let peer = |which: u8, message: Vec<u8>| [vec![which], message].concat();
    let there = NodeAddress { id: node, name: "n2".into(), address: "10.77.0.2:4660".into() };
    let id = FileId([7; 32]);
    let entry = session::FileEntry { id, length: 4096 };
    let header = session::CallHeader { slot: 0, seq: 1, signals_seen: 2, call: call() };
    let line = |word: &dyn erased::Line| word.line();
    Ok(vec![
        ("net_preamble", "control", net::Preamble { route: net::Route::Control }.encode().to_vec()),
        ("net_preamble", "session", net::Preamble { route: net::Route::Session(Session([9; 16])) }.encode().to_vec()),
        ("net_frame", "small", vec![1, 0, 20, 0, 3, 0, 0, 0]),
        ("net_frame", "largest", vec![1, 0, 6, 0, 0, 0, 64, 0]),
        ("net_datagram", "keys", [b"\0".to_vec(), format!("2 {}\n1 {}\n", "ab".repeat(32), "cd".repeat(32)).into_bytes()].concat()),
        ("net_datagram", "payload", vec![7; 200]),
        ("membership", "beacon", membership::Message::Beacon { authority: [1; 32], record: record(), answer: true }.encode()?),
        ("membership", "roll", membership::Message::Roll { records: vec![record(), record()], next: Some(node) }.encode()?),
        ("membership", "talk", talk()?),
        ("membership", "last-life", [vec![4, 224, 145, 255, 4], vec![255; 9], vec![1]].concat()),
        ("wire_peer", "key", peer(0, wire::peer::encode(&PeerRequest::NewClusterKey(SharedKey { generation: 2, secret: [7; 32] }))?)),
        ("wire_peer", "info", peer(0, wire::peer::encode(&PeerRequest::Info)?)),
        ("wire_peer", "introduce", peer(0, wire::peer::encode(&PeerRequest::Introduce(there))?)),
        ("wire_peer", "accepted", peer(1, wire::peer::encode(&PeerAnswer::Accepted { session: Session([1; 16]) })?)),
        ("wire_peer", "join", peer(2, wire::peer::encode(&join())?)),
        ("wire_balance", "gossip", wire::balance::encode(&Message::Gossip(vec![told(node); 2]))?),
        ("wire_balance", "refused", wire::balance::encode(&refused(node))?),
        ("wire_session", "hello", framed(Frame::Hello, session::encode(&hello()))),
        ("wire_session", "files", framed(Frame::Files, session::encode(&session::Files(vec![entry, entry])))),
        ("wire_session", "pages", framed(Frame::Pages, session::encode(&session::Pages { object: None, ranges: vec![(0x1000, 0x2000)] }))),
        ("wire_session", "commit", framed(Frame::Commit, session::encode(&commit()))),
        ("wire_session", "birth", framed(Frame::Birth, session::encode(&birth()))),
        ("wire_session", "call", framed(Frame::Call, session::encode(&header))),
        ("wire_session", "wish", framed(Frame::Wish, session::encode(&session::WishOf { pid: 4711, wish: session::Wish::Call { nr: 59 } }))),
        (
            "wire_session",
            "pages-of-an-object",
            framed(Frame::Pages, session::encode(&session::Pages { object: Some(1), ranges: vec![(0x1000, 0x2000)] })),
        ),
        (
            "wire_session",
            "move-on",
            framed(Frame::MoveOn, session::encode(&session::MoveOn { node, address, session: Session([3; 16]) })),
        ),
        ("wire_call", "recv", [vec![0; 9], postcard::to_stdvec(&call())?].concat()),
        ("image", "three-areas", postcard::to_stdvec(&process(id))?),
        ("control_lines", "leave", line(&Request::Leave)),
        ("control_lines", "rotate-key", line(&Request::RotateKey)),
        ("control_lines", "migrate", line(&Request::Migrate { pid: 5, to: Destination::Node(node) })),
        ("control_lines", "expel", line(&Request::Expel { pid: 5, home: node })),
        ("control_lines", "move-to", line(&AgentRequest::MoveTo { pid: 4711, node, address, reservation: None, sake: Sake::People })),
        ("procinfo", "maps", [b"\0".to_vec(), of_oneself("/proc/self/maps")?].concat()),
        ("procinfo", "smaps", [b"\x01".to_vec(), first_bytes(of_oneself("/proc/self/smaps")?)].concat()),
        ("procinfo", "stat", [b"\x02".to_vec(), of_oneself("/proc/self/stat")?].concat()),
        ("procinfo", "status", [b"\x03".to_vec(), of_oneself("/proc/self/status")?].concat()),
        ("config", "small", b"[node]\nid = 1\nname = \"n1\"\n".to_vec()),
        (
            "config",
            "cluster",
            b"[node]\nid = 1\n[cluster]\ndiscover = true\nmulticast_v4 = \"239.192.46.60\"\nmulticast_v6 = \"ff02::6f6d\"\n\
              port = 4660\ninterfaces = [\"eth0\"]\nseeds = [\"alpha:4660\"]\nbeacon_seconds = 5\nrefuse = [7]\n\
              [[peer]]\nid = 2\nname = \"n2\"\naddress = \"10.77.0.2:4660\"\nhint = true\n"
                .to_vec(),
        ),
        (
            "config",
            "full",
            b"[node]\nid = 1\nname = \"n1\"\nlisten = \"0.0.0.0:4660\"\n[guests]\naccept = true\nmax = 64\n\
              uid_base = 2000000000\nmemory_max_mb = 5\ntasks_max = 99\ncpu_weight = 50\nrequire_limits = true\n\
              [[peer]]\nid = 2\nname = \"n2\"\naddress = \"10.77.0.2:4660\"\n[paths]\nrun = \"/run/x\"\n"
                .to_vec(),
        ),
    ])
}

/// A file about ourselves, without the place where we were built.
fn of_oneself(path: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let own = std::env::current_exe()?;
    Ok(fs::read_to_string(path)?.replace(&*own.to_string_lossy(), "/usr/bin/seeds").into_bytes())
}

fn first_bytes(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(4000);
    bytes
}

/// Lines of different words.
mod erased {
    pub trait Line {
        fn line(&self) -> Vec<u8>;
    }
    impl<T: serde::Serialize> Line for T {
        fn line(&self) -> Vec<u8> {
            let mut line = serde_json::to_vec(self).unwrap_or_default();
            line.push(b'\n');
            line
        }
    }
}

fn told(node: NodeId) -> Aged {
    let entry = Entry {
        node,
        boot: 3,
        stamp_ms: 1_000_000,
        speed: 10_000,
        cpus_hundredths: 400,
        jobs_hundredths: 250,
        load: 60,
        memory_total_kb: 8 << 20,
        memory_free_kb: 1 << 20,
        memory_usable_kb: 7 << 20,
        memory_taken_kb: 4 << 20,
        pressure_thousandths: 3,
        utilisation_thousandths: 500,
        link_busy_ms: 20,
        switches: Switches::LSTAY,
        cpu_class: 0x0123_4567_89ab_cdef,
        kernel: 6 << 24,
        guests: 2,
        guests_max: 64,
        ages: [1; AGE_CLASSES],
    };
    Aged { age_ms: 700, entry }
}

fn refused(node: NodeId) -> Message {
    Message::Refused { number: 7, why: Refusal::Changed, entry: told(node).entry }
}

fn record() -> membership::Record {
    membership::Record {
        node: NodeId::new(3).unwrap_or_else(|| unreachable!("3 is a node")),
        incarnation: 1000,
        edition: 2,
        renewal: 1,
        left: false,
        name: "n3".into(),
        addresses: vec!["10.0.0.2:4660".parse().unwrap_or_else(|_| unreachable!("an address"))],
    }
}

/// A beacon, a question and a page, each as node 3 says it in its life 1000.
fn talk() -> Result<Vec<u8>, Box<dyn Error>> {
    let messages = [
        membership::Message::Beacon { authority: [1; 32], record: record(), answer: true },
        membership::Message::Ask { after: 0, digest: 1 },
        membership::Message::Roll { records: vec![record()], next: None },
    ];
    let mut bytes = Vec::new();
    for message in messages {
        let payload = message.encode()?;
        bytes.extend([2, 10, 1, u8::try_from(payload.len())?]);
        bytes.extend(payload);
    }
    Ok(bytes)
}

fn join() -> JoinRequest {
    JoinRequest { secret: [5; 32], csr_pem: "-----BEGIN".into(), name: "n3".into(), port: 4660 }
}

fn hello() -> session::Hello {
    let process = ProcessId { pid: 4711, start_ticks: 99 };
    session::Hello { version: session::VERSION, role: session::Role::Keeper { brings: true }, process }
}

fn call() -> Call {
    Call {
        nr: 45,
        args: [3, 16, 32, 0, 0, 8],
        pointers: 0b10_0010,
        relocations: vec![0],
        input: vec![16, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0],
        area_len: 64,
        blocked: 0,
        outs: vec![
            Out { offset: 16, len: OutLen::Result { unit: 1, max: 32 }, when: When::Success },
            Out { offset: 48, len: OutLen::Word { at: 8, max: 16 }, when: When::Always },
        ],
    }
}

fn process(id: FileId) -> Process {
    let area = |start, end, backing| Area {
        start,
        end,
        protection: 3,
        shared: false,
        backing,
        kind: Kind::Plain,
        unreserved: false,
        charged: true,
        advice: Advice::default(),
    };
    Process {
        pid: 4711,
        uid: 1000,
        gid: 1000,
        mm: MmFields::default(),
        auxv: vec![0; 16],
        executable: id,
        areas: vec![
            area(0x40_0000, 0x40_1000, Backing::File { id, offset: 0 }),
            area(0x7f00_0000_0000, 0x7f00_0000_3000, Backing::Anonymous),
            Area {
                shared: true,
                ..area(0x7f00_0000_3000, 0x7f00_0000_4000, Backing::Object { index: 0, offset: 4096 })
            },
        ],
        objects: vec![Object { length: 0x4000, file: None }],
        vdso: (0x7fff_0000_0000, 0x6000),
        vdso_code: vec![0x90; 0x2000],
        fixed_code: true,
        threads: vec![Thread {
            tid: 4711,
            registers: Registers::default(),
            extended: vec![0; 64],
            mask: 0,
            rseq: Some(Rseq { pointer: 0x7f00_0000_0000, size: 32, signature: 0x5305_3053 }),
            robust: (0, 0),
            clear_tid: 0,
            alternate_stack: [0; 3],
            resume: Resume::Plain,
            pending: Vec::new(),
            name: "loop".into(),
            used: image::Used { clock_ns: 900_000, ..image::Used::default() },
        }],
        actions: vec![[0; 4]; 64],
        pending: Vec::new(),
        personality: 0,
        clocks: Clocks::default(),
        shown: image::Shown::default(),
        used: image::Used {
            clock_ns: 1_000_000,
            away: image::Usage { user_us: 900, system_us: 100, faults: [3, 0], peak_kib: 9000 },
        },
        limits: [(0, 0); 3],
    }
}

fn commit() -> session::Commit {
    session::Commit {
        slots: 2048,
        threads: vec![session::Seat { tid: 4711, slot: 0, signals: 2 }],
        is_stopped: false,
    }
}

fn birth() -> session::BirthOrder {
    let birth = session::Birth::Process { exit_signal: 17, sibling: false };
    session::BirthOrder { slot: 0, seq: 3, signals_seen: 0, newborn: 1, birth }
}
