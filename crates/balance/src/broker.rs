//! The agreement between nodes about where a process goes.
//!
//! ```text
//!            Place │ Tick, Pressure, more processes, Invite, a guest has come, a move begins or ends
//!                  ▼
//!       shortlist from the window          nobody better ────────────────────────► start here │ nothing
//!                  │ Ask: 3 best, 2 by chance
//!                  ▼
//!               Asking ── all told, or time up ──► weigh again ── here is best ──► start here │ nothing
//!                  ▲                                   │ Reserve
//!                  │                                   ▼
//!                  └── Refused, time up: next best ─ Reserving ── Granted ──► start there │ move
//! ```
//!
//! **Never on gossip alone.** The naive plan sends each process to the best node of the window. With news a second old
//! everybody knows the same best node; measured with 64 nodes, that is three times *worse* than round robin, and fresher news
//! make it worse still. So gossip only makes a shortlist, candidates tell the truth, and the chosen one keeps room, which
//! counts as its load from then on.
//!
//! A machine without a clock, a socket, or chance of its own: [`Broker::step`] takes time, an event and a source of random
//! numbers, and answers what is to be done. It trusts its caller, and nobody else.

mod agree;
mod host;
mod ledger;
mod links;
mod members;
mod negotiation;
mod own;
mod rooms;
mod seek;
mod stays;
mod tables;
mod theta;

pub use own::{LocalJob, Machine, Sample};
pub use rooms::Ticket;
pub use tables::Tables;

use crate::history::{Run, Typical};
use crate::job::{Job, JobId};
use crate::policy::{Handshake, Policy, Scene};
use crate::rules::{Bounds, Classes};
use crate::settings::{Settings, TYPICAL_CPU_S};
use crate::state::{Place, State};
use crate::window::{Window, length_for};
use ledger::{Ledger, Note};
use links::Links;
use members::Members;
use model::NodeId;
use negotiation::Negotiations;
use own::Own;
use rand::Rng;
use rooms::Rooms;
use stays::Stays;
use std::time::Duration;
use theta::Theta;
use wire::balance::{Aged, Entry, Errand, Message, Switches};

/// What happens to a broker.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// This runs here now. To be told at least at each [`Event::Tick`], and whenever something has begun or ended.
    Sampled(Sample),
    /// These are the nodes of the cluster that are alive, this one perhaps among them. Others are forgotten.
    Members(Vec<NodeId>),
    /// Programs that have looked at a CPU of the first class run on CPUs of the second.
    Fits(u64, u64),
    /// [`Settings::spread`] has passed.
    Spread,
    /// [`Settings::tick`] has passed.
    Tick,
    /// Memory runs short: do not wait for the tick.
    Pressure,
    /// The time of an [`Action::Wake`] has come.
    Timer,
    /// A message from another node, whose identity is proven.
    Message {
        /// Who says it.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A new program of this node wants a place. Answered by one [`Action::Start`] with this number.
    Place {
        /// The caller's number.
        request: u64,
        /// What is expected of it; it is at home here.
        job: Job,
        /// What keeps it from some places.
        bounds: Bounds,
    },
    /// A process has come here, by a move or to start. The next sample has it, and is told before anything else.
    Landed {
        /// Which.
        id: JobId,
        /// The promise that it comes by.
        ticket: Option<Ticket>,
        /// Seconds that it stood still for it, if that is known here; who moved it may tell it by [`Message::Froze`].
        frozen_s: f64,
    },
    /// A process that is away from here, its home, is now running on that node; balancing has not sent it from here.
    Arrived {
        /// Where.
        at: NodeId,
        /// The process.
        job: Job,
    },
    /// A process of this node has ended there, or left it.
    Left {
        /// Where.
        at: NodeId,
        /// The process.
        job: Job,
    },
    /// A program that began on this node has ended.
    Ended(Run),
    /// A move that this broker has asked for is over.
    Departed {
        /// The process.
        id: JobId,
        /// How it went.
        outcome: Outcome,
    },
    /// A program that was to start elsewhere has started at home after all: nothing there waits for it.
    NotStarted {
        /// The [`Action::Start`]'s node.
        at: NodeId,
        /// Its promise.
        ticket: Ticket,
    },
    /// Somebody moves a process by hand: that is obeyed, and balancing leaves the process alone for a while.
    Order {
        /// The process.
        id: JobId,
        /// Where to.
        to: NodeId,
    },
}

/// How a move went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It runs there.
    Moved {
        /// Seconds that the move took, without waiting for other moves.
        took_s: f64,
        /// Seconds of them that the process stood still.
        frozen_s: f64,
    },
    /// It is still here.
    Failed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Say this to a node.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Come back with [`Event::Timer`] at this time.
    Wake {
        /// When.
        at: Duration,
    },
    /// Start the program of this [`Event::Place`] there. If that fails, it starts at home, and the broker is told by
    /// [`Event::NotStarted`].
    Start {
        /// The number of the event.
        request: u64,
        /// Where; this node is home.
        at: NodeId,
        /// The promise that it may be started by.
        ticket: Option<Ticket>,
    },
    /// Move a process of this node. Answered by one [`Event::Departed`].
    Move {
        /// Which.
        id: JobId,
        /// Where to.
        to: NodeId,
        /// The promise that it comes by; none if nobody was asked.
        ticket: Option<Ticket>,
    },
}

