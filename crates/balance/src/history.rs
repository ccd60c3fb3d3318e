//! What programs were like when they ran before: memory first, CPU time second.
//!
//! Measured: knowing the memory of a program before it runs is worth 4 to 5 % of mean slowdown where memory is tight;
//! knowing its CPU time is worth less than 1 %, and nothing if it is not known well.

use model::limits::PROGRAMS_MAX;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Runs after which CPU time is predicted at all.
const RUNS_MIN: u32 = 3;

/// Standard deviation of the logarithm of CPU times up to which they are predictable.
const DEVIATION_MAX: f64 = 1.0;

/// Runs whose memory is remembered.
const PEAKS: usize = 8;

/// Runs over which means are taken.
const RUNS_WEIGHED: u32 = 8;

/// Runs of any program over which the typical run is taken.
const RUNS_TYPICAL: u32 = 256;

/// Runs of any program before which nothing is typical.
const RUNS_TYPICAL_MIN: u32 = 5;

/// Logarithms of what can be measured are smaller.
const LOG_MAX: f64 = 30.0;

/// A program, by a hash of what identifies its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramKey(pub u64);

/// One run of a program that has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// CPU time, seconds of the standard CPU.
    pub cpu_s: f64,
    /// Largest resident memory, MB.
    pub peak_mb: f64,
}

/// What is expected of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Prediction {
    /// Memory it will have, MB.
    pub memory_mb: Option<f64>,
    /// CPU time it will use, seconds of the standard CPU.
    pub cpu_s: Option<f64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    /// When it was last used; not kept, for the order says it.
    #[serde(skip)]
    used: u64,
    runs: u32,
    log_mean: f64,
    log_variance: f64,
    peaks_mb: [f64; PEAKS],
}

/// What is remembered of the programs that were used most recently, [`PROGRAMS_MAX`] at most.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(into = "Kept", try_from = "Kept")]
pub struct History {
    programs: HashMap<ProgramKey, Record>,
    by_use: BTreeMap<u64, ProgramKey>,
    uses: u64,
    runs: u64,
    typical: Typical,
}

/// A history as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    typical: Typical,
    /// The least recently used first.
    programs: Vec<(u64, Record)>,
}

/// What was kept can be no history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHistory {
    /// What is wrong with it.
    pub what: &'static str,
}

impl std::fmt::Display for NoHistory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for NoHistory {}

impl From<History> for Kept {
    fn from(mut history: History) -> Kept {
        let by_use = history.by_use.values();
        let programs = by_use.filter_map(|key| Some((key.0, history.programs.remove(key)?))).collect();
        Kept { typical: history.typical, programs }
    }
}

impl TryFrom<Kept> for History {
    type Error = NoHistory;
    fn try_from(kept: Kept) -> Result<History, NoHistory> {
        if kept.programs.len() > PROGRAMS_MAX {
            return Err(NoHistory { what: "there are more programs in it than are remembered" });
        }
        let mut history = History { typical: kept.typical, ..History::default() };
        let sound = |record: &Record| {
            record.log_variance >= 0.0
                && record.log_mean.abs() <= LOG_MAX
                && record.peaks_mb.iter().all(|peak| *peak >= 0.0)
        };
        if !kept.programs.iter().all(|(_, record)| sound(record)) {
            return Err(NoHistory { what: "there are numbers in it that nobody has measured" });
        }
        for (key, record) in kept.programs {
            let key = ProgramKey(key);
            history.touch(key);
            let used = history.uses;
            history.programs.insert(key, Record { used, ..record });
        }
        Ok(history)
    }
}

/// What programs use in general.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Typical {
    runs: u32,
    log_cpu: f64,
    log_memory: f64,
}

impl Typical {
    /// A program has ended.
    pub fn observe(&mut self, run: &Run) {
        self.runs = (self.runs + 1).min(RUNS_TYPICAL);
        let weight = 1.0 / f64::from(self.runs);
        self.log_cpu += weight * (log(run.cpu_s) - self.log_cpu);
        self.log_memory += weight * (log(run.peak_mb) - self.log_memory);
    }

    /// CPU time in a whole life, seconds: the geometric mean, once some programs have ended.
    pub fn cpu_s(&self) -> Option<f64> {
        (self.runs >= RUNS_TYPICAL_MIN).then(|| self.log_cpu.exp())
    }

    /// Memory, MB: the geometric mean, once some programs have ended.
    pub fn memory_mb(&self) -> Option<f64> {
        (self.runs >= RUNS_TYPICAL_MIN).then(|| self.log_memory.exp())
    }
}

fn log(amount: f64) -> f64 {
    if amount.is_finite() { amount.clamp(1e-3, 1e12).ln() } else { 0.0 }
}

impl History {
    /// A run has ended.
    pub fn observe(&mut self, program: ProgramKey, run: &Run) {
        self.typical.observe(run);
        self.runs += 1;
        self.touch(program);
        let Some(record) = self.programs.get_mut(&program) else { return };
        record.peaks_mb[record.runs as usize % PEAKS] =
            if run.peak_mb.is_finite() { run.peak_mb } else { 0.0 };
        record.runs = record.runs.saturating_add(1);
        let weight = 1.0 / f64::from(record.runs.min(RUNS_WEIGHED));
        let distance = log(run.cpu_s) - record.log_mean;
        record.log_mean += weight * distance;
        record.log_variance = (1.0 - weight) * (record.log_variance + weight * distance * distance);
    }

