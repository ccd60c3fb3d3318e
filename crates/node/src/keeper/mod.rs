//! The keeper of one family at its home: a process that was moved away, and what it has forked there since.
//!
//! It is started to move the process away, and ends when all of the family are at home for good, have ended, or have
//! become other programs. In between it holds everything that is theirs and not their deputies': the channel to the host,
//! the slots, the files under their mappings.
//!
//! ```text
//! Home ──depart──► Away ──move on──► Away
//!   ▲                │
//!   └──────return────┘         any ──► Ended (the process died)
//! ```
//!
//! A family is on one host. A member that is to go elsewhere comes home first, and leaves from there with a keeper of its
//! own; only a family of one moves on directly.
//!
//! Four threads: this one owns the processes by ptrace and does the moving; two carry their calls ([`calls::Calls`]); one
//! answers the daemon ([`Reception`]). Files stay with this thread. A process is taken home by one more, which lives as long
//! as that takes ([`tracee::begin`] says why). Where it maps files that may change, one more watches over those ([`guard`]).

mod account;
mod away;
mod births;
mod calls;
mod depart;
mod failure;
mod files;
mod frozen;
mod guard;
mod homecoming;
mod member;
mod move_on;
mod orders;
mod own_files;
mod partings;
mod reception;
mod requests;
mod slot;
mod stir;
mod waiting;

use crate::journey;
use crate::{Error, Setup, held, history};
use away::Away;
use control::{AgentRequest, KeeperStatus, Sake, What};
use member::Member;
use model::one_line;
use model::{Destination, NodeId, ProcessId, Reservation};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use partings::Parting;
use reception::Reception;
use requests::Asker;
use slot::News;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use tracee::layout::Files;
pub(crate) use waiting::Parked;
use wire::session::{self, Ended, Hold, Kind, Lost, Status, Wish, WishOf};

/// How often the keeper looks whether its process is stopped at home.
const TICK: Duration = Duration::from_millis(100);

/// How long a keeper stays when all are at home. Its end takes about as long as the move of a small process, which mostly has
/// the same CPU and would stand still for all of it at once; and who has come home may be wanted elsewhere at once.
const LINGER: Duration = Duration::from_millis(20);

/// A keeper's turn on the CPU, nanoseconds. Who makes a call from afar waits for it, mostly while somebody else computes here; and
/// a call takes a fraction of this.
const TURN_NS: u64 = 100_000;

/// Where the process is.
enum Place {
    Home,
    Away(Box<Away>),
}

/// Where a process is to go.
#[derive(Clone, Copy, Debug)]
struct Goal {
    node: NodeId,
    address: SocketAddr,
    /// The room that was promised there.
    reservation: Option<Reservation>,
}

/// What a move was like.
#[derive(Clone, Copy, Debug)]
struct Trip {
    freeze: Duration,
    total: Duration,
    bytes: u64,
}

struct Keeper {
    setup: Setup,
    files: Files,
    place: Place,
    /// The family by pid.
    members: BTreeMap<i32, Member>,
    /// Something has moved since this keeper began.
    travelled: bool,
    /// A host that none of them is at any more, and that has not been taken leave of.
    left: Option<Box<Away>>,
    /// What hosts must have of this node's CPU, if less than all of it was asked for when the family left home.
    needed: Option<model::CpuProfile>,
}

/// Serves a process and its descendants until all are at home for good or ended.
pub fn run(process: ProcessId, listener: UnixListener, setup: Setup) -> Result<(), Error> {
    let Some(mut first) = Member::open(process)? else {
        tracing::info!(pid = process.pid, "it has ended before it was looked at");
        return Ok(());
    };
    if let Err(errno) = kernel::sched::set_turns(TURN_NS) {
        tracing::debug!(%errno, "it takes turns on the CPU like everybody else");
    }
    if let Some((before, parked)) = history::known(&setup.config.paths, process) {
        first.remember(before, parked);
    }
    let mut keeper = Keeper {
        files: Files::default(),
        place: Place::Home,
        members: BTreeMap::from([(process.pid, first)]),
        travelled: false,
        left: None,
        needed: None,
        setup,
    };
    let reception = Reception::open(listener, keeper.setup.config.node.id, keeper.statuses())?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut idle_since = None;
    loop {
        keeper.wait(&reception, idle_since.map_or(TICK, |_| LINGER))?;
        keeper.hear_news();
        keeper.bury_the_dead(&reception);
        if let Some((asker, request)) = reception.order() {
            keeper.serve(&reception, asker, request);
        }
        keeper.hear(&reception);
        keeper.grant_wishes(&reception);
        keeper.watch_stops();
        reception.tell(keeper.statuses());
        if keeper.members.is_empty() {
            keeper.farewell();
            // Whoever was told that an order was taken is owed an answer.
            while !reception.close() {
                if let Some((asker, request)) = reception.order() {
                    keeper.serve(&reception, asker, request);
                }
            }
            return Ok(());
        }
        let idle = matches!(keeper.place, Place::Home) && (keeper.travelled || Instant::now() > deadline);
        if !idle {
            idle_since = None;
        } else if idle_since.get_or_insert_with(Instant::now).elapsed() < LINGER {
            continue;
        } else if reception.close() {
            keeper.take_leave();
            return Ok(());
        }
        keeper.take_leave();
    }
}

