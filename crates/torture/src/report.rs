//! What a torture brought to light.

use crate::aspect::Aspect;
use crate::journal::Entries;
use crate::run::Outcome;
use crate::tally::Tally;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// The whole truth about one torture.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The command behaved as in peace, nothing broke, and nothing was left behind.
    pub same: bool,
    /// What chance was made of.
    pub seed: u64,
    /// Time of the run in peace, seconds.
    pub peace_seconds: f64,
    /// Time of the run under torture, seconds.
    pub torture_seconds: f64,
    /// How the command ended in peace, in words.
    pub ended: String,
    /// Bytes that it printed in peace on its two streams.
    pub printed_bytes: u64,
    /// What it printed in peace on its standard output.
    #[serde(skip)]
    pub printed: Vec<u8>,
    /// What it printed there under torture.
    #[serde(skip)]
    pub printed_when_moved: Vec<u8>,
    /// What was not as in peace; nothing if it was the same.
    #[serde(skip)]
    pub unlike: BTreeSet<Aspect>,
    /// Files that it left in peace.
    pub files: usize,
    /// All moves.
    pub moves: u64,
    /// Moves by destination.
    pub moves_to: BTreeMap<String, u64>,
    /// Refusals by code.
    pub refusals: BTreeMap<String, u64>,
    /// How often each call brought a process home by itself.
    pub home_comings: BTreeMap<String, u64>,
    /// How long processes stood still in moves.
    pub freezes: Freezes,
    /// What the command did otherwise than in peace.
    pub differences: Vec<String>,
    /// Moves that broke, and errors that daemons and agents complained about.
    pub faults: Vec<String>,
    /// The last lines of the logs, if something was not as it should be.
    pub log: Vec<String>,
    /// What was left behind.
    pub remains: Vec<String>,
    /// Memory of each node's daemon before and after, bytes.
    pub daemon_bytes: Vec<(u64, u64)>,
}

/// Times during which processes stood still, microseconds; all 0 without any move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Freezes {
    /// Half of them were shorter.
    pub median_us: u64,
    /// One in a hundred was longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Everything a report is made of.
pub(crate) struct Counts {
    pub(crate) seed: u64,
    pub(crate) peace_seconds: f64,
    pub(crate) torture_seconds: f64,
    pub(crate) calm: Outcome,
    pub(crate) printed_when_moved: Vec<u8>,
    pub(crate) files: usize,
    pub(crate) tally: Tally,
    pub(crate) entries: Entries,
    pub(crate) differences: Vec<(Aspect, String)>,
    /// What the processes of a run without end were doing.
    pub(crate) stuck: Vec<String>,
    pub(crate) remains: Vec<(Aspect, String)>,
    pub(crate) daemon_bytes: Vec<(u64, u64)>,
}

impl Freezes {
    fn of(mut times: Vec<Duration>) -> Freezes {
        times.sort_unstable();
        // The nearest-rank definition: the smallest time that is not exceeded by this share of them.
        let rank = |hundredths: usize| {
            let index = (times.len() * hundredths).div_ceil(100).saturating_sub(1);
            times.get(index).map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        };
        Freezes { median_us: rank(50), p99_us: rank(99), max_us: rank(100) }
    }
}

impl Report {
    pub(crate) fn new(counts: Counts) -> Report {
        let Counts { tally, entries, calm, .. } = counts;
        let stuck = counts.stuck.into_iter().map(|text| (Aspect::Ending, text));
        let differences: Vec<_> = counts.differences.into_iter().chain(stuck).collect();
        let faults = [tally.faults, entries.errors].concat();
        let mut unlike: BTreeSet<Aspect> =
            differences.iter().chain(&counts.remains).map(|(aspect, _)| *aspect).collect();
        unlike.extend((!faults.is_empty()).then_some(Aspect::Faults));
        let same = unlike.is_empty();
        let texts = |of: Vec<(Aspect, String)>| of.into_iter().map(|(_, text)| text).collect();
        Report {
            same,
            seed: counts.seed,
            peace_seconds: counts.peace_seconds,
            torture_seconds: counts.torture_seconds,
            ended: calm.ending.to_string(),
            printed_bytes: (calm.stdout.len() + calm.stderr.len()) as u64,
            printed: calm.stdout,
            printed_when_moved: counts.printed_when_moved,
            unlike,
            files: counts.files,
            moves: tally.moves.values().sum(),
            moves_to: tally.moves,
            refusals: tally.refusals,
            home_comings: entries.home_comings,
            freezes: Freezes::of(tally.freezes),
            differences: texts(differences),
            faults,
            log: if same { Vec::new() } else { entries.last },
            remains: texts(counts.remains),
            daemon_bytes: counts.daemon_bytes,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1e3;
        writeln!(f, "in peace      {:.1} s: it {}", self.peace_seconds, self.ended)?;
        writeln!(f, "moved about   {:.1} s, seed {}", self.torture_seconds, self.seed)?;
        writeln!(f, "moves         {}", listed(self.moves, &self.moves_to))?;
        writeln!(f, "refusals      {}", listed(self.refusals.values().sum(), &self.refusals))?;
        writeln!(f, "home-comings  {}", listed(self.home_comings.values().sum(), &self.home_comings))?;
        let Freezes { median_us, p99_us, max_us } = self.freezes;
        writeln!(
            f,
            "freezes       median {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            ms(median_us),
            ms(p99_us),
            ms(max_us)
        )?;
        let lists = [
            ("different", &self.differences),
            ("broken", &self.faults),
            ("left behind", &self.remains),
            ("log", &self.log),
        ];
        for (name, lines) in lists {
            lines.iter().try_for_each(|line| writeln!(f, "{name}: {}", line.trim_end()))?;
        }
        if self.same {
            let (bytes, files) = (self.printed_bytes, self.files);
            writeln!(
                f,
                "the same: its end, {bytes} bytes printed, {files} files; nothing broke, nothing is left"
            )
        } else {
            writeln!(f, "NOT the same as in peace")
        }
    }
}

fn listed(sum: u64, counts: &BTreeMap<String, u64>) -> String {
    let each: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if each.is_empty() { format!("{sum}") } else { format!("{sum} ({})", each.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(times: &[u64], median_us: u64, p99_us: u64, max_us: u64) {
        let times = times.iter().map(|us| Duration::from_micros(*us)).collect();
        assert_eq!(Freezes::of(times), Freezes { median_us, p99_us, max_us });
    }

    #[test]
    fn freezes_are_ranked() {
        check(&[], 0, 0, 0);
        check(&[7], 7, 7, 7);
        check(&[3, 1, 2], 2, 3, 3);
        check(&(1..=200).collect::<Vec<_>>(), 100, 198, 200);
    }
}
