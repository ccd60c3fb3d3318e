//! A member that lies. It has the cluster's key, so its messages are believed to be its own; what they say is not true.

use rand::RngExt as _;
use rand::rngs::SmallRng;
use std::collections::VecDeque;
use std::str::FromStr;
use wire::balance::{Aged, Entry, Message};

/// What it lies about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lie {
    /// Its clock jumps about, and it tells wrong ages of all that it passes on.
    Clock,
    /// Its own load is any number, possible or not.
    Load,
    /// All others are said to be full.
    Slander,
    /// All others are said to be idle.
    Praise,
    /// It says again, as if it were new, what it said half a minute ago.
    Replay,
    /// It is said to be idle itself, always.
    Boast,
    /// The same, and it refuses nobody.
    Lure,
}

impl Lie {
    /// All of them.
    pub const ALL: [Lie; 7] =
        [Lie::Clock, Lie::Load, Lie::Slander, Lie::Praise, Lie::Replay, Lie::Boast, Lie::Lure];
}

impl FromStr for Lie {
    type Err = String;

    fn from_str(text: &str) -> Result<Lie, String> {
        let known = |lie: &&Lie| format!("{lie:?}").eq_ignore_ascii_case(text);
        let names = || Lie::ALL.map(|lie| format!("{lie:?}").to_lowercase()).join(", ");
        Lie::ALL.iter().find(known).copied().ok_or_else(|| format!("'{text}' is none of {}", names()))
    }
}

/// Messages after which a replay begins: half a minute of gossip.
const REPLAYED_AFTER: usize = 60;

/// By how much the liar makes the news of others look newer, milliseconds: little enough to be believed.
const NEWER_MS: u64 = 5_000;

/// The liar.
#[derive(Debug)]
pub struct Liar {
    lie: Lie,
    said: VecDeque<Message>,
}

impl Liar {
    /// One who lies about this.
    pub fn new(lie: Lie) -> Liar {
        Liar { lie, said: VecDeque::new() }
    }

    /// What it says instead of the truth.
    pub fn twist(&mut self, message: Message, rng: &mut SmallRng) -> Message {
        match message {
            Message::Gossip(told) if self.lie == Lie::Replay => self.say_again(told),
            Message::Gossip(told) => {
                let told = told.into_iter().enumerate();
                Message::Gossip(told.map(|(index, aged)| self.of(index == 0, aged, rng)).collect())
            }
            Message::Tell { number, entry } => Message::Tell { number, entry: self.of_itself(entry, rng) },
            Message::Refused { number, .. } if self.lie == Lie::Lure => {
                Message::Granted { number, hold_ms: 1000 }
            }
            Message::Refused { number, why, entry } => {
                Message::Refused { number, why, entry: self.of_itself(entry, rng) }
            }
            Message::Invite { entry } => Message::Invite { entry: self.of_itself(entry, rng) },
            other => other,
        }
    }

    fn say_again(&mut self, told: Vec<Aged>) -> Message {
        let as_new = told.into_iter().map(|aged| Aged { age_ms: 0, ..aged }).collect();
        self.said.push_back(Message::Gossip(as_new));
        if self.said.len() > REPLAYED_AFTER { self.said.pop_front() } else { self.said.back().cloned() }
            .unwrap_or(Message::Gossip(Vec::new()))
    }

    fn of(&self, own: bool, mut aged: Aged, rng: &mut SmallRng) -> Aged {
        match self.lie {
            _ if own => aged.entry = self.of_itself(aged.entry, rng),
            Lie::Clock => {
                aged.age_ms = rng.random();
                if rng.random() {
                    aged.age_ms %= 60_000;
                }
            }
            Lie::Slander => {
                aged.entry.jobs_hundredths = 100 * aged.entry.cpus_hundredths;
                aged.entry.memory_taken_kb = 2 * aged.entry.memory_usable_kb;
            }
            Lie::Praise => {
                aged.entry.jobs_hundredths = 0;
                aged.entry.memory_taken_kb = 0;
            }
            Lie::Load | Lie::Replay | Lie::Boast | Lie::Lure => {}
        }
        if !own && matches!(self.lie, Lie::Slander | Lie::Praise) {
            (aged.age_ms, aged.entry.stamp_ms) = (0, aged.entry.stamp_ms + NEWER_MS);
        }
        aged
    }

    fn of_itself(&self, mut entry: Entry, rng: &mut SmallRng) -> Entry {
        match self.lie {
            Lie::Clock => entry.stamp_ms = rng.random(),
            Lie::Load => {
                entry.jobs_hundredths = rng.random();
                entry.load = rng.random();
                entry.memory_taken_kb = rng.random::<u64>() >> rng.random_range(0..64);
                entry.pressure_thousandths = rng.random();
            }
            Lie::Boast | Lie::Lure => {
                entry.jobs_hundredths = 0;
                entry.load = 0;
                entry.memory_taken_kb = 0;
                entry.ages = Default::default();
            }
            Lie::Slander | Lie::Praise | Lie::Replay => {}
        }
        entry
    }
}
