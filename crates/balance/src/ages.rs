//! How old the processes of a node are, as twelve counts, and how much company would hurt them.
//!
//! Life times of processes have a heavy tail: the probability to live longer than *t* falls like 1/*t*, so one that has
//! used *a* seconds of CPU is expected to use as many again (Harchol-Balter and Downey, 1997). A node that tells the ages
//! of its processes lets others compute what a newcomer would do to them.

use wire::balance::AGE_CLASSES;

/// Seconds of CPU up to which a process is in the first class; each further class ends at twice the age.
const FIRST_CLASS_S: f64 = 0.125;

/// Counts of processes by the CPU time they have used, in seconds of the standard CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ages([f64; AGE_CLASSES]);

impl Ages {
    /// The counts of an entry.
    pub fn from_counts(counts: [u8; AGE_CLASSES]) -> Ages {
        Ages(counts.map(f64::from))
    }

    /// The counts for an entry; more than 255 count as 255.
    pub fn counts(&self) -> [u8; AGE_CLASSES] {
        self.0.map(|count| count.round().clamp(0.0, 255.0) as u8)
    }

    /// One more process of this age.
    pub fn add(&mut self, age_s: f64) {
        self.0[class(age_s)] += 1.0;
    }

    /// One less; a class that is empty stays empty.
    pub fn remove(&mut self, age_s: f64) {
        let count = &mut self.0[class(age_s)];
        *count = (*count - 1.0).max(0.0);
    }

    /// A copy without one process of this age.
    pub fn without(mut self, age_s: f64) -> Ages {
        self.remove(age_s);
        self
    }

    /// Typical age of the oldest process, seconds.
    pub fn oldest(&self) -> Option<f64> {
        (0..AGE_CLASSES).rev().find(|index| self.0[*index] > 0.0).map(middle)
    }

    /// W of the study: by how many slowdowns all of them together suffer from `seconds` of company, for each unit by which
    /// their stretch grows meanwhile. The young count about 1, the old about ½: waiting hurts who has done little yet.
    ///
    /// `typical_s` is what a process of this cluster uses in its whole life: the youngest are expected to live half as long.
    pub fn harm(&self, seconds: f64, typical_s: f64) -> f64 {
        let young = typical_s / 2.0;
        (0..AGE_CLASSES)
            .filter(|index| self.0[*index] > 0.0)
            .map(|index| {
                let age = middle(index);
                let remaining = age.max(young);
                self.0[index] * seconds.min(remaining) / (age + remaining)
            })
            .sum()
    }
}

fn class(age_s: f64) -> usize {
    if age_s < FIRST_CLASS_S {
        return 0;
    }
    // A whole number of doublings; the cast saturates, for infinities too.
    ((age_s / FIRST_CLASS_S).log2() as usize).saturating_add(1).min(AGE_CLASSES - 1)
}

/// Typical age within a class, seconds.
fn middle(class: usize) -> f64 {
    if class == 0 { 0.06 } else { FIRST_CLASS_S * 1.5 * f64::from(1_u32 << (class - 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_double() {
        for (age, want) in [(0.0, 0), (0.124, 0), (0.125, 1), (0.26, 2), (1.0, 4), (64.0, 10), (1e9, 11)] {
            assert_eq!(class(age), want, "{age}");
        }
        assert_eq!(class(f64::INFINITY), AGE_CLASSES - 1);
        assert_eq!(middle(1), 0.1875);
        assert_eq!(middle(2), 0.375);
    }

    #[test]
    fn company_hurts_the_young_more() {
        let harm = |age: f64| {
            let mut ages = Ages::default();
            ages.add(age);
            ages.harm(1e9, 2.0)
        };
        assert!(harm(0.01) > 0.9);
        assert_eq!(harm(100.0), 0.5);
        assert_eq!(Ages::default().harm(10.0, 1.0), 0.0);
    }
}
