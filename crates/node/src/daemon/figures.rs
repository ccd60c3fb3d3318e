//! What is known of nodes' load and room: of this one what it measures, of others what their brokers have told.

use super::Daemon;
use crate::measure::{NodeState, Speed, SpeedSource};
use control::{Figures, NodeStanding, Switch};
use std::collections::BTreeSet;
use wire::balance::{Entry, Switches};
use wire::peer::NodeInfo;

/// The switches in both languages.
const SWITCHES: [(Switch, Switches); 4] = [
    (Switch::Stay, Switches::STAY),
    (Switch::Lstay, Switches::LSTAY),
    (Switch::Block, Switches::BLOCK),
    (Switch::Quiet, Switches::QUIET),
];

impl Daemon {
    /// What is set for this node.
    pub(super) fn node_standing(&self) -> NodeStanding {
        let Speed { speed, source, .. } = self.gauge.speed();
        let speed = (source == SpeedSource::Set).then_some(speed);
        NodeStanding { switches: self.switched.get(), speed, decay: self.decays.get() }
    }

    /// Of this node; `info` is what it says of itself.
    pub(super) fn own_figures(&self, info: &NodeInfo) -> Figures {
        let said = Figures {
            speed: Some(self.gauge.speed().speed),
            switches: Some(self.switched.get()),
            ..of_info(info)
        };
        self.gauge.state().map_or(said.clone(), |state| of_state(&state, said))
    }
}

/// What a node says of itself when it is asked.
pub(super) fn of_info(info: &NodeInfo) -> Figures {
    Figures {
        cpus: Some(f64::from(info.cpus)),
        memory_total: Some(info.memory_bytes),
        memory_free: Some(info.memory_free_bytes),
        accepts: Some(info.accepts),
        ..Figures::default()
    }
}

fn of_state(state: &NodeState, said: Figures) -> Figures {
    Figures {
        speed: Some(state.speed),
        cpus: Some(state.cpus),
        load: Some(state.load()),
        memory_total: Some(state.memory.total),
        memory_free: Some(state.memory.available),
        utilisation: Some(percent(state.utilisation)),
        ..said
    }
}

/// What a node's broker has told, added to what the node has just said itself.
pub(super) fn of_entry(entry: &Entry, said: Figures) -> Figures {
    let bytes = |kilobytes: u64| kilobytes.saturating_mul(1 << 10);
    Figures {
        speed: Some(entry.speed),
        cpus: Some(f64::from(entry.cpus_hundredths) / 100.0),
        load: Some(entry.load),
        memory_total: Some(bytes(entry.memory_total_kb)),
        memory_free: Some(bytes(entry.memory_total_kb.saturating_sub(entry.memory_taken_kb))),
        utilisation: Some(percent(f64::from(entry.utilisation_thousandths) / 1000.0)),
        switches: Some(named(entry.switches)),
        ..said
    }
}

/// A share as percent.
fn percent(share: f64) -> u32 {
    (share * 100.0).round().clamp(0.0, 100.0) as u32
}

/// Switches as other nodes see them.
pub(super) fn told(on: &BTreeSet<Switch>) -> Switches {
    SWITCHES.iter().filter(|(switch, _)| on.contains(switch)).map(|(_, told)| *told).collect()
}

fn named(told: Switches) -> BTreeSet<Switch> {
    SWITCHES.iter().filter(|(_, flag)| told.contains(*flag)).map(|(switch, _)| *switch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_is_told_and_understood() {
        assert_eq!(SWITCHES.map(|(switch, _)| switch), Switch::ALL);
        for switch in Switch::ALL {
            let on = BTreeSet::from([switch]);
            assert_eq!(named(told(&on)), on);
        }
        assert_eq!(named(Switches::NO_GUESTS | Switches::QUIET), BTreeSet::from([Switch::Quiet]));
        assert_eq!(told(&BTreeSet::new()), Switches::empty());
    }

    #[test]
    fn shares_are_percent() {
        for (share, expected) in [(0.0, 0), (0.004, 0), (0.505, 51), (1.0, 100), (7.0, 100), (f64::NAN, 0)] {
            assert_eq!(percent(share), expected, "{share}");
        }
    }
}
