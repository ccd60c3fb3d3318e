//! Where the daemon asks: a thread that also answers connections while the warden is busy.
//!
//! A connection that goes on with the session is taken in here, because the warden may be busy for longer than its home
//! waits. Everything else is handed on.

use super::connections::{self, Wanted};
use model::NodeId;
use model::limits::HANDSHAKE_SECONDS;
use net::{Channel, Identity, Line};
use rustix::event::{EventfdFlags, eventfd};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Questions that wait for the warden, at most.
const QUESTIONS_MAX: usize = 8;
/// After something that was no question: a listener that fails must not cost a CPU.
const REST: Duration = Duration::from_millis(10);

/// The warden's side.
pub(super) struct Reception {
    questions: Receiver<Wanted>,
    wake: OwnedFd,
}

impl Reception {
    /// Begins to answer.
    pub(super) fn open(
        listener: &UnixListener,
        identity: Identity,
        home: NodeId,
        line: &Arc<Line>,
    ) -> std::io::Result<Reception> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let ring = wake.try_clone()?;
        let listener = listener.try_clone()?;
        let line = Arc::downgrade(line);
        let (sender, questions) = mpsc::sync_channel(QUESTIONS_MAX);
        let receive = move || {
            while line.strong_count() > 0 {
                match connections::accept(&listener) {
                    Some(Wanted::Connection(socket)) => let_in(&identity, home, &line, socket),
                    // Where too many wait already, whoever asks hears nothing: connections must not wait behind questions.
                    Some(question) => {
                        if sender.try_send(question).is_ok() {
                            let _ = rustix::io::write(&ring, &1u64.to_ne_bytes());
                        }
                    }
                    None => std::thread::sleep(REST),
                }
            }
        };
        std::thread::Builder::new().name("reception".into()).spawn(receive)?;
        Ok(Reception { questions, wake })
    }

    /// Becomes readable when a question may be there.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// The next question, if there is one.
    pub(super) fn question(&self) -> Option<Wanted> {
        let question = self.questions.try_recv().ok();
        if question.is_none() {
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.wake, &mut count);
            // One that came between the two looks.
            return self.questions.try_recv().ok();
        }
        question
    }
}

/// Only the home may go on with the session.
fn let_in(identity: &Identity, home: NodeId, line: &Weak<Line>, socket: TcpStream) {
    let channel = match Channel::accept(identity, socket, Duration::from_secs(HANDSHAKE_SECONDS)) {
        Ok(channel) if channel.peer() == home => channel,
        Ok(channel) => return tracing::warn!(peer = %channel.peer(), "a connection that is not due"),
        Err(error) => return tracing::warn!(%error, "a connection that came to nothing"),
    };
    let Some(line) = line.upgrade() else { return };
    if let Err(error) = line.readmit(channel) {
        tracing::warn!(%error, "a connection that may not go on with the session");
    }
}
