//! How fast a CPU of this node is.
//!
//! Measured once, at the first start, by a short loop of arithmetic and of reads from a small table, and kept in the
//! state directory. What counts is CPU time, not the time of day: neither a quota nor other programs make a CPU slower. Of
//! several runs the best counts, since nothing makes one too fast.

use crate::Error;
use crate::config::Paths;
use model::limits::{SPEED_STANDARD, SPEEDS};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

/// Steps of the loop that the standard CPU makes each second. It is one core of a server of about 2021 at 3 GHz; the number is
/// arbitrary, but it must never change: nodes compare their speeds.
const STANDARD_STEPS_PER_SECOND: f64 = 200e6;
/// Steps of one run: about 20 ms of the standard CPU.
const STEPS: u32 = 4_000_000;
/// Runs of which the best counts.
const RUNS: u32 = 7;
/// Words of the table: 256 KiB, more than the first cache and less than the second.
const TABLE_WORDS: usize = 32 << 10;

/// Where a speed comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpeedSource {
    /// From a measurement.
    Measured,
    /// From somebody's word: the configuration, or `om tune --speed`.
    Set,
}

/// The speed of one CPU; the standard CPU has [`SPEED_STANDARD`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speed {
    /// The speed.
    pub speed: u32,
    /// Where it comes from.
    pub source: SpeedSource,
    /// The model of the CPU that was measured: another one is measured anew.
    cpu: String,
}

impl Speed {
    /// Measures; takes about a fifth of a second.
    pub fn measure() -> Speed {
        let table = table();
        let best = (0..RUNS).map(|_| time_of_run(&table)).min().unwrap_or_default();
        Speed { speed: speed_of(STEPS, best), source: SpeedSource::Measured, cpu: cpu_model() }
    }

    /// What somebody says it is.
    pub fn set(speed: u32) -> Speed {
        Speed { speed, source: SpeedSource::Set, cpu: cpu_model() }
    }

    /// What the configuration says, or else what is kept, or else what is measured now and kept from then on.
    pub(crate) fn of_node(configured: Option<u32>, paths: &Paths) -> Speed {
        if let Some(speed) = configured {
            return Speed::set(speed);
        }
        if let Some(kept) = Speed::kept(paths) {
            return kept;
        }
        let measured = Speed::measure();
        tracing::info!(speed = measured.speed, "measured the speed of this node's CPUs");
        if let Err(error) = measured.keep(paths) {
            tracing::warn!(%error, "the speed is measured again at the next start");
        }
        measured
    }

    /// Keeps it for the next start.
    pub(crate) fn keep(&self, paths: &Paths) -> Result<(), Error> {
        crate::config::keep_json(&file(paths), self, 0o644)
    }

    fn kept(paths: &Paths) -> Option<Speed> {
        let kept: Speed = serde_json::from_slice(&std::fs::read(file(paths)).ok()?).ok()?;
        let fits = kept.source == SpeedSource::Set || kept.cpu == cpu_model();
        (fits && SPEEDS.contains(&kept.speed)).then_some(kept)
    }
}

fn file(paths: &Paths) -> PathBuf {
    paths.state.join("speed.json")
}

fn speed_of(steps: u32, time: Duration) -> u32 {
    let rate = f64::from(steps) / time.as_secs_f64().max(1e-9);
    let speed = (rate / STANDARD_STEPS_PER_SECOND * f64::from(SPEED_STANDARD)).round() as u32;
    speed.clamp(*SPEEDS.start(), *SPEEDS.end())
}

/// A table that holds each of its indices once, in an order that no cache foresees.
fn table() -> Vec<u64> {
    let mut table: Vec<u64> = (0..TABLE_WORDS as u64).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for index in (1..TABLE_WORDS).rev() {
        state = mix(state);
        table.swap(index, (state % (index as u64 + 1)) as usize);
    }
    table
}

/// Shifts and exclusive ors that lose nothing (Marsaglia, "Xorshift RNGs", 2003).
fn mix(mut word: u64) -> u64 {
    word ^= word << 13;
    word ^= word >> 7;
    word ^ (word << 17)
}

/// CPU time of one run.
fn time_of_run(table: &[u64]) -> Duration {
    let start = cpu_time();
    let mut word = black_box(1_u64);
    for _ in 0..STEPS {
        // Each step needs the one before: neither the compiler nor the CPU does two at once.
        let read = table[word as usize % TABLE_WORDS];
        word = mix(word).wrapping_mul(31).wrapping_add(read);
    }
    black_box(word);
    cpu_time().saturating_sub(start)
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32)
}

fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    line.trim_start_matches([' ', '\t', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_steps_per_time() {
        assert_eq!(speed_of(200_000_000, Duration::from_secs(1)), SPEED_STANDARD);
        assert_eq!(speed_of(200_000_000, Duration::from_millis(500)), 2 * SPEED_STANDARD);
        assert_eq!(speed_of(u32::MAX, Duration::ZERO), *SPEEDS.end());
        assert_eq!(speed_of(1, Duration::from_secs(1000)), *SPEEDS.start());
    }

    /// Both runs on the same CPUs; the best of several is stable within some percent, also on a busy machine.
    #[test]
    fn two_measurements_agree() {
        let (one, other) = (Speed::measure().speed, Speed::measure().speed);
        assert!(one.abs_diff(other) * 3 < one.max(other), "{one} and {other}");
    }

    #[test]
    fn it_is_measured_once_and_the_configuration_wins() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { state: directory.path().join("state"), ..Paths::default() };
        let first = Speed::of_node(None, &paths);
        assert_eq!(first.source, SpeedSource::Measured);
        assert_eq!(Speed::of_node(None, &paths), first);
        assert_eq!(Speed::of_node(Some(777), &paths).speed, 777);
        Speed::set(4242).keep(&paths).unwrap();
        assert_eq!(
            (Speed::of_node(None, &paths).speed, Speed::kept(&paths).unwrap().source),
            (4242, SpeedSource::Set)
        );
        // Another CPU was measured; nonsense.
        let other = Speed { cpu: "another".to_owned(), ..first.clone() };
        other.keep(&paths).unwrap();
        assert_eq!(Speed::kept(&paths), None);
        for bad in ["", "{}", r#"{"speed":0,"source":"set","cpu":""}"#] {
            std::fs::write(file(&paths), bad).unwrap();
            assert_eq!(Speed::kept(&paths), None);
        }
    }
}
