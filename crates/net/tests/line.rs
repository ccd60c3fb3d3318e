//! Sessions through a network that cuts, stalls and lies.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use model::limits::{LINE_SILENCE_SECONDS, UNACKNOWLEDGED_BYTES_MAX};
use model::{NodeId, Session};
use net::{Authority, Channel, Dial, Error, Event, Identity, Line, Listener, Reader, Route, read_preamble};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(5);
const SESSION: Session = Session([7; 16]);

fn node(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

fn identity(authority: &Authority, number: u16) -> Identity {
    let issued = authority.issue(node(number), &format!("n{number}")).unwrap();
    Identity::from_pem(authority.ca_pem(), &issued.cert_pem, &issued.key_pem).unwrap()
}

/// What the network between both does.
#[derive(Default)]
struct Weather {
    /// Each connection is cut after so many bytes, in either direction; 0 is never.
    cut_after: AtomicUsize,
    /// Nothing is forwarded, and nobody is told.
    silent: AtomicBool,
    /// New connections are closed at once.
    closed: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
    count: AtomicU32,
}

impl Weather {
    fn cut(&self) {
        for stream in self.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A network in front of `to`.
fn network(to: SocketAddr, weather: &Arc<Weather>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let weather = weather.clone();
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            if weather.closed.load(SeqCst) {
                continue;
            }
            weather.count.fetch_add(1, SeqCst);
            let far = TcpStream::connect(to).unwrap();
            let all = [near.try_clone().unwrap(), far.try_clone().unwrap()];
            weather.connections.lock().unwrap().extend(all);
            let budget = Arc::new(AtomicUsize::new(weather.cut_after.load(SeqCst)));
            for (mut from, mut into) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                let (weather, budget) = (weather.clone(), budget.clone());
                thread::spawn(move || {
                    let mut bytes = [0; 8192];
                    while let Ok(count) = from.read(&mut bytes) {
                        while weather.silent.load(SeqCst) {
                            thread::sleep(Duration::from_millis(5));
                        }
                        let left = budget.load(SeqCst);
                        let through = if left == 0 { count } else { count.min(left - 1) };
                        if count == 0 || into.write_all(&bytes[..through]).is_err() || through < count {
                            break;
                        }
                        if left > 0 {
                            budget.store((left - through).max(1), SeqCst);
                        }
                    }
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = into.shutdown(Shutdown::Both);
                });
            }
        }
    });
    address
}

type End = (Line, Reader);

struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    fn new() -> (Events, Listener) {
        let list = Arc::new(Mutex::new(Vec::new()));
        let events = list.clone();
        (Events(list), Box::new(move |event| events.lock().unwrap().push(event.clone())))
    }

    fn resumed(&self) -> usize {
        let resumed = |event: &&Event| matches!(event, Event::Resumed { .. });
        self.0.lock().unwrap().iter().filter(resumed).count()
    }
}

/// Both ends of a session, and the one that lets later connections in.
struct World {
    caller: End,
    called: (Arc<Line>, Reader),
    events: Events,
    identities: [Identity; 2],
    /// Where the called side itself listens.
    behind: SocketAddr,
}

fn world(weather: &Arc<Weather>) -> World {
    let authority = Authority::create("lab").unwrap();
    let (home, host) = (identity(&authority, 1), identity(&authority, 2));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let behind = listener.local_addr().unwrap();
    let address = network(behind, weather);
    let (opened, open) = mpsc::channel();
    let server = host.clone();
    thread::spawn(move || {
        let mut line: Option<Arc<Line>> = None;
        for mut stream in listener.incoming().map_while(Result::ok) {
            let channel =
                read_preamble(&mut stream, LIMIT).and_then(|_| Channel::accept(&server, stream, LIMIT));
            let Ok(channel) = channel else { continue };
            match &line {
                Some(line) => drop(line.readmit(channel)),
                None => {
                    let (new, reader) = Line::called(channel.split(), SESSION, Box::new(|_| {})).unwrap();
                    let new = Arc::new(new);
                    line = Some(new.clone());
                    opened.send((new, reader)).unwrap();
                }
            }
        }
    });
    let channel = Channel::connect(&home, address, Route::Session(SESSION), node(2), LIMIT).unwrap();
    let dial = Dial { identity: home.clone(), address, peer: node(2) };
    let (events, listener) = Events::new();
    let caller = Line::calling(channel.split(), SESSION, dial, listener).unwrap();
    World { caller, called: open.recv().unwrap(), events, identities: [home, host], behind }
}

fn payload(number: u32) -> Vec<u8> {
    let length = match number % 16 {
        0 => 40_000,
        even if even % 2 == 0 => 0,
        odd => (number as usize * 37 + odd as usize) % 900,
    };
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(4 + length, number as u8);
    payload
}

fn expect_all(reader: &mut Reader, count: u32) {
    for number in 0..count {
        let frame = reader.recv().unwrap();
        assert_eq!(frame.kind, number as u16);
        assert!(frame.payload == payload(number), "frame {number}");
    }
}

