//! What makes a session outlive its connections: numbers, and frames that are kept until the peer has them.
//!
//! Both ends count the frames of each direction from the session's beginning. The sender keeps what the peer has not
//! yet acknowledged ([`Outbox`]), the receiver knows how much it has ([`Inbox`]). After a cut both say how much that is
//! in a [`Greeting`], and each replays what the other lacks: every frame is given out exactly once, in order, and so
//! whatever a frame means is done exactly once. A frame of which only a part arrived was not received.
//!
//! A connection that takes over must be of a newer generation than every one before it: one that was held up in the
//! network, or that somebody replays, comes too late for ever.
//!
//! Nothing here knows a clock, a socket or a thread; [`crate::line`] moves the bytes.

use model::limits::{
    ACKNOWLEDGE_BYTES, ACKNOWLEDGE_FRAMES, UNACKNOWLEDGED_BYTES_MAX, UNACKNOWLEDGED_FRAMES_MAX,
};
use std::collections::VecDeque;

/// Buffers of acknowledged frames that are kept to be filled again: fresh ones would cost as many page faults as the
/// pages in them.
const SPARES_MAX: usize = 8;

/// A piggybacked acknowledgement costs next to nothing, one that travels alone costs a packet: the latter waits this
/// many times longer.
const PATIENCE_FOR_A_RIDE: u64 = 2;

/// The peer says what cannot be: it has counted wrongly, or is not the one with whom this session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) &'static str);

/// A frame that the peer may not have. Its payload is both parts in a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) kind: u16,
    /// Copied.
    pub(crate) head: Vec<u8>,
    /// Given over by the sender.
    pub(crate) body: Vec<u8>,
}

impl Kept {
    fn length(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

/// The frames sent and not yet acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// Frames sent since the beginning.
    sent: u64,
    spares: Spares,
}

/// Buffers of frames that the peer has.
#[derive(Debug, Default)]
struct Spares {
    heads: Vec<Vec<u8>>,
    bodies: Vec<Vec<u8>>,
}

impl Outbox {
    /// Whether a frame of this length may be sent now. One always may if nothing is under way.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.kept.is_empty()
            || (self.kept.len() < UNACKNOWLEDGED_FRAMES_MAX
                && self.bytes + length <= UNACKNOWLEDGED_BYTES_MAX)
    }

    /// Keeps a frame that is about to be sent: the parts, and behind them the body, which is not copied. If that is not
    /// empty, there is another buffer in its place then.
    pub(crate) fn keep(&mut self, kind: u16, parts: &[&[u8]], body: &mut Vec<u8>) {
        let mut head = self.spares.heads.pop().unwrap_or_default();
        head.clear();
        for part in parts {
            head.extend_from_slice(part);
        }
        let body = match body.is_empty() {
            true => Vec::new(),
            false => std::mem::replace(body, self.spares.bodies.pop().unwrap_or_default()),
        };
        let kept = Kept { kind, head, body };
        self.bytes += kept.length();
        self.sent += 1;
        self.kept.push_back(kept);
    }

    /// The frame that was kept last.
    pub(crate) fn last(&self) -> Option<&Kept> {
        self.kept.back()
    }

    /// Drops the frames that the peer has.
    pub(crate) fn acknowledge(&mut self, received: u64) -> Result<(), Violation> {
        let first = self.sent - self.kept.len() as u64;
        if received > self.sent {
            return Err(Violation("it acknowledges a frame that was not sent"));
        }
        if received < first {
            return Err(Violation("it lacks a frame that it had acknowledged"));
        }
        for kept in self.kept.drain(..(received - first) as usize) {
            self.bytes -= kept.length();
            if self.spares.heads.len() < SPARES_MAX {
                self.spares.heads.push(kept.head);
            }
            if !kept.body.is_empty() && self.spares.bodies.len() < SPARES_MAX {
                self.spares.bodies.push(kept.body);
            }
        }
        Ok(())
    }

    /// What has to be sent again to a peer that lacks it.
    pub(crate) fn unacknowledged(&self) -> impl ExactSizeIterator<Item = &Kept> {
        self.kept.iter()
    }
}

