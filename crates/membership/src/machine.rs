//! The machine that ties beacons, roster and failure detector together.

use crate::beacon::{INCARNATION_MAX, Record, check_incarnation};
use crate::message::{Malformed, Message};
use crate::rival::Rival;
use crate::roster::{Entry, Found, Learnt, Place, Roster, State, Voice};
use crate::step::{Effect, Event, Input, Sender, Settings, Via};
use crate::swim::{Life, Outcome, Swim};
use core::net::SocketAddr;
use core::time::Duration;
use model::NodeId;
use model::limits::{ADDRESSES_MAX, PEERS_MAX, SEEDS_MAX};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IteratorRandom as _};
use std::collections::BTreeMap;

/// The first beacons follow each other quickly: one of them may be lost.
const FIRST_BEACONS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1)];
/// How often the states are looked at, and a farewell is said again.
const ROUND: Duration = Duration::from_millis(500);
/// How often a node asks another one whom it knows.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How soon it asks when somebody is spoken of whom it does not know.
const ASK_SOON: Duration = Duration::from_millis(100);
/// Times that a farewell is said.
const FAREWELLS: u8 = 3;
/// Seeds that one beacon goes to; the others get the next ones.
const SEEDS_PER_BEACON: usize = 8;
/// In a larger cluster not everybody answers a newcomer's beacon: so many do, on the average.
const ANSWERS_WANTED: f64 = 16.0;
/// Bytes of a message beside the records in it, at most.
const ROLL_OVERHEAD: usize = 16;

/// One node's view of its cluster.
pub struct Membership {
    settings: Settings,
    pub(crate) own: Record,
    pub(crate) roster: Roster,
    pub(crate) swim: Swim,
    rng: StdRng,
    seeds: Vec<SocketAddr>,
    next_seed: usize,
    beacons: usize,
    next_beacon: Duration,
    next_round: Duration,
    next_ask: Duration,
    /// Who spoke of somebody unknown.
    ask: Option<NodeId>,
    farewells: u8,
    /// When this life began.
    pub(crate) born: Option<Duration>,
    pub(crate) rival: Option<Rival>,
    /// Names that were reported as belonging to two nodes.
    names: BTreeMap<NodeId, NodeId>,
}

impl Membership {
    /// A node that knows nobody. All chance comes from the seed.
    pub fn new(settings: Settings, seed: u64) -> Membership {
        let own = Record {
            node: settings.node,
            incarnation: settings.incarnation.min(INCARNATION_MAX - 1),
            edition: 0,
            renewal: 0,
            left: false,
            name: settings.name.clone(),
            addresses: Vec::new(),
        };
        let mut rng = StdRng::seed_from_u64(seed);
        // A message of the failure detector travels in one of ours.
        let payload_max = settings.payload_max.saturating_sub(8);
        let swim = Swim::new(life(&own), payload_max, settings.death_known_within, rng.random());
        Membership {
            settings,
            own,
            roster: Roster::new(PEERS_MAX),
            swim,
            rng,
            seeds: Vec::new(),
            next_seed: 0,
            beacons: 0,
            next_beacon: Duration::ZERO,
            next_round: Duration::ZERO,
            next_ask: ASK_EVERY,
            ask: None,
            farewells: 0,
            born: None,
            rival: None,
            names: BTreeMap::new(),
        }
    }

    /// What this node says of itself.
    pub fn own(&self) -> &Record {
        &self.own
    }

