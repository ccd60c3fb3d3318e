//! Everybody that this node knows.

use crate::beacon::{Record, needs_zone};
use core::net::SocketAddr;
use core::time::Duration;
use model::NodeId;
use std::collections::BTreeMap;

/// How long the address from which a node was heard is preferred to the others that it has.
const PATH_FRESH: Duration = Duration::from_secs(15);
/// How much apart an elder life must be heard to count as speaking, not as an echo in the network.
const ECHO: Duration = Duration::from_secs(2);

/// How a node was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// By its beacon in a group of a network.
    Multicast,
    /// At an address that one of the two was told.
    Seed,
    /// Another member told of it.
    Relay,
}

/// What is thought of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Alive,
    /// It did not answer; it may still say that it lives.
    Suspect,
    /// It does not answer any more, or has never been heard.
    Gone,
    /// It has taken leave.
    Left,
}

/// A machine, as far as it can be named: for telling two of them apart that use one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name it gives itself, if that is known.
    pub name: Option<String>,
    /// Where it speaks from.
    pub address: SocketAddr,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says of itself.
    pub record: Record,
    /// What is thought of it.
    pub state: State,
    /// Since when, in the time of the steps.
    pub since: Duration,
    /// How it was found; multicast counts for more than the others.
    pub found: Found,
    /// From where it was heard, one of the addresses that it says it has.
    path: Option<(SocketAddr, Duration)>,
    /// When this life of it was heard itself.
    heard: Option<Duration>,
    rival: Option<Rival>,
}

/// Another life of a node that speaks, too.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rival {
    incarnation: u64,
    place: Place,
    /// When it was heard first and last.
    heard: (Duration, Duration),
    reported: bool,
}

/// What a record brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// A node that was not known.
    New,
    /// A node is known by a newer record.
    Newer,
    /// Nothing: it is known already, or old.
    Nothing,
    /// There is no room for more nodes.
    Full,
}

/// Whose words have been heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Nothing is known of this node.
    Unknown,
    /// The life that the roster knows.
    Present,
    /// A life that comes after the one that the roster knows.
    Newer,
    /// A life from before, with the incarnation that the roster knows.
    Elder(u64),
}

impl Entry {
    /// Where the node is reached, the likeliest first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let path = self.path.map(|(address, _)| address);
        let others = self.record.addresses.iter().copied().filter(move |address| {
            !needs_zone(address)
                && path.is_none_or(|path| (path.ip(), path.port()) != (address.ip(), address.port()))
        });
        path.into_iter().chain(others)
    }

    /// Whether another machine is known to use its id.
    pub(crate) fn has_known_rival(&self) -> bool {
        self.rival.as_ref().is_some_and(|rival| rival.reported)
    }

    /// Where a datagram for the node goes: to where it was heard lately, otherwise to all its addresses.
    fn targets(&self, now: Duration) -> Vec<SocketAddr> {
        let fresh = self.path.is_some_and(|(_, heard)| now.saturating_sub(heard) <= PATH_FRESH);
        self.addresses().take(if fresh { 1 } else { usize::MAX }).collect()
    }
}

/// The roster: a bounded number of nodes, each under its id.
#[derive(Debug)]
pub(crate) struct Roster {
    entries: BTreeMap<NodeId, Entry>,
    max: usize,
}

