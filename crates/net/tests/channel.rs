//! Two nodes, a stranger and a vandal on the loopback.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use model::limits::FRAME_BYTES_MAX;
use model::{NodeId, Session};
use net::{Authority, Channel, Error, Identity, Route, connect_join, fingerprint, read_preamble};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(5);

fn node(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

fn identity(authority: &Authority, number: u16) -> Identity {
    let issued = authority.issue(node(number), &format!("n{number}")).unwrap();
    Identity::from_pem(authority.ca_pem(), &issued.cert_pem, &issued.key_pem).unwrap()
}

/// A listener that accepts one connection and gives what becomes of it.
fn serve(identity: Identity) -> (SocketAddr, JoinHandle<Result<Channel, Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_preamble(&mut stream, TIMEOUT)?;
        Channel::accept(&identity, stream, TIMEOUT)
    });
    (address, thread)
}

fn pair() -> (Channel, Channel) {
    let authority = Authority::create("lab").unwrap();
    let (address, server) = serve(identity(&authority, 2));
    let route = Route::Session(Session([7; 16]));
    let client = Channel::connect(&identity(&authority, 1), address, route, node(2), TIMEOUT).unwrap();
    (client, server.join().unwrap().unwrap())
}

#[test]
fn frames_go_both_ways() {
    let (mut client, mut server) = pair();
    assert_eq!((client.peer(), server.peer()), (node(2), node(1)));
    for (kind, length) in
        [(1, 0), (2, 1), (3, 100), (4, 16 << 10), (5, (16 << 10) - 8), (6, 100_000), (7, FRAME_BYTES_MAX)]
    {
        let payload: Vec<u8> = (0..length).map(|index| (index * 7 + index / 251) as u8).collect();
        let (head, tail) = payload.split_at(length / 3);
        thread::scope(|scope| {
            scope.spawn(|| client.send(kind, &[head, &[], tail]).unwrap());
            let frame = server.recv().unwrap();
            assert_eq!((frame.kind, frame.payload == payload), (kind, true), "{length} bytes");
        });
        server.send(kind, &[&payload[..length.min(300)]]).unwrap();
        assert_eq!(client.recv().unwrap().payload.len(), length.min(300));
    }
}

#[test]
fn a_frame_over_the_limit_is_not_sent() {
    let (mut client, mut server) = pair();
    let half = vec![0; FRAME_BYTES_MAX / 2 + 1];
    assert!(matches!(client.send(1, &[&half, &half]), Err(Error::TooLarge(_))));
    client.send(2, &[b"still here"]).unwrap();
    assert_eq!(server.recv().unwrap().payload, b"still here");
}

#[test]
fn a_goodbye_is_not_a_cut() {
    let (client, server) = pair();
    let (mut sender, receiver) = client.split();
    let (_server_sender, mut server_receiver) = server.split();
    sender.send(9, &[b"last"]).unwrap();
    sender.close().unwrap();
    assert_eq!(server_receiver.recv().unwrap().kind, 9);
    assert!(matches!(server_receiver.recv(), Err(Error::Closed)));
    drop((receiver, server_receiver));

    let (client, mut server) = pair();
    drop(client);
    match server.recv() {
        Err(Error::Io(error)) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof),
        other => panic!("{other:?}"),
    }
}

#[test]
fn try_recv_never_waits_and_leaves_nothing_behind() {
    let (client, server) = pair();
    let (mut sender, _keep) = client.split();
    let (_keep_too, mut receiver) = server.split();
    assert!(receiver.try_recv().unwrap().is_none());
    for kind in 1..=5 {
        sender.send(kind, &[&[kind as u8; 50]]).unwrap();
    }
    sender.send(6, &[&vec![6; 1 << 20]]).unwrap();
    let mut seen = Vec::new();
    let deadline = Instant::now() + TIMEOUT;
    while seen.len() < 6 {
        assert!(Instant::now() < deadline, "only {seen:?}");
        match receiver.try_recv().unwrap() {
            Some(frame) => seen.push(frame.kind),
            None => {
                let mut fds = [rustix::event::PollFd::new(&receiver, rustix::event::PollFlags::IN)];
                let limit = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
                assert_eq!(rustix::event::poll(&mut fds, Some(&limit)).unwrap(), 1);
            }
        }
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_silent_peer_is_not_waited_for_and_may_still_speak() {
    let (mut client, mut server) = pair();
    server.set_timeout(Some(Duration::from_millis(20))).unwrap();
    assert!(matches!(server.recv(), Err(Error::TimedOut)));
    client.send(3, &[b"at last"]).unwrap();
    server.set_timeout(None).unwrap();
    assert_eq!(server.recv().unwrap().payload, b"at last");
}

#[test]
fn both_halves_work_at_once() {
    const ROUNDS: u16 = 2000;
    let (client, server) = pair();
    let (client, server) = (client.split(), server.split());
    thread::scope(|scope| {
        for (mut sender, mut receiver) in [client, server] {
            scope.spawn(move || {
                let bytes = [0x5a; 3000];
                for round in 0..ROUNDS {
                    sender.send(round + 1, &[&bytes[..usize::from(round)]]).unwrap();
                }
                sender.close().unwrap();
            });
            scope.spawn(move || {
                let mut payload = Vec::new();
                for round in 0..ROUNDS {
                    assert_eq!(receiver.recv_into(&mut payload).unwrap(), round + 1);
                    assert_eq!(payload.len(), usize::from(round));
                }
                assert!(matches!(receiver.recv(), Err(Error::Closed)));
            });
        }
    });
}

#[test]
fn a_hundred_megabytes_arrive() {
    let (client, mut server) = pair();
    let (mut sender, _receiver) = client.split();
    let chunk: Vec<u8> =
        (0..1 << 20).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..100u16 {
                sender.send(round + 1, &[&chunk]).unwrap();
            }
        });
        for round in 0..100 {
            let frame = server.recv().unwrap();
            assert_eq!((frame.kind, frame.payload == chunk), (round + 1, true));
        }
    });
    println!("100 MiB in {:?}", start.elapsed());
}

