//! A run: machines, network, and on each node the real broker with real messages.
//!
//! Everything that happens is in one queue, ordered by time and then by when it was put there, but for what happens to every
//! node again and again ([`rounds`]); chance comes from the seed. So a run is the same each time.

mod obey;
mod rounds;

use crate::contender::Contender;
use crate::engine::{At, Engine, Machine, Process};
use crate::liar::Liar;
use crate::measure::Measures;
use crate::network::{Network, Trouble};
use crate::scenario::{BANDWIDTH_MB_S, MOVE_FIXED_S, REMOTE_START_S, Scenario, THRASH};
use balance::{
    Action, Bounds, Broker, Event, Job, JobId, LocalJob, Machine as NodeMachine, Outcome, Run, Sample,
    Settings, Talk, Ticket,
};
use model::limits::MOVES_PER_MINUTE_MAX;
use model::{NodeId, ProcessId};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use rounds::Rounds;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::balance::{Message, Switches};

/// Seconds after which the others know that a node has crashed or come back.
const DETECTION: Duration = Duration::from_secs(3);

/// A run ends here even if processes are left: some policies never finish.
const LASTS_MAX: Duration = Duration::from_secs(400_000);

/// A sample of a node is taken again when it is older than this, even if nothing has changed but the ages of processes.
const SAMPLE_AGE: Duration = Duration::from_millis(200);

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Machines and work.
    pub scenario: &'a Scenario,
    /// Who decides.
    pub contender: &'a Contender,
    /// Decides everything else.
    pub seed: u64,
    /// What goes wrong.
    pub trouble: Trouble,
    /// Time between two messages of load information; none: as usual.
    pub spread: Option<Duration>,
    /// Time after which it ends, whatever is left to do; none: when all is done.
    pub lasts: Option<Duration>,
}

#[derive(Debug)]
enum Happening {
    /// A process comes.
    Arrival(usize),
    /// A machine may have finished something, if it has not changed since.
    End {
        on: usize,
        version: u32,
    },
    /// A program that was sent there starts.
    Start {
        process: usize,
        on: usize,
        ticket: Option<Ticket>,
    },
    /// A move is over.
    Landing(Box<Landing>),
    Mail {
        from: usize,
        to: usize,
        message: Box<Message>,
    },
    Wake(usize),
    /// News of an own process, which its home has from the deputy.
    Notice {
        to: usize,
        event: Box<Event>,
    },
    Crash(usize),
    Return(usize),
    /// The others know that a node is gone or back.
    Detected,
}

#[derive(Debug)]
struct Landing {
    process: usize,
    from: usize,
    to: usize,
    ticket: Option<Ticket>,
    began: Duration,
    took_s: f64,
}

struct Queued {
    at: Duration,
    order: u64,
    what: Happening,
}