/// Whether the peer is to be told how much has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// There is time.
    Later,
    /// The next frame takes it along.
    WithNext,
    /// It goes by itself: nothing took it along for too long.
    Now,
}

/// The frames received.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    received: u64,
    told: u64,
    bytes_untold: u64,
}

impl Inbox {
    /// A frame arrived and is given out.
    pub(crate) fn take(&mut self, length: usize) -> Due {
        self.received += 1;
        self.bytes_untold += length as u64;
        self.due()
    }

    /// Whether the peer is to be told.
    pub(crate) fn due(&self) -> Due {
        let after = |times: u64| {
            self.received - self.told >= times * ACKNOWLEDGE_FRAMES
                || self.bytes_untold >= times * ACKNOWLEDGE_BYTES
        };
        match (after(PATIENCE_FOR_A_RIDE), after(1)) {
            (true, _) => Due::Now,
            (_, true) => Due::WithNext,
            _ => Due::Later,
        }
    }

    /// How much has arrived; the peer is told.
    pub(crate) fn tell(&mut self) -> u64 {
        self.told = self.received;
        self.bytes_untold = 0;
        self.received
    }
}

/// The first frame of a connection that goes on with a session, from both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// The session. The preamble has it, too, but nobody vouches for a preamble.
    pub(crate) session: [u8; 16],
    /// Larger than those of all connections of the session before; the answer has the same.
    pub(crate) generation: u64,
    /// Frames of the session that the speaker has.
    pub(crate) received: u64,
}

/// Length of a greeting.
pub(crate) const GREETING_BYTES: usize = 32;

impl Greeting {
    pub(crate) fn encode(&self) -> [u8; GREETING_BYTES] {
        let mut bytes = [0; GREETING_BYTES];
        bytes[..16].copy_from_slice(&self.session);
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..].copy_from_slice(&self.received.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Greeting> {
        let bytes: &[u8; GREETING_BYTES] = bytes.try_into().ok()?;
        let (session, numbers) = bytes.split_first_chunk::<16>()?;
        let (generation, received) = numbers.split_first_chunk::<8>()?;
        Some(Greeting {
            session: *session,
            generation: u64::from_le_bytes(*generation),
            received: u64::from_le_bytes(received.try_into().ok()?),
        })
    }
}

/// Which connection of a session counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Generation {
    /// The number for the next attempt of the side that connects. It is used up even if nothing comes of the attempt.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    /// Whether a connection of this number takes over, on the side that is connected to.
    pub(crate) fn admit(&mut self, generation: u64) -> Result<(), Violation> {
        if generation <= self.0 {
            return Err(Violation("a connection of an older generation"));
        }
        self.0 = generation;
        Ok(())
    }