#[test]
fn another_authority_is_refused_by_both_sides() {
    let ours = Authority::create("lab").unwrap();
    let theirs = Authority::create("lab").unwrap();
    let (address, server) = serve(identity(&ours, 2));
    let client = Channel::connect(&identity(&theirs, 1), address, Route::Control, node(2), TIMEOUT);
    assert!(matches!(client, Err(Error::Handshake(_))), "{client:?}");
    let server = server.join().unwrap();
    assert!(matches!(server, Err(Error::Handshake(_))), "{server:?}");
}

#[test]
fn another_node_is_not_taken_for_the_expected_one() {
    let authority = Authority::create("lab").unwrap();
    let (address, server) = serve(identity(&authority, 3));
    let client = Channel::connect(&identity(&authority, 1), address, Route::Control, node(2), TIMEOUT);
    assert!(matches!(client, Err(Error::WrongPeer { found, .. }) if found == node(3)), "{client:?}");
    drop(server);
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::create("lab").unwrap();
    let (address, server) = serve(identity(&authority, 2));
    let client = connect_join(address, fingerprint(authority.ca_pem()).unwrap(), TIMEOUT);
    assert!(client.is_err());
    let server = server.join().unwrap();
    assert!(matches!(server, Err(Error::Handshake(_))), "{server:?}");
}

#[test]
fn joining_needs_the_right_fingerprint() {
    let authority = Authority::create("lab").unwrap();
    let host = identity(&authority, 2);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut results = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(read_preamble(&mut stream, TIMEOUT).unwrap().route, Route::Join);
            results.push(net::accept_join(&host, stream, TIMEOUT));
        }
        results
    });
    let right = fingerprint(authority.ca_pem()).unwrap();
    let (host, mut sender, _receiver) =
        connect_join(address, right, TIMEOUT).map_err(|error| error.to_string()).unwrap();
    assert_eq!(host, node(2));
    sender.send(1, &[b"hello"]).unwrap();
    assert!(connect_join(address, [0; 32], TIMEOUT).is_err());
    let mut results = server.join().unwrap().into_iter();
    let (_sender, mut receiver) = results.next().unwrap().map_err(|error| error.to_string()).unwrap();
    assert_eq!(receiver.recv().unwrap().payload, b"hello");
    assert!(results.next().unwrap().is_err());
}

#[test]
fn garbage_instead_of_tls_is_refused() {
    for garbage in
        [&b"GET / HTTP/1.0\r\n\r\n"[..], &[22, 3, 1, 255, 255], &[0; 600], &[22, 3, 1, 0, 4, 1, 0, 0, 0]]
    {
        let authority = Authority::create("lab").unwrap();
        let (address, server) = serve(identity(&authority, 2));
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&net::Preamble { route: Route::Control }.encode()).unwrap();
        let _ = stream.write_all(garbage);
        // The server may have given up by now, and then there is nothing left to shut down.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        assert!(server.join().unwrap().is_err());
        // The server gave up and closed; a reset is as good as an end.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 100);
    }
}

#[test]
fn a_server_that_is_none_is_refused_in_time() {
    let authority = Authority::create("lab").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = Instant::now();
    let silent = Channel::connect(
        &identity(&authority, 1),
        address,
        Route::Control,
        node(2),
        Duration::from_millis(100),
    );
    assert!(matches!(silent, Err(Error::TimedOut)), "{silent:?}");
    assert!(start.elapsed() < TIMEOUT);
}

#[test]
fn a_preamble_is_waited_for_only_so_long() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    client.write_all(b"OMX1").unwrap();
    assert!(matches!(read_preamble(&mut stream, Duration::from_millis(50)), Err(Error::TimedOut)));
    client.write_all(b"SSH-2.0-x").unwrap();
    let (mut client, mut stream) = {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    };
    client.write_all(b"SSH-2.0-x").unwrap();
    assert!(matches!(read_preamble(&mut stream, TIMEOUT), Err(Error::Malformed(_))));
}
