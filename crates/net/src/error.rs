//! What can go wrong with a channel.

use model::NodeId;
use std::io;

/// A channel could not be made, or is of no more use: no variant leaves it usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer said that it has nothing more to send.
    #[error("go on: the peer closed the connection")]
    Closed,
    /// The peer was silent for too long.
    #[error("hear from the peer in time")]
    TimedOut,
    /// The two sides did not agree on keys and identities.
    #[error("agree with the peer on a secure channel: {0}")]
    Handshake(String),
    /// The peer proved to be somebody else in the same cluster.
    #[error("find node {expected} there: the peer is node {found}")]
    WrongPeer {
        /// Who was wanted.
        expected: NodeId,
        /// Who it is.
        found: NodeId,
    },
    /// A frame is larger than [`model::limits::FRAME_BYTES_MAX`].
    #[error("handle a frame of {0} bytes: it is too large")]
    TooLarge(u64),
    /// The peer sent what this protocol does not know.
    #[error("understand the peer: {0}")]
    Malformed(&'static str),
    /// The socket failed, or the connection was cut in the middle ([`io::ErrorKind::UnexpectedEof`]).
    #[error("use the connection: {0}")]
    Io(#[source] io::Error),
    /// The peer's node does not know the session: whoever served it has ended.
    #[error("go on with the session: nobody there knows it")]
    UnknownSession,
    /// The session is over; why is told to whoever asks first, and to everybody after.
    #[error("go on with the session: {0}")]
    Over(String),
    /// A certificate or key on disk or in memory is of no use.
    #[error("use {subject}: {detail}")]
    Identity {
        /// The file or thing.
        subject: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl Error {
    pub(crate) fn identity(subject: impl Into<String>, detail: impl ToString) -> Error {
        Error::Identity { subject: subject.into(), detail: detail.to_string() }
    }

    pub(crate) fn cut() -> Error {
        Error::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was cut"))
    }
}

impl From<io::Error> for Error {
    /// A socket with a time limit reports its end as `WouldBlock`.
    fn from(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::TimedOut,
            _ => Error::Io(error),
        }
    }
}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Error {
        io::Error::from(errno).into()
    }
}