    /// Whether a connection of this number is the one that counts.
    pub(crate) fn is(&self, generation: u64) -> bool {
        self.0 == generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One end of a session, as `line` puts it together.
    #[derive(Default)]
    struct End {
        outbox: Outbox,
        inbox: Inbox,
        generation: Generation,
        /// What it wanted to send, and what it was given.
        spoken: Vec<u16>,
        heard: Vec<u16>,
    }

    /// What is on its way in one direction of one connection.
    #[derive(Clone, Debug)]
    enum Flying {
        Frame { kind: u16, payload: Vec<u8> },
        Seen(u64),
    }

    /// A connection, from the side that made it: up and down.
    #[derive(Default)]
    struct Cable {
        generation: u64,
        up: VecDeque<Flying>,
        down: VecDeque<Flying>,
    }

    impl End {
        fn speak(&mut self, cable: Option<&mut VecDeque<Flying>>, length: usize) {
            if !self.outbox.has_room(length) {
                return;
            }
            let kind = self.spoken.len() as u16;
            let payload = vec![kind as u8; length];
            let (head, tail) = payload.split_at(length / 2);
            match kind % 2 {
                0 => self.outbox.keep(kind, &[head, tail], &mut Vec::new()),
                _ => self.outbox.keep(kind, &[head], &mut tail.to_vec()),
            }
            self.spoken.push(kind);
            if let Some(cable) = cable {
                if self.inbox.due() >= Due::WithNext {
                    cable.push_back(Flying::Seen(self.inbox.tell()));
                }
                cable.push_back(Flying::Frame { kind, payload });
            }
        }

        fn hear(&mut self, flying: Flying) {
            match flying {
                Flying::Seen(received) => self.outbox.acknowledge(received).unwrap(),
                Flying::Frame { kind, payload } => {
                    assert!(payload.iter().all(|byte| *byte == kind as u8));
                    self.inbox.take(payload.len());
                    self.heard.push(kind);
                }
            }
        }

        fn replay(&self) -> VecDeque<Flying> {
            self.outbox
                .unacknowledged()
                .map(|kept| Flying::Frame { kind: kept.kind, payload: [&kept.head[..], &kept.body].concat() })
                .collect()
        }
    }

    /// Both ends, the connection between them, and every connection that was ever cut.
    #[derive(Default)]
    struct World {
        caller: End,
        called: End,
        cable: Option<Cable>,
        old: Vec<Cable>,
    }

    impl World {
        /// A new connection; the answer to the greeting may be lost, so that the caller does not know of it.
        fn connect(&mut self, answered: bool) {
            self.cut(0, 0);
            let generation = self.caller.generation.next();
            let received = self.caller.inbox.tell();
            self.called.generation.admit(generation).unwrap();
            self.called.outbox.acknowledge(received).unwrap();
            let answer = Greeting { session: [1; 16], generation, received: self.called.inbox.tell() };
            assert_eq!(Greeting::decode(&answer.encode()), Some(answer));
            let down = self.called.replay();
            let mut cable = Cable { generation, up: VecDeque::new(), down };
            if answered {
                self.caller.outbox.acknowledge(answer.received).unwrap();
                cable.up = self.caller.replay();
                self.cable = Some(cable);
            } else {
                self.old.push(cable);
            }
        }

        /// The connection breaks; of what flies, only the first frames still arrive. Of the next one only a part may
        /// have come, which is the same as nothing.
        fn cut(&mut self, up: usize, down: usize) {
            let Some(mut cable) = self.cable.take() else { return };
            for flying in cable.up.drain(..up.min(cable.up.len())) {
                self.called.hear(flying);
            }
            for flying in cable.down.drain(..down.min(cable.down.len())) {
                self.caller.hear(flying);
            }
            self.old.push(cable);
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        CallerSpeaks(usize),
        CalledSpeaks(usize),
        Up,
        Down,
        Cut(usize, usize),
        Connect(bool),
        StaleReturns(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => prop_oneof![Just(0usize), 1..200usize, Just(100_000)].prop_map(Act::CallerSpeaks),
            4 => prop_oneof![Just(0usize), 1..200usize, Just(100_000)].prop_map(Act::CalledSpeaks),
            6 => Just(Act::Up),
            6 => Just(Act::Down),
            1 => (0..9usize, 0..9usize).prop_map(|(up, down)| Act::Cut(up, down)),
            2 => any::<bool>().prop_map(Act::Connect),
            1 => any::<usize>().prop_map(Act::StaleReturns),
        ]
    }

    proptest! {
        #[test]
        fn every_frame_is_given_out_once_and_in_order_whatever_is_cut(acts in prop::collection::vec(act(), 0..400)) {
            let mut world = World::default();
            world.connect(true);
            for act in acts {
                let World { caller, called, cable, old } = &mut world;
                match act {
                    Act::CallerSpeaks(length) => caller.speak(cable.as_mut().map(|cable| &mut cable.up), length),
                    Act::CalledSpeaks(length) => called.speak(cable.as_mut().map(|cable| &mut cable.down), length),
                    Act::Up => if let Some(flying) = cable.as_mut().and_then(|cable| cable.up.pop_front()) {
                        called.hear(flying);
                    },
                    Act::Down => if let Some(flying) = cable.as_mut().and_then(|cable| cable.down.pop_front()) {
                        caller.hear(flying);
                    },
                    Act::Cut(up, down) => world.cut(up, down),
                    Act::Connect(answered) => world.connect(answered),
                    Act::StaleReturns(which) => if !old.is_empty() {
                        // Somebody plays an old connection again: it is refused, whatever it carries.
                        let stale = &old[which % old.len()];
                        prop_assert!(called.generation.admit(stale.generation).is_err());
                    },
                }
                let World { caller, called, .. } = &world;
                prop_assert!(caller.spoken.starts_with(&called.heard), "called heard {:?}", called.heard);
                prop_assert!(called.spoken.starts_with(&caller.heard), "caller heard {:?}", caller.heard);
            }
            // When the connection stays, everything arrives.
            world.connect(true);
            let cable = world.cable.take().unwrap();
            cable.up.into_iter().for_each(|flying| world.called.hear(flying));
            cable.down.into_iter().for_each(|flying| world.caller.hear(flying));
            prop_assert_eq!(&world.called.heard, &world.caller.spoken);
            prop_assert_eq!(&world.caller.heard, &world.called.spoken);
        }

        #[test]
        fn what_is_no_greeting_is_none(bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            match Greeting::decode(&bytes) {
                Some(greeting) => prop_assert_eq!(&greeting.encode()[..], &bytes[..]),
                None => prop_assert_ne!(bytes.len(), GREETING_BYTES),
            }
        }
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut outbox = Outbox::default();
        let large = vec![0; UNACKNOWLEDGED_BYTES_MAX / 2];
        assert!(outbox.has_room(usize::MAX / 2), "the first frame always goes");
        outbox.keep(1, &[&large], &mut Vec::new());
        outbox.keep(1, &[&large], &mut Vec::new());
        assert!(!outbox.has_room(1) && outbox.has_room(0));
        outbox.acknowledge(1).unwrap();
        assert!(outbox.has_room(1));
        let mut outbox = Outbox::default();
        while outbox.has_room(0) {
            outbox.keep(1, &[], &mut Vec::new());
        }
        assert_eq!(outbox.unacknowledged().len(), UNACKNOWLEDGED_FRAMES_MAX);
    }

    #[test]
    fn a_buffer_that_is_given_over_comes_back_when_the_peer_has_it() {
        let (mut outbox, mut body) = (Outbox::default(), vec![7; 100]);
        let given = body.as_ptr();
        outbox.keep(1, &[b"head"], &mut body);
        let kept = outbox.last().unwrap();
        assert_eq!((&kept.head[..], kept.body.as_ptr(), body.len()), (&b"head"[..], given, 0));
        outbox.acknowledge(1).unwrap();
        body.resize(50, 8);
        outbox.keep(2, &[], &mut body);
        assert_eq!(body.as_ptr(), given);
    }

    #[test]
    fn a_peer_that_counts_wrongly_is_found_out() {
        let mut outbox = Outbox::default();
        (0..5).for_each(|kind| outbox.keep(kind, &[], &mut Vec::new()));
        assert!(outbox.acknowledge(6).is_err());
        outbox.acknowledge(3).unwrap();
        outbox.acknowledge(3).unwrap();
        assert!(outbox.acknowledge(2).is_err());
        assert_eq!(outbox.unacknowledged().map(|kept| kept.kind).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn an_acknowledgement_waits_for_a_ride_but_not_for_ever() {
        let mut inbox = Inbox::default();
        for frame in 1..=2 * ACKNOWLEDGE_FRAMES {
            let wanted = match frame {
                _ if frame == 2 * ACKNOWLEDGE_FRAMES => Due::Now,
                _ if frame >= ACKNOWLEDGE_FRAMES => Due::WithNext,
                _ => Due::Later,
            };
            assert_eq!(inbox.take(1), wanted, "frame {frame}");
        }
        assert_eq!((inbox.tell(), inbox.due()), (2 * ACKNOWLEDGE_FRAMES, Due::Later));
        assert_eq!(inbox.take(2 * ACKNOWLEDGE_BYTES as usize), Due::Now);
    }
}
