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

use crate::entry::Sound;
use model::NodeId;
use model::limits::{GOSSIP_ENTRIES_MAX, WINDOW_ENTRIES_MAX};
use rand::{Rng, RngExt as _};
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
    held: Vec<Held>,
    refused: u64,
}

#[derive(Clone, Debug)]
struct Held {
    sound: Sound,
    received: Duration,
    age_then: Duration,
}

impl Held {
    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.received).saturating_add(self.age_then)
    }
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
        Window { me, length: length.clamp(1, WINDOW_ENTRIES_MAX), held: Vec::new(), refused: 0 }
    }

    /// Changes its length, when the cluster has grown or shrunk ([`length_for`]).
    pub fn resize(&mut self, length: usize, now: Duration) {
        self.length = length.clamp(1, WINDOW_ENTRIES_MAX);
        self.trim(now);
    }

    /// What to send in this interval, and to whom: `own` first, then the newer half of the window. None if nobody else is
    /// there.
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
        let others =
            self.held.iter().filter(|held| held.sound.node() != partner).take(half).map(|held| Aged {
                age_ms: u32::try_from(held.age(now).as_millis()).unwrap_or(u32::MAX),
                entry: held.sound.entry().clone(),
            });
        Some((partner, Message::Gossip(std::iter::once(own).chain(others).collect())))
    }

    fn partner(&self, members: &[NodeId], rng: &mut dyn Rng) -> Option<NodeId> {
        let others = members.len() - usize::from(members.contains(&self.me));
        let mut chosen = (others > 0).then(|| rng.random_range(0..others))?;
        for member in members.iter().filter(|member| **member != self.me) {
            if chosen == 0 {
                return Some(*member);
            }
            chosen -= 1;
        }
        None
    }

    /// Takes in what `from` told; answers how many entries were not believed.
    pub fn receive(&mut self, now: Duration, from: NodeId, told: Vec<Aged>) -> u64 {
        let before = self.refused;
        for aged in told.into_iter().take(GOSSIP_ENTRIES_MAX) {
            let age = Duration::from_millis(u64::from(aged.age_ms));
            self.learn(now, from, aged.entry, age);
        }
        self.trim(now);
        self.refused - before
    }

    /// Takes in one entry of this age: of a message, or of an answer that its node has given.
    pub fn learn(&mut self, now: Duration, from: NodeId, entry: Entry, age_then: Duration) {
        let Ok(sound) = Sound::judge(entry) else {
            self.refused += 1;
            return;
        };
        if sound.node() == self.me || age_then > AGE_MAX {
            return;
        }
        let direct = sound.node() == from;
        let news = Held { sound, received: now, age_then };
        match self.held.iter_mut().find(|held| held.sound.node() == news.sound.node()) {
            None => self.held.push(news),
            Some(held) if direct => *held = news,
            Some(held) if !news.sound.is_newer_than(&held.sound) => {}
            Some(held) if runs_ahead(held, &news) => self.refused += 1,
            Some(held) => *held = news,
        }
    }

    /// A node is gone: nothing is known of it any more.
    pub fn forget(&mut self, node: NodeId) {
        self.held.retain(|held| held.sound.node() != node);
    }

    /// What is known, the newest first as of the last message or interval.
    pub fn known(&self, now: Duration) -> impl Iterator<Item = Known<'_>> {
        self.held.iter().map(move |held| Known { sound: &held.sound, age: held.age(now) })
    }

    /// What is known of one node.
    pub fn of(&self, node: NodeId, now: Duration) -> Option<Known<'_>> {
        self.known(now).find(|known| known.sound.node() == node)
    }

    /// Entries that were not believed, since the beginning.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Sorts by age, and drops what is too old or too much.
    fn trim(&mut self, now: Duration) {
        self.held.retain(|held| held.age(now) <= AGE_MAX);
        self.held.sort_by_key(|held| held.age(now));
        self.held.truncate(self.length);
    }
}

/// Whether a node's clock, as others tell it, has gone further than time can have passed since it was last heard of.
fn runs_ahead(held: &Held, news: &Held) -> bool {
    let passed = news.received.saturating_sub(held.received).saturating_add(held.age_then);
    let passed_ms = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
    let (old, new) = (held.sound.entry(), news.sound.entry());
    new.boot == old.boot
        && new.stamp_ms - old.stamp_ms > passed_ms.saturating_mul(2).saturating_add(RUNS_AHEAD_MS)
}
