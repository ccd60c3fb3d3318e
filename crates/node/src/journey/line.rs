//! The connection between a keeper and a warden, which outlives cuts.

use super::{Error, Inlet, Outlet, Result};
use model::limits::{STEP_SECONDS, UNACKNOWLEDGED_BYTES_MAX};
use net::{Event, Frame, Line, Listener, Reader};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};
use wire::session::Kind;

/// How often a link that waits for room looks for silence.
const TICK: Duration = Duration::from_secs(1);

/// Tells the log of an agent what happens to its line.
pub(crate) fn log(pid: i32) -> Listener {
    Box::new(move |event| match event {
        Event::Cut(why) => tracing::warn!(pid, why, "the connection is cut"),
        Event::Resumed { after, replayed } => {
            tracing::info!(pid, ?after, replayed, "the connection is back");
        }
    })
}

impl Outlet for Line {
    fn put(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<()> {
        Ok(self.send(kind as u16, parts)?)
    }
}

impl Inlet for Reader {
    fn take(&mut self) -> Result<Frame> {
        Ok(self.recv()?)
    }
}

/// Both ends of a line in the hands of one thread.
///
/// Frames that come while the thread waits for room are kept for later. They are acknowledged by then, so they have a bound
/// of their own.
pub(crate) struct Link {
    line: std::sync::Arc<Line>,
    reader: Reader,
    early: VecDeque<Frame>,
    early_bytes: usize,
}

impl Link {
    /// Joins both ends.
    pub(crate) fn new(line: std::sync::Arc<Line>, reader: Reader) -> Link {
        Link { line, reader, early: VecDeque::new(), early_bytes: 0 }
    }

    /// The next frame, without waiting.
    pub(crate) fn try_recv(&mut self) -> Result<Option<Frame>> {
        if let Some(frame) = self.early.pop_front() {
            self.early_bytes -= frame.payload.len();
            return Ok(Some(frame));
        }
        Ok(self.reader.try_recv()?)
    }

    /// Whether something is here that `poll` will not tell of.
    pub(crate) fn holds_bytes(&self) -> bool {
        !self.early.is_empty() || self.reader.holds_bytes()
    }

    /// What to poll.
    pub(crate) fn wakes(&self) -> [BorrowedFd<'_>; 2] {
        self.reader.wakes()
    }

    /// Takes in what comes until there may be room to send.
    fn make_room(&mut self) -> Result<()> {
        let mut fds = self.wakes().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::io("waiting")(errno.into())),
        }
        while let Some(frame) = self.reader.try_recv()? {
            self.early_bytes += frame.payload.len();
            if self.early_bytes > UNACKNOWLEDGED_BYTES_MAX {
                return Err(Error::Unexpected { got: frame.kind, wanted: "less, while it is being sent to" });
            }
            self.early.push_back(frame);
            if !self.reader.holds_bytes() {
                break;
            }
        }
        Ok(())
    }
}

impl Outlet for Link {
    fn put(&mut self, kind: Kind, parts: &[&[u8]]) -> Result<()> {
        while !self.line.try_send(kind as u16, parts)? {
            self.make_room()?;
        }
        Ok(())
    }
}

impl Inlet for Link {
    fn take(&mut self) -> Result<Frame> {
        let deadline = Instant::now() + Duration::from_secs(STEP_SECONDS);
        while Instant::now() < deadline {
            match self.early.pop_front() {
                Some(frame) => {
                    self.early_bytes -= frame.payload.len();
                    return Ok(frame);
                }
                None => self.make_room()?,
            }
        }
        Err(net::Error::TimedOut.into())
    }
}
