//! Frames: what a channel carries.
//!
//! ```text
//! 0        1      2          4              8
//! version  flags  kind (LE)  length (LE)    payload
//! ```

use crate::Error;
use model::limits::FRAME_BYTES_MAX;

pub(crate) const HEADER_BYTES: usize = 8;
const VERSION: u8 = 1;

/// The kind of the one frame that a channel sends for itself: the server's word that it accepted the client.
pub(crate) const KIND_WELCOME: u16 = 0;
/// How many frames of a session the speaker has received: an acknowledgement, and a sign of life.
pub(crate) const KIND_SEEN: u16 = u16::MAX;
/// The first frame, from both sides, of a connection that goes on with a session.
pub(crate) const KIND_RESUME: u16 = u16::MAX - 1;
/// Nobody here knows the session.
pub(crate) const KIND_UNKNOWN: u16 = u16::MAX - 2;
/// The speaker has ended the session: nobody has to wait for it. Empty.
pub(crate) const KIND_OVER: u16 = u16::MAX - 3;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// What it is; the numbers are `wire`'s. 0 and the four largest are the channel's own.
    pub kind: u16,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// A frame's header, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) length: usize,
}

impl Header {
    pub(crate) fn new(kind: u16, length: usize) -> Result<Header, Error> {
        if length > FRAME_BYTES_MAX {
            return Err(Error::TooLarge(length as u64));
        }
        Ok(Header { kind, length })
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let [kind_low, kind_high] = self.kind.to_le_bytes();
        let [a, b, c, d] = (self.length as u32).to_le_bytes();
        [VERSION, 0, kind_low, kind_high, a, b, c, d]
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, Error> {
        let [version, flags, kind_low, kind_high, a, b, c, d] = *bytes;
        if version != VERSION {
            return Err(Error::Malformed("a frame of another version"));
        }
        if flags != 0 {
            return Err(Error::Malformed("a frame with unknown flags"));
        }
        Header::new(u16::from_le_bytes([kind_low, kind_high]), u32::from_le_bytes([a, b, c, d]) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_accepted_has_one_spelling(bytes: [u8; HEADER_BYTES], valid_head: bool) {
            let mut bytes = bytes;
            if valid_head {
                bytes[..2].copy_from_slice(&[VERSION, 0]);
            }
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert!(header.length <= FRAME_BYTES_MAX);
                prop_assert_eq!(header.encode(), bytes);
            }
        }

        #[test]
        fn headers_round_trip(kind: u16, length in 0..=FRAME_BYTES_MAX) {
            let header = Header::new(kind, length).unwrap();
            prop_assert_eq!(Header::decode(&header.encode()).unwrap(), header);
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused() {
        assert!(matches!(Header::new(1, FRAME_BYTES_MAX + 1), Err(Error::TooLarge(_))));
        assert!(matches!(Header::decode(&[VERSION, 0, 1, 0, 255, 255, 255, 255]), Err(Error::TooLarge(_))));
    }
}
