//! What a process has done lately: decaying statistics.
//!
//! At each interval a share of everything is forgotten; which, the process may choose. The rates that follow are per second
//! of CPU time, since that is how its remaining work is counted.

use crate::job::Talk;
use model::limits::TALK_NODES_MAX;
use model::{Decay, DecayRates, NodeId};

/// What a process did in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// CPU time, seconds of the standard CPU.
    pub cpu_s: f64,
    /// System calls that its home did for it, or would have to if it were away.
    pub calls: f64,
    /// Page faults.
    pub faults: f64,
    /// Megabytes it read and wrote on files of these nodes.
    pub files: [Option<(NodeId, f64)>; TALK_NODES_MAX],
}

/// Decayed sums of [`Activity`], and what is now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    decay: Decay,
    /// All its CPU time since it began or became another program, seconds of the standard CPU: never decays.
    age_s: f64,
    recent: Activity,
    /// Resident memory, MB.
    pub resident_mb: f64,
    /// Memory that would travel: resident and not in a file, MB.
    pub dirty_mb: f64,
}

/// CPU time over which talk is spread at least, seconds: who has computed nothing yet has no infinite rates.
const CPU_S_MIN: f64 = 0.1;

/// CPU time over which the talk of an [`Decay::IoJob`] is spread at most.
const IO_JOB_CPU_S: f64 = 1.0;

impl Stats {
    /// Of a process that has done nothing yet.
    pub fn new(decay: Decay) -> Stats {
        Stats { decay, ..Stats::default() }
    }

    /// Chooses another decay; what is known stays.
    pub fn set_decay(&mut self, decay: Decay) {
        self.decay = decay;
    }

    /// So many seconds have passed.
    pub fn observe(&mut self, activity: &Activity, seconds: f64, rates: &DecayRates) {
        let kept = rates.kept(self.decay, seconds);
        let good = |amount: f64| if amount.is_finite() { amount.max(0.0) } else { 0.0 };
        self.age_s += good(activity.cpu_s);
        self.recent.cpu_s = self.recent.cpu_s * kept + good(activity.cpu_s);
        self.recent.calls = self.recent.calls * kept + good(activity.calls);
        self.recent.faults = self.recent.faults * kept + good(activity.faults);
        self.recent.files.iter_mut().flatten().for_each(|(_, megabytes)| *megabytes *= kept);
        for (node, megabytes) in activity.files.iter().flatten() {
            self.add_file(*node, good(*megabytes));
        }
    }

    /// Adds to the node's place, or to a free one, or to that of the node it has talked to least.
    fn add_file(&mut self, node: NodeId, megabytes: f64) {
        let files = &mut self.recent.files;
        if let Some((_, sum)) = files.iter_mut().flatten().find(|(known, _)| *known == node) {
            *sum += megabytes;
            return;
        }
        let amount = |place: &Option<(NodeId, f64)>| place.map_or(-1.0, |(_, sum)| sum);
        let least = files.iter_mut().min_by(|one, other| amount(one).total_cmp(&amount(other)));
        if let Some(place) = least.filter(|place| amount(place) < megabytes) {
            *place = Some((node, megabytes));
        }
    }

    /// It has become another program: nothing of the old one counts.
    pub fn clear(&mut self) {
        *self = Stats::new(self.decay);
    }

    /// CPU time it has used, seconds of the standard CPU.
    pub fn age_s(&self) -> f64 {
        self.age_s
    }

    /// Page faults, decayed.
    pub fn faults(&self) -> f64 {
        self.recent.faults
    }

    /// With whom it talks, for each second of CPU time.
    pub fn talk(&self) -> Talk {
        let cpu_s = match self.decay {
            Decay::CpuJob => return Talk::default(),
            Decay::IoJob => self.recent.cpu_s.clamp(CPU_S_MIN, IO_JOB_CPU_S),
            Decay::Slow | Decay::Fast | Decay::None => self.recent.cpu_s.max(CPU_S_MIN),
        };
        let files = self.recent.files.map(|place| place.map(|(node, megabytes)| (node, megabytes / cpu_s)));
        Talk { calls: self.recent.calls / cpu_s, files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u16) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn busy(cpu_s: f64, calls: f64) -> Activity {
        Activity { cpu_s, calls, ..Activity::default() }
    }

    /// A second passes.
    fn observe(stats: &mut Stats, activity: &Activity) {
        stats.observe(activity, 1.0, &DecayRates::default());
    }

    #[test]
    fn the_past_fades_as_chosen() {
        for (decay, want) in [(Decay::Slow, 975.0), (Decay::Fast, 926.0), (Decay::None, 1000.0)] {
            let mut stats = Stats::new(decay);
            observe(&mut stats, &busy(1.0, 1000.0));
            observe(&mut stats, &busy(0.0, 0.0));
            assert!((stats.recent.calls - want).abs() < 1e-9);
            assert_eq!(stats.age_s(), 1.0);
        }
    }

    #[test]
    fn what_it_says_of_itself_counts() {
        let talk = |decay| {
            let mut stats = Stats::new(decay);
            (0..100).for_each(|_| observe(&mut stats, &busy(1.0, 100.0)));
            stats.talk().calls
        };
        assert_eq!(talk(Decay::CpuJob), 0.0);
        assert!((talk(Decay::Slow) - 100.0).abs() < 1e-6);
        assert!(talk(Decay::IoJob) > 1000.0);
    }

    #[test]
    fn another_program_starts_from_nothing() {
        let mut stats = Stats::new(Decay::Fast);
        observe(&mut stats, &busy(5.0, 7.0));
        stats.clear();
        assert_eq!(stats, Stats::new(Decay::Fast));
    }

    #[test]
    fn the_table_of_nodes_keeps_those_that_matter() {
        let mut stats = Stats::default();
        for (number, megabytes) in [(1, 5.0), (2, 1.0), (3, 4.0), (4, 3.0), (5, 2.0), (6, 0.5), (1, 1.0)] {
            let mut activity = busy(1.0, 0.0);
            activity.files[0] = Some((node(number), megabytes));
            observe(&mut stats, &activity);
        }
        let mut known: Vec<u16> = stats.recent.files.iter().flatten().map(|(node, _)| node.get()).collect();
        known.sort_unstable();
        assert_eq!(known, [1, 3, 4, 5]);
    }

    #[test]
    fn absurd_numbers_count_as_nothing() {
        let mut stats = Stats::default();
        observe(&mut stats, &busy(f64::NAN, f64::INFINITY));
        observe(&mut stats, &busy(-5.0, -1.0));
        assert_eq!((stats.age_s(), stats.talk().calls), (0.0, 0.0));
    }
}
