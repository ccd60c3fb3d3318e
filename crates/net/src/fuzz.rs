//! Doors for the fuzz targets (`fuzz/`): what nobody else may call.

use crate::frame::{HEADER_BYTES, Header};
use crate::handshake;
use crate::record::{KeySchedule, RecordKey};
use crate::{Authority, Error, Frame, Identity, Receiver};
use model::NodeId;
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::{AeadKey, Iv};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// A frame's header: what is accepted has one spelling.
pub fn frame_header(bytes: [u8; HEADER_BYTES]) -> Result<(u16, usize), Error> {
    let header = Header::decode(&bytes)?;
    assert_eq!(header.encode(), bytes);
    Ok((header.kind, header.length))
}

/// A piece of what a peer sends after the handshake.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A record, sealed as the peer would: its content's type, its content.
    Record(u8, &'a [u8]),
    /// Bytes as they are.
    Raw(&'a [u8]),
}

/// A receiver's surroundings, made once by a real handshake.
pub struct Surroundings {
    listener: TcpListener,
    schedule: Arc<KeySchedule>,
}

impl Surroundings {
    /// Makes them.
    pub fn new() -> Result<Surroundings, Error> {
        let authority = Authority::create("fuzz")?;
        let identity = |number| {
            let node = NodeId::new(number).ok_or(Error::Malformed("number"))?;
            let issued = authority.issue(node, "n")?;
            Identity::from_pem(authority.ca_pem(), &issued.cert_pem, &issued.key_pem)
        };
        let (server, client) = (identity(1)?, identity(2)?);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        let connecting = std::thread::spawn(move || {
            let socket = TcpStream::connect(address)?;
            handshake::client(client.client.clone(), &socket, &[], deadline).map(drop)
        });
        let (socket, _) = listener.accept()?;
        let keys = handshake::server(server.server.clone(), &socket, deadline)?;
        connecting.join().map_err(|_| Error::Malformed("client"))??;
        Ok(Surroundings { listener, schedule: Arc::new(keys.schedule) })
    }

    /// What a receiver makes of these pieces, up to its first error.
    pub fn receive(&self, pieces: &[Piece<'_>]) -> Result<Vec<Frame>, Error> {
        let mut sealing = key()?;
        let mut sent = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Record(kind, content) => {
                    sealing.seal(&mut sent, *kind, content.len(), |out| out.extend_from_slice(content))?;
                }
                Piece::Raw(bytes) => sent.extend_from_slice(bytes),
            }
        }
        let mut peer = TcpStream::connect(self.listener.local_addr()?)?;
        let (socket, _) = self.listener.accept()?;
        let wanted = Arc::new(AtomicBool::new(false));
        let mut receiver = Receiver::new(Arc::new(socket), key()?, self.schedule.clone(), wanted);
        // Another thread, as the pieces may be more than the socket holds.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = peer.write_all(&sent);
            });
            let mut frames = Vec::new();
            loop {
                match receiver.recv() {
                    Ok(frame) => frames.push(frame),
                    Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                        return Ok(frames);
                    }
                    Err(error) => {
                        drop(receiver);
                        return Err(error);
                    }
                }
            }
        })
    }
}

fn key() -> Result<RecordKey, Error> {
    let secrets = ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from([7; 32]), iv: Iv::from([9; 12]) };
    RecordKey::new((0, secrets))
}
