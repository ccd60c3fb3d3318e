//! What daemons ask each other on a control connection, and what a joining machine asks.
//!
//! One frame holds one message, encoded by postcard; each request is answered by one frame.

use model::limits::PEER_MESSAGE_BYTES_MAX;
use model::{CpuProfile, Decay, Hold, Mask, NodeId, ProcessId, Reasons, Reservation, Session};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;

/// Frame kind of a [`PeerRequest`].
pub const KIND_PEER_REQUEST: u16 = 1;
/// Frame kind of a [`PeerAnswer`].
pub const KIND_PEER_ANSWER: u16 = 2;
/// Frame kind of a [`JoinRequest`].
pub const KIND_JOIN_REQUEST: u16 = 3;
/// Frame kind of a [`JoinAnswer`].
pub const KIND_JOIN_ANSWER: u16 = 4;

/// One daemon's question to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// Who are you, and how are you? Answered by [`PeerAnswer::Info`].
    Info,
    /// Take a guest; answered by [`PeerAnswer::Accepted`] or [`PeerAnswer::Refused`].
    Offer(Offer),
    /// The load of this node's CPUs makes it wish to give a guest away; answered by [`PeerAnswer::Relocated`] or
    /// [`PeerAnswer::Refused`] when it is over.
    Relocate(Relocation),
    /// A node has joined the cluster; answered by [`PeerAnswer::Noted`]. Known nodes are not changed by it.
    Introduce(NodeAddress),
    /// Which cluster keys are believed? Answered by [`PeerAnswer::ClusterKeys`].
    ClusterKeys,
    /// Here is a new cluster key; answered by [`PeerAnswer::Noted`].
    NewClusterKey(SharedKey),
    /// Somebody has said something else about a guest of that node; answered by [`PeerAnswer::Noted`].
    Bind(Binding),
}

/// The answer to a [`PeerRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerAnswer {
    /// To [`PeerRequest::Info`].
    Info(NodeInfo),
    /// A warden waits for connections of this session.
    Accepted {
        /// The name of the stay.
        session: Session,
    },
    /// The guest is not taken, for all these reasons.
    Refused(Reasons),
    /// The guest runs where it was wished.
    Relocated {
        /// How long it stood still, microseconds.
        freeze_us: u64,
    },
    /// The news was taken in.
    Noted,
    /// To [`PeerRequest::ClusterKeys`]: newest first.
    ClusterKeys(Vec<SharedKey>),
}

/// A generation of the cluster's key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedKey {
    /// Its number.
    pub generation: u32,
    /// The secret.
    pub secret: [u8; 32],
}

impl fmt::Debug for SharedKey {
    /// Without the secret, which has no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedKey").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// A process that is to become a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its home: the node that asks.
    pub home: NodeId,
    /// The process, at its home.
    pub process: ProcessId,
    /// Its command name.
    pub name: String,
    /// Its owner at home.
    pub uid: u32,
    /// Its threads.
    pub threads: u32,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// What it may be using of its home's CPU.
    pub cpu: CpuProfile,
    /// Kernel release of its home.
    pub kernel: String,
    /// The room that was promised.
    pub reservation: Option<Reservation>,
    /// What people have said about it.
    pub bonds: Bonds,
}

/// What people have said about a process that its host heeds when it thinks of wishing it elsewhere; its home has the last
/// word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bonds {
    /// Whether it is to stay where it is.
    pub hold: Option<Hold>,
    /// The nodes that it may use.
    pub mask: Mask,
    /// How fast what it has done is forgotten.
    pub decay: Option<Decay>,
}

/// What holds for a guest from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The guest, by its pid at its home, which says this.
    pub pid: i32,
    /// What holds.
    pub bonds: Bonds,
}