impl Queued {
    fn key(&self) -> (Duration, u64) {
        (self.at, self.order)
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Queued {}
impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Node {
    broker: Broker,
    /// When the broker was last told what runs here; none if that has changed since.
    sampled: Option<Duration>,
    boots: u32,
}

struct World<'a> {
    plan: &'a Plan<'a>,
    settings: Settings,
    engine: Engine,
    nodes: Vec<Node>,
    network: Network,
    queue: std::collections::BinaryHeap<Reverse<Queued>>,
    order: u64,
    ticks: Rounds,
    spreads: Rounds,
    now: Duration,
    rng: SmallRng,
    /// Processes that have come and not ended.
    running: usize,
    next_arrival: usize,
    questions: u64,
    over_shoot: f64,
    difference_max: f64,
    moved_mb: f64,
    ages: (f64, u64),
    age_s_max: f64,
    gossip_bytes: u64,
    message_bytes_max: usize,
    table_entries_max: usize,
    slowdowns: Vec<f64>,
    others: (f64, u64),
    liar: Option<Liar>,
    lost: usize,
    /// Processes that look for a place.
    placing: BTreeMap<usize, ()>,
    violations: Vec<String>,
}

/// The id of a machine's node.
fn id(machine: usize) -> NodeId {
    NodeId::new(u16::try_from(machine + 1).unwrap_or(u16::MAX)).unwrap_or_else(|| unreachable!("never 0"))
}

fn machine_of(node: NodeId) -> usize {
    usize::from(node.get()) - 1
}

/// Makes a run.
pub fn run(plan: &Plan<'_>) -> Measures {
    let mut world = World::new(plan);
    world.begin();
    let lasts = plan.lasts.unwrap_or(LASTS_MAX);
    while world.happen_next() {
        if world.slowdowns.len() + world.lost == world.engine.processes.len() || world.now > lasts {
            break;
        }
    }
    world.finish()
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan<'a>) -> World<'a> {
        let scenario = plan.scenario;
        let count = scenario.machines.len();
        let usual = Settings::default();
        let settings = Settings {
            remote_start_s: REMOTE_START_S,
            remote_overhead: scenario.remote_overhead,
            move_fixed_s: MOVE_FIXED_S,
            bandwidth_mb_s: BANDWIDTH_MB_S,
            thrash: THRASH,
            spread: plan.spread.unwrap_or(usual.spread),
            // Links here carry one move after the other, and who waits for its turn stands still.
            moves_at_once: 1,
            ..usual
        };
        let mut rng = SmallRng::seed_from_u64(plan.seed);
        let work = (scenario.work)(&mut rng, count);
        let node = |index| Node {
            broker: Broker::new(id(index), 1, (plan.contender.build)(), settings),
            sampled: None,
            boots: 1,
        };
        World {
            plan,
            settings,
            engine: Engine {
                machines: scenario.machines.iter().map(|spec| Machine::new(*spec)).collect(),
                processes: work.into_iter().map(Process::new).collect(),
            },
            nodes: (0..count).map(node).collect(),
            network: Network::new(plan.trouble.clone(), count, plan.seed ^ 0x6e65_7477),
            queue: std::collections::BinaryHeap::new(),
            order: 0,
            ticks: Rounds::default(),
            spreads: Rounds::default(),
            now: Duration::ZERO,
            // The work is the same for all policies; what they draw by chance is not taken from the same source.
            rng: SmallRng::seed_from_u64(plan.seed ^ 0x706f_6c69),
            running: 0,
            next_arrival: 0,
            questions: 0,
            over_shoot: 0.0,
            difference_max: 0.0,
            moved_mb: 0.0,
            ages: (0.0, 0),
            age_s_max: 0.0,
            gossip_bytes: 0,
            message_bytes_max: 0,
            table_entries_max: 0,
            slowdowns: Vec::new(),
            others: (0.0, 0),
            liar: plan.trouble.lie.map(Liar::new),
            lost: 0,
            placing: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    fn begin(&mut self) {
        self.tell_members();
        let phases: Vec<f64> = self.nodes.iter().map(|_| self.rng.random()).collect();
        self.ticks = Rounds::new(self.settings.tick, &phases);
        if self.plan.contender.informed {
            // The cluster is older than its work: everybody has heard of everybody who can be heard of.
            self.spreads = Rounds::new(self.settings.spread, &phases);
        }
        match self.plan.scenario.at_once {
            Some(count) => (0..count).for_each(|_| self.put_next_arrival(None)),
            None => self.put_next_arrival(Some(WARM_UP)),
        }
        let last = self.nodes.len() - 1;
        if let Some((crash, back)) = self.plan.trouble.crash {
            self.put(crash, Happening::Crash(last));
            self.put(crash + DETECTION, Happening::Detected);
            self.put(back, Happening::Return(last));
            self.put(back + DETECTION, Happening::Detected);
        }
    }

    fn put(&mut self, at: Duration, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Queued { at, order: self.order, what }));
    }

    /// The next process comes by its own time, or now.
    fn put_next_arrival(&mut self, offset: Option<Duration>) {
        let Some(process) = self.engine.processes.get(self.next_arrival) else { return };
        let at = offset
            .map_or(self.now.max(WARM_UP), |offset| offset + Duration::from_secs_f64(process.work.arrives_s));
        self.put(at, Happening::Arrival(self.next_arrival));
        self.next_arrival += 1;
    }

    /// Whether there was anything left to happen.
    fn happen_next(&mut self) -> bool {
        let queued = self.queue.peek().map_or(Duration::MAX, |Reverse(next)| next.at);
        let (tick, spread) = (self.ticks.next(), self.spreads.next());
        if tick <= spread && tick <= queued && tick < Duration::MAX {
            self.now = tick;
            let node = self.ticks.pass();
            self.step(node, Event::Tick);
            self.check_tables(node);
            // All of them each time would be the square of their number.
            if node == 0 {
                self.difference_max = self.difference_max.max(self.difference());
            }
        } else if spread <= queued && spread < Duration::MAX {
            self.now = spread;
            let node = self.spreads.pass();
            self.step(node, Event::Spread);
        } else {
            let Some(Reverse(next)) = self.queue.pop() else { return false };
            self.now = next.at;
            self.happen(next.what);
        }
        true
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrival(process) => self.arrive(process),
            Happening::End { on, version } => {
                if self.engine.machines[on].version == version {
                    self.end_next(on);
                }
            }
            Happening::Start { process, on, ticket } => self.start_away(process, on, ticket),
            Happening::Landing(landing) => self.land(*landing),
            Happening::Mail { from, to, message } => {
                let message = *message;
                self.step(to, Event::Message { from: id(from), message });
            }
            Happening::Wake(node) => self.step(node, Event::Timer),
            Happening::Notice { to, event } => self.step(to, *event),
            Happening::Crash(node) => self.crash(node),
            Happening::Return(node) => self.come_back(node),
            Happening::Detected => self.tell_members(),
        }
    }

