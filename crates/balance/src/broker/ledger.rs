//! What this node knows better than the news: what it has itself sent to others, and which of its own have ended there.
//!
//! News are older than one's own deeds. Without this a node that starts many programs at once sends all of them to the node
//! that was emptiest a second ago.

use crate::state::State;
use crate::window::AGE_MAX;
use model::NodeId;
use std::collections::VecDeque;
use std::time::Duration;

/// Deeds that are remembered at most.
pub(super) const NOTES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    pub(super) node: NodeId,
    pub(super) at: Duration,
    /// The question it came from; none if the process has ended.
    pub(super) number: Option<u32>,
    /// Processes more, or less.
    pub(super) jobs: f64,
    pub(super) memory_mb: f64,
    pub(super) age_s: f64,
}

/// Deeds by time.
#[derive(Debug, Default)]
pub(super) struct Ledger(VecDeque<Note>);

impl Ledger {
    pub(super) fn note(&mut self, note: Note) {
        while self.0.len() >= NOTES_MAX || self.0.front().is_some_and(|first| first.at + AGE_MAX < note.at) {
            self.0.pop_front();
        }
        self.0.push_back(note);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// It did not happen after all.
    pub(super) fn strike(&mut self, node: NodeId, number: u32) {
        self.0.retain(|note| (note.node, note.number) != (node, Some(number)));
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.0.retain(|note| note.node != node);
    }

    /// Corrects what `node` said of itself by what was done since it was asked, at `said`: messages stay in order, so what was
    /// done before is in its answer.
    pub(super) fn correct(&self, node: NodeId, said: Duration, state: &mut State) {
        for note in self.0.iter().rev().take_while(|note| note.at > said).filter(|note| note.node == node) {
            state.jobs += note.jobs;
            state.load += note.jobs;
            state.memory_mb += note.memory_mb;
            if note.jobs > 0.0 {
                state.ages.add(note.age_s);
            } else {
                state.ages.remove(note.age_s);
            }
        }
        state.jobs = state.jobs.max(0.0);
        state.load = state.load.max(0.0);
        state.memory_mb = state.memory_mb.max(0.0);
    }
}
