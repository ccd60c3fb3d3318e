//! How much a move must promise: more, the less of what moves promised became true.

/// Weight of a new move.
const WEIGHT: f64 = 0.1;

/// The running share of promises kept below which more must be promised, and above which less.
const KEPT_TOO_LITTLE: f64 = 0.5;
const KEPT_WELL: f64 = 0.8;

const STEP: f64 = 0.05;
const THETA_MAX: f64 = 1.0;

#[derive(Clone, Copy, Debug)]
pub(super) struct Theta {
    base: f64,
    value: f64,
    kept: f64,
}

impl Theta {
    pub(super) fn new(base: f64) -> Theta {
        Theta { base, value: base, kept: 1.0 }
    }

    pub(super) fn value(&self) -> f64 {
        self.value
    }

    /// A move has gained so much of what it had promised; both in seconds of its process.
    pub(super) fn observe(&mut self, promised: f64, achieved: f64) {
        if !(promised > 0.0 && achieved.is_finite()) {
            return;
        }
        self.kept += WEIGHT * ((achieved / promised).clamp(-1.0, 2.0) - self.kept);
        if self.kept < KEPT_TOO_LITTLE {
            self.value = (self.value + STEP).min(THETA_MAX.max(self.base));
        } else if self.kept > KEPT_WELL {
            self.value = (self.value - STEP).max(self.base);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_promises_make_careful_and_kept_ones_bold_again() {
        let mut theta = Theta::new(0.2);
        (0..100).for_each(|_| theta.observe(1.0, -0.5));
        assert_eq!(theta.value(), 1.0);
        theta.observe(f64::NAN, 1.0);
        theta.observe(-1.0, f64::NAN);
        (0..100).for_each(|_| theta.observe(1.0, 1.0));
        assert_eq!(theta.value(), 0.2);
    }
}
