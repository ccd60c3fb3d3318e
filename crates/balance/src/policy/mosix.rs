//! openMosix's balancing with memory ushering.
//!
//! A node sends the process with its second-highest load to the node that would have the least load with it, if that is
//! less than its own by a margin. When memory runs short this is overridden: the smallest process whose leaving suffices
//! goes to a node with room (after MOSIX's published rules; its own costs of I/O and communication are not public).

use super::{Handshake, Nominees, Policy, Scene};
use crate::job::Job;
use crate::state::State;
use rand::Rng;

/// What a process is counted as by the node that would get it: the margin that keeps processes from moving to and fro.
const STABILITY: f64 = 1.3;

/// Where a new program starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPlace {
    /// At home, as openMosix did it.
    Home,
    /// On the node with the least load.
    LeastLoaded,
}

/// openMosix's own way.
#[derive(Clone, Copy, Debug)]
pub struct Mosix {
    /// Where new programs start.
    pub first: FirstPlace,
    /// How much is asked; openMosix itself never asked.
    pub handshake: Handshake,
}

fn load_of(state: &State, load: f64) -> f64 {
    load / state.cpus / state.speed
}

impl Policy for Mosix {
    fn name(&self) -> &'static str {
        match self.first {
            FirstPlace::Home => "mosix",
            FirstPlace::LeastLoaded => "mosix-ll",
        }
    }

    fn handshake(&self) -> Handshake {
        self.handshake
    }

    fn moves(&self) -> bool {
        true
    }

    fn is_best_here(&self, _scene: &Scene<'_>, _job: &Job) -> bool {
        self.first == FirstPlace::Home
    }

    fn weigh_starts(&mut self, scene: &Scene<'_>, job: &Job, costs: &mut Vec<f64>, _rng: &mut dyn Rng) {
        costs.extend(scene.places().map(|place| match self.first {
            FirstPlace::LeastLoaded => load_of(&place.state, place.state.jobs + job.width),
            FirstPlace::Home if place.node == scene.here.node => 0.0,
            FirstPlace::Home => f64::INFINITY,
        }));
    }

    fn nominate(&self, scene: &Scene<'_>, jobs: &[Job]) -> Nominees {
        let here = &scene.here.state;
        if here.thrashes() {
            let too_much = here.memory_mb - here.usable_mb;
            let by_memory = |index: &usize| ordered(jobs[*index].memory_mb);
            let enough =
                (0..jobs.len()).filter(|index| jobs[*index].memory_mb >= too_much).min_by_key(by_memory);
            let largest = (0..jobs.len()).max_by_key(by_memory);
            return enough.or(largest).map_or(Nominees::Nobody, Nominees::One);
        }
        // Processes that compute all have the same load; the older of them have kept it longer.
        let mut by_load: Vec<usize> = (0..jobs.len()).collect();
        by_load.sort_by(|one, other| jobs[*other].age_s.total_cmp(&jobs[*one].age_s));
        by_load.get(1).or(by_load.first()).map_or(Nominees::Nobody, |index| Nominees::One(*index))
    }

    fn weigh_moves(&self, scene: &Scene<'_>, job: &Job, gains: &mut Vec<f64>) {
        let here = &scene.here.state;
        let own = load_of(here, here.load);
        gains.extend(scene.others.iter().map(|place| {
            let state = &place.state;
            let there = load_of(state, state.load + STABILITY * job.width);
            if state.memory_mb + job.memory_mb > state.usable_mb {
                f64::NEG_INFINITY
            } else if here.thrashes() {
                1.0 / (1.0 + there)
            } else if here.jobs <= 1.0 {
                f64::NEG_INFINITY
            } else {
                own - there
            }
        }));
    }
}

/// A number that can be compared; memories are finite.
fn ordered(megabytes: f64) -> u64 {
    (megabytes * 1024.0) as u64
}