    /// Everybody it knows, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.roster.entries()
    }

    /// One node.
    pub fn entry(&self, node: NodeId) -> Option<&Entry> {
        self.roster.get(node)
    }

    /// Where a datagram for a node goes now; nowhere if it is not known.
    pub fn targets(&self, now: Duration, node: NodeId) -> Vec<SocketAddr> {
        self.roster.targets(node, now)
    }

    /// When the next [`Input::Tick`] is due.
    pub fn wake(&self) -> Duration {
        let own = self.next_beacon.min(self.next_round).min(self.next_ask);
        // Who does not take part runs no timers of the failure detector.
        let swim = self.swim.wake().filter(|_| self.takes_part());
        swim.map_or(own, |swim| own.min(swim))
    }

    /// Goes one step on. `now` never goes back; where it starts does not matter.
    pub fn step(&mut self, now: Duration, input: Input<'_>, effects: &mut Vec<Effect>) {
        self.born.get_or_insert(now);
        match input {
            Input::Tick => self.tick(now, effects),
            Input::Datagram { sender, payload } => {
                if let Err(what) = self.receive(now, sender, payload, effects) {
                    effects.push(Effect::Event(Event::Garbage { node: sender.node, what }));
                }
            }
            Input::Addresses(mut addresses) => {
                addresses.truncate(ADDRESSES_MAX);
                if addresses != self.own.addresses {
                    self.own.addresses = addresses;
                    self.revise(now);
                }
            }
            Input::Seeds(mut seeds) => {
                seeds.truncate(SEEDS_MAX);
                self.seeds = seeds;
            }
            Input::Leave => {
                self.own.left = true;
                self.revise(now);
                self.farewells = FAREWELLS;
                self.next_round = now;
            }
            Input::Stay => {
                if self.own.left {
                    self.own.left = false;
                    self.own.renewal = self.own.renewal.saturating_add(1);
                    self.revise(now);
                    let outcome = self.swim.become_life(now, life(&self.own));
                    self.settle(now, outcome, effects);
                }
            }
        }
    }

    /// Others are to hear soon that this node's record has changed.
    pub(crate) fn revise(&mut self, now: Duration) {
        self.own.edition = self.own.edition.saturating_add(1);
        self.next_beacon = self.next_beacon.min(now);
    }

    /// Whether it takes part: one that has left does not, nor one whose id a younger machine uses.
    fn takes_part(&self) -> bool {
        !self.own.left && !self.is_aside()
    }

    pub(crate) fn is_aside(&self) -> bool {
        self.rival.as_ref().is_some_and(|rival| rival.reported && rival.incarnation > self.own.incarnation)
    }

    fn tick(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.takes_part() {
            let outcome = self.swim.tick(now);
            self.settle(now, outcome, effects);
        }
        if now >= self.next_round {
            self.next_round = now + ROUND;
            self.look_at_rival(now, effects);
            self.refresh(now, effects);
            if self.farewells > 0 {
                self.farewells -= 1;
                self.take_leave(now, effects);
            }
        }
        if now >= self.next_beacon {
            self.next_beacon = now + self.beacon_pause();
            // One that stands aside still shows itself, so that everybody sees that there are two.
            if !self.own.left {
                self.announce(now, effects);
            }
        }
        if now >= self.next_ask {
            self.next_ask = now + ASK_EVERY.mul_f64(self.rng.random_range(0.8..1.2));
            if self.takes_part() {
                self.ask(now, effects);
            }
        }
        // Timers that nobody runs must not be due for ever.
        if !self.takes_part() {
            self.next_ask = self.next_ask.max(self.next_round);
        }
    }

    fn beacon_pause(&mut self) -> Duration {
        let first = FIRST_BEACONS.get(self.beacons).copied();
        self.beacons += 1;
        first.unwrap_or(self.settings.beacon_every).mul_f64(self.rng.random_range(0.8..1.2))
    }

    fn beacon(&self, answer: bool) -> Message {
        Message::Beacon { authority: self.settings.authority, record: self.own.clone(), answer }
    }

    /// A beacon into all groups, to some of the seeds, and to somebody who has gone: he may only have been cut off.
    fn announce(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let Ok(payload) = self.beacon(true).encode() else { return };
        effects.push(Effect::Announce { payload: payload.clone() });
        for _ in 0..self.seeds.len().min(SEEDS_PER_BEACON) {
            self.next_seed = (self.next_seed + 1) % self.seeds.len();
            if let Some(seed) = self.seeds.get(self.next_seed).filter(|seed| !self.own.has(**seed)) {
                effects.push(Effect::Send { to: vec![*seed], payload: payload.clone() });
            }
        }
        let gone = self.roster.entries().filter(|entry| entry.state == State::Gone);
        if let Some(node) = gone.map(|entry| entry.record.node).choose(&mut self.rng) {
            self.send(now, node, payload, effects);
        }
    }

    fn take_leave(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let Ok(payload) = self.beacon(false).encode() else { return };
        effects.push(Effect::Announce { payload: payload.clone() });
        for entry in self.roster.told() {
            let to = self.roster.targets(entry.record.node, now);
            effects.push(Effect::Send { to, payload: payload.clone() });
        }
    }

    /// Asks whoever spoke of somebody unknown, otherwise anybody who lives, whom it knows.
    fn ask(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let alive = self.roster.entries().filter(|entry| entry.state == State::Alive);
        let somebody = alive.map(|entry| entry.record.node).choose(&mut self.rng);
        if let Some(node) = self.ask.take().or(somebody) {
            self.ask_after(now, node, 0, effects);
        }
    }

    fn ask_after(&mut self, now: Duration, node: NodeId, after: u16, effects: &mut Vec<Effect>) {
        let question = Message::Ask { after, digest: self.roster.digest(&self.own) };
        self.say(now, node, &question, effects);
    }

    fn ask_soon(&mut self, now: Duration, node: NodeId) {
        if self.ask.is_none() {
            self.ask = Some(node);
            self.next_ask = self.next_ask.min(now + ASK_SOON);
        }
    }

    fn say(&mut self, now: Duration, node: NodeId, message: &Message, effects: &mut Vec<Effect>) {
        if let Ok(payload) = message.encode() {
            self.send(now, node, payload, effects);
        }
    }

    fn send(&self, now: Duration, node: NodeId, payload: Vec<u8>, effects: &mut Vec<Effect>) {
        let to = self.roster.targets(node, now);
        if !to.is_empty() {
            effects.push(Effect::Send { to, payload });
        }
    }

    fn receive(
        &mut self,
        now: Duration,
        sender: Sender,
        payload: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), Malformed> {
        check_incarnation(sender.incarnation)?;
        if sender.node == self.own.node {
            if sender.incarnation != self.own.incarnation {
                self.meet_rival(now, sender, payload, effects);
            }
            return Ok(());
        }
        let message = Message::decode(payload)?;
        if let Message::Beacon { authority, record, .. } = &message {
            if *authority != self.settings.authority {
                effects.push(Effect::Event(Event::OtherCluster { from: sender.from }));
                return Ok(());
            }
            if (record.node, record.incarnation) != (sender.node, sender.incarnation) {
                return Err(Malformed::Impostor);
            }
        }
        if !self.takes_part() {
            return Ok(());
        }
        let voice = self.roster.hear(now, sender.node, sender.incarnation, sender.from);
        if let Voice::Elder(known) = voice {
            self.answer_elder(sender, &message, known, effects);
            return Ok(());
        }
        match message {
            Message::Beacon { record, answer, .. } => self.meet(now, sender, record, answer, effects),
            Message::Ask { after, digest } => {
                if voice == Voice::Present && digest != self.roster.digest(&self.own) {
                    self.tell(now, sender.node, after, effects);
                }
            }
            Message::Roll { records, next } => {
                let own = self.own.node;
                for record in records.into_iter().filter(|record| record.node != own) {
                    self.hear_of(now, record, effects);
                }
                if let Some(next) = next {
                    self.ask_after(now, sender.node, next.get().saturating_sub(1), effects);
                }
            }
            Message::Swim(bytes) => {
                let outcome = self.swim.receive(now, sender.node, sender.incarnation, &bytes)?;
                self.settle(now, outcome, effects);
                if voice != Voice::Present || self.speaks_of_strangers() {
                    self.ask_soon(now, sender.node);
                }
            }
            Message::Stale { incarnation } => self.outlive(now, incarnation, effects),
            Message::Taken { incarnation, name } => {
                let place = Place { name: Some(name), address: sender.from };
                self.note_rival(now, incarnation, place, effects);
            }
        }
        if let Some((kept, other)) = self.roster.duplicate(sender.node) {
            effects.push(Effect::Event(Event::Duplicate { node: sender.node, kept, other }));
        }
        Ok(())
    }

    /// Whether the failure detector knows lives of which the roster has no record.
    fn speaks_of_strangers(&self) -> bool {
        self.swim.states().any(|(life, state)| {
            let known = self.roster.get(life.node).map_or(0, |entry| entry.record.incarnation);
            state != foca::State::Down && known < life.incarnation
        })
    }

    /// A node's own word about itself.
    fn meet(
        &mut self,
        now: Duration,
        sender: Sender,
        record: Record,
        answer: bool,
        effects: &mut Vec<Effect>,
    ) {
        let told = self.seeds.contains(&sender.from);
        let found = match sender.via {
            Via::Multicast => Found::Multicast,
            Via::Unicast if answer || told => Found::Seed,
            // It answers a beacon of this node, which went into the groups.
            Via::Unicast => Found::Multicast,
        };
        let known = self.roster.get(sender.node).is_some_and(|entry| {
            entry.record.incarnation == record.incarnation && entry.state == State::Alive
        });
        let (their_life, left) = (life(&record), record.left);
        self.learn(now, record, found, effects);
        if sender.via == Via::Multicast {
            self.roster.hear_in_group(sender.node);
        }
        // Its present life is known only now.
        self.roster.hear(now, sender.node, sender.incarnation, sender.from);
        let outcome = if left { self.swim.bury(now, their_life) } else { self.swim.hear(now, their_life) };
        self.settle(now, outcome, effects);
        self.refresh(now, effects);
        let crowd = self.roster.entries().filter(|entry| entry.state == State::Alive).count().max(1);
        let chance = (ANSWERS_WANTED / crowd as f64).min(1.0);
        if answer && !known && !left && (sender.via == Via::Unicast || self.rng.random_bool(chance)) {
            let message = self.beacon(false);
            self.say(now, sender.node, &message, effects);
        }
    }

    /// Another node's word about a node.
    fn hear_of(&mut self, now: Duration, record: Record, effects: &mut Vec<Effect>) {
        let (node, left) = (record.node, record.left);
        if self.learn(now, record, Found::Relay, effects) && !left {
            // Whether it lives it says itself.
            let message = self.beacon(true);
            self.say(now, node, &message, effects);
        }
    }

    /// Takes a record in; whether it is news.
    fn learn(&mut self, now: Duration, record: Record, found: Found, effects: &mut Vec<Effect>) -> bool {
        let (node, name) = (record.node, record.name.clone());
        match self.roster.learn(now, record, found) {
            Learnt::New => {
                effects.push(Effect::Event(Event::Found { node, name: name.clone(), found }));
            }
            Learnt::Newer => {}
            Learnt::Nothing => return false,
            Learnt::Full => {
                effects.push(Effect::Event(Event::Full { node }));
                return false;
            }
        }
        let others = self.roster.entries().map(|entry| &entry.record).chain([&self.own]);
        let twin = others.filter(|other| other.node != node && other.name == name).map(|other| other.node);
        if let Some(other) = twin.min() {
            let (first, second) = (node.min(other), node.max(other));
            if self.names.insert(second, first) != Some(first) {
                effects.push(Effect::Event(Event::SameName { name, first, second }));
            }
        } else {
            self.names.remove(&node);
        }
        true
    }

    /// Answers a question with one page.
    fn tell(&mut self, now: Duration, node: NodeId, after: u16, effects: &mut Vec<Effect>) {
        let mut records = Vec::new();
        let mut next = None;
        let mut room = self.settings.payload_max.saturating_sub(ROLL_OVERHEAD);
        for entry in self.roster.told().filter(|entry| entry.record.node.get() > after) {
            let size = postcard::to_stdvec(&entry.record).map_or(usize::MAX, |bytes| bytes.len());
            if size > room {
                next = Some(entry.record.node);
                break;
            }
            room -= size;
            records.push(entry.record.clone());
        }
        if !records.is_empty() {
            self.say(now, node, &Message::Roll { records, next }, effects);
        }
    }

    /// Does what the failure detector wants.
    pub(crate) fn settle(&mut self, now: Duration, outcome: Outcome, effects: &mut Vec<Effect>) {
        for (node, bytes) in outcome.send {
            self.say(now, node, &Message::Swim(bytes), effects);
        }
        if let Some(renewal) = outcome.renewed {
            self.own.renewal = renewal;
            self.revise(now);
        }
        if outcome.changed {
            self.refresh(now, effects);
        }
    }

    /// Takes over what the failure detector thinks of everybody.
    fn refresh(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let thought: BTreeMap<NodeId, (u64, foca::State)> =
            self.swim.states().map(|(life, state)| (life.node, (life.incarnation, state))).collect();
        for entry in self.roster.entries_mut() {
            let state = match thought.get(&entry.record.node) {
                // It has started anew, and where it is now is not yet known.
                Some((incarnation, _)) if *incarnation > entry.record.incarnation => entry.state,
                _ if entry.record.left => State::Left,
                Some((_, foca::State::Alive)) => State::Alive,
                Some((_, foca::State::Suspect)) => State::Suspect,
                Some((_, foca::State::Down)) | None => State::Gone,
            };
            if state != entry.state {
                (entry.state, entry.since) = (state, now);
                let (node, name) = (entry.record.node, entry.record.name.clone());
                effects.push(Effect::Event(Event::State { node, name, state }));
            }
        }
    }
}

impl core::fmt::Debug for Membership {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Membership")
            .field("own", &self.own)
            .field("roster", &self.roster)
            .finish_non_exhaustive()
    }
}

pub(crate) fn life(record: &Record) -> Life {
    Life { node: record.node, incarnation: record.incarnation, renewal: record.renewal }
}
