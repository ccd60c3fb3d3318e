//! What can go wrong on a journey.

use model::{Reason, ReasonCode, Reasons};
use std::io;
use wire::session::{Malformed, Refusal};

/// A failed step of a journey.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A step on the process itself.
    #[error(transparent)]
    Process(#[from] tracee::Error),
    /// The connection.
    #[error("the connection to the other node: {0}")]
    Net(#[from] net::Error),
    /// The other node sent what no honest one sends.
    #[error("the other node sent a {0}")]
    Malformed(#[from] Malformed),
    /// The other node sent something that does not belong here.
    #[error("the other node sent {got} where {wanted} was due")]
    Unexpected {
        /// What it sent.
        got: u16,
        /// What was due.
        wanted: &'static str,
    },
    /// Something was said or done out of its place in a hand-over.
    #[error(transparent)]
    OutOfPlace(#[from] migration::OutOfPlace),
    /// The other node cannot do it.
    #[error("{}", refusal_text(.0))]
    Refused(Refusal),
    /// A file.
    #[error("{what}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A file came whose bytes are not those of its name: a lie, or somebody writes to it.
    #[error("the other node sent a file whose bytes are not those of its name")]
    Changed,
    /// The other side of this very process is gone.
    #[error("the process has ended")]
    Ended,
    /// Another part of this agent ended.
    #[error("the agent is ending")]
    Ending,
}

fn refusal_text(refusal: &Refusal) -> String {
    if refusal.reasons.0.is_empty() { refusal.message.clone() } else { refusal.reasons.to_string() }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err`.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { what, source }
    }

    /// As it is told to the other node.
    pub(crate) fn to_refusal(&self) -> Refusal {
        match self {
            Error::Refused(refusal) => refusal.clone(),
            Error::Process(tracee::Error::Refused(reasons)) => {
                Refusal { reasons: reasons.clone(), message: reasons.to_string() }
            }
            Error::Process(tracee::Error::Stuck(tid)) => one(ReasonCode::Stuck, format!("thread {tid}")),
            Error::Io { source, .. } if source.raw_os_error() == Some(nix::libc::ENOSPC) => {
                one(ReasonCode::Disk, String::new())
            }
            Error::Process(error) if out_of_memory(error) => one(ReasonCode::Memory, String::new()),
            other => Refusal { reasons: Reasons::default(), message: model::one_line(other) },
        }
    }
}

fn one(code: ReasonCode, detail: String) -> Refusal {
    let reason = Reason::new(code, detail);
    Refusal { message: reason.to_string(), reasons: Reasons(vec![reason]) }
}

fn out_of_memory(error: &tracee::Error) -> bool {
    use kernel::Errno;
    match error {
        tracee::Error::Kernel { errno, .. } | tracee::Error::Inside { errno, .. } => *errno == Errno::ENOMEM,
        tracee::Error::Io { source, .. } => source.raw_os_error() == Some(Errno::ENOMEM as i32),
        _ => false,
    }
}
