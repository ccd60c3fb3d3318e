//! What a run is measured by.

use serde::Serialize;

/// The result of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Mean over processes of time taken ÷ time on an empty machine of the fastest kind.
    pub slowdown: f64,
    /// The slowdown that 95 of 100 do not exceed.
    pub p95: f64,
    /// Moves per process.
    pub moves: f64,
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
    /// Bytes that a node sent per second.
    pub bytes_per_node_s: f64,
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
    /// Median run's mean slowdown.
    pub median: f64,
    /// Mean over runs of the logarithm of slowdown ÷ the first policy's, as a ratio: common seeds make this sharper than the
    /// means are.
    pub against_first: f64,
}

impl Summary {
    /// Of the runs of a policy; `first` are those of the policy that it is compared with, by the same seeds.
    pub fn of(policy: &'static str, runs: &[Measures], first: &[Measures]) -> Summary {
        let count = runs.len().max(1) as f64;
        let mean = |of: fn(&Measures) -> f64| runs.iter().map(of).sum::<f64>() / count;
        let slowdown = mean(|run| run.slowdown);
        let variance =
            runs.iter().map(|run| (run.slowdown - slowdown).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        let mut sorted: Vec<f64> = runs.iter().map(|run| run.slowdown).collect();
        sorted.sort_by(f64::total_cmp);
        let ratios = runs.iter().zip(first).map(|(run, first)| (run.slowdown / first.slowdown).ln());
        Summary {
            policy,
            runs: runs.len(),
            standard_error: (variance / count).sqrt(),
            median: sorted.get(sorted.len() / 2).copied().unwrap_or(0.0),
            against_first: (ratios.sum::<f64>() / count).exp(),
            mean: Measures {
                slowdown,
                p95: mean(|run| run.p95),
                moves: mean(|run| run.moves),
                moved_mb: mean(|run| run.moved_mb),
                over_shoot: mean(|run| run.over_shoot),
                makespan_s: mean(|run| run.makespan_s),
                thrashed_s: mean(|run| run.thrashed_s),
                age_s: mean(|run| run.age_s),
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
