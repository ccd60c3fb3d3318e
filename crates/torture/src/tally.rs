//! What the movers have counted.

use std::collections::BTreeMap;
use std::time::Duration;

/// Faults that are told, at most; more would hide the first.
const FAULTS_MAX: usize = 20;

/// Counts of one torture.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Moves, by destination.
    pub(crate) moves: BTreeMap<String, u64>,
    /// Refusals, by the code of the reason.
    pub(crate) refusals: BTreeMap<String, u64>,
    /// The time of each move during which the process did not run.
    pub(crate) freezes: Vec<Duration>,
    /// Moves that broke.
    pub(crate) faults: Vec<String>,
}

impl Tally {
    pub(crate) fn moved(&mut self, to: &str, freeze: Duration) {
        *self.moves.entry(to.to_owned()).or_default() += 1;
        self.freezes.push(freeze);
    }

    pub(crate) fn refused(&mut self, code: &str) {
        *self.refusals.entry(code.to_owned()).or_default() += 1;
    }

    pub(crate) fn broke(&mut self, text: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }
}
