//! Machines that share their CPUs evenly among their processes, and thrash when memory runs out.
//!
//! Each machine counts the work that every one of its processes has been given since it started; a process ends when that
//! has grown by what it needed. So an event costs the same however many processes there are.

use crate::scenario::{MachineSpec, THRASH};
use crate::workload::Work;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// It has not come, or looks for a place.
    Nowhere,
    /// It runs there.
    On(usize),
    /// It is on its way between two machines, or starting.
    Between,
    /// It has ended.
    Done,
    /// Its machine has crashed.
    Lost,
}

/// A process.
#[derive(Clone, Debug)]
pub struct Process {
    /// What it is like.
    pub work: Work,
    /// When it came.
    pub came: Duration,
    /// Where it is.
    pub at: At,
    /// CPU seconds of the fastest machine that it has had.
    pub had_s: f64,
    /// CPU seconds that it still needs.
    pub needs_s: f64,
    /// The machine's count when it came there.
    since: f64,
    /// Which of its stays this is: older ends in the heap mean nothing.
    stay: u32,
    /// Its place in the machine's list.
    index: usize,
    /// Its moves.
    pub moves: Vec<Duration>,
    /// Whether it has ever been on the last machine.
    pub was_on_last: bool,
}

impl Process {
    /// One that has not come yet.
    pub fn new(work: Work) -> Process {
        Process {
            work,
            came: Duration::ZERO,
            at: At::Nowhere,
            had_s: 0.0,
            needs_s: work.cpu_s,
            since: 0.0,
            stay: 0,
            index: 0,
            moves: Vec::new(),
            was_on_last: false,
        }
    }
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// What it is like.
    pub spec: MachineSpec,
    /// Its processes.
    pub processes: Vec<usize>,
    /// Their memory, MB.
    pub memory_mb: f64,
    /// Processes, and their memory, that are on their way here without a promise.
    pub coming: (f64, f64),
    /// When its link is free.
    pub link_free: Duration,
    /// Whether it lives.
    pub up: bool,
    /// Changes whenever the next end may have changed.
    pub version: u32,
    /// Seconds that processes spent here while it thrashed, summed over them.
    pub thrashed_s: f64,
    count: f64,
    updated: Duration,
    ends: BinaryHeap<Reverse<End>>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    count: f64,
    process: usize,
    stay: u32,
}

impl Ord for End {
    fn cmp(&self, other: &End) -> Ordering {
        self.count.total_cmp(&other.count).then(self.process.cmp(&other.process))
    }
}