fn send_all(line: &Line, count: u32) {
    for number in 0..count {
        let bytes = payload(number);
        let (head, tail) = bytes.split_at(bytes.len() / 3);
        line.send(number as u16, &[head, tail]).unwrap();
    }
}

#[test]
fn nothing_is_lost_or_doubled_wherever_the_connection_is_cut() {
    const FRAMES: u32 = 30_000;
    const PATIENCE: Duration = Duration::from_millis(300);
    let weather = Arc::new(Weather::default());
    weather.cut_after.store(100_000, SeqCst);
    let world = world(&weather);
    let (line, reader) = world.caller;
    let (called, called_reader) = world.called;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Cut in the middle of whatever there is, sometimes of a handshake or a greeting.
        scope.spawn(|| {
            let mut state: u64 = 3000;
            while !over.load(SeqCst) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let budget = (state >> 33) as usize % 600_000;
                weather.cut_after.store(
                    if budget.is_multiple_of(3) { 700 + budget % 5000 } else { 5000 + budget % 300_000 },
                    SeqCst,
                );
                thread::sleep(Duration::from_millis(budget as u64 % 10));
                let (before, begun) = (world.events.resumed(), Instant::now());
                weather.cut();
                while world.events.resumed() == before && !over.load(SeqCst) {
                    // What is cut while all that is owed is sent again gets a little further each time; once it has all.
                    if begun.elapsed() > PATIENCE {
                        weather.cut_after.store(0, SeqCst);
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            }
            weather.cut_after.store(0, SeqCst);
        });
        scope.spawn(|| send_all(&line, FRAMES));
        scope.spawn(|| send_all(&called, FRAMES));
        // Who has all it wants reads on: a cut is found by reading.
        let (done, all) = mpsc::channel();
        for mut reader in [reader, called_reader] {
            let done = done.clone();
            scope.spawn(move || {
                expect_all(&mut reader, FRAMES);
                done.send(()).unwrap();
                assert!(matches!(reader.recv(), Err(Error::Over(_))));
            });
        }
        drop(done);
        let count = all.iter().take(2).count();
        over.store(true, SeqCst);
        line.end();
        called.end();
        assert_eq!(count, 2);
    });
    assert!(world.events.resumed() >= 5, "only {} cuts were survived", world.events.resumed());
}

#[test]
fn a_silent_cut_is_found_and_a_living_line_is_not_silent() {
    let weather = Arc::new(Weather::default());
    let world = world(&weather);
    let (line, mut reader) = world.caller;
    let (called, mut called_reader) = world.called;
    // The called side reads without waiting, as an agent with other things to do.
    let receive = |reader: &mut Reader| {
        let begun = Instant::now();
        loop {
            if let Some(frame) = reader.try_recv().unwrap() {
                return frame;
            }
            assert!(begun.elapsed() < Duration::from_secs(40), "no frame comes");
            let mut fds = reader
                .wakes()
                .map(|fd| rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN));
            let tick = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            rustix::event::poll(&mut fds, Some(&tick)).unwrap();
        }
    };
    line.send(1, &[b"before"]).unwrap();
    assert_eq!(receive(&mut called_reader).payload, b"before");
    // Nobody speaks for longer than a silence may last: only signs of life keep the connection.
    let (stop, stopped) = mpsc::channel();
    let watching = thread::spawn(move || {
        while stopped.try_recv().is_err() {
            assert!(called_reader.try_recv().unwrap().is_none());
            thread::sleep(Duration::from_millis(100));
        }
        called_reader
    });
    thread::spawn(move || reader.recv());
    thread::sleep(Duration::from_secs(LINE_SILENCE_SECONDS + 2));
    assert_eq!((weather.count.load(SeqCst), world.events.resumed()), (1, 0));
    stop.send(()).unwrap();
    let mut called_reader = watching.join().unwrap();
    weather.silent.store(true, SeqCst);
    line.send(2, &[b"into the dark"]).unwrap();
    let begun = Instant::now();
    thread::spawn({
        let weather = weather.clone();
        move || {
            thread::sleep(Duration::from_secs(LINE_SILENCE_SECONDS + 3));
            // What was held up arrives after all, on a connection that counts no more.
            weather.silent.store(false, SeqCst);
        }
    });
    assert_eq!(receive(&mut called_reader).payload, b"into the dark");
    assert!(begun.elapsed() < Duration::from_secs(LINE_SILENCE_SECONDS + 8), "{:?}", begun.elapsed());
    drop(called);
}

