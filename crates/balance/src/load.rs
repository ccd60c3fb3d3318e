//! Load as openMosix counts it.
//!
//! The mean rises slowly and falls at once, and the node decides by it: a short peak makes it send nobody away. The
//! exported value rises at once and falls slowly, so that others do not send more than is good (MOSIX; the formulas are
//! those of its descendants' load probes).

use wire::balance::{LOAD_PER_CPU, SPEED_STANDARD};

/// The running means of a node's load, in runnable processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    mean: f64,
    upper: f64,
}

impl Load {
    /// Takes in how many processes were runnable on average since the last call, a second ago.
    pub fn observe(&mut self, runnable: f64) {
        let runnable = if runnable.is_finite() { runnable.max(0.0) } else { return };
        self.mean = if runnable > self.mean { (5.0 * self.mean + 3.0 * runnable) / 8.0 } else { runnable };
        self.upper = if runnable >= self.upper { runnable } else { (7.0 * self.upper + runnable) / 8.0 };
    }

    /// What the node itself decides by, processes.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// What it tells others, processes: never less than are running now.
    pub fn upper(&self, running: f64) -> f64 {
        self.upper.max(running)
    }
}

/// Load in openMosix's unit: [`LOAD_PER_CPU`] is one standard CPU fully busy, so a faster or wider node has less of it by
/// the same processes. `speed` is in units of the standard CPU.
pub fn normalised(processes: f64, cpus: f64, speed: f64) -> u32 {
    (processes / cpus / speed * f64::from(LOAD_PER_CPU)).round().clamp(0.0, 2e9) as u32
}

/// Speed in openMosix's unit.
pub fn speed_units(speed: f64) -> u32 {
    (speed * f64::from(SPEED_STANDARD)).round().clamp(1.0, 1e9) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_rises_slowly_and_the_exported_falls_slowly() {
        let mut load = Load::default();
        load.observe(8.0);
        assert_eq!((load.mean(), load.upper(0.0)), (3.0, 8.0));
        load.observe(0.0);
        assert_eq!((load.mean(), load.upper(0.0)), (0.0, 7.0));
        assert_eq!(load.upper(9.0), 9.0);
        load.observe(f64::NAN);
        assert_eq!(load.upper(0.0), 7.0);
    }

    #[test]
    fn a_hundred_is_one_standard_cpu() {
        assert_eq!(normalised(1.0, 1.0, 1.0), 100);
        assert_eq!(normalised(4.0, 4.0, 1.0), 100);
        assert_eq!(normalised(1.0, 1.0, 2.0), 50);
        assert_eq!(speed_units(1.0), SPEED_STANDARD);
    }
}
