//! What the processes of the scenarios are like.
//!
//! CPU times and memories are Pareto with exponent 1, cut off: most are short, most of the work is in the long ones.

use rand::rngs::SmallRng;
use rand::{Rng, RngExt as _};

/// One process before it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// When it comes, seconds.
    pub arrives_s: f64,
    /// CPU time it needs on the fastest machine, seconds.
    pub cpu_s: f64,
    /// Its memory, MB.
    pub memory_mb: f64,
    /// Memory that its home expects of it, MB: known from earlier runs, with an error.
    pub expected_mb: f64,
    /// The machine where it comes.
    pub home: usize,
}

/// Standard deviation of the logarithm of expected memory.
const MEMORY_ERROR: f64 = 0.25;

fn uniform(rng: &mut dyn Rng) -> f64 {
    1.0 - rng.random::<f64>()
}

fn exponential(rng: &mut dyn Rng, mean: f64) -> f64 {
    -mean * uniform(rng).ln()
}

fn pareto(rng: &mut dyn Rng, low: f64, high: f64) -> f64 {
    low / (1.0 - rng.random::<f64>() * (1.0 - low / high))
}

fn pareto_mean(low: f64, high: f64) -> f64 {
    low / (1.0 - low / high) * (high / low).ln()
}

fn work(rng: &mut dyn Rng, arrives_s: f64, cpu_s: f64, memory_mb: f64, home: usize) -> Work {
    let normal = (-2.0 * uniform(rng).ln()).sqrt() * (std::f64::consts::TAU * uniform(rng)).cos();
    let expected_mb = memory_mb * (MEMORY_ERROR * normal).exp();
    Work { arrives_s, cpu_s, memory_mb, expected_mb, home }
}

/// Jobs of the paper on opportunity cost, as far as it is known: `memory` is in percent of the largest machine.
fn of_paper(rng: &mut SmallRng, nodes: usize, per_s: f64, batches: f64, memory: f64) -> Vec<Work> {
    let mut jobs = Vec::new();
    let mut now = exponential(rng, 1.0 / per_s);
    while now <= 10_000.0 {
        let cpu_s = (2.0 / uniform(rng)).min(2000.0);
        let memory_mb = (memory / uniform(rng)).min(90.0) / 100.0 * 64.0;
        let count = if rng.random::<f64>() < batches { rng.random_range(2..=20) } else { 1 };
        for _ in 0..count {
            let home = rng.random_range(0..nodes);
            jobs.push(work(rng, now, cpu_s, memory_mb, home));
        }
        now += exponential(rng, 1.0 / per_s);
    }
    jobs
}

/// Scenario a.
pub fn paper(rng: &mut SmallRng, nodes: usize) -> Vec<Work> {
    of_paper(rng, nodes, 0.1, 0.0, 2.0)
}

/// Scenario a'.
pub fn paper_batches(rng: &mut SmallRng, nodes: usize) -> Vec<Work> {
    of_paper(rng, nodes, 0.13, 0.1, 0.1)
}

/// An open system: jobs come by chance, so that the CPUs would be busy for this share of the time.
struct Open {
    load: f64,
    cpus: f64,
    lasts_s: f64,
    cpu_s: (f64, f64),
    memory_mb: (f64, f64),
}

impl Open {
    fn jobs(&self, rng: &mut SmallRng, mut home: impl FnMut(&mut SmallRng) -> usize) -> Vec<Work> {
        let between_s = pareto_mean(self.cpu_s.0, self.cpu_s.1) / (self.load * self.cpus);
        let mut jobs = Vec::new();
        let mut now = exponential(rng, between_s);
        while now <= self.lasts_s {
            let cpu_s = pareto(rng, self.cpu_s.0, self.cpu_s.1);
            let memory_mb = pareto(rng, self.memory_mb.0, self.memory_mb.1);
            let home = home(rng);
            jobs.push(work(rng, now, cpu_s, memory_mb, home));
            now += exponential(rng, between_s);
        }
        jobs
    }
}

fn computing(nodes: usize, lasts_s: f64) -> Open {
    let cpus = nodes as f64 * 4.0;
    Open { load: 0.7, cpus, lasts_s, cpu_s: (0.5, 200.0), memory_mb: (10.0, 2000.0) }
}

/// Scenario b.
pub fn one_home(rng: &mut SmallRng, nodes: usize) -> Vec<Work> {
    computing(nodes, 300.0).jobs(rng, |_| 0)
}

/// Half of the jobs to an eighth of the nodes.
fn popular(nodes: usize) -> impl FnMut(&mut SmallRng) -> usize {
    move |rng| {
        let among = if rng.random::<f64>() < 0.5 { (nodes / 8).max(1) } else { nodes };
        rng.random_range(0..among)
    }
}

/// Scenario c1.
pub fn skewed(rng: &mut SmallRng, nodes: usize) -> Vec<Work> {
    computing(nodes, 200.0).jobs(rng, popular(nodes))
}

/// Scenario c2.
pub fn skewed_short(rng: &mut SmallRng, nodes: usize) -> Vec<Work> {
    computing(nodes, 60.0).jobs(rng, popular(nodes))
}

fn remembering(nodes: usize, load: f64, least_mb: f64) -> Open {
    // The machines have 0.8 of the speed of the fastest on average.
    let cpus = nodes as f64 * 4.0 * 0.8;
    Open { load, cpus, lasts_s: 400.0, cpu_s: (1.0, 300.0), memory_mb: (least_mb, 7000.0) }
}

/// Scenario d.
pub fn memory_limited(rng: &mut SmallRng, nodes: usize) -> Vec<Work> {
    remembering(nodes, 0.45, 100.0).jobs(rng, |rng| rng.random_range(0..nodes))
}

/// Scenario dt.
pub fn memory_tight(rng: &mut SmallRng, nodes: usize) -> Vec<Work> {
    remembering(nodes, 0.6, 250.0).jobs(rng, |rng| rng.random_range(0..nodes))
}

/// Scenario e.
pub fn compilation(rng: &mut SmallRng, _nodes: usize) -> Vec<Work> {
    (0..2000)
        .map(|_| {
            let cpu_s = 0.2 * 15.0_f64.powf(rng.random::<f64>());
            let memory_mb = rng.random_range(30.0..200.0);
            work(rng, 0.0, cpu_s, memory_mb, 0)
        })
        .collect()
}
