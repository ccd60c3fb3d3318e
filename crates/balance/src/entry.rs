//! What a node says of itself, judged before it is believed.
//!
//! Any member of the cluster can say anything. What cannot be true is refused, whoever passed it on; what is merely a lie
//! harms its author: entries make a shortlist, and whoever is on it is asked again.

use crate::ages::Ages;
use crate::settings::PRESSURE_THRASHES;
use crate::state::State;
use model::NodeId;
use wire::balance::{Entry, LOAD_PER_CPU, SPEED_STANDARD, Switches};

/// Kilobytes per megabyte.
pub(crate) const KB_PER_MB: f64 = 1024.0;

/// An entry says what no node can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absurd {
    /// What is absurd in it.
    pub what: &'static str,
}

/// An entry that could be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound(Entry);

impl Sound {
    /// Judges what was said.
    pub fn judge(entry: Entry) -> Result<Sound, Absurd> {
        match Sound::flaw(&entry) {
            Some(what) => Err(Absurd { what }),
            None => Ok(Sound(entry)),
        }
    }

    /// What is absurd in it, if anything is.
    pub(crate) fn flaw(entry: &Entry) -> Option<&'static str> {
        let kb_max = 1_u64 << 42;
        let busy_ms_max = 3_600_000;
        let table = [
            ("speed", (10..=10_000_000).contains(&entry.speed)),
            ("cpus", (1..=2_000_000).contains(&entry.cpus_hundredths)),
            ("jobs", entry.jobs_hundredths <= 100_000_000),
            ("load", entry.load <= 2_000_000_000),
            ("memory_total", (1..=kb_max).contains(&entry.memory_total_kb)),
            ("memory_free", entry.memory_free_kb <= entry.memory_total_kb),
            ("memory_usable", (1..=entry.memory_total_kb).contains(&entry.memory_usable_kb)),
            ("memory_taken", entry.memory_taken_kb <= kb_max),
            ("pressure", entry.pressure_thousandths <= 1000),
            ("utilisation", entry.utilisation_thousandths <= 1000),
            ("link_busy", entry.link_busy_ms <= busy_ms_max),
        ];
        // Nearly all are sound: that is seen without a search for the one that is not.
        if table.iter().fold(true, |all, (_, sound)| all & sound) {
            return None;
        }
        table.iter().find(|(_, sound)| !sound).map(|(what, _)| *what)
    }

    /// Of an entry without a flaw.
    pub(crate) fn found(entry: &Entry) -> Sound {
        Sound(entry.clone())
    }

    /// What was said.
    pub fn entry(&self) -> &Entry {
        &self.0
    }

    /// Whose it is.
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// Whether its node may take one more guest by what it says.
    pub fn takes_guests(&self) -> bool {
        !self.0.switches.intersects(Switches::BLOCK | Switches::NO_GUESTS | Switches::QUIET)
            && self.0.guests < self.0.guests_max
    }

    /// The node as the cost sees it. `thrash` is how much slower a node without memory is where nothing was measured.
    ///
    /// A node whose processes wait for memory thrashes even if its memory seems to suffice: then it is said to suffice not
    /// quite, and by how much it is slower is what the waiting tells, at most twenty times.
    pub fn state(&self, thrash: f64) -> State {
        let entry = &self.0;
        let pressure = f64::from(entry.pressure_thousandths) / 1000.0;
        let memory_mb = entry.memory_taken_kb as f64 / KB_PER_MB;
        let usable_mb = entry.memory_usable_kb as f64 / KB_PER_MB;
        let (usable_mb, thrash) = if pressure > PRESSURE_THRASHES {
            (usable_mb.min(memory_mb * THRASHING_USABLE), thrash.max(1.0 / (1.0 - pressure)).min(THRASH_MAX))
        } else {
            (usable_mb, thrash)
        };
        let per_job = f64::from(LOAD_PER_CPU);
        let cpus = f64::from(entry.cpus_hundredths) / 100.0;
        let speed = f64::from(entry.speed) / f64::from(SPEED_STANDARD);
        State {
            speed,
            cpus,
            jobs: f64::from(entry.jobs_hundredths) / 100.0,
            load: f64::from(entry.load) / per_job * cpus * speed,
            memory_mb,
            usable_mb,
            thrash,
            link_busy_s: f64::from(entry.link_busy_ms) / 1000.0,
            stays: entry.switches.contains(Switches::STAY),
            ages: Ages::from_counts(entry.ages),
        }
    }
}

/// Whether the first is newer than the second, of the same node: of a later start, or later after the same.
pub(crate) fn is_newer(news: &Entry, known: &Entry) -> bool {
    (news.boot, news.stamp_ms) > (known.boot, known.stamp_ms)
}

/// Share of its processes' memory that a thrashing node is believed to hold.
const THRASHING_USABLE: f64 = 0.95;

/// No node counts as slower by thrashing than so many times.
const THRASH_MAX: f64 = 20.0;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use wire::balance::AGE_CLASSES;

    /// An idle standard node with four CPUs and 8 GB.
    pub(crate) fn idle(node: u16) -> Entry {
        Entry {
            node: NodeId::new(node).unwrap(),
            boot: 1,
            stamp_ms: 1000,
            speed: SPEED_STANDARD,
            cpus_hundredths: 400,
            jobs_hundredths: 0,
            load: 0,
            memory_total_kb: 8 << 20,
            memory_free_kb: 4 << 20,
            memory_usable_kb: 8 << 20,
            memory_taken_kb: 0,
            pressure_thousandths: 0,
            utilisation_thousandths: 0,
            link_busy_ms: 0,
            switches: Switches::empty(),
            cpu_class: 7,
            kernel: 6 << 24,
            guests: 0,
            guests_max: 100,
            ages: [0; AGE_CLASSES],
        }
    }

    #[test]
    fn what_no_node_can_be_is_refused() {
        type Change = fn(&mut Entry);
        let table: [(&str, Change); 8] = [
            ("speed", |entry| entry.speed = 0),
            ("speed", |entry| entry.speed = u32::MAX),
            ("cpus", |entry| entry.cpus_hundredths = 0),
            ("jobs", |entry| entry.jobs_hundredths = u32::MAX),
            ("memory_free", |entry| entry.memory_free_kb = u64::MAX),
            ("memory_usable", |entry| entry.memory_usable_kb = 0),
            ("memory_taken", |entry| entry.memory_taken_kb = u64::MAX),
            ("pressure", |entry| entry.pressure_thousandths = 1001),
        ];
        for (what, change) in table {
            let mut entry = idle(1);
            change(&mut entry);
            assert_eq!(Sound::judge(entry), Err(Absurd { what }));
        }
        assert!(Sound::judge(idle(1)).is_ok());
    }

    #[test]
    fn pressure_is_believed_more_than_free_memory() {
        let mut entry = idle(1);
        entry.memory_taken_kb = 4 << 20;
        assert!(!Sound::judge(entry.clone()).unwrap().state(10.0).thrashes());
        entry.pressure_thousandths = 950;
        let state = Sound::judge(entry).unwrap().state(10.0);
        assert!(state.thrashes());
        assert!((state.thrash - 20.0).abs() < 1e-9);
    }
}
