//! Balancing: the broker of `balance` with a clock, chance, datagrams, and hands.
//!
//! ```text
//!  census ──sample──┐                      ┌──► datagrams to other brokers
//!  datagrams ───────┼──► broker ──actions──┼──► deeds: a thread that moves one process
//!  deeds, offers ───┘                      └──► a time to wake
//! ```
//! One thread owns the broker; everybody else tells it something and goes on. What it misses while it is overrun, a
//! later sample shows.

mod census;
mod deeds;
mod kinds;
mod memoir;

use super::gauge::Haste;
use super::requests::PEER_ANSWER;
use super::{Daemon, figures};
use crate::discovery::Datagram;
use crate::peers;
use crate::process::lives;
use crate::rules::Policy;
use balance::policy::PolicyName;
use balance::settings::TYPICAL_MEMORY_MB;
use balance::{
    Action, Bounds, Broker, Event, History, Hold, Job, JobId, Outcome, ProgramKey, Run, Settings, Talk,
    Ticket,
};
use census::Census;
use kinds::Kinds;
use memoir::Memoir;
use model::limits::{JOBS_MAX, PLACEMENTS_MAX};
use model::{CpuProfile, Mask, NodeId, ProcessId, Reservation};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime};
use wire::balance::{Entry, Message, Switches};
use wire::peer::Bonds;

/// The datagrams' channel.
const CHANNEL: u8 = 1;
/// What may wait to be heard.
const WAITING_MAX: usize = 1024;
/// Guests that are expected and have not come, at most; the oldest are forgotten.
const EXPECTED_MAX: usize = 256;

/// A guest that is there, and is not seen at work, keeps the room that it was promised for so long: in its first moment the
/// best of workers stands still. Who sleeps for longer needs none.
const SETTLES: Duration = Duration::from_secs(2);
/// How long the end of the daemon waits for what is to be kept.
const ENDS: Duration = Duration::from_secs(2);
/// A guest that was accepted mostly comes within this time: so long it is looked for it more often.
const SOON: Duration = Duration::from_secs(3);

/// Seconds that it costs a program to be moved when it has just begun; measured, docs/performance.md.
const START_S: f64 = 0.1;

/// What a program has used that was gone before it was seen to work.
const SHORT: Run = Run { cpu_s: 0.01, peak_mb: 4.0 };

/// Why the node was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// It was time.
    Time,
    /// Something has come or gone.
    Change,
    /// Memory runs short.
    Pressure,
}

/// What the broker's thread is told.
#[derive(Debug)]
pub(super) enum Told {
    /// This node was measured.
    Measured(Occasion),
    /// A message of another broker.
    Message {
        /// Its node.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A guest was accepted, which comes by this promise.
    Expected {
        /// Its home.
        home: NodeId,
        /// Its pid there.
        pid: i32,
        /// The promise.
        reservation: Reservation,
    },
    /// What people have said about a guest, by its home.
    Bound {
        /// Its home.
        home: NodeId,
        /// Its pid there.
        pid: i32,
        /// What holds for it.
        bonds: Bonds,
    },
    /// A new program that may be moved.
    Begun {
        /// The process.
        process: ProcessId,
        /// Where it may run.
        mask: Mask,
        /// The file that it runs, if that is known.
        executable: String,
    },
    /// The broker's wish where a new program is to start was tried.
    Started {
        /// The process.
        process: ProcessId,
        /// Where.
        at: NodeId,
        /// The promise.
        ticket: Option<Ticket>,
        /// Whether it is there now.
        moved: bool,
    },
    /// What a node's CPU is, if it has told.
    Kind(Option<CpuProfile>),
    /// The daemon ends: what is to be kept is to be written down now. Answered when that is done.
    Ending(SyncSender<()>),
    /// A move that the broker wanted is over.
    Departed {
        /// The process.
        id: JobId,
        /// Where to.
        to: NodeId,
        /// How it went.
        outcome: Outcome,
    },
}

/// Where the broker's thread is told something, and what it knows.
#[derive(Clone, Debug)]
pub(super) struct Balancing {
    told: SyncSender<Told>,
    known: Arc<RwLock<BTreeMap<NodeId, Entry>>>,
}

impl Balancing {
    /// Tells it something; dropped where too much waits.
    pub(super) fn tell(&self, told: Told) {
        let _ = self.told.try_send(told);
    }

