//! A family that is away: its deputies' calls, and what its host says besides.

use super::calls::Calls;
use super::orders::Taken;
use crate::journey::{Error, Result};
use crate::spin::{Worth, spin};
use model::{NodeId, Reason, ReasonCode};
use net::{Frame, Reader};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracee::deputy::Slots;
use wire::session::{self, Kind, WishOf};

/// Frames that wait for the keeper, at most; then the channel itself waits.
const NOTICES_MAX: usize = 8;

/// How often whoever waits for an answer looks whether its process is still served.
const LOOK: Duration = Duration::from_millis(50);

/// A family that is away.
pub(super) struct Away {
    /// Its host.
    pub(super) node: NodeId,
    /// Its calls.
    pub(super) calls: Arc<Calls>,
    /// What its host says besides calls.
    pub(super) notices: Notices,
    /// The number of the last attempt to stop one of them.
    pub(super) round: u32,
    /// The memory of its deputy's slots, kept for a keeper that takes over.
    pub(super) _slots: Slots,
    /// The thread that looks after the slots.
    pub(super) server: JoinHandle<()>,
}

impl Away {
    /// Ends the threads. The deputy is no longer served.
    pub(super) fn end(self) {
        self.calls.end();
        // It may be about to tell the host what the keeper knows already.
        let _ = self.server.join();
        if let Some(line) = self.calls.disconnect() {
            line.part();
        }
    }
}

/// Frames of the host that are not about calls, in order; an error ends them.
pub(super) struct Notices {
    frames: mpsc::Receiver<Result<Frame>>,
    /// Buffers of frames that are done with: fresh ones would cost as many page faults as the pages in them.
    spare: mpsc::Sender<Vec<u8>>,
    wake: OwnedFd,
    /// The process that is asked about: nobody answers for one that has ended.
    process: RefCell<Option<(i32, OwnedFd)>>,
    calls: Arc<Calls>,
    /// What came of its own accord while an answer was due.
    later: RefCell<VecDeque<Frame>>,
}

impl Notices {
    /// Becomes readable when a frame may be there.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// From now on answers are about this process. Fails if it has ended: nobody would answer.
    pub(super) fn watch(&self, pid: i32) -> Result<()> {
        let process = super::member::open_pid(pid).map_err(|_| Error::Ended)?;
        *self.process.borrow_mut() = Some((pid, process));
        Ok(())
    }

    /// The next frame, if one is here.
    pub(super) fn next(&self) -> Option<Result<Frame>> {
        if let Some(frame) = self.later.borrow_mut().pop_front() {
            return Some(Ok(frame));
        }
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        match self.frames.try_recv() {
            Ok(notice) => {
                let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
                Some(notice)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Error::Ending)),
        }
    }

    /// Gives a frame's buffer back to be filled again.
    pub(super) fn give_back(&self, payload: Vec<u8>) {
        let _ = self.spare.send(payload);
    }

    /// Forgets what a process wished of its own accord: it stands still, and will ask again where it goes on.
    pub(super) fn forget(&self, pid: i32) {
        let of_it = |frame: &Frame| {
            Kind::new(frame.kind) == Some(Kind::Wish)
                && session::decode::<WishOf>(&frame.payload).is_ok_and(|(wish, _)| wish.pid == pid)
        };
        self.later.borrow_mut().retain(|frame| !of_it(frame));
    }

    /// Waits for the next frame that was asked for; the others are for [`Notices::next`].
    pub(super) fn wait(&self, patience: Duration) -> Result<Frame> {
        let deadline = Instant::now() + patience;
        loop {
            let frame = self.receive(deadline.saturating_duration_since(Instant::now()))?;
            match Kind::new(frame.kind) {
                Some(Kind::Status) => {}
                Some(Kind::Wish | Kind::File) => {
                    let mut later = self.later.borrow_mut();
                    // A thread asks for one thing at a time.
                    if later.len() >= model::limits::THREADS_MAX {
                        return Err(Error::Unexpected { got: frame.kind, wanted: "an answer" });
                    }
                    later.push_back(frame);
                }
                _ => return Ok(frame),
            }
        }
    }

    fn receive(&self, patience: Duration) -> Result<Frame> {
        let deadline = Instant::now() + patience;
        loop {
            match self.frames.try_recv() {
                Ok(frame) => {
                    // There may be more.
                    let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
                    return frame;
                }
                Err(TryRecvError::Disconnected) => return Err(Error::Ending),
                Err(TryRecvError::Empty) => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(net::Error::TimedOut.into());
            }
            let process = self.process.borrow();
            let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
            fds.extend(process.iter().map(|(_, process)| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
            if process.as_ref().is_some_and(|&(pid, _)| self.calls.tids(pid).is_empty()) {
                let reason = Reason::new(ReasonCode::Busy, "it has just become another program");
                return Err(super::depart::refusal(reason));
            }
            let timeout = PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::MAX);
            let waited = poll(&mut fds, timeout);
            let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
            let (woken, ended) = (ready.next() == Some(true), ready.next() == Some(true));
            if waited.is_ok() && ended && !woken {
                return Err(Error::Ended);
            }
            let _ = rustix::io::read(&self.wake, &mut [0; 8]);
            if waited == Ok(0) {
                // What is waited for may wait for the end of somebody who was killed; the slots' own thread looks once a
                // second only.
                self.calls.look_for_the_killed();
            }
        }
    }
}

