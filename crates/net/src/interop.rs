//! Our record layer against an unmodified rustls connection.

use crate::frame::{HEADER_BYTES, Header, KIND_WELCOME};
use crate::{Authority, Channel, Error, Identity, Route, read_preamble};
use model::NodeId;
use rustls::{ClientConnection, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

fn identities() -> (Identity, Identity) {
    let authority = Authority::create("lab").unwrap();
    let identity = |number| {
        let issued = authority.issue(NodeId::new(number).unwrap(), "n").unwrap();
        Identity::from_pem(authority.ca_pem(), &issued.cert_pem, &issued.key_pem).unwrap()
    };
    (identity(1), identity(2))
}

fn read_frame(stream: &mut impl Read) -> (u16, Vec<u8>) {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).unwrap();
    let header = Header::decode(&header).unwrap();
    let mut payload = vec![0; header.length];
    stream.read_exact(&mut payload).unwrap();
    (header.kind, payload)
}

fn write_frame(stream: &mut impl Write, kind: u16, payload: &[u8]) {
    stream.write_all(&Header::new(kind, payload.len()).unwrap().encode()).unwrap();
    stream.write_all(payload).unwrap();
    stream.flush().unwrap();
}

/// A plain rustls server that echoes frames, renewing its keys each time, until the goodbye.
fn echo_server(identity: &Identity, listener: &TcpListener) -> usize {
    let (mut stream, _) = listener.accept().unwrap();
    read_preamble(&mut stream, TIMEOUT).unwrap();
    let connection = ServerConnection::new(identity.server.clone()).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    write_frame(&mut stream, KIND_WELCOME, &[]);
    let mut frames = 0;
    while stream.fill_buf_or_end() {
        let (kind, payload) = read_frame(&mut stream);
        stream.conn.refresh_traffic_keys().unwrap();
        write_frame(&mut stream, kind, &payload);
        frames += 1;
    }
    frames
}

trait FillBufOrEnd {
    fn fill_buf_or_end(&mut self) -> bool;
}

impl FillBufOrEnd for StreamOwned<ServerConnection, TcpStream> {
    /// `false` after an orderly end; rustls reports a cut as an error.
    fn fill_buf_or_end(&mut self) -> bool {
        !std::io::BufRead::fill_buf(self).unwrap().is_empty()
    }
}

#[test]
fn our_client_speaks_with_a_plain_rustls_server_through_key_updates() {
    let (ours, theirs) = identities();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || echo_server(&theirs, &listener));
    let channel = Channel::connect(&ours, address, Route::Control, NodeId::new(2).unwrap(), TIMEOUT).unwrap();
    let (mut sender, mut receiver) = channel.split();
    sender.set_records_per_key(3);
    for (kind, length) in [(1, 10), (2, 0), (3, 100_000), (4, 16_384), (5, 16_376), (6, 16_377)] {
        let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
        sender.send(kind, &[&payload]).unwrap();
        let frame = receiver.recv().unwrap();
        assert_eq!((frame.kind, frame.payload == payload), (kind, true));
    }
    sender.close().unwrap();
    assert_eq!(server.join().unwrap(), 6);
}

#[test]
fn our_server_speaks_with_a_plain_rustls_client() {
    let (ours, theirs) = identities();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        let stream = TcpStream::connect(address).unwrap();
        let connection = ClientConnection::new(theirs.client.clone(), address.ip().into()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        assert_eq!(read_frame(&mut stream), (KIND_WELCOME, Vec::new()));
        write_frame(&mut stream, 5, b"before");
        stream.conn.refresh_traffic_keys().unwrap();
        write_frame(&mut stream, 6, b"after");
        stream.conn.send_close_notify();
        stream.conn.complete_io(&mut stream.sock).unwrap();
    });
    let (stream, _) = listener.accept().unwrap();
    let mut channel = Channel::accept(&ours, stream, TIMEOUT).unwrap();
    assert_eq!(channel.recv().unwrap().payload, b"before");
    assert_eq!(channel.recv().unwrap().payload, b"after");
    assert!(matches!(channel.recv(), Err(Error::Closed)));
    client.join().unwrap();
}

#[test]
fn a_frame_that_claims_too_much_costs_nothing() {
    let (ours, theirs) = identities();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        let stream = TcpStream::connect(address).unwrap();
        let connection = ClientConnection::new(theirs.client.clone(), address.ip().into()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        stream.write_all(&[1, 0, 5, 0, 255, 255, 255, 255]).unwrap();
        stream.flush().unwrap();
        let _ = stream.read(&mut [0; 64]);
    });
    let (stream, _) = listener.accept().unwrap();
    let mut channel = Channel::accept(&ours, stream, TIMEOUT).unwrap();
    assert!(matches!(channel.recv(), Err(Error::TooLarge(0xffff_ffff))));
    drop(channel);
    client.join().unwrap();
}

#[test]
fn a_changed_byte_ends_the_channel() {
    let (ours, theirs) = identities();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        Channel::connect(&theirs, address, Route::Control, NodeId::new(1).unwrap(), TIMEOUT).unwrap()
    });
    let (mut stream, _) = listener.accept().unwrap();
    read_preamble(&mut stream, TIMEOUT).unwrap();
    let mut raw = stream.try_clone().unwrap();
    let _server = Channel::accept(&ours, stream, TIMEOUT).unwrap();
    let mut client = client.join().unwrap();
    // A forged record in the middle of the server's stream.
    let mut forged = vec![23, 3, 3, 0, 40];
    forged.extend([0x41; 40]);
    raw.write_all(&forged).unwrap();
    assert!(matches!(client.recv(), Err(Error::Malformed(_))));
}