impl Roster {
    pub(crate) fn new(max: usize) -> Roster {
        Roster { entries: BTreeMap::new(), max }
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Entry> {
        self.entries.get(&node)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut()
    }

    pub(crate) fn targets(&self, node: NodeId, now: Duration) -> Vec<SocketAddr> {
        self.get(node).map(|entry| entry.targets(now)).unwrap_or_default()
    }

    /// Takes a record in, if it is newer than what is known.
    pub(crate) fn learn(&mut self, now: Duration, record: Record, found: Found) -> Learnt {
        if let Some(entry) = self.entries.get_mut(&record.node) {
            if record.version() <= entry.record.version() {
                return Learnt::Nothing;
            }
            if record.incarnation > entry.record.incarnation {
                // Who speaks with the elder life's incarnation from now on is a rival; who did before may be this one.
                (entry.heard, entry.rival) = (None, None);
            }
            if entry.path.is_some_and(|(path, _)| !record.has(path)) {
                entry.path = None;
            }
            entry.record = record;
            return Learnt::Newer;
        }
        if self.entries.len() >= self.max && !self.make_room() {
            return Learnt::Full;
        }
        let entry =
            Entry { record, state: State::Gone, since: now, found, path: None, heard: None, rival: None };
        self.entries.insert(entry.record.node, entry);
        Learnt::New
    }

    /// A node is heard in a group of a network, however it was found before.
    pub(crate) fn hear_in_group(&mut self, node: NodeId) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.found = Found::Multicast;
        }
    }

    /// Forgets the node that has been away for longest, if any is.
    fn make_room(&mut self) -> bool {
        let away = |entry: &&Entry| matches!(entry.state, State::Gone | State::Left);
        let oldest = self.entries().filter(away).min_by_key(|entry| entry.since);
        let Some(node) = oldest.map(|entry| entry.record.node) else { return false };
        self.entries.remove(&node).is_some()
    }

    /// Notes that a life of a node speaks.
    pub(crate) fn hear(&mut self, now: Duration, node: NodeId, incarnation: u64, from: SocketAddr) -> Voice {
        let Some(entry) = self.entries.get_mut(&node) else { return Voice::Unknown };
        if incarnation > entry.record.incarnation {
            return Voice::Newer;
        }
        if incarnation < entry.record.incarnation {
            let rival = entry.rival.get_or_insert(Rival {
                incarnation,
                place: Place { name: None, address: from },
                heard: (now, now),
                reported: false,
            });
            rival.incarnation = incarnation;
            rival.place.address = from;
            rival.heard.1 = now;
            return Voice::Elder(entry.record.incarnation);
        }
        entry.heard = Some(now);
        let stale =
            entry.path.is_none_or(|(path, heard)| path == from || now.saturating_sub(heard) > PATH_FRESH / 3);
        if stale && entry.record.has(from) {
            entry.path = Some((from, now));
        }
        Voice::Present
    }

    /// Names the elder machine: it has said who it is.
    pub(crate) fn name_rival(&mut self, node: NodeId, name: &str) {
        if let Some(rival) = self.entries.get_mut(&node).and_then(|entry| entry.rival.as_mut()) {
            rival.place.name = Some(name.to_owned());
        }
    }

    /// Two machines that use one id, the elder one second; told once. One that was just started anew is not two: its
    /// former life falls silent. Of two, both go on talking.
    pub(crate) fn duplicate(&mut self, node: NodeId) -> Option<(Place, Place)> {
        let entry = self.entries.get_mut(&node)?;
        let (address, heard) = (entry.addresses().next()?, entry.heard?);
        let name = Some(entry.record.name.clone());
        let rival = entry.rival.as_mut()?;
        let both_speak = rival.heard.1.saturating_sub(rival.heard.0) >= ECHO && heard > rival.heard.0;
        if rival.reported || !both_speak {
            return None;
        }
        rival.reported = true;
        Some((Place { name, address }, rival.place.clone()))
    }

    /// A sum over the versions of all who have not gone, by which two nodes see whether they know the same (FNV-1a,
    /// 64 bits).
    pub(crate) fn digest(&self, own: &Record) -> u64 {
        let mut known: Vec<&Record> = self.told().map(|entry| &entry.record).chain([own]).collect();
        known.sort_by_key(|record| record.node);
        let numbers = known
            .iter()
            .flat_map(|record| [u64::from(record.node.get()), record.incarnation, u64::from(record.edition)]);
        numbers.flat_map(u64::to_be_bytes).fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// The nodes that others are told of.
    pub(crate) fn told(&self) -> impl Iterator<Item = &Entry> {
        self.entries().filter(|entry| entry.state != State::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(node: u16, incarnation: u64, edition: u32, address: &str) -> Record {
        Record {
            node: NodeId::new(node).unwrap(),
            incarnation,
            edition,
            renewal: 0,
            left: false,
            name: format!("n{node}"),
            addresses: vec![address.parse().unwrap()],
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    proptest! {
        #[test]
        fn the_newest_record_stands_whatever_the_order(versions in proptest::collection::vec((0u64..5, 0u32..5), 1..30)) {
            let mut roster = Roster::new(4);
            for (incarnation, edition) in &versions {
                roster.learn(seconds(0), record(1, *incarnation, *edition, "10.0.0.1:1"), Found::Relay);
            }
            let known = roster.get(NodeId::new(1).unwrap()).unwrap().record.version();
            prop_assert_eq!(Some(&known), versions.iter().max());
        }

        #[test]
        fn the_number_of_nodes_is_bounded(nodes in proptest::collection::vec((1u16..60, any::<bool>()), 1..200)) {
            let mut roster = Roster::new(16);
            for (at, (node, alive)) in nodes.into_iter().enumerate() {
                let id = NodeId::new(node).unwrap();
                let full = roster.learn(seconds(at as u64), record(node, 1, 0, "10.0.0.1:1"), Found::Relay) == Learnt::Full;
                prop_assert_eq!(full, roster.get(id).is_none());
                prop_assert!(!full || roster.entries().all(|entry| entry.state == State::Alive));
                for entry in roster.entries_mut().filter(|entry| entry.record.node == id && alive) {
                    entry.state = State::Alive;
                }
                prop_assert!(roster.entries().count() <= 16);
            }
        }
    }

    #[test]
    fn a_node_that_comes_back_elsewhere_is_the_same_node() {
        let mut roster = Roster::new(4);
        let node = NodeId::new(1).unwrap();
        roster.learn(seconds(0), record(1, 1, 0, "10.0.0.1:1"), Found::Multicast);
        roster.hear(seconds(0), node, 1, "10.0.0.1:1".parse().unwrap());
        assert_eq!(roster.targets(node, seconds(1)), ["10.0.0.1:1".parse().unwrap()]);
        assert_eq!(roster.learn(seconds(5), record(1, 2, 0, "10.0.9.9:1"), Found::Relay), Learnt::Newer);
        assert_eq!(roster.targets(node, seconds(5)), ["10.0.9.9:1".parse().unwrap()]);
        assert_eq!(roster.entries().count(), 1);
        assert_eq!(roster.get(node).unwrap().found, Found::Multicast);
    }

    #[test]
    fn a_node_is_reached_where_it_is_heard_and_only_at_its_own_addresses() {
        let mut roster = Roster::new(4);
        let node = NodeId::new(1).unwrap();
        let mut both = record(1, 1, 0, "10.0.0.1:1");
        both.addresses.push("[fe80::1]:1".parse().unwrap());
        both.addresses.push("192.168.0.1:1".parse().unwrap());
        roster.learn(seconds(0), both, Found::Multicast);
        let all = ["10.0.0.1:1".parse().unwrap(), "192.168.0.1:1".parse().unwrap()];
        assert_eq!(roster.targets(node, seconds(0)), all);
        roster.hear(seconds(1), node, 1, "172.16.0.1:1".parse().unwrap());
        assert_eq!(roster.targets(node, seconds(1)), all, "nobody's word moves a node elsewhere");
        let zoned = "[fe80::1%2]:1".parse().unwrap();
        roster.hear(seconds(1), node, 1, zoned);
        assert_eq!(roster.targets(node, seconds(2)), [zoned]);
        assert_eq!(roster.targets(node, seconds(60)), [zoned, all[0], all[1]]);
    }

    #[test]
    fn two_machines_with_one_id_are_told_from_one_that_was_started_anew() {
        let node = NodeId::new(1).unwrap();
        let (old, new) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
        // Started anew: the former life is heard for a moment, late, and then never again.
        let mut roster = Roster::new(4);
        roster.learn(seconds(0), record(1, 5, 0, "10.0.0.2:1"), Found::Multicast);
        roster.hear(seconds(0), node, 5, new);
        assert_eq!(roster.hear(seconds(0), node, 4, old), Voice::Elder(5));
        roster.hear(seconds(9), node, 5, new);
        assert_eq!(roster.duplicate(node), None);
        // Two machines.
        roster.hear(seconds(10), node, 4, old);
        roster.name_rival(node, "other");
        roster.hear(seconds(11), node, 5, new);
        let (kept, other) = roster.duplicate(node).unwrap();
        assert_eq!((kept.name.as_deref(), kept.address), (Some("n1"), new));
        assert_eq!((other.name.as_deref(), other.address), (Some("other"), old));
        assert_eq!(roster.duplicate(node), None, "told once");
    }

    #[test]
    fn nodes_that_know_the_same_have_the_same_digest() {
        let mut rosters = [Roster::new(4), Roster::new(4)];
        let records = [record(1, 1, 0, "10.0.0.1:1"), record(2, 1, 0, "10.0.0.2:1")];
        for (roster, other) in rosters.iter_mut().zip([1, 0]) {
            roster.learn(seconds(0), records[other].clone(), Found::Seed);
            roster.entries_mut().for_each(|entry| entry.state = State::Alive);
        }
        assert_eq!(rosters[0].digest(&records[0]), rosters[1].digest(&records[1]));
        let newer = record(1, 1, 1, "10.0.0.1:1");
        assert_ne!(rosters[0].digest(&newer), rosters[1].digest(&records[1]));
    }
}
