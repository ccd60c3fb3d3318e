//! What a run is measured by.

use serde::{Deserialize, Serialize};

/// The result of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Mean over processes of time taken ÷ time on an empty machine of the fastest kind.
    pub slowdown: f64,
    /// The mean over those that neither come to the last node nor ever run there, whose lies are nothing to them.
    pub slowdown_of_others: f64,
    /// The slowdown that 95 of 100 do not exceed.
    pub p95: f64,
    /// Moves per process.
    pub moves: f64,
    /// The most moves of one process within a minute.
    pub moves_per_minute_max: usize,
    /// The most moves of one process within the last minute of the run.
    pub moves_in_last_minute_max: usize,
    /// The largest difference between two nodes, in processes per CPU, that there ever was.
    pub difference_max: f64,
    /// That at the end.
    pub difference: f64,
    /// Megabytes moved per process.
    pub moved_mb: f64,
    /// The largest number of processes per CPU, beyond a fair share, on a node that one has just come to: herding.
    pub over_shoot: f64,
    /// When the last process ended, seconds.
    pub makespan_s: f64,
    /// Seconds per process spent on machines without enough memory.
    pub thrashed_s: f64,
    /// Mean age of what nodes knew of others when a new process came, seconds.
    pub age_s: f64,
    /// The largest such age.
    pub age_s_max: f64,
    /// Bytes that a node sent per second.
    pub bytes_per_node_s: f64,
    /// Those of them that spread load information.
    pub gossip_bytes_per_node_s: f64,
    /// The largest message, bytes.
    pub message_bytes_max: usize,
    /// The most entries that a broker has had in all its tables.
    pub table_entries_max: usize,
    /// Messages per process, load information not counted.
    pub questions: f64,
    /// Processes that ended.
    pub done: usize,
    /// Processes that were lost with a machine.
    pub lost: usize,
    /// Processes that had not ended when the run was given up, after days.
    pub unfinished: usize,
    /// What must never happen and did.
    pub violations: Vec<String>,
}

/// Over-shoot, in processes per CPU, from which a policy counts as herding.
pub const HERDING: f64 = 1.0;

impl Measures {
    /// Whether everybody ran to the same node.
    pub fn herds(&self) -> bool {
        self.over_shoot >= HERDING
    }
}

/// How sure something is: half of the interval that holds the truth in 95 of 100 cases, for means of many runs.
const HALF_INTERVAL: f64 = 1.96;

/// A policy compared with another one that had the same seeds: that makes it sharper than their means are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Against {
    /// Mean over seeds: of the difference, or as a ratio.
    pub value: f64,
    /// The least that it may be with 95 of 100.
    pub low: f64,
    /// The most.
    pub high: f64,
}

impl Against {
    /// Geometric mean of the ratios.
    fn ratio(runs: &[Measures], first: &[Measures], of: fn(&Measures) -> f64) -> Against {
        let logarithm = Against::difference(runs, first, |run| of(run).ln());
        let Against { value, low, high } = logarithm;
        Against { value: value.exp(), low: low.exp(), high: high.exp() }
    }

    /// Mean of the differences.
    fn difference(runs: &[Measures], first: &[Measures], of: impl Fn(&Measures) -> f64) -> Against {
        let values: Vec<f64> = runs.iter().zip(first).map(|(run, first)| of(run) - of(first)).collect();
        let (value, error) = mean_and_error(&values);
        Against { value, low: value - HALF_INTERVAL * error, high: value + HALF_INTERVAL * error }
    }
}

/// A mean and its standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}

/// Mean and other figures over several runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The policy.
    pub policy: &'static str,
    /// Runs.
    pub runs: usize,
    /// Means of each measure.
    pub mean: Measures,
    /// Standard error of the mean slowdown.
    pub standard_error: f64,
    /// Standard error of the mean over-shoot.
    pub over_shoot_error: f64,
    /// Median run's mean slowdown.
    pub median: f64,
    /// Slowdown ÷ that of the policy that it is compared with.
    pub slowdown_against: Against,
    /// The same of the slowdown that 95 of 100 processes do not exceed.
    pub p95_against: Against,
    /// Over-shoot less that of the policy that it is compared with.
    pub over_shoot_against: Against,
}

