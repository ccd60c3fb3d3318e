//! A session that outlives its connections.
//!
//! A [`Line`] is the sending end and the owner, a [`Reader`] the receiving end. Frames go in and come out as on a
//! channel; when the connection breaks, the side that made it makes another, and both go on where they were
//! ([`crate::ledger`] has the rules). A cut shows to nobody but by the time it takes; only a session that could not be
//! resumed in time is an error, and then it is over.
//!
//! ```text
//! Up ──cut──► Cut ──resumed──► Up          Cut ──too long, unknown there──► Over ◄──ended── any
//! ```
//!
//! A cut is found by an error, or by silence: each side shows a sign of life when it has nothing else to say. That, and
//! connecting again, is the work of a thread of the line's own ([`crate::pulse`]), because the owner of a line may be
//! busy, with the kernel or with other processes, for longer than a silence lasts.
//!
//! Lock order: `out`, then `desk`. `out` is held while a frame is written, which takes as long as the peer does not read;
//! so who reads never waits for `out`, and both sides can write at once without waiting for each other for ever.

use crate::frame::{KIND_OVER, KIND_RESUME};
use crate::ledger::{Due, Generation, Greeting, Inbox, Outbox, Violation};
use crate::pulse;
use crate::reader::Reader;
use crate::receive::Cord;
use crate::{Channel, Error, Identity, Receiver, Sender};
use model::limits::{LINE_SILENCE_SECONDS, PARTING_SECONDS};
use model::{NodeId, Session};
use rustix::event::{EventfdFlags, eventfd};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a side that connects finds the other again.
#[derive(Clone, Debug)]
pub struct Dial {
    /// Who connects.
    pub identity: Identity,
    /// Where the peer's daemon listens.
    pub address: SocketAddr,
    /// Who the peer is.
    pub peer: NodeId,
}

/// What happens to a line, for its owner's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The connection broke, or went silent.
    Cut(String),
    /// Another one has taken over.
    Resumed {
        /// How long there was none.
        after: Duration,
        /// Frames that were sent again.
        replayed: usize,
    },
}

/// Hears of events; it must not wait for anything.
pub type Listener = Box<dyn Fn(&Event) + Send + Sync>;

/// The sending end of a session, and its owner: dropped, the session is over.
pub struct Line(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) session: Session,
    /// Only the side that made the connection can make another.
    pub(crate) dial: Option<Dial>,
    out: Mutex<Out>,
    desk: Mutex<Desk>,
    /// A connection came or went, the session is over, or an acknowledgement has to go.
    pub(crate) changed: Condvar,
    /// The peer has received more, or the session is over.
    pub(crate) room: Condvar,
    /// Becomes readable when a reader that does not wait has something new to look at.
    pub(crate) wake: OwnedFd,
    listener: Listener,
}

/// What belongs to whoever writes.
pub(crate) struct Out {
    outbox: Outbox,
    sender: Option<Sender>,
    pub(crate) last_sent: Instant,
}

/// What all have to know; held for moments only.
pub(crate) struct Desk {
    pub(crate) inbox: Inbox,
    /// Frames that the peer has; at most that many are dropped at the next send.
    pub(crate) acknowledged: u64,
    pub(crate) generation: Generation,
    /// The receiver of the present connection, until the reader takes it.
    pub(crate) receiver: Option<(u64, Receiver)>,
    cord: Option<Cord>,
    pub(crate) state: State,
    /// An acknowledgement has to go by itself.
    pub(crate) must_tell: bool,
    /// The reader has seen the end of the last connection.
    pub(crate) reader_done: bool,
}