    /// Lets it write down what is to be kept.
    pub(super) fn end(&self) {
        let (done, is_done) = sync_channel(1);
        self.tell(Told::Ending(done));
        let _ = is_done.recv_timeout(ENDS);
    }
}

/// Begins to balance. Where nothing is to be moved by itself, others still hear how this node is.
pub(super) fn start(daemon: &Arc<Daemon>) {
    let rules = &daemon.setup.config.balance;
    let policy = match rules.policy {
        _ if !rules.automatic => PolicyName::None,
        Policy::Ums => PolicyName::Ums,
        Policy::Mosix => PolicyName::Mosix,
        Policy::Oc => PolicyName::Oc,
        Policy::None => PolicyName::None,
    };
    let datagrams = match daemon.discovery.datagrams().register(CHANNEL) {
        Ok(datagrams) => datagrams,
        Err(error) => return tracing::error!(%error, "nothing is balanced"),
    };
    let (sender, told) = sync_channel(WAITING_MAX);
    let balancing = Balancing { told: sender, known: Arc::default() };
    let _ = daemon.balancing.set(balancing.clone());
    let counts = daemon.counts.clone();
    let listener = balancing.clone();
    std::thread::spawn(move || {
        for Datagram { from, payload } in datagrams {
            match wire::balance::decode(&payload) {
                Ok(message) => listener.tell(Told::Message { from, message }),
                Err(_) => counts.balance_garbage.add(),
            }
        }
    });
    let daemon = Arc::downgrade(daemon);
    std::thread::spawn(move || {
        if let Some(worker) = Worker::new(&daemon, policy, balancing) {
            worker.run(&daemon, &told);
        }
    });
}

/// The thread that owns the broker.
struct Worker {
    me: NodeId,
    broker: Broker,
    census: Census,
    settings: Settings,
    balancing: Balancing,
    random: SmallRng,
    began: Instant,
    /// When the broker wants to be woken.
    wakes: BTreeSet<Duration>,
    next_tick: Duration,
    next_spread: Duration,
    /// Guests that were accepted, by what promise and when.
    expected: BTreeMap<(NodeId, i32), (Ticket, Instant)>,
    /// Who was here at the last look.
    before: BTreeSet<JobId>,
    /// Who has come and has not been seen at work yet, and since when.
    idle: BTreeMap<JobId, Instant>,
    /// New programs for which a place is looked for, by the numbers of the questions.
    placed: BTreeMap<u64, ProcessId>,
    /// Number of the last question.
    asked: u64,
    /// What programs were like.
    history: History,
    memoir: Memoir,
    /// The programs of own processes.
    programs: BTreeMap<JobId, ProgramKey>,
    kinds: Kinds,
}

impl Worker {
    fn new(daemon: &Weak<Daemon>, policy: PolicyName, balancing: Balancing) -> Option<Worker> {
        let daemon = daemon.upgrade()?;
        // To start a process elsewhere is to move it when it has begun.
        let settings = Settings { remote_start_s: START_S, ..Settings::default() };
        // Seconds of this age: later starts have larger numbers. A clock that was set back makes others believe its older
        // entries until they have aged out.
        let boot = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let (memoir, history) = Memoir::open(&daemon.setup.config.paths);
        let mut kinds = Kinds::default();
        kinds.learn(daemon.cpu.clone());
        Some(Worker {
            me: daemon.own(),
            broker: Broker::new(daemon.own(), boot as u32, policy.build(), settings),
            census: Census::new(&daemon),
            settings,
            balancing,
            random: SmallRng::from_rng(&mut rand::rng()),
            began: Instant::now(),
            wakes: BTreeSet::new(),
            next_tick: Duration::ZERO,
            next_spread: Duration::ZERO,
            expected: BTreeMap::new(),
            before: BTreeSet::new(),
            idle: BTreeMap::new(),
            placed: BTreeMap::new(),
            asked: 0,
            history,
            memoir,
            programs: BTreeMap::new(),
            kinds,
        })
    }

