//! How much a broker remembers: each of its tables has a bound, and none of them grows with the cluster but the list of its
//! members, which has two bytes and a bit for each.

use super::{Broker, CHECKS_MAX};
use model::limits::{JOBS_MAX, PEERS_MAX, PLACEMENTS_MAX, RESERVATIONS_MAX, WINDOW_ENTRIES_MAX};

/// Entries in the tables of a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Nodes that it has load information of.
    pub window: usize,
    /// Processes that run here.
    pub jobs: usize,
    /// Promises of room that it has given.
    pub rooms: usize,
    /// Deeds of its own.
    pub ledger: usize,
    /// Nodes whose ways it has measured.
    pub links: usize,
    /// Processes that have come here, or were touched by somebody's hand.
    pub stays: usize,
    /// Open questions.
    pub negotiations: usize,
    /// Promises taken up lately.
    pub taken: usize,
    /// Questions after moves.
    pub checks: usize,
}

impl Tables {
    /// As many as there can be. Processes come only as fast as they are let in: of those that came, only those are kept that
    /// are here, and what has come since the last sample.
    pub const BOUNDS: Tables = Tables {
        window: WINDOW_ENTRIES_MAX,
        jobs: JOBS_MAX,
        rooms: RESERVATIONS_MAX,
        ledger: super::ledger::NOTES_MAX,
        links: PEERS_MAX,
        stays: super::stays::STAYS_MAX,
        // One more is looking for a place to move to.
        negotiations: PLACEMENTS_MAX + 1,
        taken: PLACEMENTS_MAX,
        checks: CHECKS_MAX,
    };

    fn all(&self) -> [usize; 9] {
        let Tables { window, jobs, rooms, ledger, links, stays, negotiations, taken, checks } = *self;
        [window, jobs, rooms, ledger, links, stays, negotiations, taken, checks]
    }

    /// Whether none of them has more than it may.
    pub fn are_bounded(&self) -> bool {
        self.all().iter().zip(Tables::BOUNDS.all()).all(|(entries, most)| *entries <= most)
    }

    /// Entries of all.
    pub fn sum(&self) -> usize {
        self.all().iter().sum()
    }
}

impl Broker {
    /// How much it remembers.
    pub fn tables(&self) -> Tables {
        Tables {
            window: self.window.len(),
            jobs: self.own.jobs().len(),
            rooms: self.rooms.len(),
            ledger: self.ledger.len(),
            links: self.links.len(),
            stays: self.stays.len(),
            negotiations: self.negotiations.len(),
            taken: self.negotiations.taken_up(),
            checks: self.checks.len(),
        }
    }
}
