//! The keeper of one migrated process at its home.
//!
//! It is started to move the process away, and ends when the process is at home for good or has ended. In between it
//! holds everything that is the process's and not its deputy's: the channel to the host, the slots, the files under its
//! mappings.
//!
//! ```text
//! Home ──depart──► Away ──move on──► Away
//!   ▲                │
//!   └──────return────┘         any ──► Ended (the process died)
//! ```
//!
//! Four threads: this one owns the process by ptrace and does the moving; two carry its calls ([`calls::Calls`]); one
//! answers the daemon ([`Reception`]). Files stay with this thread.

mod away;
mod calls;
mod depart;
mod files;
mod homecoming;
mod move_on;
mod reception;
mod requests;
mod waiting;

use crate::journey;
use crate::journey::error::chain;
use crate::{Error, Setup, held, history};
use away::Away;
use control::{AgentRequest, KeeperStatus};
use migration::Owner;
use model::{Destination, NodeId, ProcessId};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use reception::Reception;
use requests::Asker;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use tracee::layout::Files;
use wire::session::{self, Hold, Kind, Wish};

/// How often the keeper looks whether its process is stopped at home.
const TICK: Duration = Duration::from_millis(100);

/// Where the process is.
enum Place {
    Home,
    Away(Box<Away>),
}

/// What a move was like.
#[derive(Clone, Copy, Debug)]
struct Trip {
    freeze: Duration,
    total: Duration,
    bytes: u64,
}

struct Keeper {
    process: ProcessId,
    setup: Setup,
    files: Files,
    place: Place,
    /// It has moved since this keeper began.
    travelled: bool,
    moves: u64,
    forwarded: u64,
    home_comings: BTreeMap<String, u64>,
    /// The remote waits to come home, and could not yet.
    wish: Option<Wish>,
    stopped: bool,
}

/// Serves one process until it is at home for good or ended.
pub fn run(process: ProcessId, listener: UnixListener, setup: Setup) -> Result<(), Error> {
    let pidfd = open_process(process)?;
    let mut keeper = Keeper {
        process,
        files: Files::default(),
        place: Place::Home,
        travelled: false,
        moves: 0,
        forwarded: 0,
        home_comings: BTreeMap::new(),
        wish: None,
        stopped: false,
        setup,
    };
    if let Some(before) = history::of(&keeper.setup.config.paths, process) {
        keeper.moves = before.moves;
        keeper.forwarded = before.forwarded;
        keeper.home_comings = before.home_comings.into_iter().collect();
    }
    let reception = Reception::open(listener, keeper.setup.config.node.id, keeper.status())?;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        keeper.wait(&reception, &pidfd)?;
        if readable(&pidfd) {
            keeper.farewell("it has ended");
            return Ok(());
        }
        if let Some((asker, request)) = reception.order() {
            keeper.serve(&reception, asker, request);
        }
        keeper.hear(&reception);
        keeper.grant_wish(&reception);
        keeper.watch_stops();
        reception.tell(keeper.status());
        let idle = matches!(keeper.place, Place::Home) && (keeper.travelled || Instant::now() > deadline);
        if idle && reception.close() {
            return Ok(());
        }
    }
}