    fn arrive(&mut self, process: usize) {
        if self.plan.scenario.at_once.is_none() {
            self.put_next_arrival(Some(WARM_UP));
        }
        self.running += 1;
        let it = &mut self.engine.processes[process];
        it.came = self.now;
        let home = it.work.home;
        if !self.engine.machines[home].up {
            return self.lose(process);
        }
        let known = self.nodes[home].broker.window().known(self.now);
        for age_s in known.map(|one| one.age.as_secs_f64()) {
            self.ages = (self.ages.0 + age_s, self.ages.1 + 1);
            self.age_s_max = self.age_s_max.max(age_s);
        }
        self.placing.insert(process, ());
        let work = &self.engine.processes[process].work;
        let job = Job { memory_mb: work.expected_mb, ..self.job(process) };
        self.step(home, Event::Place { request: process as u64, job, bounds: Bounds::default() });
    }

    fn end_next(&mut self, on: usize) {
        let Some((_, process)) = self.engine.next_end(on) else { return };
        let job = self.job(process);
        self.engine.remove(process, self.now);
        self.engine.processes[process].at = At::Done;
        self.changed(on);
        self.running -= 1;
        let it = &self.engine.processes[process];
        let (home, work) = (it.work.home, it.work);
        let slowdown = (self.now - it.came).as_secs_f64() / work.cpu_s;
        self.slowdowns.push(slowdown);
        if !it.was_on_last && home != self.nodes.len() - 1 {
            self.others = (self.others.0 + slowdown, self.others.1 + 1);
        }
        if home != on {
            self.notice(on, home, Event::Left { at: id(on), job });
        }
        let run = Run { cpu_s: work.cpu_s, peak_mb: work.memory_mb };
        self.notice(on, home, Event::Ended(run));
        if self.plan.scenario.at_once.is_some() {
            self.put_next_arrival(None);
        }
    }

    /// What a process' home learns from its deputy; nothing if it cannot be reached.
    fn notice(&mut self, from: usize, to: usize, event: Event) {
        if from == to {
            self.step(to, event);
        } else if self.network.reaches(from, to, self.now) && self.engine.machines[to].up {
            let at = self.now + self.plan.trouble.delay;
            self.put(at, Happening::Notice { to, event: Box::new(event) });
        }
    }

    /// What runs on a machine has changed: its next end too.
    fn changed(&mut self, on: usize) {
        self.nodes[on].sampled = None;
        if let Some((at, _)) = self.engine.next_end(on) {
            let version = self.engine.machines[on].version;
            self.put(at.max(self.now), Happening::End { on, version });
        }
    }

    fn lose(&mut self, process: usize) {
        self.engine.processes[process].at = At::Lost;
        self.placing.remove(&process);
        self.running -= 1;
        self.lost += 1;
        if self.plan.scenario.at_once.is_some() {
            self.put_next_arrival(None);
        }
    }