    /// What to expect of its next run. Memory is the largest of its last eight peaks, rather too much than too little.
    pub fn predict(&mut self, program: ProgramKey) -> Prediction {
        if !self.programs.contains_key(&program) {
            return Prediction::default();
        }
        self.touch(program);
        let Some(record) = self.programs.get(&program) else { return Prediction::default() };
        let steady = record.runs >= RUNS_MIN && record.log_variance.sqrt() < DEVIATION_MAX;
        Prediction {
            memory_mb: Some(record.peaks_mb.into_iter().fold(0.0, f64::max)),
            cpu_s: steady.then(|| record.log_mean.exp()),
        }
    }

    /// Runs that it has seen since it began, or was read.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// What is typical for all programs.
    pub fn typical(&self) -> &Typical {
        &self.typical
    }

    /// Programs that are remembered.
    pub fn len(&self) -> usize {
        self.programs.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// Makes it the most recently used, and drops the least recently used beyond the bound.
    fn touch(&mut self, program: ProgramKey) {
        self.uses += 1;
        let record = self.programs.entry(program).or_default();
        self.by_use.remove(&record.used);
        record.used = self.uses;
        self.by_use.insert(self.uses, program);
        while self.programs.len() > PROGRAMS_MAX {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            self.programs.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_known_at_once_and_time_when_it_is_steady() {
        let mut history = History::default();
        let (steady, wild) = (ProgramKey(1), ProgramKey(2));
        assert_eq!(history.predict(steady), Prediction::default());
        history.observe(steady, &Run { cpu_s: 10.0, peak_mb: 100.0 });
        assert_eq!(history.predict(steady), Prediction { memory_mb: Some(100.0), cpu_s: None });
        for (round, cpu_s) in [0.01, 100.0, 0.01, 100.0].into_iter().enumerate() {
            history.observe(steady, &Run { cpu_s: 10.0, peak_mb: 90.0 + round as f64 });
            history.observe(wild, &Run { cpu_s, peak_mb: 1.0 });
        }
        let cpu_s = history.predict(steady).cpu_s.unwrap();
        assert!((cpu_s - 10.0).abs() < 1e-6, "{cpu_s}");
        assert_eq!(history.predict(wild).cpu_s, None);
        // An old peak is forgotten after eight runs.
        (0..8).for_each(|_| history.observe(steady, &Run { cpu_s: 10.0, peak_mb: 20.0 }));
        assert_eq!(history.predict(steady).memory_mb, Some(20.0));
    }

    #[test]
    fn the_least_recently_used_is_forgotten() {
        let mut history = History::default();
        for number in 0..PROGRAMS_MAX as u64 + 10 {
            history.observe(ProgramKey(number), &Run { cpu_s: 1.0, peak_mb: 1.0 });
            history.predict(ProgramKey(0));
        }
        assert_eq!(history.len(), PROGRAMS_MAX);
        assert_eq!(history.by_use.len(), PROGRAMS_MAX);
        assert!(history.predict(ProgramKey(0)).memory_mb.is_some());
        assert!(history.predict(ProgramKey(5)).memory_mb.is_none());
    }

    #[test]
    fn what_is_kept_is_judged_and_in_order() {
        let mut history = History::default();
        for number in [3, 1, 2] {
            history.observe(ProgramKey(number), &Run { cpu_s: 1.0, peak_mb: f64::from(number as u32) });
        }
        let kept = Kept::from(history.clone());
        assert_eq!(kept.programs.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [3, 1, 2]);
        let mut again = History::try_from(kept).unwrap();
        assert_eq!((again.len(), again.by_use.len(), again.runs()), (3, 3, 0));
        assert_eq!(again.predict(ProgramKey(2)), history.predict(ProgramKey(2)));
        type Change = fn(&mut Kept);
        let changes: [Change; 4] = [
            |kept| kept.programs[0].1.log_variance = f64::NAN,
            |kept| kept.programs[0].1.log_mean = 1e6,
            |kept| kept.programs[0].1.peaks_mb[3] = -1.0,
            |kept| kept.programs = vec![kept.programs[0].clone(); PROGRAMS_MAX + 1],
        ];
        for change in changes {
            let mut kept = Kept::from(history.clone());
            change(&mut kept);
            assert!(History::try_from(kept).is_err());
        }
    }

    #[test]
    fn the_typical_run_is_a_geometric_mean() {
        let mut typical = Typical::default();
        assert_eq!(typical.cpu_s(), None);
        for cpu_s in [1.0, 100.0, 1.0, 100.0, 10.0, f64::NAN] {
            typical.observe(&Run { cpu_s, peak_mb: 8.0 });
        }
        assert!((typical.memory_mb().unwrap() - 8.0).abs() < 1e-9);
        assert!(typical.cpu_s().unwrap() < 10.0);
    }
}
