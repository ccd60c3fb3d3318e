//! How many conversations go on at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bounded number of places.
pub(crate) struct Slots {
    taken: Arc<AtomicUsize>,
    max: usize,
}

/// One place, free again when this is dropped, however its thread ends.
pub(crate) struct Slot(Arc<AtomicUsize>);

impl Slots {
    pub(crate) fn new(max: usize) -> Slots {
        Slots { taken: Arc::default(), max }
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Slot> {
        let more = |taken| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Slot(self.taken.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let slots = Slots::new(1);
        let first = slots.take();
        assert!(first.is_some() && slots.take().is_none());
        drop(first);
        assert!(slots.take().is_some());
    }
}
