//! Waiting without sleeping.
//!
//! To be woken on another CPU costs tens of microseconds, more than most forwarded calls take. So whoever expects an
//! answer soon looks for it a little while before going to sleep: only while its CPU has nothing else to do, and only
//! as long as this keeps paying off.

use std::time::{Duration, Instant};

/// How long one waits without sleeping: about what a wake-up costs, twice.
pub(crate) const SPIN: Duration = Duration::from_micros(60);
/// A yield that takes longer has let somebody else run, and not just whoever is about to wait: the CPU is wanted. Two
/// switches between processes take 3 to 8 microseconds, and a guest that has just made a call often needs them to get
/// to its wait; whoever computes keeps the CPU for a thousand.
const YIELD_MAX: Duration = Duration::from_micros(15);
/// After failures, opportunities let pass at most.
const PAUSE_MAX: u32 = 4095;

/// Whether something that may pay off has done so lately. After each failure twice as many opportunities are let pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Worth {
    pause: u32,
    left: u32,
}

impl Worth {
    /// Whether to try this time.
    pub(crate) fn is_worth_it(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                false
            }
            None => true,
        }
    }

    /// It did or did not pay off.
    pub(crate) fn learn(&mut self, paid: bool) {
        self.pause = if paid { 0 } else { (2 * self.pause + 1).min(PAUSE_MAX) };
        self.left = self.pause;
    }
}

/// Looks for something until it is there; `false` if it is not there soon, or the CPU is wanted.
pub(crate) fn spin<E>(worth: &mut Worth, is_there: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
    let begun = Instant::now();
    let yielded = || {
        std::thread::yield_now();
        begun.elapsed()
    };
    spin_by(worth, yielded, is_there)
}

/// [`spin`] by a clock: `yielded` lets others run and says how long it has been since the beginning.
fn spin_by<E>(
    worth: &mut Worth,
    mut yielded: impl FnMut() -> Duration,
    mut is_there: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
    if !worth.is_worth_it() {
        return Ok(false);
    }
    let mut before = Duration::ZERO;
    loop {
        if is_there()? {
            worth.learn(true);
            return Ok(true);
        }
        let now = yielded();
        if now - before > YIELD_MAX || now > SPIN {
            // Even if it is there now: where others want the CPU, sleeping is the faster way to it.
            worth.learn(false);
            return is_there();
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock by which every yield takes this long.
    fn yields_of(each: Duration) -> impl FnMut() -> Duration {
        let mut now = Duration::ZERO;
        move || {
            now += each;
            now
        }
    }

    #[test]
    fn what_does_not_pay_is_tried_ever_less() {
        let mut worth = Worth::default();
        let mut tries = 0;
        for _ in 0..1000 {
            if worth.is_worth_it() {
                tries += 1;
                worth.learn(false);
            }
        }
        assert!((5..=10).contains(&tries), "{tries}");
        while !worth.is_worth_it() {}
        worth.learn(true);
        assert!(worth.is_worth_it() && worth.is_worth_it());
    }

    #[test]
    fn it_ends_when_there_is_something_and_when_there_is_nothing() {
        let mut worth = Worth::default();
        let mut looks = 0;
        let found = spin_by(&mut worth, yields_of(YIELD_MAX), || {
            looks += 1;
            Ok::<_, ()>(looks == 2)
        });
        assert_eq!((found, looks), (Ok(true), 2));
        assert_eq!(spin_by(&mut worth, yields_of(YIELD_MAX), || Ok::<_, ()>(false)), Ok(false));
        assert_eq!(spin(&mut worth, || Err(7)), Ok(false), "what failed is let pass once");
        assert_eq!(spin(&mut worth, || Err(7)), Err(7));
    }

    #[test]
    fn a_wanted_cpu_is_left_at_once() {
        let mut worth = Worth::default();
        let mut looks = 0;
        let found = spin_by(&mut worth, yields_of(YIELD_MAX * 2), || {
            looks += 1;
            Ok::<_, ()>(looks == 2)
        });
        assert_eq!((found, looks), (Ok(true), 2));
        assert!(!worth.is_worth_it(), "it has not paid off, though it was there");
    }
}
