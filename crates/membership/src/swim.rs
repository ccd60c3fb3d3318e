//! The failure detector: foca, with its timers and what it wants to send collected.

use crate::message::Malformed;
use core::num::{NonZeroU8, NonZeroU32, NonZeroUsize};
use core::time::Duration;
use foca::{
    AccumulatingRuntime, Config, Foca, Header, Identity, Incarnation, Member, NoCustomBroadcast,
    OwnedNotification, PeriodicParams, PostcardCodec, Timer,
};
use model::NodeId;
use model::limits::PEERS_MAX;
use rand::{SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Timers that are run in one step; those left over are run in the next one.
const TIMERS_PER_STEP: usize = 256;
/// Parts of the time within which a death is known. Each part somebody is probed. Of three nodes each one probes the dead one
/// after three parts at the latest, misses the answer after one more, and gives it [`SUSPICION`] to say that it lives. In
/// larger clusters somebody has probed it earlier, and what is left is for the news to go round.
const PARTS: f64 = 12.0;
/// Parts of it that a suspected node has to say that it lives.
const SUSPICION: f64 = 5.0;
/// Parts of it by which a suspicion must be older than [`SUSPICION`] to be one that nobody follows up. foca forgets the ends of
/// its suspicions when its own node is declared dead and takes its next renewal. Who was suspected then is suspected for
/// ever: if it lives, has never heard of it and answers whatever it is asked; and if it is dead.
const FORGOTTEN: f64 = 3.0;
/// Parts of it that an answer to a probe may take before others are asked to try.
const PROBE_ANSWER: f64 = 0.4;
/// How often a node that counts as dead is tried again: after a partition has healed.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// A node in one of its lives, as the failure detector knows it. "Dead" is its last word about an identity, so who is
/// declared dead and is not takes the next renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) node: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) renewal: u16,
}

impl Identity for Life {
    type Addr = NodeId;

    fn renew(&self) -> Option<Life> {
        Some(Life { renewal: self.renewal.checked_add(1)?, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Life) -> bool {
        (self.incarnation, self.renewal) > (adversary.incarnation, adversary.renewal)
    }
}

/// What a step of the failure detector brought.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// To whom, and what.
    pub(crate) send: Vec<(NodeId, Vec<u8>)>,
    /// The state of some node has changed.
    pub(crate) changed: bool,
    /// This node was declared dead, lives, and has taken its next renewal.
    pub(crate) renewed: Option<u16>,
}

/// foca, and the timers it asked for.
pub(crate) struct Swim {
    foca: Foca<Life, PostcardCodec, StdRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Life>,
    /// By time and by order of coming.
    timers: BTreeMap<(Duration, u64), Timer<Life>>,
    timers_made: u64,
    /// [`PARTS`] of it are the time within which a death is known.
    part: Duration,
    /// Those at the last tick.
    suspicions: BTreeMap<NodeId, Suspicion>,
}

/// Somebody is suspected of being dead.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    of: (Life, Incarnation),
    since: Duration,
    /// When it was last heard after that.
    heard: Option<Duration>,
}

impl Swim {
    /// Who dies is to be known as dead within this time.
    pub(crate) fn new(own: Life, payload_max: usize, within: Duration, seed: u64) -> Swim {
        let config = config(payload_max, within);
        let foca = Foca::new(own, config, StdRng::seed_from_u64(seed), PostcardCodec);
        Swim {
            foca,
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            part: within.div_f64(PARTS),
            suspicions: BTreeMap::new(),
        }
    }

    /// When the next timer is due.
    pub(crate) fn wake(&self) -> Option<Duration> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    /// Runs the timers that are due.
    pub(crate) fn tick(&mut self, now: Duration) -> Outcome {
        for _ in 0..TIMERS_PER_STEP {
            let Some(entry) = self.timers.first_entry() else { break };
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            // What it complains of is that it is alone by now.
            let _ = self.foca.handle_timer(timer, &mut self.runtime);
            self.schedule(now);
        }
        self.follow_up(now);
        self.outcome(now)
    }

    /// Declares dead who has been suspected for too long, and silent for as long as a death may stay unknown.
    fn follow_up(&mut self, now: Duration) {
        let members = self.foca.iter_membership_state();
        let suspects = members.filter(|member| member.state() == foca::State::Suspect);
        let mut suspicions = BTreeMap::new();
        for member in suspects {
            let fresh = Suspicion { of: (*member.id(), member.incarnation()), since: now, heard: None };
            let known = self.suspicions.get(&member.id().node).filter(|known| known.of == fresh.of);
            suspicions.insert(member.id().node, known.copied().unwrap_or(fresh));
        }
        self.suspicions = suspicions;
        let is_silent = |heard: Duration| now.saturating_sub(heard) > self.part.mul_f64(PARTS);
        let overdue =
            self.suspicions.values().filter(|it| self.is_overdue(it, now) && it.heard.is_none_or(is_silent));
        let dead: Vec<_> = overdue
            .map(|Suspicion { of: (life, count), .. }| Member::new(*life, *count, foca::State::Down))
            .collect();
        let _ = self.foca.apply_many(dead.into_iter(), true, &mut self.runtime);
    }

