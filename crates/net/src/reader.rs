//! The receiving end of a session.

use crate::frame::{KIND_OVER, KIND_SEEN};
use crate::ledger::Due;
use crate::line::{Shared, State};
use crate::{Error, Frame, Receiver};
use model::limits::LINE_SILENCE_SECONDS;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

const SILENCE: Duration = Duration::from_secs(LINE_SILENCE_SECONDS);
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The receiving end of a session.
pub struct Reader {
    shared: Arc<Shared>,
    receiver: Option<(u64, Receiver)>,
    /// When bytes last came, and how many there were then: for a reader that does not wait.
    heard: (Instant, u64),
}

/// What a frame was.
enum Taken {
    /// One for the reader's owner.
    Frame,
    /// The line's own.
    Own,
    /// One of a connection that does not count any more.
    Stale,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Reader {
        Reader { shared, receiver: None, heard: (Instant::now(), 0) }
    }

    /// Waits for the next frame, through cuts; fails when the session is over.
    pub fn recv_into(&mut self, payload: &mut Vec<u8>) -> Result<u16, Error> {
        loop {
            let Some((generation, receiver)) = &mut self.receiver else {
                self.wait_for_connection()?;
                continue;
            };
            match receiver.recv_into(payload) {
                Ok(kind) => match taken(&self.shared, *generation, kind, payload)? {
                    Taken::Frame => return Ok(kind),
                    Taken::Own => {}
                    Taken::Stale => self.receiver = None,
                },
                Err(error) => self.lose(&error),
            }
        }
    }

    /// Like [`Reader::recv_into`], into a fresh buffer.
    pub fn recv(&mut self) -> Result<Frame, Error> {
        let mut payload = Vec::new();
        let kind = self.recv_into(&mut payload)?;
        Ok(Frame { kind, payload })
    }

    /// The next frame if all of it is here, without waiting. After `None` one of [`Reader::wakes`] tells of the next;
    /// it must be asked once in a while all the same, for silence is found here.
    pub fn try_recv(&mut self) -> Result<Option<Frame>, Error> {
        let mut payload = Vec::new();
        loop {
            let Some((generation, receiver)) = &mut self.receiver else {
                if self.take_connection()? {
                    continue;
                }
                return Ok(None);
            };
            match receiver.try_recv_into(&mut payload) {
                Ok(Some(kind)) => match taken(&self.shared, *generation, kind, &payload)? {
                    Taken::Frame => return Ok(Some(Frame { kind, payload })),
                    Taken::Own if receiver.holds_bytes() => {}
                    Taken::Own => return Ok(None),
                    Taken::Stale => self.receiver = None,
                },
                Ok(None) => {
                    let bytes = receiver.bytes_read();
                    if bytes != self.heard.1 {
                        self.heard = (Instant::now(), bytes);
                    } else if self.heard.0.elapsed() > SILENCE {
                        self.lose(&Error::TimedOut);
                        continue;
                    }
                    return self.take_connection().map(|_| None);
                }
                Err(error) => self.lose(&error),
            }
        }
    }

    /// Whether it is of use to ask [`Reader::try_recv`] now. For whoever looks again and again: an empty socket is asked
    /// here without its lock, which the CPU that delivers to it wants.
    pub fn has_something(&self) -> Result<bool, Error> {
        if self.receiver.is_none() || self.holds_bytes() {
            return Ok(true);
        }
        let mut fds = self.wakes().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, Some(&NO_TIME)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether bytes have been read that belong to a frame not yet given out.
    pub fn holds_bytes(&self) -> bool {
        self.receiver.as_ref().is_some_and(|(_, receiver)| receiver.holds_bytes())
    }

    /// What to poll while there is nothing to read: the line's own event, and the connection if there is one (otherwise
    /// the event again).
    pub fn wakes(&self) -> [BorrowedFd<'_>; 2] {
        let wake = self.shared.wake.as_fd();
        [wake, self.receiver.as_ref().map_or(wake, |(_, receiver)| receiver.as_fd())]
    }

    fn lose(&mut self, error: &Error) {
        let Some((generation, _)) = self.receiver.take() else { return };
        // Only the peer itself can say goodbye; a connection that broke says nothing.
        if matches!(error, Error::Closed) {
            let mut desk = self.shared.desk();
            if desk.generation.is(generation) {
                self.shared.finish(&mut desk, "the other side closed it");
            }
            return;
        }
        self.shared.cut(generation, error);
    }

    /// Takes over a connection that is new; `false` if there is none. Whatever else is here is of an older one.
    fn take_connection(&mut self) -> Result<bool, Error> {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.shared.wake, &mut count);
        let mut desk = self.shared.desk();
        if let State::Over(why) = &desk.state {
            return Err(Error::Over(why.clone()));
        }
        let Some(connection) = desk.receiver.take() else { return Ok(false) };
        self.heard = (Instant::now(), 0);
        self.receiver = Some(connection);
        Ok(true)
    }

    fn wait_for_connection(&mut self) -> Result<(), Error> {
        if self.take_connection()? {
            return Ok(());
        }
        let none =
            |desk: &mut crate::line::Desk| desk.receiver.is_none() && !matches!(desk.state, State::Over(_));
        drop(
            self.shared.changed.wait_while(self.shared.desk(), none).unwrap_or_else(PoisonError::into_inner),
        );
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.desk().reader_done = true;
        self.shared.changed.notify_all();
    }
}

/// Counts a frame, or takes in what it says of the line.
fn taken(shared: &Shared, generation: u64, kind: u16, payload: &[u8]) -> Result<Taken, Error> {
    let mut desk = shared.desk();
    if let State::Over(why) = &desk.state {
        return Err(Error::Over(why.clone()));
    }
    if !desk.generation.is(generation) {
        return Ok(Taken::Stale);
    }
    if kind == KIND_OVER {
        shared.finish(&mut desk, "the other side ended it");
        return Ok(Taken::Own);
    }
    if kind == KIND_SEEN {
        let received = payload.try_into().map(u64::from_le_bytes);
        let received = received.map_err(|_| Error::Malformed("an acknowledgement"))?;
        // Whether that can be is found when the frames are dropped, which is not done here: see the lock order.
        if received > desk.acknowledged {
            desk.acknowledged = received;
            shared.room.notify_all();
        }
        return Ok(Taken::Own);
    }
    if desk.inbox.take(payload.len()) == Due::Now && !desk.must_tell {
        desk.must_tell = true;
        shared.changed.notify_all();
    }
    Ok(Taken::Frame)
}