    /// A machine crashes: what runs there, and what is at home there, is lost.
    fn crash(&mut self, node: usize) {
        self.engine.machines[node].up = false;
        for process in 0..self.engine.processes.len() {
            let it = &self.engine.processes[process];
            let alive = !matches!(it.at, At::Done | At::Lost);
            let begun = matches!(it.at, At::On(_) | At::Between) || self.placing.contains_key(&process);
            let hit = it.at == At::On(node) || it.work.home == node;
            if alive && begun && hit {
                let at = it.at;
                self.engine.remove(process, self.now);
                self.lose(process);
                if let At::On(on) = at {
                    self.changed(on);
                }
            }
        }
        self.engine.machines[node].coming = (0.0, 0.0);
    }

    fn come_back(&mut self, node: usize) {
        self.engine.machines[node].up = true;
        self.engine.machines[node].link_free = self.now;
        let boots = self.nodes[node].boots + 1;
        let broker = Broker::new(id(node), boots, (self.plan.contender.build)(), self.settings);
        self.nodes[node] = Node { broker, sampled: None, boots };
    }

    fn tell_members(&mut self) {
        let up = |node: &usize| self.engine.machines[*node].up;
        let members: Vec<NodeId> = (0..self.nodes.len()).filter(up).map(id).collect();
        (0..self.nodes.len()).for_each(|node| self.step(node, Event::Members(members.clone())));
    }

    /// Between the node with the most processes per CPU and that with the fewest.
    fn difference(&self) -> f64 {
        let live = self.engine.machines.iter().filter(|machine| machine.up);
        let (least, most) = live
            .map(|machine| machine.processes.len() as f64 / machine.spec.cpus)
            .fold((f64::INFINITY, 0.0_f64), |(least, most), load| (least.min(load), most.max(load)));
        (most - least).max(0.0)
    }

    fn finish(self) -> Measures {
        let difference = self.difference();
        let of_all = self.engine.processes.iter().map(|process| &process.moves);
        let moves_per_minute_max = of_all.clone().map(|moves| most_in_a_minute(moves)).max().unwrap_or(0);
        let last_minute = self.now.saturating_sub(Duration::from_secs(60));
        let late = of_all.map(|moves| moves.iter().filter(|moment| **moment >= last_minute).count());
        let moves_in_last_minute_max = late.max().unwrap_or(0);
        let mut sorted = self.slowdowns;
        sorted.sort_by(f64::total_cmp);
        let done = sorted.len();
        let count = done.max(1) as f64;
        let moves: usize = self.engine.processes.iter().map(|process| process.moves.len()).sum();
        let thrashed_s: f64 = self.engine.machines.iter().map(|machine| machine.thrashed_s).sum();
        let lasted_s = self.now.as_secs_f64();
        Measures {
            slowdown: sorted.iter().sum::<f64>() / count,
            slowdown_of_others: self.others.0 / self.others.1.max(1) as f64,
            p95: sorted.get(done * 95 / 100).copied().unwrap_or(0.0),
            moves: moves as f64 / count,
            moves_per_minute_max,
            moves_in_last_minute_max,
            difference_max: self.difference_max,
            difference,
            moved_mb: self.moved_mb / count,
            over_shoot: self.over_shoot,
            makespan_s: lasted_s - WARM_UP.as_secs_f64(),
            thrashed_s: thrashed_s / count,
            age_s: self.ages.0 / self.ages.1.max(1) as f64,
            age_s_max: self.age_s_max,
            bytes_per_node_s: self.network.bytes as f64 / self.nodes.len() as f64 / lasted_s,
            gossip_bytes_per_node_s: self.gossip_bytes as f64 / self.nodes.len() as f64 / lasted_s,
            message_bytes_max: self.message_bytes_max,
            table_entries_max: self.table_entries_max,
            questions: self.questions as f64 / count,
            done,
            lost: self.lost,
            unfinished: self.engine.processes.len() - done - self.lost,
            violations: self.violations,
        }
    }
}

/// Time before the first process comes, in which news spread.
const WARM_UP: Duration = Duration::from_secs(30);

/// How many of these moments, the earliest first, lie within one minute at most.
fn most_in_a_minute(moments: &[Duration]) -> usize {
    let within = |(index, first): (usize, &Duration)| {
        moments[index..].iter().take_while(|moment| **moment - *first < Duration::from_secs(60)).count()
    };
    moments.iter().enumerate().map(within).max().unwrap_or(0)
}
