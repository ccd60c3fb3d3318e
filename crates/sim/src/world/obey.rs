//! What brokers are told, and what is done of what they want.

use super::*;
use crate::size::bytes_of;
use model::limits::GOSSIP_ENTRIES_MAX;

impl World<'_> {
    /// Something happens to a broker: it is told the truth about its node first, if that has changed.
    pub(super) fn step(&mut self, node: usize, event: Event) {
        if !self.engine.machines[node].up {
            return;
        }
        let of_news = matches!(&event, Event::Message { message: Message::Gossip(_), .. });
        let arrives = matches!(event, Event::Landed { .. });
        if !of_news && !arrives {
            self.sample(node);
        }
        self.pass(node, event);
    }

    pub(super) fn sample(&mut self, node: usize) {
        let fresh = self.nodes[node].sampled.is_some_and(|at| self.now - at < SAMPLE_AGE);
        if !fresh {
            let sample = self.look_at(node);
            self.nodes[node].sampled = Some(self.now);
            self.pass(node, Event::Sampled(sample));
        }
    }

    fn pass(&mut self, node: usize, event: Event) {
        let mut actions = Vec::new();
        let World { nodes, rng, now, .. } = self;
        nodes[node].broker.step(*now, event, rng, &mut actions);
        actions.into_iter().for_each(|action| self.obey(node, action));
    }

    fn look_at(&self, node: usize) -> Sample {
        let machine = &self.engine.machines[node];
        let spec = machine.spec;
        let free_mb = (spec.memory_mb - machine.memory_mb).max(0.0);
        Sample {
            machine: NodeMachine {
                speed: spec.speed,
                cpus: spec.cpus,
                foreign_jobs: machine.coming.0,
                memory_total_mb: spec.memory_mb,
                memory_free_mb: free_mb,
                memory_usable_mb: spec.memory_mb,
                foreign_mb: machine.coming.1,
                pressure: 0.0,
                utilisation: (machine.processes.len() as f64 / spec.cpus).min(1.0),
                link_busy_s: machine.link_free.saturating_sub(self.now).as_secs_f64(),
                switches: Switches::empty(),
                cpu_class: 0,
                kernel: 0,
                guests_max: u16::MAX,
            },
            jobs: machine
                .processes
                .iter()
                .map(|process| LocalJob {
                    id: self.job_id(*process),
                    job: self.job(*process),
                    bounds: Bounds::default(),
                })
                .collect(),
        }
    }

    fn job_id(&self, process: usize) -> JobId {
        let pid = i32::try_from(process).unwrap_or(i32::MAX);
        let home = id(self.engine.processes[process].work.home);
        JobId { home, process: ProcessId { pid, start_ticks: 0 } }
    }

    pub(super) fn job(&self, process: usize) -> Job {
        let work = &self.engine.processes[process].work;
        Job {
            home: id(work.home),
            age_s: self.engine.age_s(process, self.now),
            whole_s: None,
            memory_mb: work.memory_mb,
            width: 1.0,
            talk: Talk::default(),
        }
    }

    fn obey(&mut self, node: usize, action: Action) {
        match action {
            Action::Send { to, message } => self.send(node, machine_of(to), message),
            Action::Wake { at } => self.put(at, Happening::Wake(node)),
            Action::Start { request, at, ticket } => {
                self.start(node, request as usize, machine_of(at), ticket)
            }
            Action::Move { id, to, ticket } => self.set_out(node, id, machine_of(to), ticket),
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let liar = self.liar.as_mut().filter(|_| from == self.nodes.len() - 1);
        let lies = liar.is_some();
        let message = match liar {
            Some(liar) => liar.twist(message, &mut self.rng),
            None => message,
        };
        let told = match &message {
            Message::Gossip(entries) => entries.len(),
            _ => {
                self.questions += 1;
                0
            }
        };
        if told > GOSSIP_ENTRIES_MAX {
            self.violations.push(format!("a message tells of {told} nodes"));
        }
        match bytes_of(&message) {
            // A lie that is too long is not said.
            Err(_) if lies => {}
            Err(error) => self.violations.push(format!("failed to {error}")),
            Ok(bytes) => {
                self.message_bytes_max = self.message_bytes_max.max(bytes);
                if told > 0 {
                    self.gossip_bytes += bytes as u64;
                }
                if let Some(delay) = self.network.send(from, to, bytes, self.now) {
                    let message = Box::new(message);
                    self.put(self.now + delay, Happening::Mail { from, to, message });
                }
            }
        }
    }

    /// A broker has decided where a new program starts.
    fn start(&mut self, home: usize, process: usize, at: usize, ticket: Option<Ticket>) {
        if self.placing.remove(&process).is_none() {
            if self.engine.processes[process].at != At::Lost {
                self.violations.push(format!("process {process} is started twice"));
            }
            return;
        }
        if at == home {
            self.engine.add(process, home, self.now);
            self.arrived(process, home);
            // Beginning at home is nothing that lands: the broker sees it in its sample.
            return self.sample(home);
        }
        self.engine.processes[process].at = At::Between;
        if ticket.is_none() {
            self.expect(process, at, 1.0);
        }
        let begins = self.now + Duration::from_secs_f64(REMOTE_START_S);
        self.put(begins, Happening::Start { process, on: at, ticket });
    }

    pub(super) fn start_away(&mut self, process: usize, on: usize, ticket: Option<Ticket>) {
        if self.engine.processes[process].at != At::Between {
            return;
        }
        let home = self.engine.processes[process].work.home;
        if ticket.is_none() {
            self.expect(process, on, -1.0);
        }
        if !self.engine.machines[on].up || !self.network.reaches(home, on, self.now) {
            self.engine.add(process, home, self.now);
            self.arrived(process, home);
            return self.sample(home);
        }
        self.engine.processes[process].needs_s *= 1.0 + self.plan.scenario.remote_overhead;
        self.settle(process, on, ticket, 0.0);
    }

    /// A broker wants a process to move.
    fn set_out(&mut self, from: usize, job: JobId, to: usize, ticket: Option<Ticket>) {
        let process = usize::try_from(job.process.pid).unwrap_or(usize::MAX);
        if self.engine.processes.get(process).is_none_or(|it| it.at != At::On(from)) {
            let text = format!("node {from} moves process {process}, which is not there");
            return self.violations.push(text);
        }
        let busy = self.engine.machines[to].link_free > self.now + Duration::from_secs(2)
            || self.engine.machines[from].link_free > self.now;
        let reaches = self.engine.machines[to].up && self.network.reaches(from, to, self.now);
        if busy || !reaches {
            return self.pass(from, Event::Departed { id: job, outcome: Outcome::Failed });
        }
        let (own, job) = (self.job_id(process), self.job(process));
        self.engine.remove(process, self.now);
        let memory_mb = job.memory_mb;
        if ticket.is_some() {
            self.check_restless(process);
        }
        self.engine.processes[process].moves.push(self.now);
        self.moved_mb += memory_mb;
        if ticket.is_none() {
            self.expect(process, to, 1.0);
        }
        let copy = Duration::from_secs_f64(memory_mb / BANDWIDTH_MB_S);
        let begins = self.now.max(self.engine.machines[to].link_free);
        let ends = begins + copy;
        self.engine.machines[from].link_free = ends;
        self.engine.machines[to].link_free = ends;
        self.changed(from);
        self.nodes[to].sampled = None;
        let took_s = copy.as_secs_f64() + MOVE_FIXED_S;
        let at = ends + Duration::from_secs_f64(MOVE_FIXED_S);
        let landing = Landing { process, from, to, ticket, began: self.now, took_s };
        self.put(at, Happening::Landing(Box::new(landing)));
        let home = machine_of(own.home);
        if home != from {
            self.notice(from, home, Event::Left { at: id(from), job });
        }
        if home != from && home != to {
            self.notice(from, home, Event::Arrived { at: id(to), job });
        }
    }

    pub(super) fn land(&mut self, landing: Landing) {
        let Landing { process, from, to, ticket, began, took_s } = landing;
        if ticket.is_none() {
            self.expect(process, to, -1.0);
        }
        if self.engine.processes[process].at != At::Between {
            return;
        }
        let job = self.job_id(process);
        let frozen_s = (self.now - began).as_secs_f64();
        let arrives = self.engine.machines[to].up && self.network.reaches(from, to, self.now);
        if arrives {
            let (home, overhead) = (machine_of(job.home), 1.0 + self.plan.scenario.remote_overhead);
            if from == home {
                self.engine.processes[process].needs_s *= overhead;
            } else if to == home {
                self.engine.processes[process].needs_s /= overhead;
            }
            self.settle(process, to, ticket, frozen_s);
        } else if self.engine.machines[from].up {
            // The other end was never heard of again before the word: it goes on where it was.
            self.engine.add(process, from, self.now);
            self.changed(from);
        } else {
            self.lose(process);
        }
        if self.engine.machines[from].up {
            let outcome = if arrives { Outcome::Moved { took_s, frozen_s } } else { Outcome::Failed };
            self.step(from, Event::Departed { id: job, outcome });
        }
    }

    /// A process begins to run on a node that it has come to.
    fn settle(&mut self, process: usize, on: usize, ticket: Option<Ticket>, frozen_s: f64) {
        self.engine.add(process, on, self.now);
        self.arrived(process, on);
        let id = self.job_id(process);
        self.step(on, Event::Landed { id, ticket, frozen_s });
        self.sample(on);
    }

    fn arrived(&mut self, _process: usize, on: usize) {
        self.changed(on);
        let machine = &self.engine.machines[on];
        let fair = (self.running as f64 / self.plan.scenario.cpus()).max(1.0);
        let over = machine.processes.len() as f64 / machine.spec.cpus - fair;
        self.over_shoot = self.over_shoot.max(over);
    }

    /// A node knows that something is on its way to it for which nobody has asked its broker.
    fn expect(&mut self, process: usize, on: usize, sign: f64) {
        let memory_mb = self.engine.processes[process].work.memory_mb;
        let machine = &mut self.engine.machines[on];
        machine.coming.0 = (machine.coming.0 + sign).max(0.0);
        machine.coming.1 = (machine.coming.1 + sign * memory_mb).max(0.0);
        self.nodes[on].sampled = None;
    }

    /// What a node remembers has its bounds.
    pub(super) fn check_tables(&mut self, node: usize) {
        let tables = self.nodes[node].broker.tables();
        self.table_entries_max = self.table_entries_max.max(tables.sum());
        if !tables.are_bounded() {
            self.violations.push(format!("node {node} remembers too much: {tables:?}"));
        }
    }

    /// No process moves more often within a minute than it may, whoever moves it. What it has behind it is known by promises:
    /// policies that ask for none do without.
    fn check_restless(&mut self, process: usize) {
        let moves = &self.engine.processes[process].moves;
        let lately = moves.iter().rev().take_while(|at| self.now - **at < Duration::from_secs(60)).count();
        if lately >= MOVES_PER_MINUTE_MAX {
            self.violations.push(format!("process {process} moves {} times in a minute", lately + 1));
        }
    }
}
