//! openMosix's dissemination of load information: a window of the newest entries.
//!
//! At regular intervals a node tells somebody by chance of itself and of the newer half of what it knows. It keeps no more
//! than the window's length, the newest. So what a node sends and stores does not grow with the cluster, nobody is a
//! centre, and news reach many within a few intervals because everybody passes them on (Amar, Barak, Drezner, Okun,
//! "Randomized gossip algorithms for maintaining a distributed bulletin board with guaranteed age properties", 2009).
//!
//! Ages are relative: every holder adds the time it has held an entry. A wrong clock changes nothing for anybody.
//!
//! What comes from its own node is believed against everything heard before: the sender of a datagram is proven. What others
//! tell of a node must be newer than what is known of it, and not newer than time can have passed; so no member can make
//! another one disappear by an entry of its future.

mod length;

pub use length::{length_for, mean_age_periods};

use crate::entry::{Sound, is_newer};
use model::NodeId;
use model::limits::{GOSSIP_ENTRIES_MAX, WINDOW_ENTRIES_MAX};
use rand::{Rng, RngExt as _};
use std::borrow::Borrow;
use std::time::Duration;
use wire::balance::{Aged, Entry, Message};

/// Entries older than this are worth nothing and are neither kept nor accepted.
pub const AGE_MAX: Duration = Duration::from_secs(60);

/// By how much others' word on a node's clock may run ahead of the time that has passed here.
const RUNS_AHEAD_MS: u64 = 10_000;

/// The window of one node.
#[derive(Clone, Debug)]
pub struct Window {
    me: NodeId,
    length: usize,
    /// The newest first.
    held: Vec<Held>,
    /// What they say, in no order: entries are large, and what is sorted all the time should be small.
    sounds: Vec<Sound>,
    refused: u64,
}

/// Moments are nanoseconds since the daemon's start: they are compared all the time, and one number is compared faster than two.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// When its node said it; below zero, if that was before this daemon's start.
    said_ns: i64,
    received_ns: i64,
    /// Its place in [`Window::sounds`].
    slot: usize,
    node: NodeId,
    /// Its own node said it to us.
    direct: bool,
}

impl Held {
    fn age(&self, now: Duration) -> Duration {
        // A clock that goes back makes nothing younger than it came.
        let now_ns = nanoseconds(now).max(self.received_ns);
        Duration::from_nanos(now_ns.saturating_sub(self.said_ns).unsigned_abs())
    }

    fn is_younger_than(&self, other: &Held) -> bool {
        self.said_ns > other.said_ns
    }
}

/// At most three centuries.
fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// An entry in the window.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What was said.
    pub sound: &'a Sound,
    /// How long ago its node said it.
    pub age: Duration,
}

impl Window {
    /// An empty window that keeps at most `length` entries, and never more than [`WINDOW_ENTRIES_MAX`].
    pub fn new(me: NodeId, length: usize) -> Window {
        let length = length.clamp(1, WINDOW_ENTRIES_MAX);
        Window { me, length, held: Vec::new(), sounds: Vec::new(), refused: 0 }
    }

    /// Changes its length, when the cluster has grown or shrunk ([`length_for`]).
    pub fn resize(&mut self, length: usize, now: Duration) {
        self.length = length.clamp(1, WINDOW_ENTRIES_MAX);
        self.trim(now);
    }

    /// What to send in this interval, and to whom: `own` first, then the newer half of the window. None if nobody else is
    /// there. `members` are sorted.
    pub fn tick(
        &mut self,
        now: Duration,
        own: Entry,
        members: &[NodeId],
        rng: &mut dyn Rng,
    ) -> Option<(NodeId, Message)> {
        self.trim(now);
        let partner = self.partner(members, rng)?;
        let own = Aged { age_ms: 0, entry: own };
        let half = self.length.div_ceil(2).min(GOSSIP_ENTRIES_MAX - 1);
        // The partner knows itself best.
        let mut told = Vec::with_capacity(half + 1);
        told.push(own);
        for held in self.held.iter().filter(|held| held.node != partner).take(half) {
            let age_ms = u32::try_from(held.age(now).as_millis()).unwrap_or(u32::MAX);
            told.push(Aged { age_ms, entry: self.sounds[held.slot].entry().clone() });
        }
        Some((partner, Message::Gossip(told)))
    }

    fn partner(&self, members: &[NodeId], rng: &mut dyn Rng) -> Option<NodeId> {
        let own = members.binary_search(&self.me).ok();
        let others = members.len() - usize::from(own.is_some());
        let chosen = (others > 0).then(|| rng.random_range(0..others))?;
        let behind = own.is_some_and(|own| chosen >= own);
        members.get(chosen + usize::from(behind)).copied()
    }

