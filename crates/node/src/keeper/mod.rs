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
//! Three threads: this one owns the process by ptrace and does the moving; the other two carry its calls
//! ([`calls::Calls`]). Files stay with this thread.

mod away;
mod calls;
mod depart;
mod files;
mod homecoming;
mod move_on;
mod requests;
mod waiting;

use crate::journey;
use crate::journey::error::chain;
use crate::{Error, Setup};
use away::Away;
use control::{AgentRequest, KeeperStatus};
use migration::Owner;
use model::{NodeId, ProcessId};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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
    moves: u64,
    home_comings: BTreeMap<u32, u64>,
    stopped: bool,
}

/// Serves one process until it is at home for good or ended.
pub fn run(process: ProcessId, listener: UnixListener, setup: Setup) -> Result<(), Error> {
    let pidfd = open_process(process)?;
    let mut keeper = Keeper {
        process,
        setup,
        files: Files::default(),
        place: Place::Home,
        moves: 0,
        home_comings: BTreeMap::new(),
        stopped: false,
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        keeper.wait(&listener, &pidfd)?;
        if readable(&pidfd) {
            keeper.farewell("it has ended");
            return Ok(());
        }
        if readable(&listener) {
            keeper.serve(&listener);
        }
        keeper.hear();
        keeper.watch_stops();
        let idle = matches!(keeper.place, Place::Home) && (keeper.moves > 0 || Instant::now() > deadline);
        if idle && !readable(&listener) {
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
    fn wait(&self, listener: &UnixListener, pidfd: &OwnedFd) -> Result<(), Error> {
        let mut fds = vec![
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
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

    /// Serves one connection of the daemon.
    fn serve(&mut self, listener: &UnixListener) {
        let Ok((stream, _)) = listener.accept() else { return };
        let Some((mut asker, request)) = Asker::receive(stream) else { return };
        match request {
            AgentRequest::Status => asker.status(&self.status()),
            AgentRequest::MoveTo { node, address } => {
                let outcome = match &self.place {
                    Place::Home => self.depart(node, address, &mut asker),
                    Place::Away(_) => self.move_on(node, address, &mut asker),
                };
                self.finish(node, outcome, &mut asker);
            }
            AgentRequest::BringHome => {
                let home = self.setup.config.node.id;
                let outcome = self.come_home(&mut asker);
                self.finish(home, outcome, &mut asker);
            }
            AgentRequest::Connection => asker.refuse("a keeper takes no connections"),
        }
    }

    fn finish(&mut self, node: NodeId, outcome: journey::Result<Trip>, asker: &mut Asker) {
        match outcome {
            Ok(trip) => {
                self.moves += 1;
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
        let home_comings =
            self.home_comings.iter().map(|(&nr, &times)| (call_name(nr).to_owned(), times)).collect();
        let mut status = KeeperStatus {
            process: self.process,
            node: home,
            moving: false,
            moves: self.moves,
            memory_bytes: 0,
            away_cpu_ms: 0,
            forwarded: 0,
            home_comings,
        };
        if let Place::Away(away) = &self.place {
            status.node = away.node;
            status.memory_bytes = away.status.memory_bytes;
            status.away_cpu_ms = away.status.cpu_ms;
            status.forwarded = away.calls.forwarded();
        }
        status
    }

    /// Takes in what the warden said besides calls.
    fn hear(&mut self) {
        while let Place::Away(away) = &mut self.place {
            let Some(notice) = away.notices.next() else { return };
            let frame = match notice {
                Ok(frame) => frame,
                Err(error) => {
                    tracing::error!(pid = self.process.pid, error = chain(&error), "the host is lost");
                    self.give_up();
                    return;
                }
            };
            if let Err(error) = self.heed(&frame) {
                tracing::error!(pid = self.process.pid, error = chain(&error), "what the host asked failed");
            }
        }
    }

    fn heed(&mut self, frame: &net::Frame) -> journey::Result<()> {
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
                    *self.home_comings.entry(nr).or_default() += 1;
                }
                let trip = self.come_home(&mut Asker::nobody())?;
                self.moves += 1;
                tracing::info!(pid = self.process.pid, ?wish, freeze = ?trip.freeze, "came home");
                Ok(())
            }
            Some(Kind::File) => self.give_file(&frame.payload),
            _ => Err(journey::Error::Unexpected { got: frame.kind, wanted: "something for a keeper" }),
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
    fn abide_by(&mut self, owner: Owner) {
        match owner {
            Owner::Here => {}
            Owner::There | Owner::Unknown => self.give_up(),
        }
    }

    /// The host is lost for good: nobody knows how far the remote got, so the process must not go on.
    fn give_up(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        self.farewell("its host is lost");
    }

    /// Tells the host that there is nothing to host any more.
    fn farewell(&mut self, why: &str) {
        tracing::info!(pid = self.process.pid, why, "the keeper ends");
        if let Place::Away(away) = std::mem::replace(&mut self.place, Place::Home) {
            let _ = away.calls.send(Kind::Gone, &[]);
            away.end();
        }
        self.moves += 1;
    }
}

fn call_name(nr: u32) -> &'static str {
    syscalls::row(nr).map_or("unknown", |row| row.name)
}