/// How the session is.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Up,
    Cut { since: Instant },
    Over(String),
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Makes a session of a connection, on the side that made it. Both sides do so at the same place in what they say.
    pub fn calling(
        halves: (Sender, Receiver),
        session: Session,
        dial: Dial,
        listener: Listener,
    ) -> Result<(Line, Reader), Error> {
        Line::open(halves, session, Some(dial), listener)
    }

    /// The same on the other side.
    pub fn called(
        halves: (Sender, Receiver),
        session: Session,
        listener: Listener,
    ) -> Result<(Line, Reader), Error> {
        Line::open(halves, session, None, listener)
    }

    fn open(
        (sender, receiver): (Sender, Receiver),
        session: Session,
        dial: Option<Dial>,
        listener: Listener,
    ) -> Result<(Line, Reader), Error> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let cord = Some(receiver.cord());
        let mut receiver = receiver;
        receiver.set_timeout(Some(Duration::from_secs(LINE_SILENCE_SECONDS)))?;
        let shared = Arc::new(Shared {
            session,
            dial,
            out: Mutex::new(Out {
                outbox: Outbox::default(),
                sender: Some(sender),
                last_sent: Instant::now(),
            }),
            desk: Mutex::new(Desk {
                inbox: Inbox::default(),
                acknowledged: 0,
                generation: Generation::default(),
                receiver: Some((0, receiver)),
                cord,
                state: State::Up,
                must_tell: false,
                reader_done: false,
            }),
            changed: Condvar::new(),
            room: Condvar::new(),
            wake,
            listener,
        });
        pulse::start(Arc::clone(&shared))?;
        // There is a connection to be taken.
        shared.wake_reader();
        let reader = Reader::new(Arc::clone(&shared));
        Ok((Line(shared), reader))
    }

    /// Sends one frame. Waits while too much is unacknowledged; a cut is no failure, but the end of the session is.
    ///
    /// Whoever also reads must not wait here, for nobody else takes acknowledgements in: see [`Line::try_send`].
    pub fn send(&self, kind: u16, parts: &[&[u8]]) -> Result<(), Error> {
        while !self.try_send(kind, parts)? {
            self.0.wait_for_room(length_of(parts))?;
        }
        Ok(())
    }

    /// Sends one frame unless too much is unacknowledged; `false` if so.
    pub fn try_send(&self, kind: u16, parts: &[&[u8]]) -> Result<bool, Error> {
        self.0.send(kind, parts, &mut Vec::new())
    }

    /// As [`Line::try_send`], with one more part that is given over and not copied: another buffer is in its place then,
    /// with anything in it.
    pub fn try_send_whole(&self, kind: u16, parts: &[&[u8]], body: &mut Vec<u8>) -> Result<bool, Error> {
        self.0.send(kind, parts, body)
    }

    /// A connection for this session has come: from a peer whose identity is proved and right. On success it has taken
    /// over; on failure nothing is changed. Only for the side that is called.
    pub fn readmit(&self, channel: Channel) -> Result<(), Error> {
        self.0.readmit(channel)
    }

    /// Ends the session after all that was sent, for both sides.
    pub fn end(&self) {
        self.0.hang_up();
    }

    /// Ends the session after all that was sent, and waits for a moment until the peer has heard it. A reader in another
    /// thread must be reading meanwhile.
    pub fn part(self) {
        self.0.hang_up();
        let patience = Duration::from_secs(PARTING_SECONDS);
        let reading = |desk: &mut Desk| !desk.reader_done;
        let waited = self.0.changed.wait_timeout_while(self.0.desk(), patience, reading);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({})", self.0.session)
    }
}

