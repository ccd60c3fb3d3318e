//! How long the window should be.
//!
//! News that everybody who has them passes on to one node by chance in each period spread like an epidemic: after *t*
//! periods X(t) = N·e^u / (N − 1 + e^u) nodes have them, with u = N·t/(N − 1). The other way round, a node has as many
//! entries that are at most *t* old. From this follow the ages below (Amar and others, as in [`super`]).

use model::limits::WINDOW_ENTRIES_MAX;

/// A shorter window would leave too little choice.
const LENGTH_MIN: usize = 8;

/// Periods by which entries are older than the formula says, which speaks of the mean node: some have heard nothing for a
/// while, and keep as many entries as the others. Measured (`sim window`), the same from 64 to 10 000 nodes.
const UNEVEN_PERIODS: f64 = 0.85;

/// Mean age, in periods, of what a node knows in a cluster of `nodes` with windows of this length whose newer half is
/// passed on.
pub fn mean_age_periods(nodes: usize, length: usize) -> f64 {
    let count = nodes.max(2) as f64;
    if length + 1 >= nodes {
        // It knows everybody: what has grown too old to be passed on waits until somebody is met again.
        let sent = (length as f64 / 2.0).min(count - 1.0).max(1.0);
        let (age, spread) = mean_age_of_newest(count, sent);
        let met = 1.0 - (1.0 - 1.0 / (count - 1.0)).powf(spread);
        return if count <= 2.0 { 1.0 } else { 1.0 / met + age };
    }
    mean_age_of_newest(count, length as f64).0 + UNEVEN_PERIODS
}

/// Mean age of the newest `kept` entries of a node, and how many nodes have an entry when it stops being one of them.
fn mean_age_of_newest(nodes: f64, kept: f64) -> (f64, f64) {
    let kept = kept.min(nodes - 1e-3);
    let horizon = (kept * (nodes - 1.0) / (nodes - kept)).ln() * (nodes - 1.0) / nodes;
    let growth = (nodes * horizon / (nodes - 1.0)).exp();
    let spread = nodes * growth / (nodes - 1.0 + growth);
    let age = horizon - (nodes - 1.0) / spread * ((nodes - 1.0 + growth).ln() - nodes.ln());
    (age, spread)
}

/// The longest window whose entries have at most the wanted mean age, in periods, in a cluster of `nodes`; between 8 and
/// [`WINDOW_ENTRIES_MAX`] entries. Longer is more choice, shorter is fresher.
pub fn length_for(nodes: usize, wanted_periods: f64) -> usize {
    (LENGTH_MIN..=WINDOW_ENTRIES_MAX)
        .rev()
        .find(|length| mean_age_periods(nodes, *length) <= wanted_periods)
        .unwrap_or(LENGTH_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean ages of a whole vector, computed from the published formulas.
    #[test]
    fn ages_are_those_of_the_paper() {
        for (nodes, sent, want) in
            [(64.0, 8.0, 9.6), (64.0, 16.0, 6.4), (256.0, 16.0, 18.3), (1024.0, 64.0, 19.7)]
        {
            let (age, spread) = mean_age_of_newest(nodes, sent);
            let mean: f64 = 1.0 / (1.0 - (1.0_f64 - 1.0 / (nodes - 1.0)).powf(spread)) + age;
            assert!((mean - want).abs() < 0.06, "{nodes} {sent}: {mean}");
        }
    }

    #[test]
    fn longer_is_older_and_the_wish_is_obeyed() {
        for nodes in [64, 256, 10_000] {
            assert!(mean_age_periods(nodes, 28) > mean_age_periods(nodes, 8));
            for wanted in [1.0, 1.6, 2.0, 3.0] {
                let length = length_for(nodes, wanted);
                assert!((LENGTH_MIN..=WINDOW_ENTRIES_MAX).contains(&length));
                assert!(length == LENGTH_MIN || mean_age_periods(nodes, length) <= wanted);
            }
        }
        assert!(mean_age_periods(2, 8).is_finite() && mean_age_periods(1, 8).is_finite());
    }
}