/// A move that has been asked for and is not over.
#[derive(Clone, Debug)]
struct Outgoing {
    id: JobId,
    to: NodeId,
    number: u32,
    job: Job,
    /// The stretch that it left.
    stay: f64,
    /// Seconds of its process that it promises.
    promised_s: f64,
    /// Whether its target was asked, and keeps room.
    asked: bool,
}

/// A question after a move: has it become true? The process ran so slow before, and the move took so long.
#[derive(Clone, Debug)]
struct Check {
    number: u32,
    outgoing: Outgoing,
    took_s: f64,
}

/// Questions after moves that are open at once.
const CHECKS_MAX: usize = 16;

/// The broker of one node.
#[derive(Debug)]
pub struct Broker {
    me: NodeId,
    settings: Settings,
    policy: Box<dyn Policy>,
    window: Window,
    members: Members,
    own: Own,
    rooms: Rooms,
    ledger: Ledger,
    links: Links,
    stays: Stays,
    negotiations: Negotiations,
    /// One for each target, [`Settings::moves_at_once`] at most.
    outgoing: Vec<Outgoing>,
    /// A process has come since the last sample.
    newcomer: bool,
    checks: Vec<Check>,
    theta: Theta,
    typical: Typical,
    classes: Classes,
}

impl Broker {
    /// The broker of a node whose daemon has started for the `boot`th time: a number that grows with each start.
    pub fn new(me: NodeId, boot: u32, policy: Box<dyn Policy>, settings: Settings) -> Broker {
        Broker {
            me,
            policy,
            window: Window::new(me, usize::MAX),
            members: Members::default(),
            own: Own::new(me, boot),
            rooms: Rooms::default(),
            ledger: Ledger::default(),
            links: Links::new(&settings),
            stays: Stays::default(),
            negotiations: Negotiations::default(),
            outgoing: Vec::new(),
            newcomer: false,
            checks: Vec::new(),
            theta: Theta::new(settings.theta),
            typical: Typical::default(),
            classes: Classes::default(),
            settings,
        }
    }

    /// Takes another policy. What is being negotiated goes on.
    pub fn set_policy(&mut self, policy: Box<dyn Policy>) {
        self.policy = policy;
    }

    /// What is known of others.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// What this node says of itself now; none before the first sample.
    pub fn entry(&self, now: Duration) -> Option<Entry> {
        self.own.entry(now, &self.rooms)
    }

    /// Slowdowns that a move must promise at present: more than [`Settings::theta`] if moves have not kept their promises.
    pub fn theta(&self) -> f64 {
        self.theta.value()
    }

    /// Something has happened at `now`, the time since this node's daemon started. What is to be done is appended to `out`.
    pub fn step(&mut self, now: Duration, event: Event, rng: &mut dyn Rng, out: &mut Vec<Action>) {
        self.rooms.expire(now);
        match event {
            Event::Sampled(sample) => self.sampled(now, sample, rng, out),
            Event::Members(members) => self.joined(now, members),
            Event::Fits(program, host) => self.classes.allow(program, host),
            Event::Spread => self.spread(now, rng, out),
            Event::Tick => {
                self.own.tick();
                // Whoever forgets a wake-up loses time, and no program.
                self.time_up(now, rng, out);
                self.invite(now, out);
                self.ask_talked_to(now, out);
                self.look(now, None, rng, out);
            }
            Event::Pressure => self.look(now, None, rng, out),
            Event::Timer => self.time_up(now, rng, out),
            Event::Message { from, message } => self.hear(now, from, message, rng, out),
            Event::Place { request, job, bounds } => self.place(now, request, job, bounds, rng, out),
            Event::Landed { id, ticket, frozen_s } => self.landed(now, id, ticket, frozen_s),
            // A policy that acts on news alone keeps no account of its own deeds either.
            Event::Arrived { .. } | Event::Left { .. } if self.policy.handshake() == Handshake::Never => {}
            Event::Arrived { at, job } => self.note(now, at, None, 1.0, &job),
            Event::Left { at, job } => self.note(now, at, None, -1.0, &job),
            Event::Ended(run) => self.typical.observe(&run),
            Event::Departed { id, outcome } => self.departed(now, id, outcome, rng, out),
            Event::NotStarted { at, ticket } => self.give_back(at, ticket.number, out),
            Event::Order { id, to } => self.order(now, id, to, out),
        }
    }

    fn sampled(&mut self, now: Duration, sample: Sample, rng: &mut dyn Rng, out: &mut Vec<Action>) {
        let outgoing = &self.outgoing;
        let leaves = |id: &JobId| outgoing.iter().any(|outgoing| outgoing.id == *id);
        let more = self.own.take(sample, leaves);
        self.forget_stays(now);
        if std::mem::take(&mut self.newcomer) || more {
            self.look(now, None, rng, out);
        }
    }

