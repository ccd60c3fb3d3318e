//! Asking a node's daemon, from outside of the node.

use control::{Answer, DAEMON_SOCKET, Event, FailureKind, Request};
use lab::NodeState;
use model::Reason;
use model::limits::{AGENT_SILENCE_SECONDS, CONTROL_LINE_BYTES_MAX};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long a daemon may be silent: longer than it waits itself for one of its agents.
const SILENCE_MAX: Duration = Duration::from_secs(AGENT_SILENCE_SECONDS + 30);

/// The daemon of one node.
pub(crate) struct Daemon {
    socket: PathBuf,
}

/// What a daemon made of a request.
pub(crate) enum Answered {
    /// It did it.
    Done(Answer),
    /// It did not.
    Failed {
        /// What kind of failure.
        kind: FailureKind,
        /// In words.
        message: String,
        /// All reasons, where it is a refusal.
        reasons: Vec<Reason>,
    },
}

impl Daemon {
    pub(crate) fn of(node: &NodeState) -> Daemon {
        Daemon { socket: node.seen_from_outside(DAEMON_SOCKET) }
    }

    /// Asks, and waits for the end of the answer.
    pub(crate) fn ask(&self, request: &Request) -> io::Result<Answered> {
        let mut stream = BufReader::new(UnixStream::connect(&self.socket)?);
        stream.get_ref().set_read_timeout(Some(SILENCE_MAX))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.get_mut().write_all(&line)?;
        loop {
            let mut line = Vec::new();
            (&mut stream).take(CONTROL_LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match serde_json::from_slice(&line)? {
                Event::Progress(_) | Event::Said { .. } => {}
                // Not for tools.
                Event::Again => return Err(io::ErrorKind::InvalidData.into()),
                Event::Done { answer } => return Ok(Answered::Done(answer)),
                Event::Failed { kind, message, reasons } => {
                    return Ok(Answered::Failed { kind, message, reasons });
                }
            }
        }
    }
}
