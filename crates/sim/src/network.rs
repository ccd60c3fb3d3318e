//! The network between the nodes: it delays, loses and is cut in two.

use crate::liar::Lie;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

/// What goes wrong in a run.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Share of messages that are lost.
    pub loss: f64,
    /// Mean time of a message on its way. Half of it is the same for all, the rest is chance: messages overtake each other.
    pub delay: Duration,
    /// From when to when the first half of the nodes hears nothing of the second.
    pub partition: Option<(Duration, Duration)>,
    /// When the last node of the cluster crashes and when it is back, empty.
    pub crash: Option<(Duration, Duration)>,
    /// What the last node of the cluster lies about.
    pub lie: Option<Lie>,
}

impl Default for Trouble {
    fn default() -> Trouble {
        Trouble { loss: 0.0, delay: Duration::from_micros(100), partition: None, crash: None, lie: None }
    }
}

/// The network of a run.
#[derive(Debug)]
pub struct Network {
    trouble: Trouble,
    nodes: usize,
    rng: SmallRng,
    /// Messages that were sent.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Network {
    /// Between so many nodes.
    pub fn new(trouble: Trouble, nodes: usize, seed: u64) -> Network {
        Network { trouble, nodes, rng: SmallRng::seed_from_u64(seed), messages: 0, bytes: 0 }
    }

    /// How long a message takes that is sent now; none if it never comes.
    pub fn send(&mut self, from: usize, to: usize, bytes: usize, now: Duration) -> Option<Duration> {
        self.messages += 1;
        self.bytes += bytes as u64;
        let lost = self.rng.random::<f64>() < self.trouble.loss;
        let jitter = self.rng.random_range(0.0..1.0);
        let delay = self.trouble.delay.mul_f64(0.5 + jitter);
        (!lost && self.reaches(from, to, now)).then_some(delay)
    }

    /// Whether two nodes can reach each other.
    pub fn reaches(&self, from: usize, to: usize, now: Duration) -> bool {
        let cut = self.trouble.partition.is_some_and(|(begin, end)| (begin..end).contains(&now));
        let side = |node: usize| node < self.nodes / 2;
        !cut || side(from) == side(to)
    }
}
