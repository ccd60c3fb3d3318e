//! Measures a channel over the loopback: round trips of small frames, and bulk.
//!
//! `cargo run --release -p net --example speed`

use model::NodeId;
use net::{Authority, Channel, Identity, Route, read_preamble};
use std::error::Error;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

const ROUND_TRIPS: u32 = 20_000;
const BULK_FRAMES: usize = 4096;
const BULK_BYTES: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(5);

fn identity(authority: &Authority, number: u16) -> Result<(NodeId, Identity), Box<dyn Error>> {
    let node = NodeId::try_from(number)?;
    let issued = authority.issue(node, "speed")?;
    Ok((node, Identity::from_pem(authority.ca_pem(), &issued.cert_pem, &issued.key_pem)?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let authority = Authority::create("speed")?;
    let (_, client) = identity(&authority, 1)?;
    let (server_node, server) = identity(&authority, 2)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = thread::spawn(move || -> Result<(), net::Error> {
        let (mut stream, _) = listener.accept()?;
        read_preamble(&mut stream, TIMEOUT)?;
        let (mut sender, mut receiver) = Channel::accept(&server, stream, TIMEOUT)?.split();
        let mut payload = Vec::new();
        for _ in 0..ROUND_TRIPS {
            let kind = receiver.recv_into(&mut payload)?;
            sender.send(kind, &[&payload])?;
        }
        for _ in 0..BULK_FRAMES {
            receiver.recv_into(&mut payload)?;
        }
        sender.send(1, &[])
    });
    let (mut sender, mut receiver) =
        Channel::connect(&client, address, Route::Control, server_node, TIMEOUT)?.split();
    let mut payload = Vec::new();
    let start = Instant::now();
    for _ in 0..ROUND_TRIPS {
        sender.send(1, &[&[7; 100]])?;
        receiver.recv_into(&mut payload)?;
    }
    println!(
        "round trip of 100 bytes: {:.1} us",
        start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUND_TRIPS)
    );
    let chunk = vec![7; BULK_BYTES];
    let start = Instant::now();
    for _ in 0..BULK_FRAMES {
        sender.send(1, &[&chunk])?;
    }
    receiver.recv_into(&mut payload)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("bulk: {:.2} GB/s", (BULK_FRAMES * BULK_BYTES) as f64 / seconds / 1e9);
    echo.join().map_err(|_| "the echo thread died")??;
    Ok(())
}
