//! Policies that are only there to be compared with.

use balance::Job;
use balance::policy::{Handshake, Policy, Scene};
use rand::{Rng, RngExt as _};

/// Starts on one place, and never moves.
fn only(chosen: usize, scene: &Scene<'_>, costs: &mut Vec<f64>) {
    let at = |index| if index == chosen { 0.0 } else { f64::INFINITY };
    costs.extend(scene.places().enumerate().map(|(index, _)| at(index)));
}

fn no_moves(scene: &Scene<'_>, gains: &mut Vec<f64>) {
    gains.extend(scene.others.iter().map(|_| f64::NEG_INFINITY));
}

/// Anywhere.
#[derive(Debug)]
pub struct Random;

impl Policy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn handshake(&self) -> Handshake {
        Handshake::Never
    }

    fn moves(&self) -> bool {
        false
    }

    fn weigh_starts(&mut self, scene: &Scene<'_>, _job: &Job, costs: &mut Vec<f64>, rng: &mut dyn Rng) {
        only(rng.random_range(0..=scene.others.len()), scene, costs);
    }

    fn weigh_moves(&self, scene: &Scene<'_>, _job: &Job, gains: &mut Vec<f64>) {
        no_moves(scene, gains);
    }
}

/// One after the other, as PVM did; each node goes its own round.
#[derive(Debug, Default)]
pub struct RoundRobin {
    last: u16,
}

impl Policy for RoundRobin {
    fn name(&self) -> &'static str {
        "rr"
    }

    fn handshake(&self) -> Handshake {
        Handshake::Never
    }

    fn moves(&self) -> bool {
        false
    }

    fn weigh_starts(&mut self, scene: &Scene<'_>, _job: &Job, costs: &mut Vec<f64>, _rng: &mut dyn Rng) {
        // The next id, or the first again: places are in no order that lasts.
        let next = scene.places().map(|place| place.node.get()).filter(|id| *id > self.last).min();
        let first = scene.places().map(|place| place.node.get()).min();
        self.last = next.or(first).unwrap_or(0);
        costs.extend(scene.places().map(
            |place| {
                if place.node.get() == self.last { 0.0 } else { f64::INFINITY }
            },
        ));
    }

    fn weigh_moves(&self, scene: &Scene<'_>, _job: &Job, gains: &mut Vec<f64>) {
        no_moves(scene, gains);
    }
}

/// Where the load would be least. How much it asks makes several rivals of it.
#[derive(Debug)]
pub struct LeastLoaded {
    name: &'static str,
    handshake: Handshake,
}

impl LeastLoaded {
    /// By what was heard alone: the canary that herds.
    pub const GOSSIP: LeastLoaded = LeastLoaded { name: "ll", handshake: Handshake::Never };
    /// With the whole handshake.
    pub const ASKING: LeastLoaded = LeastLoaded { name: "ll-ask", handshake: Handshake::USUAL };
    /// The better of two by chance, and home.
    pub const TWO_CHOICES: LeastLoaded =
        LeastLoaded { name: "two", handshake: Handshake::Ask { best: 0, random: 2 } };
}

impl Policy for LeastLoaded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn handshake(&self) -> Handshake {
        self.handshake
    }

    fn moves(&self) -> bool {
        false
    }

    fn weigh_starts(&mut self, scene: &Scene<'_>, job: &Job, costs: &mut Vec<f64>, _rng: &mut dyn Rng) {
        costs.extend(scene.places().map(|place| {
            let state = &place.state;
            (state.jobs + job.width) / state.cpus / state.speed
        }));
    }

    fn weigh_moves(&self, scene: &Scene<'_>, _job: &Job, gains: &mut Vec<f64>) {
        no_moves(scene, gains);
    }
}
