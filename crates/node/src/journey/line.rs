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
    /// The reader gave a frame when it was last asked: there may be another one behind it.
    gave: bool,
}

impl Link {
    /// Joins both ends.
    pub(crate) fn new(line: std::sync::Arc<Line>, reader: Reader) -> Link {
        Link { line, reader, early: VecDeque::new(), early_bytes: 0, gave: true }
    }

    /// The next frame, without waiting.
    pub(crate) fn try_recv(&mut self) -> Result<Option<Frame>> {
        if let Some(frame) = self.early.pop_front() {
            self.early_bytes -= frame.payload.len();
            return Ok(Some(frame));
        }
        self.read()
    }

    /// Whether it is of use to ask [`Link::try_recv`] now.
    pub(crate) fn has_something(&self) -> Result<bool> {
        Ok(!self.early.is_empty() || self.reader.has_something()?)
    }

    fn read(&mut self) -> Result<Option<Frame>> {
        let frame = self.reader.try_recv()?;
        self.gave = frame.is_some();
        Ok(frame)
    }

    /// Whether a frame may be here that `poll` will not tell of: whoever polls without having asked for this first may
    /// sleep on it.
    pub(crate) fn may_hold_frames(&self) -> bool {
        // What is left behind nothing is a part of a frame, and `poll` tells of its rest.
        !self.early.is_empty() || self.gave && self.reader.holds_bytes()
    }

    /// What to poll.
    pub(crate) fn wakes(&self) -> [BorrowedFd<'_>; 2] {
        self.reader.wakes()
    }

    /// Takes in what comes until there may be room to send.
    fn make_room(&mut self) -> Result<()> {
        let mut fds = self.wakes().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::MAX);
        let is_here = self.gave && self.reader.holds_bytes();
        match poll(&mut fds, if is_here { PollTimeout::ZERO } else { timeout }) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::io("waiting")(errno.into())),
        }
        while let Some(frame) = self.read()? {
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

    fn put_whole(&mut self, kind: Kind, header: &[u8], body: &mut Vec<u8>) -> Result<()> {
        while !self.line.try_send_whole(kind as u16, &[header], body)? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use model::{NodeId, Session};
    use net::{Authority, Channel, Dial, Identity, Route, read_preamble};
    use std::net::TcpListener;
    use std::sync::Arc;

    const LIMIT: Duration = Duration::from_secs(20);
    const SESSION: Session = Session([5; 16]);

    fn identity(authority: &Authority, number: u16) -> Identity {
        let issued = authority.issue(NodeId::new(number).unwrap(), &format!("n{number}")).unwrap();
        Identity::from_pem(authority.ca_pem(), &issued.cert_pem, &issued.key_pem).unwrap()
    }

    /// A home's line and a warden's link over the loopback.
    fn joined() -> (Line, Reader, Link) {
        let authority = Authority::create("cluster").unwrap();
        let (home, host) = (identity(&authority, 1), identity(&authority, 2));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let peer = NodeId::new(2).unwrap();
        let called = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            read_preamble(&mut stream, LIMIT).unwrap();
            let channel = Channel::accept(&host, stream, LIMIT).unwrap();
            Line::called(channel.split(), SESSION, log(1)).unwrap()
        });
        let channel = Channel::connect(&home, address, Route::Session(SESSION), peer, LIMIT).unwrap();
        let dial = Dial { identity: home, address, peer };
        let (line, reader) = Line::calling(channel.split(), SESSION, dial, log(1)).unwrap();
        let (called, inlet) = called.join().unwrap();
        (line, reader, Link::new(Arc::new(called), inlet))
    }

    fn is_readable(link: &Link) -> bool {
        let mut fds = link.wakes().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
    }

    /// What the warden does when it is done with a frame: it sleeps only on what can wake it.
    #[test]
    fn a_frame_that_came_with_another_is_not_slept_on() {
        let (line, _reader, mut link) = joined();
        for round in 0..200u8 {
            line.send(1, &[&[round]]).unwrap();
            line.send(2, &[&[round]]).unwrap();
            let mut frames = Vec::new();
            let deadline = Instant::now() + LIMIT;
            while frames.len() < 2 {
                assert!(Instant::now() < deadline, "{frames:?} in round {round}");
                if link.may_hold_frames() || is_readable(&link) {
                    frames.extend(link.try_recv().unwrap().map(|frame| (frame.kind, frame.payload)));
                } else {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            assert_eq!(frames, [(1, vec![round]), (2, vec![round])]);
            // With nothing there it must not keep its owner awake.
            while link.may_hold_frames() || is_readable(&link) {
                assert_eq!(link.try_recv().unwrap(), None);
                assert!(Instant::now() < deadline, "awake for nothing in round {round}");
            }
        }
    }
}