impl crate::journey::Inlet for &Notices {
    fn take(&mut self) -> Result<Frame> {
        self.wait(Duration::from_secs(model::limits::STEP_SECONDS))
    }
}

/// Begins to read the channel of a process's host: calls go to the slots at once, everything else to the keeper.
pub(super) fn listen(pid: i32, calls: Arc<Calls>, mut receiver: Reader) -> Result<Notices> {
    use rustix::event::{EventfdFlags, eventfd};
    let process = RefCell::new(super::member::open_pid(pid).ok().map(|process| (pid, process)));
    let own = Arc::clone(&calls);
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
        .map_err(|errno| Error::Io { what: "making an event", source: errno.into() })?;
    let ring = wake.try_clone().map_err(Error::io("making an event"))?;
    let (sender, frames) = mpsc::sync_channel(NOTICES_MAX);
    let (spare, spares) = mpsc::channel();
    let read = move || {
        let outcome = read_frames(&calls, &mut receiver, &sender, &spares, &ring);
        if let Err(error) = outcome {
            let _ = sender.send(Err(error));
        }
        drop(sender);
        let _ = rustix::io::write(&ring, &1u64.to_ne_bytes());
    };
    std::thread::Builder::new().name("channel".into()).spawn(read).map_err(Error::io("starting a thread"))?;
    Ok(Notices { frames, spare, wake, process, calls: own, later: RefCell::default() })
}

fn read_frames(
    calls: &Arc<Calls>,
    receiver: &mut Reader,
    sender: &SyncSender<Result<Frame>>,
    spares: &mpsc::Receiver<Vec<u8>>,
    ring: &OwnedFd,
) -> Result<()> {
    let mut payload = Vec::new();
    let mut worth = Worth::default();
    loop {
        let number = match spin_for_frame(receiver, &mut payload, &mut worth)? {
            Some(number) => number,
            None => receiver.recv_into(&mut payload)?,
        };
        let taken = Kind::new(number).map_or(Ok(Taken::Other), |kind| calls.take(kind, &payload))?;
        match taken {
            Taken::Other => {}
            Taken::Done => continue,
            Taken::Attended { index, seq } => {
                calls.attend(index, seq)?;
                continue;
            }
        }
        let next = spares.try_recv().unwrap_or_default();
        let frame = Frame { kind: number, payload: std::mem::replace(&mut payload, next) };
        if sender.send(Ok(frame)).is_err() {
            return Ok(());
        }
        let _ = rustix::io::write(ring, &1u64.to_ne_bytes());
    }
}

/// The next frame, if it comes at once.
fn spin_for_frame(receiver: &mut Reader, payload: &mut Vec<u8>, worth: &mut Worth) -> Result<Option<u16>> {
    let mut number = None;
    spin(worth, || {
        if receiver.has_something()? {
            number = receiver.try_recv()?.map(|frame| {
                *payload = frame.payload;
                frame.kind
            });
        }
        Ok::<_, Error>(number.is_some())
    })?;
    Ok(number)
}