impl PartialOrd for End {
    fn partial_cmp(&self, other: &End) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for End {
    fn eq(&self, other: &End) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for End {}

impl Machine {
    /// An empty one.
    pub fn new(spec: MachineSpec) -> Machine {
        Machine {
            spec,
            processes: Vec::new(),
            memory_mb: 0.0,
            coming: (0.0, 0.0),
            link_free: Duration::ZERO,
            up: true,
            version: 0,
            thrashed_s: 0.0,
            count: 0.0,
            updated: Duration::ZERO,
            ends: BinaryHeap::new(),
        }
    }

    fn stretch(&self) -> f64 {
        let thrash = if self.memory_mb > self.spec.memory_mb { THRASH } else { 1.0 };
        (self.processes.len() as f64 / self.spec.cpus).max(1.0) / self.spec.speed * thrash
    }

    fn count_at(&self, now: Duration) -> f64 {
        self.count + (now - self.updated).as_secs_f64() / self.stretch()
    }

    fn advance(&mut self, now: Duration) {
        if self.memory_mb > self.spec.memory_mb {
            self.thrashed_s += (now - self.updated).as_secs_f64() * self.processes.len() as f64;
        }
        self.count = self.count_at(now);
        self.updated = now;
        self.version += 1;
    }
}

/// All machines and processes.
#[derive(Debug)]
pub struct Engine {
    /// The machines.
    pub machines: Vec<Machine>,
    /// The processes.
    pub processes: Vec<Process>,
}

impl Engine {
    /// A process begins or goes on here.
    pub fn add(&mut self, process: usize, to: usize, now: Duration) {
        let last = self.machines.len() - 1;
        let machine = &mut self.machines[to];
        machine.advance(now);
        let it = &mut self.processes[process];
        it.at = At::On(to);
        it.was_on_last |= to == last;
        it.since = machine.count;
        it.stay += 1;
        it.index = machine.processes.len();
        machine.processes.push(process);
        machine.memory_mb += it.work.memory_mb;
        let end = End { count: machine.count + it.needs_s, process, stay: it.stay };
        machine.ends.push(Reverse(end));
    }

    /// A process leaves the machine where it runs; what it is from now on is the caller's to say.
    pub fn remove(&mut self, process: usize, now: Duration) {
        let At::On(from) = self.processes[process].at else { return };
        let machine = &mut self.machines[from];
        machine.advance(now);
        let it = &mut self.processes[process];
        let had_s = machine.count - it.since;
        it.had_s += had_s;
        it.needs_s = (it.needs_s - had_s).max(0.0);
        it.stay += 1;
        it.at = At::Between;
        machine.processes.swap_remove(it.index);
        machine.memory_mb -= it.work.memory_mb;
        if machine.processes.is_empty() {
            machine.memory_mb = 0.0;
        }
        let index = it.index;
        if let Some(moved) = machine.processes.get(index) {
            self.processes[*moved].index = index;
        }
    }

    /// CPU seconds of the fastest machine that a process has had by now.
    pub fn age_s(&self, process: usize, now: Duration) -> f64 {
        let it = &self.processes[process];
        match it.at {
            At::On(machine) => it.had_s + self.machines[machine].count_at(now) - it.since,
            _ => it.had_s,
        }
    }

    /// When the next process of a machine ends, and which, if nothing changes.
    pub fn next_end(&mut self, on: usize) -> Option<(Duration, usize)> {
        let machine = &mut self.machines[on];
        while let Some(Reverse(end)) = machine.ends.peek() {
            let it = &self.processes[end.process];
            if it.stay == end.stay && it.at == At::On(on) {
                let left_s = (end.count - machine.count).max(0.0) * machine.stretch();
                // Rounded up, so that it has what it needs when the time comes.
                let at = machine.updated + Duration::from_secs_f64(left_s) + Duration::from_nanos(1);
                return Some((at, end.process));
            }
            machine.ends.pop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(cpu_s: f64, memory_mb: f64) -> Process {
        Process::new(Work { arrives_s: 0.0, cpu_s, memory_mb, expected_mb: memory_mb, home: 0 })
    }

    fn engine(cpus: f64, processes: Vec<Process>) -> Engine {
        let spec = MachineSpec { speed: 0.5, cpus, memory_mb: 100.0 };
        Engine { machines: vec![Machine::new(spec)], processes }
    }

    #[test]
    fn cpus_are_shared_evenly() {
        let mut engine = engine(1.0, vec![work(1.0, 1.0), work(2.0, 1.0)]);
        let zero = Duration::ZERO;
        engine.add(0, 0, zero);
        engine.add(1, 0, zero);
        let (at, process) = engine.next_end(0).unwrap();
        // Two processes on one CPU of half the speed: four times as long.
        assert_eq!((at.as_millis(), process), (4000, 0));
        engine.remove(0, at);
        assert!((engine.age_s(1, at) - 1.0).abs() < 1e-6);
        assert_eq!(engine.next_end(0).unwrap().0.as_millis(), 6000);
    }

    #[test]
    fn without_memory_all_is_slow() {
        let mut engine = engine(4.0, vec![work(1.0, 60.0), work(1.0, 60.0)]);
        engine.add(0, 0, Duration::ZERO);
        assert_eq!(engine.next_end(0).unwrap().0.as_secs(), 2);
        engine.add(1, 0, Duration::ZERO);
        assert_eq!(engine.next_end(0).unwrap().0.as_secs(), 20);
        engine.remove(1, Duration::from_secs(10));
        assert!((engine.machines[0].thrashed_s - 20.0).abs() < 1e-9);
        assert_eq!(engine.next_end(0).unwrap().0.as_secs(), 11);
    }
}