#[test]
fn whoever_only_looks_sees_frames_and_cuts() {
    let weather = Arc::new(Weather::default());
    let world = world(&weather);
    let (line, mut callers_reader) = world.caller;
    thread::spawn(move || callers_reader.recv());
    let (_called, mut reader) = world.called;
    let wait_for_something = |reader: &Reader| {
        let begun = Instant::now();
        while !reader.has_something().unwrap() {
            assert!(begun.elapsed() < LIMIT, "nothing comes");
            thread::yield_now();
        }
    };
    assert!(reader.has_something().unwrap(), "its first connection");
    assert!(reader.try_recv().unwrap().is_none());
    assert!(!reader.has_something().unwrap());
    line.send(1, &[b"one"]).unwrap();
    wait_for_something(&reader);
    assert_eq!(reader.try_recv().unwrap().unwrap().payload, b"one");
    assert!(!reader.has_something().unwrap());
    weather.cut();
    wait_for_something(&reader);
    line.send(2, &[b"two"]).unwrap();
    let frame = loop {
        wait_for_something(&reader);
        if let Some(frame) = reader.try_recv().unwrap() {
            break frame;
        }
    };
    assert_eq!(frame.payload, b"two");
}

#[test]
fn an_older_connection_never_takes_over() {
    let weather = Arc::new(Weather::default());
    let world = world(&weather);
    let (line, mut reader) = world.caller;
    let (called, mut called_reader) = world.called;
    thread::spawn(move || reader.recv());
    for number in 1..4 {
        weather.cut();
        line.send(number, &[b"again"]).unwrap();
        assert_eq!(called_reader.recv().unwrap().kind, number);
    }
    let [home, _] = &world.identities;
    let greet = |generation: u64, session: [u8; 16]| {
        let route = Route::Session(SESSION);
        let mut channel = Channel::connect(home, world.behind, route, node(2), LIMIT).unwrap();
        let mut greeting = session.to_vec();
        greeting.extend(generation.to_le_bytes());
        greeting.extend(0u64.to_le_bytes());
        channel.send(u16::MAX - 1, &[&greeting]).unwrap();
        channel.recv()
    };
    for stale in [0, 1, 2] {
        assert!(greet(stale, [7; 16]).is_err(), "generation {stale} took over");
    }
    assert!(greet(1000, [8; 16]).is_err(), "another session's connection took over");
    line.send(9, &[b"still the same"]).unwrap();
    assert_eq!(called_reader.recv().unwrap().payload, b"still the same");
    drop(called);
}

#[test]
fn what_nobody_acknowledges_is_bounded_and_goes_on_after_the_cut() {
    let weather = Arc::new(Weather::default());
    let world = world(&weather);
    let (line, mut reader) = world.caller;
    let (called, mut called_reader) = world.called;
    thread::spawn(move || reader.recv());
    weather.closed.store(true, SeqCst);
    weather.cut();
    let frame = vec![1; 1 << 20];
    let mut sent = 0;
    while line.try_send(1, &[&frame]).unwrap() {
        sent += 1;
        assert!(sent * frame.len() <= UNACKNOWLEDGED_BYTES_MAX, "no bound");
    }
    assert!(sent >= 4);
    weather.closed.store(false, SeqCst);
    let waiting = thread::spawn(move || {
        line.send(2, &[&frame]).unwrap();
        line
    });
    for _ in 0..sent {
        assert_eq!(called_reader.recv().unwrap().payload.len(), 1 << 20);
    }
    assert_eq!(called_reader.recv().unwrap().kind, 2);
    drop((waiting.join().unwrap(), called));
}

#[test]
fn a_session_that_nobody_knows_is_over_at_once() {
    let weather = Arc::new(Weather::default());
    let authority = Authority::create("lab").unwrap();
    let (home, host) = (identity(&authority, 1), identity(&authority, 2));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = network(listener.local_addr().unwrap(), &weather);
    let served = thread::spawn(move || {
        let accept = || {
            let (mut stream, _) = listener.accept().unwrap();
            read_preamble(&mut stream, LIMIT).unwrap();
            stream
        };
        drop(Channel::accept(&host, accept(), LIMIT).unwrap());
        Channel::deny(&host, accept(), LIMIT).unwrap();
    });
    let channel = Channel::connect(&home, address, Route::Session(SESSION), node(2), LIMIT).unwrap();
    let dial = Dial { identity: home, address, peer: node(2) };
    let begun = Instant::now();
    let (line, mut reader) = Line::calling(channel.split(), SESSION, dial, Box::new(|_| {})).unwrap();
    match reader.recv() {
        Err(Error::Over(why)) => assert!(why.contains("node 2 does not know it"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < LIMIT);
    assert!(matches!(line.send(1, &[]), Err(Error::Over(_))));
    served.join().unwrap();
}

#[test]
fn the_last_words_are_heard() {
    let weather = Arc::new(Weather::default());
    let world = world(&weather);
    let (line, mut reader) = world.caller;
    let (called, mut called_reader) = world.called;
    let reading = thread::spawn(move || while reader.recv().is_ok() {});
    called.send(5, &[b"unread at the end"]).unwrap();
    line.send(6, &[b"farewell"]).unwrap();
    let parting = thread::spawn(move || line.part());
    assert_eq!(called_reader.recv().unwrap().payload, b"farewell");
    drop((called_reader, called));
    weather.cut();
    parting.join().unwrap();
    reading.join().unwrap();
}