    /// Whether foca ought to have followed a suspicion up by now.
    fn is_overdue(&self, suspicion: &Suspicion, now: Duration) -> bool {
        now.saturating_sub(suspicion.since) > self.part.mul_f64(SUSPICION + FORGOTTEN)
    }

    /// Takes in a message. It must be of the node, and of the life of it, that the datagram names.
    pub(crate) fn receive(
        &mut self,
        now: Duration,
        node: NodeId,
        incarnation: u64,
        bytes: &[u8],
    ) -> Result<Outcome, Malformed> {
        let (header, _) = postcard::take_from_bytes::<Header<Life>>(bytes)?;
        if (header.src.node, header.src.incarnation) != (node, incarnation) {
            return Err(Malformed::Impostor);
        }
        self.note(now, node);
        let understood = self.foca.handle_data(bytes, &mut self.runtime);
        let outcome = self.outcome(now);
        understood.map(|()| outcome).map_err(|_| Malformed::Swim)
    }

    /// A node has said itself that it lives.
    pub(crate) fn hear(&mut self, now: Duration, life: Life) -> Outcome {
        self.note(now, life.node);
        match self.member(life.node) {
            Some(member) if *member.id() == life && member.state() == foca::State::Down => {
                // It will be told that it counts as dead, and take its next renewal.
                let _ = self.foca.announce(life, &mut self.runtime);
            }
            Some(member) if *member.id() == life && member.state() == foca::State::Suspect => {
                let of = (life, member.incarnation());
                let known = self.suspicions.get(&life.node).filter(|known| known.of == of);
                if known.is_some_and(|known| self.is_overdue(known, now)) {
                    // One step higher, it is no longer the suspected one; the node itself goes on from there.
                    let alive = Member::new(life, of.1.saturating_add(1), foca::State::Alive);
                    let _ = self.foca.apply_many(core::iter::once(alive), true, &mut self.runtime);
                }
            }
            Some(member) if *member.id() == life => {}
            _ => {
                let news = core::iter::once(Member::alive(life));
                let _ = self.foca.apply_many(news, true, &mut self.runtime);
                let _ = self.foca.announce(life, &mut self.runtime);
            }
        }
        self.outcome(now)
    }

    /// A node has taken leave itself.
    pub(crate) fn bury(&mut self, now: Duration, life: Life) -> Outcome {
        let news = core::iter::once(Member::down(life));
        let _ = self.foca.apply_many(news, true, &mut self.runtime);
        self.outcome(now)
    }

    /// Goes on as another life of this node.
    pub(crate) fn become_life(&mut self, now: Duration, own: Life) -> Outcome {
        let _ = self.foca.change_identity(own, &mut self.runtime);
        self.outcome(now)
    }

    /// What is thought of a node.
    pub(crate) fn state(&self, node: NodeId) -> Option<(Life, foca::State)> {
        self.member(node).map(|member| (*member.id(), member.state()))
    }

    /// What is thought of everybody.
    pub(crate) fn states(&self) -> impl Iterator<Item = (Life, foca::State)> {
        self.foca.iter_membership_state().map(|member| (*member.id(), member.state()))
    }

    /// Something has come from a node.
    fn note(&mut self, now: Duration, node: NodeId) {
        if let Some(suspicion) = self.suspicions.get_mut(&node) {
            suspicion.heard = Some(now);
        }
    }

    fn member(&self, node: NodeId) -> Option<&Member<Life>> {
        self.foca.iter_membership_state().find(|member| member.id().node == node)
    }

    fn schedule(&mut self, now: Duration) {
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.timers_made += 1;
            self.timers.insert((now + after, self.timers_made), timer);
        }
    }

    fn outcome(&mut self, now: Duration) -> Outcome {
        self.schedule(now);
        let mut outcome = Outcome::default();
        while let Some((to, bytes)) = self.runtime.to_send() {
            outcome.send.push((to.node, bytes.to_vec()));
        }
        while let Some(notification) = self.runtime.to_notify() {
            match notification {
                OwnedNotification::Rejoin(own) => outcome.renewed = Some(own.renewal),
                _ => outcome.changed = true,
            }
        }
        outcome
    }
}

/// For a network of one building.
fn config(payload_max: usize, within: Duration) -> Config {
    let part = within.div_f64(PARTS);
    let few = |frequency| Some(PeriodicParams { frequency, num_members: NonZeroUsize::MIN });
    // The number of times that a piece of news is passed on grows with the logarithm of the cluster.
    let size = NonZeroU32::new(PEERS_MAX as u32).unwrap_or(NonZeroU32::MIN);
    Config {
        probe_period: part,
        probe_rtt: part.mul_f64(PROBE_ANSWER),
        num_indirect_probes: NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN),
        max_transmissions: NonZeroU8::new(12).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: part.mul_f64(SUSPICION),
        remove_down_after: Some(Duration::from_secs(24 * 3600)),
        max_packet_size: NonZeroUsize::new(payload_max).unwrap_or(NonZeroUsize::MIN),
        notify_down_members: true,
        periodic_announce: few(Duration::from_secs(30)),
        periodic_announce_to_down_members: few(RETRY_EVERY),
        ..Config::new_lan(size)
    }
}
