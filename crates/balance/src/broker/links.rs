//! The ways to other nodes, as they turned out.

use crate::settings::{ASK_ROUND_TRIPS, ASK_S_MIN, Settings};
use crate::state::Link;
use model::NodeId;
use model::limits::PEERS_MAX;
use std::collections::BTreeMap;
use std::time::Duration;

/// Weight of a new measurement.
const WEIGHT: f64 = 0.25;

/// A move of less memory says nothing about bandwidth, MB.
const MOVED_MB_MIN: f64 = 4.0;

#[derive(Debug)]
pub(super) struct Links {
    usual: Link,
    known: BTreeMap<NodeId, Link>,
}

impl Links {
    pub(super) fn new(settings: &Settings) -> Links {
        let usual = Link {
            fixed_s: settings.move_fixed_s,
            bandwidth_mb_s: settings.bandwidth_mb_s,
            round_trip_s: settings.round_trip_s,
        };
        Links { usual, known: BTreeMap::new() }
    }

    pub(super) fn to(&self, node: NodeId) -> Link {
        self.known.get(&node).copied().unwrap_or(self.usual)
    }

    /// How long to wait for answers of these nodes, `most` at most.
    pub(super) fn patience(&self, nodes: impl Iterator<Item = NodeId>, most: Duration) -> Duration {
        let slowest_s = nodes.map(|node| self.to(node).round_trip_s).fold(0.0, f64::max);
        Duration::from_secs_f64((ASK_ROUND_TRIPS * slowest_s).max(ASK_S_MIN)).min(most)
    }

    pub(super) fn answered(&mut self, node: NodeId, seconds: f64) {
        self.change(node, |link| blend(&mut link.round_trip_s, seconds));
    }

    /// A move there has taken so long, without waiting for other moves.
    pub(super) fn moved(&mut self, node: NodeId, memory_mb: f64, seconds: f64) {
        self.change(node, |link| {
            let copying = seconds - link.fixed_s;
            if memory_mb >= MOVED_MB_MIN && copying > 0.0 {
                blend(&mut link.bandwidth_mb_s, memory_mb / copying);
            } else if memory_mb < MOVED_MB_MIN {
                blend(&mut link.fixed_s, seconds);
            }
        });
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn forget(&mut self, node: NodeId) {
        self.known.remove(&node);
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Link)) {
        if self.known.len() < PEERS_MAX || self.known.contains_key(&node) {
            change(self.known.entry(node).or_insert(self.usual));
        }
    }
}

fn blend(mean: &mut f64, measured: f64) {
    if measured.is_finite() && measured > 0.0 {
        *mean += WEIGHT * (measured - *mean);
    }
}
