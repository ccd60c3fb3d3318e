//! Many runs, as many of them at once as there are threads for. Each is by its own seed, so their number changes nothing.

use crate::kept::Kept;
use crate::measure::Measures;
use crate::world::{Plan, run};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Makes all these runs, those left out that were kept, and answers their results in the same order. `progress` is told how
/// many are done.
pub fn run_all(
    plans: &[Plan<'_>],
    jobs: NonZero<usize>,
    kept: &Kept,
    progress: &(dyn Fn(usize) + Sync),
) -> Vec<Measures> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results = Mutex::new(vec![Measures::default(); plans.len()]);
    let work = || {
        // Whoever is free takes the next one.
        while let Some((index, plan)) = plans.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let measures = kept.find(plan).unwrap_or_else(|| {
                let measures = run(plan);
                kept.add(plan, &measures);
                measures
            });
            results.lock().unwrap_or_else(PoisonError::into_inner)[index] = measures;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    thread::scope(|scope| {
        (1..jobs.get().min(plans.len())).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
