//! Unified marginal slowdown: one cost for everything ([`crate::cost`]).

use super::{Handshake, Policy, Scene};
use crate::cost;
use crate::job::Job;
use rand::Rng;

/// By how many slowdowns a new program would rather go to an empty node than to a full one that is as fast for it. News are old:
/// of the nodes with a free CPU those with most of them still have one when they are asked. Without it, who asked only such
/// as had just one was told by all of them that it was gone, and started one process too many at home. Measured: any value
/// from 1e-6 to 1e-2 does the same.
const FILLING: f64 = 1e-3;

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
            let displacing =
                cost::start_by_displacement(job, place, elsewhere, scene.typical_s, scene.settings);
            let least = displacing.map_or(direct, |displacing| displacing.min(direct));
            least + FILLING * place.state.jobs / place.state.cpus
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Sound, tests::idle};
    use crate::job::Talk;
    use crate::settings::Settings;
    use crate::state::{Link, Place};
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    #[test]
    fn of_equally_fast_nodes_the_emptier_one_is_better() {
        let link = Link { fixed_s: 0.1, bandwidth_mb_s: 100.0, round_trip_s: 0.001 };
        let place = |node: u16, jobs: f64| {
            let sound = Sound::judge(idle(node)).unwrap();
            Place { node: sound.node(), state: crate::State { jobs, ..sound.state(10.0) }, link }
        };
        let (here, settings) = (place(1, 4.0), Settings::default());
        let others = [(2, 3.0), (3, 0.0), (4, 2.0), (5, 4.0)].map(|(node, jobs)| place(node, jobs));
        let scene =
            Scene { here: &here, others: &others, nodes: 5, typical_s: 1.0, theta: 0.2, settings: &settings };
        let talk = Talk::default();
        let job = Job { home: here.node, age_s: 0.0, whole_s: None, memory_mb: 10.0, width: 1.0, talk };
        let mut costs = Vec::new();
        Ums.weigh_starts(&scene, &job, &mut costs, &mut SmallRng::seed_from_u64(1));
        assert!(costs[2] < costs[3] && costs[3] < costs[1] && costs[1] < costs[4], "{costs:?}");
    }
}