    /// Takes in what `from` told; answers how many entries were not believed.
    pub fn receive(
        &mut self,
        now: Duration,
        from: NodeId,
        told: impl IntoIterator<Item = impl Borrow<Aged>>,
    ) -> u64 {
        let before = self.refused;
        for aged in told.into_iter().take(GOSSIP_ENTRIES_MAX) {
            let Aged { age_ms, entry } = aged.borrow();
            self.learn(now, from, entry, Duration::from_millis(u64::from(*age_ms)));
        }
        self.trim(now);
        self.refused - before
    }

    /// Takes in one entry of this age: of a message, or of an answer that its node has given.
    pub fn learn(&mut self, now: Duration, from: NodeId, entry: &Entry, age_then: Duration) {
        if Sound::flaw(entry).is_some() {
            self.refused += 1;
            return;
        }
        let node = entry.node;
        if node == self.me || age_then > AGE_MAX {
            return;
        }
        let received_ns = nanoseconds(now);
        let said_ns = received_ns - nanoseconds(age_then);
        // Its place is known when there is one for it.
        let news = Held { said_ns, received_ns, slot: usize::MAX, node, direct: node == from };
        let Some(index) = self.held.iter().position(|held| held.node == node) else {
            return self.insert(news, entry);
        };
        let old = self.held[index];
        let known = self.sounds[old.slot].entry();
        let overtaken = old.direct && overtaken(known, entry);
        if !news.direct || overtaken {
            if !is_newer(entry, known) {
                return;
            }
            if runs_ahead(old.age(now), known, entry) {
                self.refused += 1;
                return;
            }
        }
        self.replace(index, news, entry);
    }

    /// Puts an entry where it belongs by its age, if it is not older than all that there is room for.
    fn insert(&mut self, news: Held, entry: &Entry) {
        let index = self.held.partition_point(|held| !news.is_younger_than(held));
        if index >= self.length {
            return;
        }
        if self.held.len() >= self.length {
            self.drop_at(self.held.len() - 1);
        }
        self.held.insert(index, Held { slot: self.sounds.len(), ..news });
        self.sounds.push(Sound::found(entry));
    }

    /// Puts an entry in the place of another one of its node.
    fn replace(&mut self, old: usize, news: Held, entry: &Entry) {
        let slot = self.held[old].slot;
        let news = Held { slot, ..news };
        let before = self.held.partition_point(|held| !news.is_younger_than(held));
        // The old one may be among those before it, and goes.
        let index = before - usize::from(old < before);
        if index >= self.length {
            return self.drop_at(old);
        }
        if index <= old {
            self.held.copy_within(index..old, index + 1);
        } else {
            self.held.copy_within(old + 1..=index, old);
        }
        self.held[index] = news;
        self.sounds[slot] = Sound::found(entry);
    }

    fn drop_at(&mut self, index: usize) {
        let Held { slot, .. } = self.held.remove(index);
        self.sounds.swap_remove(slot);
        let moved = self.sounds.len();
        if let Some(held) = self.held.iter_mut().find(|held| held.slot == moved) {
            held.slot = slot;
        }
    }

    /// A node is gone: nothing is known of it any more.
    pub fn forget(&mut self, node: NodeId) {
        if let Some(index) = self.held.iter().position(|held| held.node == node) {
            self.drop_at(index);
        }
    }

    /// What is known, the newest first.
    pub fn known(&self, now: Duration) -> impl Iterator<Item = Known<'_>> {
        self.held.iter().map(move |held| Known { sound: &self.sounds[held.slot], age: held.age(now) })
    }

    /// Nodes that something is known of.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is known of anybody.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// What is known of one node.
    pub fn of(&self, node: NodeId, now: Duration) -> Option<Known<'_>> {
        let held = self.held.iter().find(|held| held.node == node)?;
        Some(Known { sound: &self.sounds[held.slot], age: held.age(now) })
    }

    /// Entries that were not believed, since the beginning.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Drops what is too old or too much.
    fn trim(&mut self, now: Duration) {
        while self.held.last().is_some_and(|last| last.age(now) > AGE_MAX || self.held.len() > self.length) {
            self.drop_at(self.held.len() - 1);
        }
    }
}

/// Whether a node said the one before the other: messages overtake each other.
fn overtaken(old: &Entry, new: &Entry) -> bool {
    old.boot == new.boot && old.stamp_ms > new.stamp_ms
}