    /// Both may be many where a node is overrun.
    fn forget_stays(&mut self, now: Duration) {
        if self.stays.len() > 0 {
            let mut here: Vec<JobId> = self.own.jobs().iter().map(|local| local.id).collect();
            here.sort_unstable();
            self.stays.forget(now, |id| here.binary_search(id).is_ok());
        }
    }

    fn joined(&mut self, now: Duration, members: Vec<NodeId>) {
        let members = Members::new(members, self.me);
        for gone in self.members.sorted().iter().filter(|old| !members.contains(**old)) {
            self.window.forget(*gone);
            self.ledger.forget(*gone);
            self.links.forget(*gone);
            self.rooms.forget(*gone);
        }
        self.members = members;
        let periods = self.settings.wanted_age_s / self.settings.spread.as_secs_f64();
        self.window.resize(length_for(self.members.sorted().len() + 1, periods), now);
    }

    fn spread(&mut self, now: Duration, rng: &mut dyn Rng, out: &mut Vec<Action>) {
        if self.own.switches().contains(Switches::QUIET) {
            return;
        }
        let Some(own) = self.own.entry(now, &self.rooms) else { return };
        if let Some((to, message)) = self.window.tick(now, own, self.members.sorted(), rng) {
            out.push(Action::Send { to, message });
        }
    }

    fn hear(
        &mut self,
        now: Duration,
        from: NodeId,
        message: Message,
        rng: &mut dyn Rng,
        out: &mut Vec<Action>,
    ) {
        match message {
            Message::Gossip(told) => {
                if !self.own.switches().contains(Switches::QUIET) {
                    // Nodes that do not exist would take the place of those that do.
                    let exists = |aged: &&Aged| self.members.contains(aged.entry.node);
                    self.window.receive(now, from, told.iter().filter(exists));
                }
            }
            Message::Ask { number } => self.tell(now, from, number, out),
            Message::Tell { number, entry } => self.told(now, from, number, entry, rng, out),
            Message::Reserve { number, seen, job, hold_ms } => {
                let ticket = Ticket { asker: from, number };
                self.reserve(now, ticket, seen, job, hold_ms, out);
            }
            Message::Granted { number, .. } => self.granted(now, from, number, rng, out),
            Message::Refused { number, why, entry } => self.refused(now, from, number, why, entry, rng, out),
            Message::Release { number } => drop(self.rooms.take(&Ticket { asker: from, number })),
            Message::Invite { entry } => self.invited(now, from, entry, rng, out),
            Message::Froze { number, frozen_ms } => {
                let ticket = Ticket { asker: from, number };
                let frozen_s = f64::from(frozen_ms) / 1000.0;
                // It may be said before the process was seen here, and after.
                self.rooms.froze(&ticket, frozen_s);
                self.stays.froze(now, &ticket, frozen_s);
            }
        }
    }

    fn landed(&mut self, now: Duration, id: JobId, ticket: Option<Ticket>, frozen_s: f64) {
        self.newcomer = true;
        let promised = ticket.and_then(|ticket| self.rooms.take(&ticket));
        let starts = promised.as_ref().is_some_and(|room| room.job.errand == Errand::Start);
        if !starts {
            let (before, told_s) =
                promised.map_or((Vec::new(), 0.0), |room| (room.job.moves_ms, room.frozen_s));
            self.stays.landed(now, id, ticket, frozen_s.max(told_s), &before);
        }
    }

    fn order(&mut self, now: Duration, id: JobId, to: NodeId, out: &mut Vec<Action>) {
        self.negotiations.drop_move_of(&id, out);
        // What has left by an order is not told of by anything else.
        self.forget_stays(now);
        self.stays.ordered(now, id);
        out.push(Action::Move { id, to, ticket: None });
    }

    /// Remembers what was done to another node's load.
    fn note(&mut self, now: Duration, node: NodeId, number: Option<u32>, sign: f64, job: &Job) {
        if node != self.me {
            self.ledger.note(Note {
                node,
                at: now,
                number,
                jobs: sign * job.width,
                memory_mb: sign * job.memory_mb,
                age_s: job.age_s,
            });
        }
    }

    /// What the policy sees, with these settings: a copy, since a policy may change while it looks.
    fn scene<'a>(&self, here: &'a Place, others: &'a [Place], settings: &'a Settings) -> Scene<'a> {
        let nodes = self.members.sorted().len() + 1;
        Scene { here, others, nodes, typical_s: self.typical_s(), theta: self.theta.value(), settings }
    }

    fn typical_s(&self) -> f64 {
        self.typical.cpu_s().unwrap_or(TYPICAL_CPU_S)
    }

    /// This node as a place. None before the first sample.
    fn here(&self, now: Duration) -> Option<Place> {
        let state = self.own.state(now, &self.rooms, self.settings.thrash)?;
        Some(Place { node: self.me, state, link: self.links.to(self.me) })
    }

    /// Another node as a place, by what it said at `said`, corrected by what this node has done since.
    fn there(&self, node: NodeId, said: Duration, state: State) -> Place {
        let mut state = state;
        self.ledger.correct(node, said, &mut state);
        Place { node, state, link: self.links.to(node) }
    }
}
