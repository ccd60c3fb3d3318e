//! The warden of one family of guests: a process that came here, and what it has forked since.
//!
//! One thread, one loop: the guest's calls, the keeper's frames, the kernel's news of the guest's threads, the daemon's
//! questions. ptrace binds it to this thread, and a guest that dies with its warden must not take others along.
//!
//! ```text
//! (nothing) ──arrive──► Running ──quiesce──► Leaving ──release──► ended
//!                          ▲                    │
//!                          └──────resume────────┘
//! ```

mod arrive;
mod births;
mod calls;
mod connections;
mod guest;
mod half_done;
mod leave;
mod lookout;
mod memory;
mod own_files;
mod reception;
mod signals;
mod socket_time;
mod special;
mod threads;
mod unheard;
mod used;
mod wall;

use crate::journey::cache::{Cache, Incoming};
use crate::journey::line::Link;
use crate::journey::{self, Outlet};
use crate::spin::{Worth, spin};
use crate::{Error, Setup, journal};
use connections::Wanted;
use control::{Answer, Event, WardenStatus, What};
use guest::{Guest, Member, Waits};
use leave::{Leaving, Onward};
use lookout::{Lookout, Seen};
use model::one_line;
use model::{NodeId, Session};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use reception::Reception;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use tracee::layout::Files;
use wire::session::{self, Hold, Kind, Quiesce, Wish, WishOf};

/// Threads of a guest for whose replies the warden looks without sleeping, at most.
const THREADS_SPUN_FOR: usize = 8;
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How long somebody who sends a guest away waits for it to be gone.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// Why the warden's work is over.
#[derive(Debug)]
enum End {
    /// The process lives elsewhere, or has ended at home.
    Gone,
    /// The guest died here without a word.
    Died,
}

/// Result of a step of the loop: `Err(Stop::End)` ends it in an orderly way.
enum Stop {
    End(End),
    Failed(journey::Error),
}

impl<E: Into<journey::Error>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

type Step<T = ()> = Result<T, Stop>;

struct Warden {
    setup: Setup,
    session: Session,
    home: NodeId,
    name: String,
    guest: Guest,
    /// The line to its home.
    link: Link,
    reception: Reception,
    files: Files,
    cache: Cache,
    incoming: Option<Incoming>,
    leaving: Option<Leaving>,
    /// The channel to the next host, once its files are there.
    onward: Option<Onward>,
    spinning: Worth,
    /// Somebody may wait only until a time that is known here.
    has_limits: bool,
    /// Who wants to hear that a guest is gone, which one, and since when.
    sent_away: Option<(UnixStream, i32, Instant)>,
}

/// Serves one guest until it has left or ended.
pub fn run(
    session: Session,
    home: NodeId,
    pid: i32,
    name: String,
    listener: UnixListener,
    setup: Setup,
) -> Result<(), Error> {
    // Blocked before there are children: their ends must not be missed.
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block().map_err(Error::system("block SIGCHLD"))?;
    let news = SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
    let news = news.map_err(Error::system("watch the guest"))?;
    // Dropped last: a group can be removed only when nobody is in it.
    let _groups = wall::TakenDown(session);
    let arrived = match arrive::arrive(&setup, home, session, &listener) {
        Ok(arrived) => arrived,
        Err(error) => {
            tracing::warn!(pid, %home, error = one_line(&error), "a guest did not arrive");
            let record = journal::now(What::GuestGone).guest(pid, home, name);
            journal::note(
                &setup.config.paths,
                record.cause(format!("it did not arrive: {}", one_line(&error))),
            );
            return Ok(());
        }
    };
    let mut warden = Warden {
        setup,
        session,
        home,
        name,
        guest: arrived.guest,
        link: arrived.link,
        reception: arrived.reception,
        files: arrived.files,
        cache: arrived.cache,
        incoming: None,
        leaving: None,
        onward: None,
        spinning: Worth::default(),
        has_limits: false,
        sent_away: None,
    };
    let local_pid = warden.guest.members.get(&pid).map_or(0, |member| member.pid);
    tracing::info!(pid, %home, local_pid, "a guest arrived");
    warden.record(What::GuestArrived, pid, "");
    let outcome = warden.serve(&news);
    if !matches!(outcome, Stop::End(End::Gone)) {
        warden.tell_cause();
    }
    // Whoever owns the process, a guest does not outlive the line to its home.
    tracee::body::kill(warden.guest.init);
    warden.answer_leave(match &outcome {
        Stop::End(End::Gone) => None,
        _ => Some("the guest ended"),
    });
    match outcome {
        Stop::End(end) => {
            tracing::info!(pid, %home, ?end, "the guest is gone");
            let cause = match end {
                End::Gone => "it left, or its process ended at home",
                End::Died => "it ended here",
            };
            warden.record(What::GuestGone, pid, cause);
        }
        Stop::Failed(error) => {
            tracing::error!(pid, %home, error = one_line(&error), "the guest is lost");
            warden.record(What::GuestLost, pid, &one_line(&error));
        }
    }
    Ok(())
}

