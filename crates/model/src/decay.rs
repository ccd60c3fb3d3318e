//! How fast what a process has done is forgotten.

use serde::{Deserialize, Serialize};

/// What of a process' past counts, and for how long. The process, or whoever starts it, may choose; children inherit it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Slowly: [`DecayRates::slow`].
    #[default]
    Slow,
    /// Fast: [`DecayRates::fast`].
    Fast,
    /// Nothing is forgotten.
    None,
    /// It says of itself that it computes: its calls and its input and output do not hold it anywhere.
    CpuJob,
    /// It says of itself that it reads and writes: its recent CPU time does not make its talk look small.
    IoJob,
}

/// How much of the past is kept on a node. The numbers are openMosix's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecayRates {
    /// Seconds after which something is forgotten.
    pub interval_s: u32,
    /// Thousandths that are then kept by [`Decay::Slow`].
    pub slow: u16,
    /// The same by [`Decay::Fast`].
    pub fast: u16,
}

impl Default for DecayRates {
    fn default() -> DecayRates {
        DecayRates { interval_s: 1, slow: 975, fast: 926 }
    }
}

impl DecayRates {
    /// Whether they are rates at all: an interval of an hour at most, and parts of a whole.
    pub fn is_sound(&self) -> bool {
        (1..=3600).contains(&self.interval_s) && self.slow <= 1000 && self.fast <= 1000
    }

    /// The share of the past that is kept after so many seconds.
    pub fn kept(&self, decay: Decay, seconds: f64) -> f64 {
        let thousandths = match decay {
            Decay::Slow | Decay::CpuJob | Decay::IoJob => self.slow,
            Decay::Fast => self.fast,
            Decay::None => return 1.0,
        };
        (f64::from(thousandths) / 1000.0).powf(seconds.max(0.0) / f64::from(self.interval_s.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_depends_on_time_and_not_on_looks() {
        let rates = DecayRates { interval_s: 2, slow: 900, fast: 500 };
        assert!((rates.kept(Decay::Slow, 2.0) - 0.9).abs() < 1e-12);
        assert!((rates.kept(Decay::Fast, 1.0).powi(4) - 0.25).abs() < 1e-12);
        assert_eq!((rates.kept(Decay::None, 1e9), rates.kept(Decay::Fast, -1.0)), (1.0, 1.0));
        assert_eq!(DecayRates { fast: 0, ..rates }.kept(Decay::Fast, 1.0), 0.0);
    }

    #[test]
    fn absurd_rates_are_none() {
        let usual = DecayRates::default();
        assert!(usual.is_sound());
        for rates in [
            DecayRates { interval_s: 0, ..usual },
            DecayRates { interval_s: 3601, ..usual },
            DecayRates { slow: 1001, ..usual },
            DecayRates { fast: 1001, ..usual },
        ] {
            assert!(!rates.is_sound(), "{rates:?}");
        }
    }
}
