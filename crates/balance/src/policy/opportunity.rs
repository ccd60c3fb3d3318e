//! Opportunity cost: E-PVM without moves, E-Mosix with them.
//!
//! A node with *n* peers costs n^(load / largest load) + n^(memory used / memory): each resource is the dearer the fuller it
//! is. A process goes where this grows least (Amir, Awerbuch, Barak, Borgstrom, Keren, TPDS 11(7), 2000).

use super::{Handshake, Policy, Scene};
use crate::job::Job;
use crate::state::State;
use rand::Rng;

/// Exponents above this go on in a straight line: a hopeless node is still worse the fuller it is, and no number is
/// infinite.
const EXPONENT_MAX: f64 = 60.0;

/// A gain of less is none: the powers are not exact.
const GAIN_MIN: f64 = 1e-6;

/// Opportunity cost.
#[derive(Clone, Copy, Debug)]
pub struct Opportunity {
    moving: bool,
    handshake: Handshake,
    /// Largest load that was met, in doublings: the maximum that the theory wants to know beforehand.
    largest_load: f64,
}

impl Opportunity {
    /// With moves or without.
    pub fn new(moving: bool, handshake: Handshake) -> Opportunity {
        Opportunity { moving, handshake, largest_load: 1.0 }
    }

    fn marginal(&self, scene: &Scene<'_>, state: &State, width: f64, memory_mb: f64) -> f64 {
        let base = (scene.nodes.max(2) as f64).ln();
        let power = |use_share: f64| {
            let exponent = use_share * base;
            exponent.min(EXPONENT_MAX).exp() * (1.0 + (exponent - EXPONENT_MAX).max(0.0))
        };
        let cost = |jobs: f64, megabytes: f64| {
            power(jobs / state.cpus / state.speed / self.largest_load) + power(megabytes / state.usable_mb)
        };
        cost(state.jobs + width, state.memory_mb + memory_mb) - cost(state.jobs, state.memory_mb)
    }
}

impl Policy for Opportunity {
    fn name(&self) -> &'static str {
        if self.moving { "oc" } else { "epvm" }
    }

    fn handshake(&self) -> Handshake {
        self.handshake
    }

    fn moves(&self) -> bool {
        self.moving
    }

    fn weigh_starts(&mut self, scene: &Scene<'_>, job: &Job, costs: &mut Vec<f64>, _rng: &mut dyn Rng) {
        let largest = scene
            .places()
            .map(|place| (place.state.jobs + job.width) / place.state.cpus / place.state.speed)
            .fold(0.0, f64::max);
        while self.largest_load < largest {
            self.largest_load *= 2.0;
        }
        let marginal = |state: &State| self.marginal(scene, state, job.width, job.memory_mb);
        costs.extend(scene.places().map(|place| marginal(&place.state)));
    }

    fn weigh_moves(&self, scene: &Scene<'_>, job: &Job, gains: &mut Vec<f64>) {
        let here = &scene.here.state;
        let without = State {
            jobs: (here.jobs - job.width).max(0.0),
            memory_mb: (here.memory_mb - job.memory_mb).max(0.0),
            ..*here
        };
        let saved = self.marginal(scene, &without, job.width, job.memory_mb);
        gains.extend(
            scene
                .others
                .iter()
                .map(|place| saved - self.marginal(scene, &place.state, job.width, job.memory_mb) - GAIN_MIN),
        );
    }
}
