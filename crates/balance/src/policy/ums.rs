//! Unified marginal slowdown: one cost for everything ([`crate::cost`]).

use super::{Handshake, Policy, Scene};
use crate::cost;
use crate::job::Job;
use rand::Rng;

/// The default policy. In the study it was best, or not to be told from the best, in every scenario.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ums;

impl Policy for Ums {
    fn name(&self) -> &'static str {
        "ums"
    }

    fn handshake(&self) -> Handshake {
        Handshake::USUAL
    }

    fn moves(&self) -> bool {
        true
    }

    fn invites(&self) -> bool {
        true
    }

    fn is_best_here(&self, scene: &Scene<'_>, job: &Job) -> bool {
        let here = cost::start(job, scene.here, scene.typical_s, scene.settings);
        let talks = job.talk.files.iter().flatten().any(|(owner, _)| *owner != scene.here.node);
        let least = |state| cost::start_at_best(job, state, scene.typical_s, scene.settings);
        !talks && scene.others.iter().all(|place| here <= least(&place.state))
    }

    fn weigh_starts(&mut self, scene: &Scene<'_>, job: &Job, costs: &mut Vec<f64>, _rng: &mut dyn Rng) {
        let emptiest = TwoLeast::of(scene.places().map(|place| place.state.stretch_with(job.width, 0.0)));
        costs.extend(scene.places().enumerate().map(|(index, place)| {
            let direct = cost::start(job, place, scene.typical_s, scene.settings);
            let elsewhere = emptiest.but(index);
            cost::start_by_displacement(job, place, elsewhere, scene.typical_s, scene.settings)
                .map_or(direct, |displacing| displacing.min(direct))
        }));
    }

    fn weigh_moves(&self, scene: &Scene<'_>, job: &Job, gains: &mut Vec<f64>) {
        gains.extend(
            scene.others.iter().map(|place| {
                cost::gain(job, scene.here, place, scene.typical_s, scene.settings) - scene.theta
            }),
        );
    }
}

/// The two least values of a list, to answer for each place which is the least of the others.
struct TwoLeast {
    index: usize,
    least: f64,
    second: f64,
}

impl TwoLeast {
    fn of(values: impl Iterator<Item = f64>) -> TwoLeast {
        let nothing = TwoLeast { index: usize::MAX, least: f64::INFINITY, second: f64::INFINITY };
        values.enumerate().fold(nothing, |two, (index, value)| {
            if value < two.least {
                TwoLeast { index, least: value, second: two.least }
            } else {
                TwoLeast { second: two.second.min(value), ..two }
            }
        })
    }

    fn but(&self, index: usize) -> f64 {
        if index == self.index { self.second } else { self.least }
    }
}
