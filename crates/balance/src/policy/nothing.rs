//! Nothing goes anywhere by itself.

use super::{Handshake, Policy, Scene};
use crate::job::Job;
use rand::Rng;

/// Everything starts at home and stays there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Policy for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn handshake(&self) -> Handshake {
        Handshake::Never
    }

    fn moves(&self) -> bool {
        false
    }

    fn is_best_here(&self, _scene: &Scene<'_>, _job: &Job) -> bool {
        true
    }

    fn weigh_starts(&mut self, scene: &Scene<'_>, _job: &Job, costs: &mut Vec<f64>, _rng: &mut dyn Rng) {
        let at = |index| if index == 0 { 0.0 } else { f64::INFINITY };
        costs.extend(scene.places().enumerate().map(|(index, _)| at(index)));
    }

    fn weigh_moves(&self, scene: &Scene<'_>, _job: &Job, gains: &mut Vec<f64>) {
        gains.extend(scene.others.iter().map(|_| f64::NEG_INFINITY));
    }
}
