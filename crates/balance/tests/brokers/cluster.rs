//! Brokers of several nodes in one process, with a clock and a network of their own.

use balance::policy::PolicyName;
use balance::{
    Action, Bounds, Broker, Event, Job, JobId, LocalJob, Machine, Outcome, Sample, Settings, Talk, Ticket,
};
use model::{NodeId, ProcessId};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::collections::VecDeque;
use std::time::Duration;
use wire::balance::{AGE_CLASSES, Entry, Message, Switches};

pub(crate) fn node(number: u16) -> NodeId {
    NodeId::new(number).unwrap()
}

pub(crate) fn machine(cpus: f64, guests_max: u16) -> Machine {
    Machine {
        speed: 1.0,
        cpus,
        foreign_jobs: 0.0,
        memory_total_mb: 8192.0,
        memory_free_mb: 8192.0,
        memory_usable_mb: 8192.0,
        foreign_mb: 0.0,
        pressure: 0.0,
        utilisation: 0.0,
        link_busy_s: 0.0,
        switches: Switches::empty(),
        cpu_class: 1,
        kernel: 0,
        guests_max,
    }
}

pub(crate) fn job(home: u16, age_s: f64) -> Job {
    Job { home: node(home), age_s, whole_s: None, memory_mb: 10.0, width: 1.0, talk: Talk::default() }
}

pub(crate) fn local(home: u16, pid: i32, age_s: f64) -> LocalJob {
    let process = ProcessId { pid, start_ticks: 1 };
    let bounds = Bounds { cpu_class: 1, ..Bounds::default() };
    LocalJob { id: JobId { home: node(home), process }, job: job(home, age_s), bounds }
}

/// A few nodes without delay. Moves and starts take no time; every message may be lost.
pub(crate) struct Cluster {
    pub(crate) now: Duration,
    pub(crate) rng: StdRng,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) mail: VecDeque<(NodeId, NodeId, Message)>,
    pub(crate) loses: fn(&Message) -> bool,
    /// Programs start at home, whatever was agreed.
    pub(crate) starts_fail: bool,
    /// Moves take time: until they land by [`Cluster::land_all`], what moves is still on the node that it leaves.
    pub(crate) slow: bool,
    pub(crate) in_flight: Vec<(usize, LocalJob, NodeId, Option<Ticket>)>,
    pub(crate) moves: usize,
}

impl Cluster {
    pub(crate) fn new(cpus: &[f64], policy: PolicyName) -> Cluster {
        let settings = Settings { remote_start_s: 0.0, ..Settings::default() };
        let members: Vec<NodeId> = (1..=cpus.len() as u16).map(node).collect();
        let mut cluster = Cluster {
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(1),
            brokers: members.iter().map(|member| Broker::new(*member, 1, policy.build(), settings)).collect(),
            samples: cpus
                .iter()
                .map(|cpus| Sample { machine: machine(*cpus, 100), jobs: Vec::new() })
                .collect(),
            mail: VecDeque::new(),
            loses: |_| false,
            starts_fail: false,
            slow: false,
            in_flight: Vec::new(),
            moves: 0,
        };
        for index in 0..cpus.len() {
            cluster.step(index, Event::Members(members.clone()));
            cluster.sample(index);
        }
        (0..8).for_each(|_| cluster.spread());
        cluster
    }

    pub(crate) fn spread(&mut self) {
        self.now += Duration::from_millis(500);
        (0..self.brokers.len()).for_each(|index| self.step(index, Event::Spread));
        self.deliver();
    }

    pub(crate) fn sample(&mut self, index: usize) {
        let sample = self.samples[index].clone();
        self.step(index, Event::Sampled(sample));
    }

    pub(crate) fn tick(&mut self) {
        self.now += Duration::from_secs(1);
        for index in 0..self.brokers.len() {
            self.samples[index].jobs.iter_mut().for_each(|local| local.job.age_s += 0.5);
            self.sample(index);
            self.step(index, Event::Tick);
            self.deliver();
        }
    }

    pub(crate) fn step(&mut self, index: usize, event: Event) {
        let mut actions = Vec::new();
        self.brokers[index].step(self.now, event, &mut self.rng, &mut actions);
        for action in actions {
            self.act(index, action);
        }
    }

