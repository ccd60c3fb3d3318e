//! Several lives of one node: it was started anew, its clock went back, or two machines use its id.
//!
//! A former life falls silent; of two machines, both go on talking. The younger one, with the higher incarnation, is kept.
//! The elder one steps aside: it goes on alone, and shows itself, so that everybody can name both.

use crate::beacon::INCARNATION_MAX;
use crate::machine::{Membership, life};
use crate::message::Message;
use crate::roster::Place;
use crate::step::{Effect, Event, Sender};
use core::time::Duration;

/// How long another machine that uses this node's id must be silent before this node speaks again.
const RIVAL_SILENCE: Duration = Duration::from_secs(30);
/// How long this node's own former life may echo.
const ECHO: Duration = Duration::from_secs(2);

/// Another machine that uses this node's id.
#[derive(Clone, Debug)]
pub(crate) struct Rival {
    pub(crate) incarnation: u64,
    place: Place,
    last: Duration,
    pub(crate) reported: bool,
}

impl Membership {
    /// A life of a node speaks that comes before the one that is known: an echo; or the node's clock went back when it was
    /// started anew; or two machines use its id.
    pub(crate) fn answer_elder(
        &mut self,
        sender: Sender,
        message: &Message,
        known: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Message::Beacon { record, .. } = message else { return };
        self.roster.name_rival(sender.node, &record.name);
        let lives = self.swim.state(sender.node).is_some_and(|(_, state)| state != foca::State::Down);
        let kept = self.roster.get(sender.node).filter(|entry| entry.has_known_rival());
        let answer = match kept {
            _ if !lives => Message::Stale { incarnation: known },
            Some(kept) => Message::Taken { incarnation: known, name: kept.record.name.clone() },
            None => return,
        };
        if let (true, Ok(payload)) = (record.has(sender.from), answer.encode()) {
            effects.push(Effect::Send { to: vec![sender.from], payload });
        }
    }

    /// Others know a later life of this node, which is over: its clock went back.
    pub(crate) fn outlive(&mut self, now: Duration, incarnation: u64, effects: &mut Vec<Effect>) {
        let follows = incarnation > self.own.incarnation && incarnation + 1 < INCARNATION_MAX;
        if self.rival.is_none() && follows {
            self.take_incarnation(now, incarnation + 1, effects);
        }
    }

    fn take_incarnation(&mut self, now: Duration, incarnation: u64, effects: &mut Vec<Effect>) {
        self.own.incarnation = incarnation;
        self.own.renewal = 0;
        self.born = Some(now);
        self.revise(now);
        effects.push(Effect::Incarnation(incarnation));
        let outcome = self.swim.become_life(now, life(&self.own));
        self.settle(now, outcome, effects);
    }

    /// Somebody speaks as this node: its own former life, late, or another machine.
    pub(crate) fn meet_rival(
        &mut self,
        now: Duration,
        sender: Sender,
        payload: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        let name = match Message::decode(payload) {
            Ok(Message::Beacon { record, .. }) => Some(record.name),
            _ => None,
        };
        self.note_rival(now, sender.incarnation, Place { name, address: sender.from }, effects);
    }

    pub(crate) fn note_rival(
        &mut self,
        now: Duration,
        incarnation: u64,
        place: Place,
        effects: &mut Vec<Effect>,
    ) {
        let born = self.born.unwrap_or(now);
        let rival = self.rival.get_or_insert_with(|| Rival {
            incarnation,
            place: place.clone(),
            last: now,
            reported: false,
        });
        rival.incarnation = incarnation;
        rival.place.address = place.address;
        rival.place.name = place.name.or(rival.place.name.take());
        rival.last = now;
        if !rival.reported && now.saturating_sub(born) >= ECHO {
            rival.reported = true;
            let aside = rival.incarnation > self.own.incarnation;
            effects.push(Effect::Event(Event::Rival { other: rival.place.clone(), aside }));
        }
    }

    pub(crate) fn look_at_rival(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let Some(rival) = &self.rival else { return };
        if now.saturating_sub(rival.last) < RIVAL_SILENCE {
            return;
        }
        let (was_aside, incarnation) = (self.is_aside(), rival.incarnation);
        if rival.reported {
            effects.push(Effect::Event(Event::RivalGone));
        }
        self.rival = None;
        if was_aside && incarnation + 1 < INCARNATION_MAX {
            self.take_incarnation(now, incarnation + 1, effects);
        }
    }
}