/// A host's wish that a guest of its be moved by the guest's home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocation {
    /// The guest, by its pid at home.
    pub pid: i32,
    /// Where to; its home among others.
    pub to: NodeId,
    /// The room that was promised there.
    pub reservation: Option<Reservation>,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub name: String,
    /// CPUs it may use.
    pub cpus: u32,
    /// Memory it may use, bytes.
    pub memory_bytes: u64,
    /// Memory that is free for guests, bytes.
    pub memory_free_bytes: u64,
    /// Guests on it.
    pub guests: u32,
    /// It takes guests at all.
    pub accepts: bool,
    /// Its CPU.
    pub cpu: CpuProfile,
    /// Kernel release.
    pub kernel: String,
    /// Version of its daemon.
    pub version: String,
}

/// Where a node is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: String,
}

/// A machine's wish to become a node.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The secret of its invitation.
    pub secret: [u8; 32],
    /// The public half of its key, as a PEM certificate request.
    pub csr_pem: String,
    /// The name it wants; empty for the one in the invitation.
    pub name: String,
    /// The TCP port its daemon will listen on.
    pub port: u16,
}

impl fmt::Debug for JoinRequest {
    /// Without the secret, which has no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("name", &self.name)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// The answer to a [`JoinRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// Welcome.
    Joined {
        /// The new node's id.
        node: NodeId,
        /// The new node's name.
        name: String,
        /// The authority's certificate.
        ca_pem: String,
        /// The new node's certificate.
        cert_pem: String,
        /// The nodes of the cluster, the answering one first. Its address is empty: the caller has just used it.
        peers: Vec<NodeAddress>,
        /// The cluster's keys, newest first; none where the answering node has none.
        keys: Vec<SharedKey>,
    },
    /// Not welcome: one line that names the remedy.
    Refused(String),
}

/// A message is not of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// It is larger than [`PEER_MESSAGE_BYTES_MAX`].
    #[error("handle a message of {0} bytes: it is too large")]
    TooLarge(usize),
    /// Its bytes mean nothing.
    #[error("understand a message: {0}")]
    Malformed(#[from] postcard::Error),
    /// Bytes follow it.
    #[error("understand a message: {0} bytes follow it")]
    Trailing(usize),
}

/// The bytes of a message of this module.
pub fn encode<Message: Serialize>(message: &Message) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_stdvec(message)?;
    if bytes.len() > PEER_MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// The message in a frame's payload.
pub fn decode<Message: DeserializeOwned>(bytes: &[u8]) -> Result<Message, CodecError> {
    if bytes.len() > PEER_MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge(bytes.len()));
    }
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        (_, rest) => Err(CodecError::Trailing(rest.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_nothing_may_follow() {
        let offer = PeerRequest::Offer(Offer {
            home: NodeId::try_from(3).unwrap(),
            process: ProcessId { pid: 77, start_ticks: 123_456 },
            name: "x264".to_owned(),
            uid: 1000,
            threads: 4,
            memory_bytes: 1 << 30,
            cpu: CpuProfile::default(),
            kernel: "6.1.0".to_owned(),
            reservation: Some(Reservation { asker: NodeId::try_from(3).unwrap(), number: 7 }),
            bonds: Bonds { hold: Some(Hold::Locked), mask: Mask::Any, decay: Some(Decay::Fast) },
        });
        let mut bytes = encode(&offer).unwrap();
        assert_eq!(decode::<PeerRequest>(&bytes), Ok(offer));
        bytes.push(0);
        assert_eq!(decode::<PeerRequest>(&bytes), Err(CodecError::Trailing(1)));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let bytes = encode(&PeerAnswer::Refused(Reasons(vec![model::ReasonCode::Memory.into()]))).unwrap();
        for end in 0..bytes.len() {
            assert!(decode::<PeerAnswer>(&bytes[..end]).is_err());
        }
        for index in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[index] = value;
                let _ = decode::<PeerAnswer>(&changed);
            }
        }
        assert!(decode::<PeerAnswer>(&vec![0; PEER_MESSAGE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn a_secret_is_not_printed() {
        let request =
            JoinRequest { secret: [0xaa; 32], csr_pem: String::new(), name: "n".to_owned(), port: 1 };
        assert!(!format!("{request:?}").contains("170"));
        assert!(!format!("{:?}", SharedKey { generation: 1, secret: [0xaa; 32] }).contains("170"));
    }
}
