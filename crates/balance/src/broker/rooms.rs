//! Room that this node has promised. It counts as load from the promise on, until the process is here or time is up.

use model::NodeId;
use model::limits::{RESERVATIONS_MAX, RESERVATIONS_PER_NODE_MAX};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::balance::Brief;

/// The name of a promise: who was promised, and by the number of which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// The node that asked.
    pub asker: NodeId,
    /// Its question.
    pub number: u32,
}

/// One promise.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// What it is for.
    pub(super) job: Brief,
    until: Duration,
    /// Seconds that the process has stood still for its move, if that was told.
    pub(super) frozen_s: f64,
}

/// All promises that are open.
#[derive(Debug, Default)]
pub(super) struct Rooms(BTreeMap<Ticket, Room>);

/// What is promised altogether.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promised {
    pub(super) jobs: f64,
    pub(super) memory_mb: f64,
}

impl Rooms {
    /// Whether this node may not be promised more. One that asks for everything gets its share.
    pub(super) fn is_full_for(&self, asker: NodeId) -> bool {
        let held = self.0.keys().filter(|ticket| ticket.asker == asker).count();
        self.0.len() >= RESERVATIONS_MAX || held >= RESERVATIONS_PER_NODE_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn keep(&mut self, ticket: Ticket, job: Brief, until: Duration) {
        self.0.insert(ticket, Room { job, until, frozen_s: 0.0 });
    }

    /// The promise is fulfilled or not needed: what it was.
    pub(super) fn take(&mut self, ticket: &Ticket) -> Option<Room> {
        self.0.remove(ticket)
    }

    /// Who comes by it has stood still for so long.
    pub(super) fn froze(&mut self, ticket: &Ticket, frozen_s: f64) {
        if let Some(room) = self.0.get_mut(ticket) {
            room.frozen_s = frozen_s;
        }
    }

    /// Drops what nobody came for.
    pub(super) fn expire(&mut self, now: Duration) {
        // At each event, and mostly there are none.
        if !self.0.is_empty() {
            self.0.retain(|_, room| room.until > now);
        }
    }

    /// Drops what a node that is gone was promised.
    pub(super) fn forget(&mut self, asker: NodeId) {
        self.0.retain(|ticket, _| ticket.asker != asker);
    }

    pub(super) fn promised(&self) -> Promised {
        self.0.values().fold(Promised::default(), |sum, room| Promised {
            jobs: sum.jobs + f64::from(room.job.width_hundredths) / 100.0,
            memory_mb: sum.memory_mb + room.job.memory_kb as f64 / crate::entry::KB_PER_MB,
        })
    }

    pub(super) fn ages_s(&self) -> impl Iterator<Item = f64> {
        self.0.values().map(|room| room.job.age_ms as f64 / 1000.0)
    }

    /// Promises to processes of other nodes.
    pub(super) fn guests(&self, me: NodeId) -> usize {
        self.0.values().filter(|room| room.job.home != me).count()
    }
}