impl Keeper {
    fn wait(&self, reception: &Reception, patience: Duration) -> Result<(), Error> {
        let mut fds = vec![PollFd::new(reception.wake(), PollFlags::POLLIN)];
        fds.extend(self.members.values().map(|member| PollFd::new(member.pidfd(), PollFlags::POLLIN)));
        if let Place::Away(away) = &self.place {
            fds.push(PollFd::new(away.notices.wake(), PollFlags::POLLIN));
            fds.push(PollFd::new(away.calls.stir(), PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::system("wait")(errno)),
        }
    }

    /// Takes in who was born, who ended, and who became another program.
    fn hear_news(&mut self) {
        while let Place::Away(away) = &self.place {
            let Some(news) = away.calls.news() else { return };
            match news {
                News::Born { pid, of } => match Member::born(pid) {
                    Ok(member) => {
                        tracing::debug!(pid, of, "born away");
                        self.members.insert(pid, member);
                        self.note(pid);
                    }
                    Err(error) => {
                        tracing::debug!(pid, of, %error, "born and gone");
                        self.let_go(pid);
                    }
                },
                News::Execed { pid } => {
                    // What was known was of the other one.
                    let paths = &self.setup.config.paths;
                    history::forget(paths, pid);
                    held::forget(paths, pid);
                    away.calls.part_with_files(pid);
                    tracing::info!(pid, "it is another program now");
                    self.members.remove(&pid);
                    self.travelled = true;
                }
                News::Ended { pid } => {
                    if let Some(member) = self.members.get_mut(&pid) {
                        member.ended = true;
                    }
                }
                News::Wanted { pid, nr } => {
                    if let Some(member) = self.members.get_mut(&pid) {
                        member.count_home_coming(nr.map_or("open", call_name));
                        member.wish = Some(nr.map_or(Wish::Opened, |nr| Wish::Call { nr }));
                    }
                }
            }
        }
    }

    fn bury_the_dead(&mut self, reception: &Reception) {
        let dead = self.dead();
        if !dead.is_empty() {
            // Their host's last word of them came before their end.
            self.hear(reception);
            self.bury(dead);
        }
    }

    fn dead(&self) -> Vec<i32> {
        self.members.iter().filter(|(_, member)| member.has_ended()).map(|(&pid, _)| pid).collect()
    }

    fn bury(&mut self, dead: Vec<i32>) {
        for pid in dead {
            self.part_with(pid, "it has ended");
        }
    }

    /// A process is none of the family any more; its host is told that there is nothing to host.
    fn part_with(&mut self, pid: i32, why: &str) {
        self.note_end(pid);
        let Some(_) = self.members.remove(&pid) else { return };
        tracing::info!(pid, why, "a process leaves its keeper");
        held::forget(&self.setup.config.paths, pid);
        history::forget(&self.setup.config.paths, pid);
        self.let_go(pid);
        self.travelled = true;
    }

    /// Nothing of a process is served any more, here and at its host.
    fn let_go(&self, pid: i32) {
        if let Place::Away(away) = &self.place {
            away.calls.let_go(pid, Parting::End);
            away.calls.part_with_files(pid);
        }
    }

    /// Carries out an order.
    fn serve(&mut self, reception: &Reception, mut asker: Asker, request: AgentRequest) {
        let home = self.setup.config.node.id;
        let (pid, node) = match &request {
            AgentRequest::MoveTo { pid, node, .. } => (*pid, *node),
            AgentRequest::BringHome { pid, .. } => (*pid, home),
            AgentRequest::Status | AgentRequest::Connection => return reception.done(self.statuses()),
        };
        let alone = self.members.len() == 1;
        let away = matches!(self.place, Place::Away(_));
        let mut again = false;
        let mut by_way_of_home = |keeper: &mut Keeper, asker: &mut Asker| {
            again = true;
            keeper.come_home(pid, asker, reception)
        };
        let outcome = match request {
            _ if !self.members.contains_key(&pid) => Err(journey::Error::Ended),
            AgentRequest::MoveTo { node, address, reservation, .. } if !away => {
                self.depart(pid, Goal { node, address, reservation }, &mut asker)
            }
            AgentRequest::MoveTo { node, address, reservation, .. } if alone => {
                match self.move_on(pid, Goal { node, address, reservation }, &mut asker) {
                    Ok(Some(trip)) => Ok(trip),
                    Ok(None) => by_way_of_home(self, &mut asker),
                    Err(error) => Err(error),
                }
            }
            AgentRequest::MoveTo { node, .. } if self.is_at(node) => {
                Err(depart::refusal(model::ReasonCode::SameNode.into()))
            }
            AgentRequest::MoveTo { .. } => by_way_of_home(self, &mut asker),
            _ => self.come_home(pid, &mut asker, reception),
        };
        let outcome = outcome.map_err(|error| self.excuse(pid, error));
        if outcome.is_ok() {
            self.moved(pid);
        }
        self.note(pid);
        // Who asked may ask again as soon as it hears of the end.
        reception.done(self.statuses());
        match outcome {
            Ok(_) if again => asker.again(),
            outcome => self.report(pid, node, outcome, &mut asker),
        }
    }

    fn is_at(&self, node: NodeId) -> bool {
        matches!(&self.place, Place::Away(away) if away.node == node)
    }

    /// Counts a move. What is known is written down at home: the keeper may end there.
    fn moved(&mut self, pid: i32) {
        self.travelled = true;
        let away = matches!(self.place, Place::Away(_));
        let Some(member) = self.members.get_mut(&pid) else { return };
        member.moved();
        if away && !member.is_home {
            return;
        }
        let status = member.status(self.setup.config.node.id, slot::Traffic::default());
        if let Err(error) = history::keep(&self.setup.config.paths, &status, &member.parked) {
            tracing::warn!(pid, %error, "its moves are forgotten");
        }
        if away {
            // The others stay away; this one is nobody's any more.
            self.members.remove(&pid);
        }
    }

    /// Notes down where a process is, for the case that this keeper dies.
    fn note(&self, pid: i32) {
        let paths = &self.setup.config.paths;
        match (&self.place, self.members.get(&pid)) {
            (Place::Away(away), Some(member)) if !member.is_home => {
                if let Err(error) = held::note(paths, member.process(), away.node) {
                    tracing::warn!(pid, %error, "where it is cannot be noted down");
                }
            }
            _ => held::forget(paths, pid),
        }
    }

    fn report(&mut self, pid: i32, node: NodeId, outcome: journey::Result<Trip>, asker: &mut Asker) {
        match outcome {
            Ok(trip) => {
                let (freeze, total, bytes) = (trip.freeze, trip.total, trip.bytes);
                tracing::info!(pid, %node, ?freeze, ?total, bytes, "moved");
                let (what, why) = match asker.sake() {
                    Sake::People => (What::Moved, ""),
                    Sake::Load => (What::Balanced, "for the load of the nodes; "),
                };
                let still_ms = freeze.as_secs_f64() * 1e3;
                let text = format!("{why}{bytes} bytes, it stood still for {still_ms:.1} ms");
                self.record(what, pid, Some(node), &text);
                asker.moved(pid, node, &trip);
            }
            Err(error) => {
                tracing::warn!(pid, %node, error = one_line(&error), "not moved");
                self.record(What::NotMoved, pid, Some(node), &one_line(&error));
                asker.failed(pid, node, &error);
            }
        }
    }

    /// Takes in what the warden said besides calls.
    fn hear(&mut self, reception: &Reception) {
        while let Place::Away(away) = &mut self.place {
            let Some(notice) = away.notices.next() else { return };
            // Whoever it speaks of was born before it spoke.
            self.hear_news();
            let frame = match notice {
                Ok(frame) => frame,
                Err(error) => {
                    self.give_up(What::Lost, &format!("its host is lost: {}", one_line(&error)));
                    return;
                }
            };
            if Kind::new(frame.kind) == Some(Kind::Ended) {
                let cause = session::decode::<Ended>(&frame.payload).map(|(ended, _)| ended.cause);
                let cause = cause.unwrap_or_default();
                self.give_up(What::Killed, &format!("it has ended on its host: {}", shown(&cause)));
                return;
            }
            if let Err(error) = self.heed(&frame, reception) {
                tracing::error!(error = one_line(&error), "what the host asked failed");
            }
        }
    }

    fn heed(&mut self, frame: &net::Frame, reception: &Reception) -> journey::Result<()> {
        match Kind::new(frame.kind) {
            Some(Kind::Status) => {
                let (status, _) = session::decode::<Status>(&frame.payload)?;
                if let Some(member) = self.members.get_mut(&status.pid) {
                    member.usage = status;
                }
                Ok(())
            }
            Some(Kind::Wish) => {
                let (WishOf { pid, wish }, _) = session::decode(&frame.payload)?;
                if let Some(member) = self.members.get_mut(&pid) {
                    if let Wish::Call { nr } = wish {
                        member.count_home_coming(call_name(nr));
                    }
                    member.wish = Some(wish);
                }
                self.grant_wishes(reception);
                Ok(())
            }
            Some(Kind::Lost) => {
                let (Lost { pid, cause }, _) = session::decode(&frame.payload)?;
                let node =
                    if let Place::Away(away) = &self.place { away.node } else { self.setup.config.node.id };
                if let Some(member) = self.members.get(&pid) {
                    let cause = format!("it has ended on its host: {}", shown(&cause));
                    member.end(&self.setup.config.paths, What::Killed, node, &cause);
                }
                Ok(())
            }
            Some(Kind::File) => self.give_file(&frame.payload),
            // Answers to attempts that were given up.
            Some(
                Kind::MoveOn
                | Kind::Quiet
                | Kind::Stays
                | Kind::Image
                | Kind::Pages
                | Kind::PagesEnd
                | Kind::Sent
                | Kind::Refused,
            ) => Ok(()),
            _ => Err(journey::Error::Unexpected { got: frame.kind, wanted: "something for a keeper" }),
        }
    }

    /// Brings home whoever waits for that. While it is held at home it goes on waiting.
    fn grant_wishes(&mut self, reception: &Reception) {
        let wishing: Vec<i32> =
            self.members.iter().filter(|(_, member)| member.wish.is_some()).map(|(&pid, _)| pid).collect();
        for pid in wishing {
            self.grant_wish(pid, reception);
        }
    }

    fn grant_wish(&mut self, pid: i32, reception: &Reception) {
        if matches!(self.place, Place::Home) || self.refuse_if_held(pid, Destination::Home).is_err() {
            return;
        }
        let busy = self.statuses().into_iter().map(|status| {
            let moving = status.process.pid == pid;
            KeeperStatus { moving, ..status }
        });
        reception.tell(busy.collect());
        let Some(wish) = self.members.get_mut(&pid).and_then(|member| member.wish.take()) else { return };
        match self.come_home(pid, &mut Asker::nobody(), reception).map_err(|error| self.excuse(pid, error)) {
            Ok(trip) => {
                self.moved(pid);
                self.note(pid);
                tracing::info!(pid, ?wish, freeze = ?trip.freeze, "came home");
                self.record(What::CameHome, pid, None, &cause_of(&wish));
            }
            // Stopped meanwhile, before anything was done: it waits on.
            Err(error @ (journey::Error::Refused(_) | journey::Error::Process(_))) => {
                tracing::debug!(pid, ?wish, error = one_line(&error), "it could not come home yet");
                if let Some(member) = self.members.get_mut(&pid) {
                    member.wish = Some(wish);
                }
            }
            Err(journey::Error::Ended) => tracing::info!(pid, ?wish, "it ended on its way home"),
            Err(error) => {
                tracing::error!(pid, ?wish, error = one_line(&error), "it could not come home");
                self.record(What::NotMoved, pid, Some(self.setup.config.node.id), &one_line(&error));
            }
        }
    }

    /// A stop of a process at home stops its remote too.
    fn watch_stops(&mut self) {
        let Place::Away(away) = &self.place else { return };
        for (&pid, member) in &mut self.members {
            if let Some(stopped) = member.stop_or_go() {
                let hold = session::encode(&Hold { pid, stopped });
                // A lost connection is noticed, and dealt with, where frames are read.
                let _ = away.calls.send(Kind::Hold, &[&hold]);
            }
        }
    }

    /// There is nothing to host any more. The connection stays until [`Keeper::take_leave`].
    fn come_away(&mut self) {
        self.take_leave();
        if let Place::Away(away) = std::mem::replace(&mut self.place, Place::Home) {
            self.left = Some(away);
        }
        self.travelled = true;
    }

    /// Ends the connection to a host that has nothing more to host. That waits for a moment for the host, and whoever
    /// asked for the move need not.
    fn take_leave(&mut self) {
        if let Some(away) = self.left.take() {
            away.end();
        }
    }

    /// Both at once.
    fn farewell(&mut self) {
        self.come_away();
        self.take_leave();
    }
}

/// Why a process came home, in words.
fn cause_of(wish: &Wish) -> String {
    match wish {
        Wish::Call { nr } => format!("it called {}, which is done at home only", call_name(*nr)),
        Wish::Expelled => "its host sent it away".to_owned(),
        Wish::Opened => "somebody wanted a file that it maps".to_owned(),
        Wish::Signal { signal } => format!("signal {signal} is to end it with a core dump"),
    }
}

/// Words of another node, fit for one line of a log.
fn shown(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    text.chars().filter(|letter| !letter.is_control()).take(CHARACTERS_MAX).collect()
}

fn call_name(nr: u32) -> &'static str {
    syscalls::row(nr).map_or("unknown", |row| row.name)
}