    pub(crate) fn act(&mut self, index: usize, action: Action) {
        match action {
            Action::Send { to, message } => self.mail.push_back((node(index as u16 + 1), to, message)),
            Action::Wake { .. } => {}
            Action::Start { at, ticket: Some(ticket), .. } if self.starts_fail => {
                self.step(index, Event::NotStarted { at, ticket });
            }
            Action::Start { request, at, ticket } => {
                let begun = local(index as u16 + 1, request as i32, 0.0);
                self.land(at, begun, ticket);
            }
            Action::Move { id, to, ticket } => {
                self.moves += 1;
                let jobs = &mut self.samples[index].jobs;
                let place = jobs.iter().position(|local| local.id == id).expect("it moves what it has");
                if self.slow {
                    let moving = jobs[place].clone();
                    assert!(
                        self.in_flight.iter().all(|(_, other, ..)| other.id != id),
                        "it is moving already"
                    );
                    self.in_flight.push((index, moving, to, ticket));
                    return;
                }
                let moving = jobs.swap_remove(place);
                self.sample(index);
                self.land(to, moving, ticket);
                self.step(
                    index,
                    Event::Departed { id, outcome: Outcome::Moved { took_s: 0.1, frozen_s: 0.1 } },
                );
            }
        }
    }

    /// All that is on its way arrives.
    pub(crate) fn land_all(&mut self) {
        self.now += Duration::from_millis(300);
        for (index, moving, to, ticket) in std::mem::take(&mut self.in_flight) {
            self.samples[index].jobs.retain(|local| local.id != moving.id);
            let id = moving.id;
            self.land(to, moving, ticket);
            self.step(index, Event::Departed { id, outcome: Outcome::Moved { took_s: 0.3, frozen_s: 0.1 } });
        }
        self.deliver();
    }

    pub(crate) fn land(&mut self, at: NodeId, local: LocalJob, ticket: Option<Ticket>) {
        let index = usize::from(at.get()) - 1;
        if local.id.home != at || ticket.is_some() {
            self.step(index, Event::Landed { id: local.id, ticket, frozen_s: 0.1 });
        }
        self.samples[index].jobs.push(local);
        self.sample(index);
    }

    pub(crate) fn deliver(&mut self) {
        for _ in 0..10_000 {
            let Some((from, to, message)) = self.mail.pop_front() else { return };
            if !(self.loses)(&message) {
                let bytes = wire::balance::encode(&message).expect("what is said fits into a datagram");
                let message = wire::balance::decode(&bytes).unwrap();
                self.step(usize::from(to.get()) - 1, Event::Message { from, message });
            }
        }
        panic!("they never stop talking");
    }

    pub(crate) fn counts(&self) -> Vec<usize> {
        self.samples.iter().map(|sample| sample.jobs.len()).collect()
    }

    pub(crate) fn place(&mut self, request: u64) {
        let bounds = Bounds { cpu_class: 1, ..Bounds::default() };
        self.step(0, Event::Place { request, job: job(1, 0.0), bounds });
    }
}

pub(crate) fn idle_entry() -> Entry {
    let mut entry = entry([0, 1, 10_000, 400, 0, 0, 0, 0], [8 << 20, 8 << 20, 8 << 20], 0);
    entry.guests_max = 100;
    entry.memory_taken_kb = 0;
    entry
}

pub(crate) fn entry(numbers: [u32; 8], memory: [u64; 3], small: u16) -> Entry {
    Entry {
        node: node((numbers[0] % 5 + 1) as u16),
        boot: numbers[1],
        stamp_ms: memory[0],
        speed: numbers[2],
        cpus_hundredths: numbers[3],
        jobs_hundredths: numbers[4],
        load: numbers[5],
        memory_total_kb: memory[0],
        memory_free_kb: memory[1],
        memory_usable_kb: memory[2],
        memory_taken_kb: memory[1],
        pressure_thousandths: small,
        utilisation_thousandths: small,
        link_busy_ms: numbers[6],
        switches: Switches::from(numbers[7] as u8),
        cpu_class: 1,
        kernel: 0,
        guests: small,
        guests_max: small,
        ages: [numbers[7] as u8; AGE_CLASSES],
    }
}