fn open_process(process: ProcessId) -> Result<OwnedFd, Error> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = Pid::from_raw(process.pid).ok_or(Error::Missing("keep a process without a pid"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(Error::system("open the process"))?;
    // Only now is the pid this process's for good.
    let stat = procinfo::stat(process.pid).map_err(Error::system("look at the process"))?;
    if stat.start_ticks != process.start_ticks {
        return Err(Error::Missing("find the process: its pid belongs to another one now"));
    }
    Ok(pidfd)
}

fn readable(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

impl Keeper {
    fn wait(&self, reception: &Reception, pidfd: &OwnedFd) -> Result<(), Error> {
        let mut fds = vec![
            PollFd::new(reception.wake(), PollFlags::POLLIN),
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
        ];
        if let Place::Away(away) = &self.place {
            fds.push(PollFd::new(away.notices.wake(), PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::system("wait")(errno)),
        }
    }

    /// Carries out an order.
    fn serve(&mut self, reception: &Reception, mut asker: Asker, request: AgentRequest) {
        let (node, outcome) = match request {
            AgentRequest::MoveTo { node, address } => match &self.place {
                Place::Home => (node, self.depart(node, address, &mut asker)),
                Place::Away(_) => (node, self.move_on(node, address, &mut asker)),
            },
            _ => (self.setup.config.node.id, self.come_home(&mut asker)),
        };
        if outcome.is_ok() {
            self.moved();
        }
        self.note();
        // Who asked may ask again as soon as it hears of the end.
        reception.done(self.status());
        self.report(node, outcome, &mut asker);
    }

    /// Counts a move. What is known is written down at home: the keeper may end there.
    fn moved(&mut self) {
        self.travelled = true;
        // Where it is now it asks anew.
        self.wish = None;
        self.moves += 1;
        if matches!(self.place, Place::Home)
            && let Err(error) = history::keep(&self.setup.config.paths, &self.status())
        {
            tracing::warn!(pid = self.process.pid, %error, "its moves are forgotten");
        }
    }

    /// Notes down where the process is, for the case that this keeper dies.
    fn note(&self) {
        let paths = &self.setup.config.paths;
        match &self.place {
            Place::Home => held::forget(paths, self.process.pid),
            Place::Away(away) => {
                if let Err(error) = held::note(paths, self.process, away.node) {
                    tracing::warn!(pid = self.process.pid, %error, "where it is cannot be noted down");
                }
            }
        }
    }

    fn report(&mut self, node: NodeId, outcome: journey::Result<Trip>, asker: &mut Asker) {
        match outcome {
            Ok(trip) => {
                let (pid, freeze, total, bytes) = (self.process.pid, trip.freeze, trip.total, trip.bytes);
                tracing::info!(pid, %node, ?freeze, ?total, bytes, "moved");
                asker.moved(self.process.pid, node, &trip);
            }
            Err(error) => {
                tracing::warn!(pid = self.process.pid, %node, error = chain(&error), "not moved");
                asker.failed(self.process.pid, node, &error);
            }
        }
    }

    fn status(&self) -> KeeperStatus {
        let home = self.setup.config.node.id;
        let home_comings = self.home_comings.iter().map(|(call, &times)| (call.clone(), times)).collect();
        let mut status = KeeperStatus {
            process: self.process,
            node: home,
            moving: false,
            moves: self.moves,
            memory_bytes: 0,
            away_cpu_ms: 0,
            forwarded: self.forwarded,
            home_comings,
        };
        if let Place::Away(away) = &self.place {
            status.node = away.node;
            status.memory_bytes = away.status.memory_bytes;
            status.away_cpu_ms = away.status.cpu_ms;
            status.forwarded += away.calls.forwarded();
        }
        status
    }

    /// Takes in what the warden said besides calls.
    fn hear(&mut self, reception: &Reception) {
        while let Place::Away(away) = &mut self.place {
            let Some(notice) = away.notices.next() else { return };
            let frame = match notice {
                Ok(frame) => frame,
                Err(error) => {
                    self.give_up(&chain(&error));
                    return;
                }
            };
            if let Err(error) = self.heed(&frame, reception) {
                tracing::error!(pid = self.process.pid, error = chain(&error), "what the host asked failed");
            }
        }
    }

    fn heed(&mut self, frame: &net::Frame, reception: &Reception) -> journey::Result<()> {
        match Kind::new(frame.kind) {
            Some(Kind::Status) => {
                let (status, _) = session::decode(&frame.payload)?;
                if let Place::Away(away) = &mut self.place {
                    away.status = status;
                }
                Ok(())
            }
            Some(Kind::Wish) => {
                let (wish, _) = session::decode::<Wish>(&frame.payload)?;
                if let Wish::Call { nr } = wish {
                    *self.home_comings.entry(call_name(nr).to_owned()).or_default() += 1;
                }
                self.wish = Some(wish);
                self.grant_wish(reception);
                Ok(())
            }
            Some(Kind::File) => self.give_file(&frame.payload),
            _ => Err(journey::Error::Unexpected { got: frame.kind, wanted: "something for a keeper" }),
        }
    }

    /// Brings the process home if it waits for that. While it is held at home it goes on waiting.
    fn grant_wish(&mut self, reception: &Reception) {
        if self.wish.is_none() || self.refuse_if_held(Destination::Home).is_err() {
            return;
        }
        reception.tell(KeeperStatus { moving: true, ..self.status() });
        let (pid, wish) = (self.process.pid, self.wish.take());
        match self.come_home(&mut Asker::nobody()) {
            Ok(trip) => {
                self.moved();
                self.note();
                tracing::info!(pid, ?wish, freeze = ?trip.freeze, "came home");
            }
            // Stopped meanwhile, before anything was done: it waits on.
            Err(error @ (journey::Error::Refused(_) | journey::Error::Process(_))) => {
                tracing::debug!(pid, ?wish, error = chain(&error), "it could not come home yet");
                self.wish = wish;
            }
            Err(error) => tracing::error!(pid, ?wish, error = chain(&error), "it could not come home"),
        }
    }

    /// A stop of the process at home stops the remote too; so does its end.
    fn watch_stops(&mut self) {
        let Place::Away(away) = &self.place else { return };
        let Ok(stat) = procinfo::stat(self.process.pid) else { return };
        let stopped = stat.state == b'T';
        if stopped != self.stopped {
            self.stopped = stopped;
            let hold = session::encode(&Hold { stopped });
            // A lost connection is noticed, and dealt with, where frames are read.
            let _ = away.calls.send(Kind::Hold, &[&hold]);
        }
    }

    /// After a failed hand-over away from where the process was: if it is not there any more, nobody here could serve it
    /// elsewhere, and it ends.
    fn abide_by(&mut self, owner: Owner, error: &journey::Error) {
        match owner {
            Owner::Here => {}
            Owner::There | Owner::Unknown => self.give_up(&chain(error)),
        }
    }

    /// The host is lost for good: nobody knows how far the remote got, so the process must not go on.
    fn give_up(&mut self, cause: &str) {
        let (pid, name) = (self.process.pid, procinfo::name(self.process.pid, self.process.pid));
        let node = match &self.place {
            Place::Away(away) => away.node,
            Place::Home => self.setup.config.node.id,
        };
        let name = name.unwrap_or_default();
        tracing::error!(pid, name, %node, cause, "ended with SIGKILL: nobody could tell how far it is");
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        self.farewell("its host is lost");
    }

    /// Tells the host that there is nothing to host any more.
    fn farewell(&mut self, why: &str) {
        held::forget(&self.setup.config.paths, self.process.pid);
        tracing::info!(pid = self.process.pid, why, "the keeper ends");
        if let Place::Away(away) = std::mem::replace(&mut self.place, Place::Home) {
            let _ = away.calls.send(Kind::Gone, &[]);
            away.end();
        }
        self.travelled = true;
    }
}

fn call_name(nr: u32) -> &'static str {
    syscalls::row(nr).map_or("unknown", |row| row.name)
}