impl Summary {
    /// Of the runs of a policy; `first` are those of the policy that it is compared with, by the same seeds.
    pub fn of(policy: &'static str, runs: &[Measures], first: &[Measures]) -> Summary {
        let mean = |of: fn(&Measures) -> f64| runs.iter().map(of).sum::<f64>() / runs.len().max(1) as f64;
        let error = |of: fn(&Measures) -> f64| mean_and_error(&runs.iter().map(of).collect::<Vec<f64>>()).1;
        let mut sorted: Vec<f64> = runs.iter().map(|run| run.slowdown).collect();
        sorted.sort_by(f64::total_cmp);
        Summary {
            policy,
            runs: runs.len(),
            standard_error: error(|run| run.slowdown),
            over_shoot_error: error(|run| run.over_shoot),
            median: sorted.get(sorted.len() / 2).copied().unwrap_or(0.0),
            slowdown_against: Against::ratio(runs, first, |run| run.slowdown),
            p95_against: Against::ratio(runs, first, |run| run.p95),
            over_shoot_against: Against::difference(runs, first, |run| run.over_shoot),
            mean: Measures {
                slowdown: mean(|run| run.slowdown),
                slowdown_of_others: mean(|run| run.slowdown_of_others),
                p95: mean(|run| run.p95),
                moves: mean(|run| run.moves),
                moves_per_minute_max: runs.iter().map(|run| run.moves_per_minute_max).max().unwrap_or(0),
                moves_in_last_minute_max: runs
                    .iter()
                    .map(|run| run.moves_in_last_minute_max)
                    .max()
                    .unwrap_or(0),
                difference_max: mean(|run| run.difference_max),
                difference: mean(|run| run.difference),
                moved_mb: mean(|run| run.moved_mb),
                over_shoot: mean(|run| run.over_shoot),
                makespan_s: mean(|run| run.makespan_s),
                thrashed_s: mean(|run| run.thrashed_s),
                age_s: mean(|run| run.age_s),
                age_s_max: runs.iter().map(|run| run.age_s_max).fold(0.0, f64::max),
                gossip_bytes_per_node_s: mean(|run| run.gossip_bytes_per_node_s),
                message_bytes_max: runs.iter().map(|run| run.message_bytes_max).max().unwrap_or(0),
                table_entries_max: runs.iter().map(|run| run.table_entries_max).max().unwrap_or(0),
                bytes_per_node_s: mean(|run| run.bytes_per_node_s),
                questions: mean(|run| run.questions),
                done: runs.iter().map(|run| run.done).sum(),
                lost: runs.iter().map(|run| run.lost).sum(),
                unfinished: runs.iter().map(|run| run.unfinished).sum(),
                violations: runs.iter().flat_map(|run| run.violations.iter().cloned()).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(slowdowns: &[f64]) -> Vec<Measures> {
        slowdowns.iter().map(|slowdown| Measures { slowdown: *slowdown, ..Measures::default() }).collect()
    }

    #[test]
    fn common_seeds_tell_apart_what_means_cannot() {
        let (ours, theirs) = (runs(&[1.0, 5.0, 100.0]), runs(&[1.1, 5.5, 110.0]));
        let summary = Summary::of("x", &theirs, &ours);
        assert!(summary.standard_error > 30.0);
        let Against { value, low, high } = summary.slowdown_against;
        assert!((value - 1.1).abs() < 1e-9 && low > 1.09 && high < 1.11, "{low} {high}");
    }

    #[test]
    fn an_error_is_that_of_the_mean() {
        let (mean, error) = mean_and_error(&[1.0, 2.0, 3.0, 4.0]);
        // The deviations' squares sum up to 5.
        assert!((mean - 2.5).abs() < 1e-9 && (error - (5.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-9);
        assert_eq!(mean_and_error(&[7.0]), (7.0, 0.0));
    }
}
