//! Names of nodes, processes and sessions.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A node's number in its cluster: small, unique, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct NodeId(u16);

/// The text or number does not name what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {wanted}")]
pub struct ParseIdError {
    text: String,
    wanted: &'static str,
}

impl NodeId {
    /// A node id from its number; 0 is no node.
    pub fn new(number: u16) -> Option<NodeId> {
        (number != 0).then_some(NodeId(number))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for NodeId {
    type Error = ParseIdError;
    fn try_from(number: u16) -> Result<NodeId, ParseIdError> {
        NodeId::new(number)
            .ok_or_else(|| ParseIdError { text: number.to_string(), wanted: "a node id (1 to 65535)" })
    }
}

impl From<NodeId> for u16 {
    fn from(id: NodeId) -> u16 {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<NodeId, ParseIdError> {
        text.parse::<u16>()
            .ok()
            .and_then(NodeId::new)
            .ok_or_else(|| ParseIdError { text: text.to_owned(), wanted: "a node id (1 to 65535)" })
    }
}

/// Whether a text can be a node's name, which is shown in tables and typed in commands: 1 to
/// [`NAME_BYTES_MAX`](crate::limits::NAME_BYTES_MAX) letters, digits, '-', '_', '.'; not a number, not "home".
pub fn is_node_name(name: &str) -> bool {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    !name.is_empty()
        && name.len() <= crate::limits::NAME_BYTES_MAX
        && name.chars().all(letter)
        && name != "home"
        && name.parse::<u64>().is_err()
}

/// A process, named so that a reused pid is never mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Thread-group id in the pid namespace of its home node.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
}

/// Room that a node has promised to keep for a process, by the name that its asker gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reservation {
    /// The node that asked for it.
    pub asker: NodeId,
    /// The number of its question.
    pub number: u32,
}

/// One stay of one process on one host: the random name by which the connections of a migration find each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session(pub [u8; 16]);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({self})")
    }
}

impl FromStr for Session {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Session, ParseIdError> {
        let wrong =
            || ParseIdError { text: text.chars().take(40).collect(), wanted: "a session (32 hex digits)" };
        if text.len() != 32 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Session(bytes))
    }
}

/// Where somebody wants a process to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// The node where it was created.
    Home,
    /// A named node.
    Node(NodeId),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Home => f.write_str("home"),
            Destination::Node(id) => write!(f, "node {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_text_round_trips() {
        let session = Session(*b"0123456789abcdef");
        assert_eq!(session.to_string().parse::<Session>(), Ok(session));
        assert!("xyz".parse::<Session>().is_err());
        assert!("zz".repeat(16).parse::<Session>().is_err());
    }

    #[test]
    fn node_zero_is_no_node() {
        assert!("0".parse::<NodeId>().is_err());
        assert!("65536".parse::<NodeId>().is_err());
        assert_eq!("7".parse::<NodeId>().map(NodeId::get), Ok(7));
        assert!(serde_json_like_zero().is_err());
    }

    fn serde_json_like_zero() -> Result<NodeId, ParseIdError> {
        NodeId::try_from(0)
    }
}
