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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Input, Settings, Via};
    use model::NodeId;

    const SECOND: Duration = Duration::from_secs(1);

    /// What node 1 makes of a message from a life of a node.
    fn hears(node: u16, incarnation: u64, message: &Message) -> (Membership, Vec<Effect>) {
        let settings = Settings {
            authority: [1; 32],
            node: NodeId::new(1).unwrap(),
            incarnation: 1000,
            name: "n1".to_owned(),
            beacon_every: 5 * SECOND,
            death_known_within: 10 * SECOND,
            payload_max: 1341,
        };
        let mut machine = Membership::new(settings, 7);
        let mut effects = Vec::new();
        let from = "10.0.0.2:4660".parse().unwrap();
        machine.step(SECOND, Input::Addresses(vec!["10.0.0.1:4660".parse().unwrap()]), &mut effects);
        let sender = Sender { node: NodeId::new(node).unwrap(), incarnation, from, via: Via::Unicast };
        effects.clear();
        let payload = message.encode().unwrap();
        machine.step(2 * SECOND, Input::Datagram { sender, payload: &payload }, &mut effects);
        (machine, effects)
    }

    #[test]
    fn a_life_that_no_node_comes_to_is_garbage_and_changes_nothing() {
        let ask = Message::Ask { after: 0, digest: 1 };
        for (node, incarnation, message) in [
            (1, u64::MAX, &ask),
            (1, INCARNATION_MAX, &ask),
            (2, u64::MAX, &ask),
            (2, 1000, &Message::Stale { incarnation: u64::MAX }),
            (2, 1000, &Message::Taken { incarnation: u64::MAX, name: "n2".to_owned() }),
        ] {
            let (mut machine, effects) = hears(node, incarnation, message);
            assert!(matches!(effects[..], [Effect::Event(Event::Garbage { .. })]), "{effects:?}");
            assert!(machine.rival.is_none() && machine.own.incarnation == 1000);
            machine.step(100 * SECOND, Input::Tick, &mut Vec::new());
            assert_eq!(machine.own.incarnation, 1000);
        }
        let (machine, _) = hears(2, 1000, &Message::Stale { incarnation: INCARNATION_MAX - 2 });
        assert_eq!(machine.own.incarnation, INCARNATION_MAX - 1);
        let (machine, _) = hears(2, 1000, &Message::Stale { incarnation: INCARNATION_MAX - 1 });
        assert_eq!(machine.own.incarnation, 1000, "nobody could outlive it");
    }
}