/// Whether a node's clock, as others tell it, has gone further than time can have passed since it was last heard of.
fn runs_ahead(passed: Duration, old: &Entry, new: &Entry) -> bool {
    let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
    new.boot == old.boot
        && new.stamp_ms - old.stamp_ms > passed_ms.saturating_mul(2).saturating_add(RUNS_AHEAD_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::idle;
    use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    fn node(number: u16) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn said(number: u16, boot: u32, stamp_ms: u64) -> Entry {
        Entry { boot, stamp_ms, ..idle(number) }
    }

    fn stamp(window: &Window, number: u16) -> Option<(u32, u64)> {
        let known = window.of(node(number), Duration::ZERO)?;
        Some((known.sound.entry().boot, known.sound.entry().stamp_ms))
    }

    #[test]
    fn newer_is_believed_and_the_node_itself_always() {
        // From whom, what of node 2 (start, stamp), when it comes; what is known then.
        let table = [
            (3, (1, 5_000), 0, (1, 5_000)),
            (4, (1, 4_000), 1, (1, 5_000)),
            (4, (1, 6_000), 1, (1, 6_000)),
            // Its clock cannot have gone on by an hour in two seconds.
            (4, (1, 3_600_000), 3, (1, 6_000)),
            // A later start is possible; if it is a lie, the next word of the node itself ends it.
            (4, (9, 1), 3, (9, 1)),
            (3, (1, 8_000), 4, (9, 1)),
            (2, (1, 8_000), 4, (1, 8_000)),
            (2, (1, 7_000), 4, (1, 8_000)),
            (2, (2, 10), 4, (2, 10)),
        ];
        let mut window = Window::new(node(1), 8);
        for (row, (from, (boot, stamp_ms), when, want)) in table.into_iter().enumerate() {
            let told = Aged { age_ms: 10, entry: said(2, boot, stamp_ms) };
            window.receive(at(when), node(from), [told]);
            assert_eq!(stamp(&window, 2), Some(want), "row {row}");
        }
        assert_eq!(window.refused(), 1);
    }

    #[test]
    fn ages_add_up_and_the_old_are_dropped() {
        let mut window = Window::new(node(1), 8);
        window.receive(at(10), node(2), [Aged { age_ms: 3_000, entry: said(3, 1, 1) }]);
        let age = |window: &Window, now| window.of(node(3), at(now)).map(|known| known.age);
        assert_eq!(age(&window, 14), Some(at(7)));
        // A clock that goes back makes nothing negative.
        assert_eq!(age(&window, 1), Some(at(3)));
        let old = Aged { age_ms: 61_000, entry: said(4, 1, 1) };
        window.receive(at(60), node(2), [old]);
        assert_eq!(window.known(at(60)).count(), 1);
        window.receive(at(68), node(2), [] as [Aged; 0]);
        assert_eq!(window.known(at(68)).count(), 0);
    }

    #[test]
    fn the_newer_half_is_passed_on_to_somebody_else() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut window = Window::new(node(1), 4);
        let told = (2..=9).map(|number| Aged { age_ms: u32::from(number), entry: said(number, 1, 1) });
        window.receive(at(1), node(20), told);
        assert_eq!(window.known(at(1)).count(), 4);
        for _ in 0..20 {
            let members: Vec<NodeId> = (1..=3).map(node).collect();
            let (to, message) = window.tick(at(2), idle(1), &members, &mut rng).unwrap();
            assert!(to == node(2) || to == node(3));
            let Message::Gossip(told) = message else { panic!("it tells") };
            let numbers: Vec<u16> = told.iter().map(|aged| aged.entry.node.get()).collect();
            assert_eq!(numbers, if to == node(2) { [1, 3, 4] } else { [1, 2, 4] });
        }
        assert!(window.tick(at(2), idle(1), &[node(1)], &mut rng).is_none());
        assert!(window.tick(at(2), idle(1), &[], &mut rng).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Whatever is told by whom and whenever: never more than the length, nobody twice, nothing of oneself, nothing absurd.
        #[test]
        fn a_window_is_bounded(
            told in prop::collection::vec((1..60_u16, 1..60_u16, any::<(u32, u32, u64, u32)>(), 0..100_u64), 1..200),
            length in 0..100_usize,
        ) {
            let mut rng = SmallRng::seed_from_u64(1);
            let mut window = Window::new(node(1), length);
            let members: Vec<NodeId> = (1..60).map(node).collect();
            for (from, of, (age_ms, boot, stamp_ms, speed), when) in told {
                let entry = Entry { speed, ..said(of, boot, stamp_ms) };
                window.receive(at(when), node(from), [Aged { age_ms, entry }]);
                let mut known: Vec<u16> = window.known(at(when)).map(|known| known.sound.node().get()).collect();
                prop_assert!(known.len() <= length.clamp(1, WINDOW_ENTRIES_MAX) && !known.contains(&1));
                known.sort_unstable();
                known.dedup();
                prop_assert!(known.len() == window.known(at(when)).count());
                let (_, message) = window.tick(at(when), idle(1), &members, &mut rng).unwrap();
                prop_assert!(wire::balance::encode(&message).is_ok());
            }
        }
    }
}
