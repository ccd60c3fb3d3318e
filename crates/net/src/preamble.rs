//! The plain bytes in front of TLS: where a connection belongs.
//!
//! ```text
//! 0      4        5       6           8                24
//! "OMX1" version  kind    reserved=0  session or zeros
//! ```
//! It is not authenticated. Whoever gets the connection finds out by TLS who is there, and must not believe anything else.

use crate::Error;
use model::Session;
use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Length of a preamble.
pub const PREAMBLE_BYTES: usize = 24;

const MAGIC: [u8; 4] = *b"OMX1";
const VERSION: u8 = 1;

/// Where a connection belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the daemon itself.
    Control,
    /// To the warden of a session.
    Session(Session),
    /// To the daemon, from a machine that is not yet a node and has no certificate.
    Join,
}

/// The first 24 bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Where the connection belongs.
    pub route: Route,
}

impl Preamble {
    /// The bytes on the wire.
    pub fn encode(&self) -> [u8; PREAMBLE_BYTES] {
        let (kind, session) = match self.route {
            Route::Control => (1, [0; 16]),
            Route::Session(session) => (2, session.0),
            Route::Join => (3, [0; 16]),
        };
        let mut bytes = [0; PREAMBLE_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = kind;
        bytes[8..].copy_from_slice(&session);
        bytes
    }

    /// Reads the bytes; every byte counts, so that exactly one spelling of a preamble is accepted.
    pub fn decode(bytes: &[u8; PREAMBLE_BYTES]) -> Result<Preamble, Error> {
        if bytes[..4] != MAGIC {
            return Err(Error::Malformed("no preamble of this protocol"));
        }
        if bytes[4] != VERSION {
            return Err(Error::Malformed("a preamble of another version"));
        }
        if bytes[6..8] != [0, 0] {
            return Err(Error::Malformed("a preamble with unknown flags"));
        }
        let mut session = [0; 16];
        session.copy_from_slice(&bytes[8..]);
        let route = match (bytes[5], session) {
            (1, _) if session == [0; 16] => Route::Control,
            (2, session) => Route::Session(Session(session)),
            (3, _) if session == [0; 16] => Route::Join,
            _ => return Err(Error::Malformed("a preamble with an unknown route")),
        };
        Ok(Preamble { route })
    }
}

/// Reads the preamble and not one byte more, all of it within `timeout`. The stream's read time limit is changed.
pub fn read_preamble(stream: &mut TcpStream, timeout: Duration) -> Result<Preamble, Error> {
    let deadline = Instant::now() + timeout;
    let mut bytes = [0; PREAMBLE_BYTES];
    let mut filled = 0;
    while filled < PREAMBLE_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TimedOut);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Err(Error::cut()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        // Nobody who begins with something else is worth waiting for.
        let known = filled.min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(Error::Malformed("no preamble of this protocol"));
        }
    }
    Preamble::decode(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_accepted_has_one_spelling(bytes: [u8; PREAMBLE_BYTES], valid_head: bool, kind in 0u8..5) {
            let mut bytes = bytes;
            if valid_head {
                bytes[..8].copy_from_slice(&[b'O', b'M', b'X', b'1', VERSION, kind, 0, 0]);
            }
            if let Ok(preamble) = Preamble::decode(&bytes) {
                prop_assert_eq!(preamble.encode(), bytes);
            }
        }

        #[test]
        fn sessions_round_trip(session: [u8; 16]) {
            let preamble = Preamble { route: Route::Session(Session(session)) };
            prop_assert_eq!(Preamble::decode(&preamble.encode()).unwrap(), preamble);
        }
    }

    #[test]
    fn routes_without_a_session_round_trip() {
        for route in [Route::Control, Route::Join] {
            assert_eq!(Preamble::decode(&Preamble { route }.encode()).unwrap().route, route);
        }
    }
}