    fn run(mut self, daemon: &Weak<Daemon>, told: &Receiver<Told>) {
        loop {
            let due = self.wakes.first().copied().unwrap_or(Duration::MAX);
            let until = due.min(self.next_tick).min(self.next_spread);
            let heard = told.recv_timeout(until.saturating_sub(self.began.elapsed()));
            let Some(daemon) = daemon.upgrade() else { return };
            let mut actions = Vec::new();
            match heard {
                Ok(told) => self.hear(&daemon, told, &mut actions),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.keep_time(&mut actions);
            for action in actions {
                self.carry_out(&daemon, action);
            }
        }
    }

    fn step(&mut self, event: Event, actions: &mut Vec<Action>) {
        self.broker.step(self.began.elapsed(), event, &mut self.random, actions);
    }

    fn hear(&mut self, daemon: &Arc<Daemon>, told: Told, actions: &mut Vec<Action>) {
        match told {
            Told::Measured(occasion) => self.measured(daemon, occasion, actions),
            Told::Message { from, message } => self.step(Event::Message { from, message }, actions),
            Told::Departed { id, to, outcome } => {
                if matches!(outcome, Outcome::Moved { .. }) {
                    self.census.sent(id, to);
                    daemon.gauge.hasten(Haste::Change);
                }
                self.step(Event::Departed { id, outcome }, actions);
            }
            Told::Begun { process, mask, executable } => self.begun(process, mask, &executable, actions),
            Told::Started { process, at, ticket, moved } => {
                let id = JobId { home: self.me, process };
                self.census.started(&id);
                if moved {
                    self.census.sent(id, at);
                } else if let Some(ticket) = ticket {
                    self.step(Event::NotStarted { at, ticket }, actions);
                }
            }
            Told::Ending(done) => {
                self.memoir.close(&self.history);
                let _ = done.try_send(());
            }
            Told::Bound { home, pid, bonds } => self.census.bind((home, pid), bonds),
            Told::Kind(profile) => {
                for (program, host) in self.kinds.answered(profile) {
                    self.step(Event::Fits(program, host), actions);
                }
            }
            Told::Expected { home, pid, reservation: Reservation { asker, number } } => {
                if self.expected.len() >= EXPECTED_MAX {
                    self.expected.pop_first();
                }
                self.expected.insert((home, pid), (Ticket { asker, number }, Instant::now()));
                daemon.gauge.hasten(Haste::Change);
            }
        }
    }

    /// Programs that have ended before anybody saw them busy: the next ones like them are not worth a move.
    fn forget_the_short(&mut self, actions: &mut Vec<Action>) {
        let census = &self.census;
        let short = |id: &JobId, _: &mut ProgramKey| !census.knows(id) && !lives(id.process);
        let ended: Vec<(JobId, ProgramKey)> = self.programs.extract_if(.., short).collect();
        for (_, program) in ended {
            self.history.observe(program, &SHORT);
            self.step(Event::Ended(SHORT), actions);
        }
    }

    /// Asks where a new program is to run.
    fn begun(&mut self, process: ProcessId, mask: Mask, executable: &str, actions: &mut Vec<Action>) {
        let home = self.me;
        let program = program(executable);
        if self.programs.len() < JOBS_MAX {
            self.programs.insert(JobId { home, process }, program);
        }
        let expected = self.history.predict(program);
        let memory_mb =
            expected.memory_mb.or(self.history.typical().memory_mb()).unwrap_or(TYPICAL_MEMORY_MB);
        let job =
            Job { home, age_s: 0.0, whole_s: expected.cpu_s, memory_mb, width: 1.0, talk: Talk::default() };
        while self.placed.len() >= PLACEMENTS_MAX {
            self.placed.pop_first();
        }
        self.asked += 1;
        self.placed.insert(self.asked, process);
        let bounds = Bounds { hold: Hold::Free, mask, cpu_class: self.census.cpu_class() };
        self.step(Event::Place { request: self.asked, job, bounds }, actions);
    }

    fn tick(&mut self, actions: &mut Vec<Action>) {
        self.next_tick = self.began.elapsed() + 2 * self.settings.tick;
        self.step(Event::Tick, actions);
    }

    /// This node was measured: the broker sees it as it is now, and looks what is to be done.
    fn measured(&mut self, daemon: &Arc<Daemon>, occasion: Occasion, actions: &mut Vec<Action>) {
        self.look(daemon, actions);
        match occasion {
            Occasion::Time => {
                self.tick(actions);
                self.ask_for_kinds(daemon);
                self.memoir.keep(&self.history);
            }
            Occasion::Change => {}
            Occasion::Pressure => self.step(Event::Pressure, actions),
        }
        if self.expected.values().any(|(_, accepted)| accepted.elapsed() < SOON) {
            daemon.gauge.hasten(Haste::Change);
        }
    }

    /// Asks a node for its CPU, if its class is not known.
    fn ask_for_kinds(&mut self, daemon: &Arc<Daemon>) {
        let known = self.broker.window().known(self.began.elapsed());
        let announced = known.map(|known| (known.sound.node(), known.sound.entry().cpu_class));
        let Some(node) = self.kinds.wants(Instant::now(), announced) else { return };
        let (daemon, balancing) = (daemon.clone(), self.balancing.clone());
        std::thread::spawn(move || {
            let address = daemon.peer(node).and_then(|peer| peer.resolve().ok());
            let info = address.and_then(|at| peers::info(&daemon.setup, at, node, PEER_ANSWER).ok());
            balancing.tell(Told::Kind(info.map(|(info, _)| info.cpu)));
        });
    }

    /// Does what is due.
    fn keep_time(&mut self, actions: &mut Vec<Action>) {
        let now = self.began.elapsed();
        if now >= self.next_tick {
            // Nobody has measured for long.
            self.tick(actions);
        }
        if now >= self.next_spread {
            self.next_spread = now + self.settings.spread;
            self.step(Event::Spread, actions);
        }
        if self.wakes.first().is_some_and(|wake| *wake <= now) {
            self.wakes.retain(|wake| *wake > now);
            self.step(Event::Timer, actions);
        }
    }

    /// Looks at what runs here.
    fn look(&mut self, daemon: &Daemon, actions: &mut Vec<Action>) {
        self.step(Event::Members(daemon.living()), actions);
        let Some(sample) = self.census.take(daemon) else { return };
        for (id, event) in self.census.changes() {
            if let Event::Ended(run) = &event
                && let Some(program) = self.programs.remove(&id)
            {
                self.history.observe(program, run);
            }
            self.step(event, actions);
        }
        self.forget_the_short(actions);
        let now = self.began.elapsed();
        let known =
            self.broker.window().known(now).map(|known| (known.sound.node(), known.sound.entry().clone()));
        *self.balancing.known.write().unwrap_or_else(PoisonError::into_inner) = known.collect();
        // Who has come is told directly before the sample that shows it.
        let here = self.census.present().clone();
        let works: BTreeSet<JobId> = sample.jobs.iter().map(|job| job.id).collect();
        self.before.retain(|id| here.contains(id));
        self.idle.retain(|id, _| here.contains(id));
        for id in here.difference(&self.before).copied().collect::<Vec<_>>() {
            let since = *self.idle.entry(id).or_insert_with(Instant::now);
            if !works.contains(&id) && since.elapsed() < SETTLES {
                continue;
            }
            self.idle.remove(&id);
            self.before.insert(id);
            let ticket = self.expected.remove(&(id.home, id.process.pid)).map(|(ticket, _)| ticket);
            // One that was born here has not come from anywhere.
            if id.home != self.me || ticket.is_some() || self.census.was_away(&id) {
                // How long it stood still only its home knows.
                self.step(Event::Landed { id, ticket, frozen_s: 0.0 }, actions);
            }
        }
        self.step(Event::Sampled(sample), actions);
    }
}

/// A program by its file. One that was replaced at the same place counts as the same: it mostly is. The number is kept, and
/// must be the same in every build.
fn program(executable: &str) -> ProgramKey {
    let hash = blake3::hash(executable.as_bytes());
    ProgramKey(hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first)))
}

impl Daemon {
    /// What the broker knows of another node; nothing where nothing is known.
    pub(super) fn known_of(&self, node: NodeId) -> Option<Entry> {
        let known = self.balancing.get()?.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&node).cloned()
    }

    /// The speed of another node, where it is known.
    pub(super) fn speed_of(&self, node: NodeId) -> Option<u32> {
        self.known_of(node).map(|entry| entry.speed)
    }

    /// What keeps balancing from this node, as others see it.
    pub(super) fn switches(&self) -> Switches {
        let mut switches = figures::told(&self.switched.get());
        switches.set(Switches::NO_GUESTS, !self.setup.config.guests.accept);
        if self.leaving.load(Ordering::Acquire) {
            switches |= Switches::BLOCK;
        }
        switches
    }
}