impl Warden {
    /// Notes down for `om log` what happened to the guest.
    fn record(&self, what: What, pid: i32, cause: &str) {
        let record = journal::now(what).guest(pid, self.home, self.name.as_str()).cause(cause);
        journal::note(&self.setup.config.paths, record);
    }

    fn serve(&mut self, news: &SignalFd) -> Stop {
        let [line, _] = self.link.wakes();
        let lookout = match Lookout::new(line, news.as_fd(), self.reception.wake(), STATUS_EVERY) {
            Ok(lookout) => lookout,
            Err(error) => return journey::Error::io("keeping a lookout")(error).into(),
        };
        loop {
            if let Err(stop) = self.turn(news, &lookout) {
                return stop;
            }
        }
    }

    /// Waits for something and deals with it.
    fn turn(&mut self, news: &SignalFd, lookout: &Lookout) -> Step {
        self.spin_for_replies()?;
        let [_, connection] = self.link.wakes();
        let mut fds = [
            PollFd::new(self.guest.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(connection, PollFlags::POLLIN),
            PollFd::new(lookout.as_fd(), PollFlags::POLLIN),
        ];
        let timeout = match self.next_limit() {
            _ if self.link.may_hold_frames() => PollTimeout::ZERO,
            // Rounded up: who is woken too early would look again and again.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(journey::Error::io("waiting")(errno.into()).into()),
        }
        let filter_gone = fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
        let [calls, frames, seldom] = fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        let seen =
            if seldom { lookout.look().map_err(journey::Error::io("looking out"))? } else { Seen::default() };
        let Seen { line, news: news_ready, daemon, due } = seen;
        if calls {
            self.take_notification()?;
        }
        // Once in a while in any case: silence is found by looking.
        if frames || line || due || self.link.may_hold_frames() {
            self.take_frames()?;
        }
        if news_ready {
            while news.read_signal().is_ok_and(|signal| signal.is_some()) {}
        }
        // Signals merge: the news of one child may stand for those of several. An end may come without any (the body's
        // own, whose parent we are): then its filter goes, and the clock tells in any case.
        if news_ready || filter_gone || due {
            self.take_news()?;
        }
        self.heed_limits()?;
        if daemon {
            self.take_request();
        }
        if self.sent_away.as_ref().is_some_and(|(_, _, since)| since.elapsed() > LEAVE_PATIENCE) {
            self.answer_leave(Some("its home was told and has not taken it yet; it will when it can"));
        }
        if due {
            self.report()?;
        }
        self.advance_leaving()
    }

    /// Where nothing can happen before a reply comes, it is looked for without sleeping: the guest's CPU is this one.
    fn spin_for_replies(&mut self) -> Step {
        let calls = |thread: &guest::Thread| matches!(thread.waits, Waits::Call { .. });
        let mut threads = self.guest.threads.iter();
        let waiting = threads.by_ref().take(THREADS_SPUN_FOR).all(calls) && threads.next().is_none();
        drop(threads);
        if !waiting || self.leaving.is_some() {
            return Ok(());
        }
        let mut frame = None;
        let link = &mut self.link;
        spin(&mut self.spinning, || {
            if link.has_something()? {
                frame = link.try_recv()?;
            }
            Ok::<_, journey::Error>(frame.is_some())
        })?;
        match frame {
            Some(frame) => self.take_frame(&frame),
            None => Ok(()),
        }
    }

    fn take_frames(&mut self) -> Step {
        while let Some(frame) = self.link.try_recv()? {
            self.take_frame(&frame)?;
            if !self.link.may_hold_frames() {
                break;
            }
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: &net::Frame) -> Step {
        let payload = &frame.payload;
        match Kind::new(frame.kind) {
            Some(Kind::Reply) => self.take_reply(payload),
            Some(Kind::Signal) => self.take_signal(payload),
            Some(Kind::FilePart) => self.take_file_part(payload),
            Some(Kind::FileIs) => self.take_file_answer(payload),
            Some(Kind::Hold) => {
                let (hold, _) = session::decode::<Hold>(payload)?;
                self.hold(hold.pid, hold.stopped)
            }
            Some(Kind::MoveOn) => self.prepare_onward(payload),
            Some(Kind::Quiesce) => {
                let (order, _) = session::decode::<Quiesce>(payload)?;
                self.begin_leaving(order)
            }
            Some(Kind::Flushed) => self.flushed(),
            Some(Kind::Resume) => self.stay(),
            Some(Kind::Release) => self.released(),
            Some(Kind::Gone) => self.gone(session::decode(payload)?.0),
            _ => Err(journey::Error::Unexpected { got: frame.kind, wanted: "something for a warden" }.into()),
        }
    }

    fn take_request(&mut self) {
        match self.reception.question() {
            Some(Wanted::Status(mut stream)) => connections::say_statuses(&mut stream, &self.statuses()),
            Some(Wanted::Leave(stream, pid)) => {
                self.answer_leave(Some("somebody else asked, too"));
                self.sent_away = Some((stream, pid, Instant::now()));
                let wish = WishOf { pid, wish: Wish::Expelled };
                if let Err(error) = self.link.put(Kind::Wish, &[&session::encode(&wish)]) {
                    self.answer_leave(Some(&one_line(&error)));
                }
            }
            Some(Wanted::Connection(_)) | None => {}
        }
    }

    /// Tells whoever sent the guest away that it is gone, or why it is not.
    fn answer_leave(&mut self, failure: Option<&str>) {
        let Some((mut stream, pid, since)) = self.sent_away.take() else { return };
        let node = self.home;
        let event = match failure {
            None => {
                let total_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
                Event::Done { answer: Answer::Moved { pid, node, freeze_us: 0, total_us, bytes: 0 } }
            }
            Some(why) => Event::Failed {
                kind: control::FailureKind::Broken,
                message: format!("guest {pid} of node {node} did not go home: {why}"),
                reasons: Vec::new(),
            },
        };
        connections::say(&mut stream, &event);
    }

    /// The guest has ended here and nobody at home has told it to: its home hears why.
    fn tell_cause(&mut self) {
        let lives =
            |member: &Member| procinfo::stat(member.pid).is_ok_and(|stat| !matches!(stat.state, b'Z' | b'X'));
        if self.guest.members.values().any(lives) {
            return;
        }
        let cause = wall::cause(self.session);
        tracing::error!(name = self.name, home = %self.home, cause, "the guest has ended");
        let ended = session::Ended { cause: cause.to_owned() };
        // Its home may be gone too; it then finds out by itself.
        let _ = self.link.put(Kind::Ended, &[&session::encode(&ended)]);
    }

    fn statuses(&self) -> Vec<WardenStatus> {
        let status = |member: &Member| {
            let (memory_bytes, cpu_ms) = used::memory_and_cpu(member.pid);
            WardenStatus {
                pid: member.image.pid,
                local_pid: member.pid,
                name: procinfo::name(member.pid, member.pid).unwrap_or_else(|_| self.name.clone()),
                home: self.home,
                memory_bytes,
                cpu_ms,
                forwarded: member.forwarded,
                carried_bytes: member.carried_bytes,
            }
        };
        self.guest.members.values().map(status).collect()
    }

    fn report(&mut self) -> Step {
        let pids: Vec<i32> = self.guest.members.keys().copied().collect();
        pids.into_iter().try_for_each(|pid| self.report_of(pid))
    }
}