fn length_of(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

impl Shared {
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    pub(crate) fn tell(&self, event: &Event) {
        (self.listener)(event);
    }

    fn send(&self, kind: u16, parts: &[&[u8]], body: &mut Vec<u8>) -> Result<bool, Error> {
        let mut out = lock(&self.out);
        let mut seen = None;
        {
            let mut desk = self.desk();
            if let State::Over(why) = &desk.state {
                return Err(Error::Over(why.clone()));
            }
            out.outbox
                .acknowledge(desk.acknowledged)
                .map_err(|violation| self.violated(&mut desk, violation))?;
            if !out.outbox.has_room(length_of(parts) + body.len()) {
                return Ok(false);
            }
            if out.sender.is_some() && desk.inbox.due() >= Due::WithNext {
                seen = Some(desk.inbox.tell());
                desk.must_tell = false;
            }
        }
        out.outbox.keep(kind, parts, body);
        self.write(&mut out, |sender, outbox| match outbox.last() {
            Some(kept) => sender.send_with(seen, kind, &[&kept.head, &kept.body]),
            None => Ok(()),
        });
        Ok(true)
    }

    /// Writes to the connection, if there is one. One that fails is of no more use, and whoever reads will see it.
    fn write(&self, out: &mut Out, write: impl FnOnce(&mut Sender, &Outbox) -> Result<(), Error>) {
        let Some(sender) = &mut out.sender else { return };
        match write(sender, &out.outbox) {
            Ok(()) => out.last_sent = Instant::now(),
            Err(_) => {
                sender.abort();
                out.sender = None;
            }
        }
    }

    /// Tells the peer how much has arrived, unless somebody is writing: that is a sign of life too.
    pub(crate) fn tell_peer(&self, quiet_for: Duration) {
        let Ok(mut out) = self.out.try_lock() else { return };
        if out.sender.is_none() || out.last_sent.elapsed() < quiet_for {
            return;
        }
        let seen = {
            let mut desk = self.desk();
            desk.must_tell = false;
            desk.inbox.tell()
        };
        self.write(&mut out, |sender, _| sender.send(crate::frame::KIND_SEEN, &[&seen.to_le_bytes()]));
    }

    fn wait_for_room(&self, length: usize) -> Result<(), Error> {
        loop {
            let seen = {
                let mut out = lock(&self.out);
                let mut desk = self.desk();
                if let State::Over(why) = &desk.state {
                    return Err(Error::Over(why.clone()));
                }
                out.outbox
                    .acknowledge(desk.acknowledged)
                    .map_err(|violation| self.violated(&mut desk, violation))?;
                if out.outbox.has_room(length) {
                    return Ok(());
                }
                desk.acknowledged
            };
            let desk = self.desk();
            let unchanged =
                |desk: &mut Desk| desk.acknowledged == seen && !matches!(desk.state, State::Over(_));
            drop(self.room.wait_while(desk, unchanged).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// The peer breaks the rules: there is no going on with it.
    pub(crate) fn violated(&self, desk: &mut Desk, violation: Violation) -> Error {
        let why = format!("the peer broke its rules: {violation}");
        self.finish(desk, &why);
        Error::Over(why)
    }

    /// The connection of this generation is of no more use.
    pub(crate) fn cut(&self, generation: u64, why: &Error) {
        let mut desk = self.desk();
        if !desk.generation.is(generation) || !matches!(desk.state, State::Up) {
            return;
        }
        if let Some(cord) = desk.cord.take() {
            cord.pull();
        }
        desk.state = State::Cut { since: Instant::now() };
        self.changed.notify_all();
        drop(desk);
        self.tell(&Event::Cut(why.to_string()));
    }

    pub(crate) fn end(&self, why: &str) {
        let mut desk = self.desk();
        self.finish(&mut desk, why);
    }

    pub(crate) fn finish(&self, desk: &mut Desk, why: &str) {
        if !matches!(desk.state, State::Over(_)) {
            desk.state = State::Over(why.to_owned());
        }
        self.changed.notify_all();
        self.room.notify_all();
        self.wake_reader();
    }

    pub(crate) fn wake_reader(&self) {
        // It fails only where it is readable already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn readmit(&self, channel: Channel) -> Result<(), Error> {
        let (mut sender, mut receiver) = channel.split();
        receiver.set_timeout(Some(Duration::from_secs(LINE_SILENCE_SECONDS)))?;
        let frame = receiver.recv()?;
        let greeting = Greeting::decode(&frame.payload).filter(|_| frame.kind == KIND_RESUME);
        let greeting = greeting.ok_or(Error::Malformed("no greeting of a session"))?;
        if greeting.session != self.session.0 {
            return Err(Error::Malformed("a greeting of another session"));
        }
        let received = {
            let mut desk = self.desk();
            if let State::Over(why) = &desk.state {
                return Err(Error::Over(why.clone()));
            }
            desk.generation.admit(greeting.generation).map_err(|violation| Error::Malformed(violation.0))?;
            // From here on the old connection gives out nothing more, and whoever writes to it is interrupted.
            if let Some(cord) = desk.cord.take() {
                cord.pull();
            }
            if matches!(desk.state, State::Up) {
                desk.state = State::Cut { since: Instant::now() };
            }
            desk.inbox.tell()
        };
        let answer = Greeting { received, ..greeting };
        sender.send(KIND_RESUME, &[&answer.encode()])?;
        self.resume((sender, receiver), &greeting)
    }

    /// A connection takes over, both sides having greeted each other; the peer has received as much as it says.
    pub(crate) fn resume(
        &self,
        (mut sender, receiver): (Sender, Receiver),
        greeting: &Greeting,
    ) -> Result<(), Error> {
        let mut out = lock(&self.out);
        let since = {
            let mut desk = self.desk();
            let since = match (&desk.state, desk.generation.is(greeting.generation)) {
                (State::Cut { since }, true) => *since,
                (State::Over(why), _) => return Err(Error::Over(why.clone())),
                _ => return Err(Error::Malformed("a connection of an older generation")),
            };
            let kept = out.outbox.acknowledge(greeting.received.max(desk.acknowledged));
            let counted = greeting.received >= desk.acknowledged;
            let lacks = Violation("it lacks a frame that it had acknowledged");
            kept.and(if counted { Ok(()) } else { Err(lacks) })
                .map_err(|violation| self.violated(&mut desk, violation))?;
            desk.acknowledged = greeting.received;
            desk.cord = Some(receiver.cord());
            desk.receiver = Some((greeting.generation, receiver));
            desk.state = State::Up;
            self.changed.notify_all();
            self.room.notify_all();
            self.wake_reader();
            since
        };
        let mut replayed = 0;
        let again = out.outbox.unacknowledged().try_for_each(|kept| {
            replayed += 1;
            sender.send(kept.kind, &[&kept.head, &kept.body])
        });
        if again.is_err() {
            // Whoever reads sees it, too, and begins anew.
            sender.abort();
            return Ok(());
        }
        out.last_sent = Instant::now();
        out.sender = Some(sender);
        drop(out);
        self.tell(&Event::Resumed { after: since.elapsed(), replayed });
        Ok(())
    }

    /// Ends the session after all that was sent. The reader sees the end when the peer has closed, too.
    fn hang_up(&self) {
        if let Some(mut sender) = lock(&self.out).sender.take() {
            // Where that does not get through, the peer waits as long as after a cut.
            let _ = sender.send(KIND_OVER, &[]);
            sender.finish();
        }
        self.end("it was ended here");
    }
}
