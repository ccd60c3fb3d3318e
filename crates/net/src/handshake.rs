//! The TLS handshake on a socket, ending with the keys in our hands.
//!
//! rustls gets whole records, one at a time, read exactly to their last byte: when the handshake is over, whatever the
//! peer has sent after it is still in the socket, and nothing of ours lies in rustls.

use crate::Error;
use crate::record::{KeySchedule, RecordKey};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, ServerConfig};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Bytes of all records of one handshake, at most: certificates here are below 1 kB each.
const HANDSHAKE_BYTES_MAX: usize = 128 << 10;

/// What a handshake leaves.
pub(crate) struct Keys {
    pub(crate) sealing: RecordKey,
    pub(crate) opening: RecordKey,
    pub(crate) schedule: KeySchedule,
    /// The peer's certificate, verified; `None` where none was asked for.
    pub(crate) certificate: Option<CertificateDer<'static>>,
}

/// rustls has the two sides as two types with the same methods and no trait over them.
macro_rules! drive {
    ($connection:expr, $socket:expr, $deadline:expr) => {{
        let mut incoming: Vec<u8> = Vec::new();
        let mut outgoing: Vec<u8> = Vec::new();
        let mut received = 0;
        loop {
            let mut wants_record = false;
            let UnbufferedStatus { discard, state } = $connection.process_tls_records(&mut incoming);
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut outgoing)?,
                Ok(ConnectionState::TransmitTlsData(done)) => {
                    write_all($socket, &mut outgoing, $deadline)?;
                    done.done();
                }
                Ok(ConnectionState::BlockedHandshake) => wants_record = true,
                // A server may write before the client has proved itself; we do not.
                Ok(ConnectionState::WriteTraffic(_)) => wants_record = true,
                Ok(_) => return Err(Error::Handshake("the peer broke it off".to_owned())),
                Err(error) => {
                    // Tell the peer why, as far as it listens. rustls wants to see the same buffer again.
                    incoming.drain(..discard);
                    loop {
                        let UnbufferedStatus { discard, state } =
                            $connection.process_tls_records(&mut incoming);
                        let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { break };
                        encode(&mut data, &mut outgoing)?;
                        incoming.drain(..discard);
                    }
                    let _ = write_all($socket, &mut outgoing, $deadline);
                    return Err(Error::Handshake(error.to_string()));
                }
            }
            incoming.drain(..discard);
            if wants_record {
                if !$connection.is_handshaking() {
                    break;
                }
                received += read_record($socket, &mut incoming, $deadline)?;
                if received > HANDSHAKE_BYTES_MAX {
                    return Err(Error::Malformed("a handshake without end"));
                }
            }
        }
        let certificate = $connection
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|first| first.clone().into_owned());
        let (secrets, schedule) = $connection
            .dangerous_into_kernel_connection()
            .map_err(|error| Error::Handshake(error.to_string()))?;
        (RecordKey::new(secrets.tx)?, RecordKey::new(secrets.rx)?, Mutex::new(schedule), certificate)
    }};
}

/// The client's side; `prefix` goes out in front, in the same packet.
pub(crate) fn client(
    config: Arc<ClientConfig>,
    socket: &TcpStream,
    prefix: &[u8],
    deadline: Instant,
) -> Result<Keys, Error> {
    let broken = |error: rustls::Error| Error::Handshake(error.to_string());
    // The address stands for a name that nobody looks at: the verifier compares certificates, not hosts.
    let name = ServerName::from(socket.peer_addr()?.ip());
    let mut connection = UnbufferedClientConnection::new(config, name).map_err(broken)?;
    let mut prefix = prefix.to_vec();
    write_all(socket, &mut prefix, deadline)?;
    let (sealing, opening, schedule, certificate) = drive!(connection, socket, deadline);
    Ok(Keys { sealing, opening, schedule: KeySchedule::Client(schedule), certificate })
}

/// The server's side.
pub(crate) fn server(
    config: Arc<ServerConfig>,
    socket: &TcpStream,
    deadline: Instant,
) -> Result<Keys, Error> {
    let broken = |error: rustls::Error| Error::Handshake(error.to_string());
    let mut connection = UnbufferedServerConnection::new(config).map_err(broken)?;
    let (sealing, opening, schedule, certificate) = drive!(connection, socket, deadline);
    Ok(Keys { sealing, opening, schedule: KeySchedule::Server(schedule), certificate })
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let start = outgoing.len();
    let mut room = 0;
    loop {
        outgoing.resize(start + room, 0);
        match data.encode(outgoing.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                outgoing.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => room = needed.required_size,
            Err(EncodeError::AlreadyEncoded) => return Ok(()),
        }
    }
}

fn left(deadline: Instant) -> Result<std::time::Duration, Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Error::TimedOut) } else { Ok(left) }
}

fn write_all(mut socket: &TcpStream, bytes: &mut Vec<u8>, deadline: Instant) -> Result<(), Error> {
    socket.set_write_timeout(Some(left(deadline)?))?;
    socket.write_all(bytes)?;
    bytes.clear();
    Ok(())
}

/// Appends the next record to `incoming`, and not a byte of what follows it; gives its length.
fn read_record(socket: &TcpStream, incoming: &mut Vec<u8>, deadline: Instant) -> Result<usize, Error> {
    let mut header = [0; 5];
    read_exact(socket, &mut header, deadline)?;
    let [content_type, major, _, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    // Change-cipher-spec, alert, handshake, data.
    if !(20..=23).contains(&content_type) || major != 3 || length > crate::record::LENGTH_MAX {
        return Err(Error::Malformed("no TLS"));
    }
    incoming.extend_from_slice(&header);
    let start = incoming.len();
    incoming.resize(start + length, 0);
    read_exact(socket, incoming.get_mut(start..).unwrap_or_default(), deadline)?;
    Ok(header.len() + length)
}

fn read_exact(mut socket: &TcpStream, mut room: &mut [u8], deadline: Instant) -> Result<(), Error> {
    while !room.is_empty() {
        socket.set_read_timeout(Some(left(deadline)?))?;
        match socket.read(room) {
            Ok(0) => return Err(Error::cut()),
            Ok(count) => room = room.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
