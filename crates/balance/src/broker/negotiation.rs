//! What is being negotiated: the questions that are open, by their numbers.

use super::Action;
use crate::job::{Job, JobId};
use crate::rules::Bounds;
use crate::state::State;
use model::NodeId;
use model::limits::PLACEMENTS_MAX;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use wire::balance::{Message, Seen};

/// What is looking for a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// A new program, by the caller's number.
    Start(u64),
    /// A process of this node.
    Move(JobId),
}

/// A node that comes into question.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) node: NodeId,
    /// What it said, and when it was asked for it.
    pub(super) said: Option<(State, Duration)>,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    Asking { since: Duration },
    Reserving { node: NodeId, since: Duration, seen: Seen, request: Message },
}

#[derive(Clone, Debug)]
pub(super) struct Negotiation {
    pub(super) subject: Subject,
    pub(super) job: Job,
    pub(super) bounds: Bounds,
    pub(super) candidates: Vec<Candidate>,
    pub(super) phase: Phase,
    pub(super) until: Duration,
    /// Times that the question of this phase has been put again.
    pub(super) again: u32,
    pub(super) rounds: usize,
}

impl Negotiation {
    pub(super) fn candidate(&mut self, node: NodeId) -> Option<&mut Candidate> {
        self.candidates.iter_mut().find(|candidate| candidate.node == node)
    }

    pub(super) fn drop_candidate(&mut self, node: NodeId) {
        self.candidates.retain(|candidate| candidate.node != node);
    }
}

/// All that are open.
#[derive(Debug, Default)]
pub(super) struct Negotiations {
    open: BTreeMap<u32, Negotiation>,
    /// Promises that were taken up lately: that they are given twice means nothing.
    taken: VecDeque<(NodeId, u32)>,
    last: u32,
}

impl Negotiations {
    /// A number that no open question has.
    pub(super) fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    pub(super) fn starts(&self) -> usize {
        self.open.values().filter(|one| matches!(one.subject, Subject::Start(_))).count()
    }

    pub(super) fn is_moving(&self) -> bool {
        self.open.values().any(|one| matches!(one.subject, Subject::Move(_)))
    }

    pub(super) fn insert(&mut self, number: u32, negotiation: Negotiation) {
        self.open.insert(number, negotiation);
    }

    pub(super) fn get(&mut self, number: u32) -> Option<&mut Negotiation> {
        self.open.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Negotiation> {
        self.open.remove(&number)
    }

    /// A promise is taken up.
    pub(super) fn take_up(&mut self, by: NodeId, number: u32) {
        if self.taken.len() >= PLACEMENTS_MAX {
            self.taken.pop_front();
        }
        self.taken.push_back((by, number));
    }

    /// Whether a promise was taken up lately.
    pub(super) fn is_taken_up(&self, by: NodeId, number: u32) -> bool {
        self.taken.contains(&(by, number))
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many of those are remembered.
    pub(super) fn taken_up(&self) -> usize {
        self.taken.len()
    }

    /// Those whose time is up.
    pub(super) fn overdue(&self, now: Duration) -> Vec<u32> {
        self.open.iter().filter(|(_, one)| one.until <= now).map(|(number, _)| *number).collect()
    }

    /// Somebody else has decided about this process.
    pub(super) fn drop_move_of(&mut self, id: &JobId, out: &mut Vec<Action>) {
        self.open.retain(|number, one| {
            let hit = one.subject == Subject::Move(*id);
            if let (true, Phase::Reserving { node, .. }) = (hit, &one.phase) {
                out.push(Action::Send { to: *node, message: Message::Release { number: *number } });
            }
            !hit
        });
    }
}
