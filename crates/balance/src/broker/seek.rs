//! Something looks for a place: a new program, or a process that another node would serve better.

use super::negotiation::{Candidate, Negotiation, Phase, Subject};
use super::{Action, Broker, LocalJob, Outgoing, Ticket};
use crate::entry::Sound;
use crate::job::{Job, Talk};
use crate::policy::{Handshake, Nominees};
use crate::rules::{Bounds, Hold, may_go, may_leave};
use crate::settings::{ASK_TALKED_TO, INVITE_NODES, INVITE_RATIO};
use crate::state::{Place, State};
use model::NodeId;
use model::limits::PLACEMENTS_MAX;
use rand::{Rng, RngExt as _};
use std::collections::BTreeSet;
use std::time::Duration;
use wire::balance::{Entry, Message, Switches};

/// Equal places differ by less than this, by chance.
pub(super) const TIE: f64 = 1e-9;

/// A candidate with its place and what it is worth: the larger the better.
struct Weighed {
    node: NodeId,
    worth: f64,
}

impl Broker {
    /// A new program wants a place.
    pub(super) fn place(
        &mut self,
        now: Duration,
        request: u64,
        job: Job,
        bounds: Bounds,
        rng: &mut dyn Rng,
        out: &mut Vec<Action>,
    ) {
        let others = self.others(now, &bounds, job.home);
        let here = self.here(now);
        let stays = bounds.hold != Hold::Free
            || self.own.switches().intersects(Switches::STAY | Switches::LSTAY)
            || self.negotiations.starts() >= PLACEMENTS_MAX;
        let Some(here) = here.filter(|_| !stays && !others.is_empty()) else {
            return self.start_here(request, &job, out);
        };
        let settings = self.settings;
        let scene = self.scene(&here, &others, &settings);
        if self.policy.is_best_here(&scene, &job) {
            return self.start_here(request, &job, out);
        }
        let mut costs = Vec::with_capacity(others.len() + 1);
        self.policy.weigh_starts(&scene, &job, &mut costs, rng);
        let worth = costs
            .into_iter()
            .zip(scene.places())
            .map(|(cost, place)| Weighed { node: place.node, worth: -cost - TIE * rng.random::<f64>() });
        let mut weighed: Vec<Weighed> = worth.collect();
        match self.policy.handshake() {
            Handshake::Never => match best(&weighed) {
                Some(node) if node != self.me => out.push(Action::Start { request, at: node, ticket: None }),
                _ => self.start_here(request, &job, out),
            },
            Handshake::Ask { best, random } => {
                weighed.retain(|one| one.node != self.me);
                let asked = shortlist(weighed, best, random, rng);
                self.ask(now, Subject::Start(request), job, bounds, asked, out);
            }
        }
    }

    pub(super) fn start_here(&mut self, request: u64, job: &Job, out: &mut Vec<Action>) {
        self.own.begin(job.width, job.memory_mb);
        out.push(Action::Start { request, at: self.me, ticket: None });
    }

    /// Looks whether a process of this node should move, to `only` if that is given.
    pub(super) fn look(
        &mut self,
        now: Duration,
        only: Option<NodeId>,
        rng: &mut dyn Rng,
        out: &mut Vec<Action>,
    ) {
        let at_once = match self.policy.handshake() {
            // Who asks nobody sees only at the next news what its last move has done.
            Handshake::Never => 1,
            Handshake::Ask { .. } => self.settings.moves_at_once,
        };
        let busy =
            self.outgoing.len() >= at_once || self.negotiations.is_moving() || self.own.link_busy_s() > 0.0;
        if busy || !self.policy.moves() || self.own.jobs().is_empty() {
            return;
        }
        let Some(here) = self.here(now) else { return };
        let fastest =
            self.window.known(now).map(|known| self.state_of(known.sound).speed).fold(0.0, f64::max);
        let silent = |local: &LocalJob| local.job.talk == Talk::default();
        if self.policy.is_content(&here.state, fastest) && self.own.jobs().iter().all(silent) {
            return;
        }
        let Some((local, weighed)) = self.best_move(now, &here, only) else { return };
        let subject = Subject::Move(local.id);
        match self.policy.handshake() {
            Handshake::Never => {
                if let Some(to) = best(&weighed) {
                    self.depart(&local, to, None, now, 0.0, out);
                }
            }
            Handshake::Ask { best, random } => {
                let asked = shortlist(weighed, best, random, rng);
                self.ask(now, subject, local.job, local.bounds, asked, out);
            }
        }
    }

    /// The process that gains most by moving, and what each place is worth for it.
    fn best_move(
        &self,
        now: Duration,
        here: &Place,
        only: Option<NodeId>,
    ) -> Option<(LocalJob, Vec<Weighed>)> {
        let switches = self.own.switches();
        let movable: Vec<&LocalJob> = self
            .own
            .jobs()
            .iter()
            .filter(|local| may_leave(&local.id, &local.bounds, self.me, switches))
            .filter(|local| self.stays.may_move(now, &local.id))
            .collect();
        let known: Vec<(&Sound, Place)> = self
            .window
            .known(now)
            .filter(|known| only.is_none_or(|only| known.sound.node() == only))
            .filter(|known| !self.is_sending_to(known.sound.node()))
            .map(|known| {
                let said = now.saturating_sub(known.age);
                (known.sound, self.there(known.sound.node(), said, self.state_of(known.sound)))
            })
            .collect();
        let others: Vec<Place> = known.iter().map(|(_, place)| *place).collect();
        let settings = self.settings;
        let scene = self.scene(here, &others, &settings);
        let jobs: Vec<Job> = movable.iter().map(|local| local.job).collect();
        let nominated = match self.policy.nominate(&scene, &jobs) {
            Nominees::All => 0..jobs.len(),
            Nominees::One(index) => index..index + 1,
            Nominees::Nobody => return None,
        };
        let mut gains = Vec::with_capacity(others.len());
        let mut chosen: Option<(f64, usize, Vec<f64>)> = None;
        for index in nominated {
            let local = movable[index];
            gains.clear();
            self.policy.weigh_moves(&scene, &local.job, &mut gains);
            for (gain, (sound, _)) in gains.iter_mut().zip(&known) {
                if !may_go(local.id.home, &local.bounds, sound, &self.classes) {
                    *gain = f64::NEG_INFINITY;
                }
            }
            let best = gains.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if best > 0.0 && chosen.as_ref().is_none_or(|(least, ..)| best > *least) {
                chosen = Some((best, index, gains.clone()));
            }
        }
        let (_, index, gains) = chosen?;
        let weighed = gains
            .iter()
            .zip(&others)
            .filter(|(gain, _)| **gain > f64::NEG_INFINITY)
            .map(|(gain, place)| Weighed { node: place.node, worth: *gain })
            .collect();
        Some((movable[index].clone(), weighed))
    }

    /// Puts the question to the candidates.
    fn ask(
        &mut self,
        now: Duration,
        subject: Subject,
        job: Job,
        bounds: Bounds,
        asked: Vec<NodeId>,
        out: &mut Vec<Action>,
    ) {
        let number = self.negotiations.number();
        out.extend(asked.iter().map(|to| Action::Send { to: *to, message: Message::Ask { number } }));
        let until = now + self.links.patience(asked.iter().copied(), self.settings.ask_timeout);
        out.push(Action::Wake { at: until });
        let candidates = asked.into_iter().map(|node| Candidate { node, said: None }).collect();
        let phase = Phase::Asking { since: now };
        let negotiation = Negotiation { subject, job, bounds, candidates, phase, until, again: 0, rounds: 0 };
        self.negotiations.insert(number, negotiation);
    }

    /// The others where a process with these bounds may go, as they are believed to be.
    fn others(&self, now: Duration, bounds: &Bounds, home: NodeId) -> Vec<Place> {
        self.window
            .known(now)
            .filter(|known| may_go(home, bounds, known.sound, &self.classes))
            .map(|known| {
                let said = now.saturating_sub(known.age);
                self.there(known.sound.node(), said, self.state_of(known.sound))
            })
            .collect()
    }

    pub(super) fn state_of(&self, sound: &Sound) -> State {
        sound.state(self.settings.thrash)
    }

    /// Whether a move to this node is going on: the next one waits, for one link carries both.
    pub(super) fn is_sending_to(&self, node: NodeId) -> bool {
        self.outgoing.iter().any(|outgoing| outgoing.to == node)
    }

    /// A move begins.
    pub(super) fn depart(
        &mut self,
        local: &LocalJob,
        to: NodeId,
        number: Option<u32>,
        now: Duration,
        promised_s: f64,
        out: &mut Vec<Action>,
    ) {
        let stay = self.here(now).map_or(0.0, |here| here.state.stretch_now());
        let ticket = number.map(|number| Ticket { asker: self.me, number });
        let (asked, number) = (number.is_some(), number.unwrap_or(0));
        self.outgoing.push(Outgoing { id: local.id, to, number, job: local.job, stay, promised_s, asked });
        self.own.leave(&local.id);
        out.push(Action::Move { id: local.id, to, ticket });
    }

    /// An idle node offers itself to those that make processes wait most.
    pub(super) fn invite(&mut self, now: Duration, out: &mut Vec<Action>) {
        let unwilling = Switches::BLOCK | Switches::NO_GUESTS | Switches::QUIET;
        if !self.policy.invites() || self.own.switches().intersects(unwilling) || !self.rooms.is_empty() {
            return;
        }
        let Some(here) = self.here(now).filter(|here| here.state.jobs < here.state.cpus) else { return };
        let Some(entry) = self.own.entry(now, &self.rooms) else { return };
        let mine = here.state.stretch(1.0, here.state.memory_mb);
        let mut slow: Vec<(f64, NodeId)> = self
            .window
            .known(now)
            .filter(|known| known.sound.entry().jobs_hundredths > 0)
            .map(|known| (self.state_of(known.sound).stretch_now(), known.sound.node()))
            .filter(|(stretch, _)| *stretch > INVITE_RATIO * mine)
            .collect();
        slow.sort_by(|one, other| other.0.total_cmp(&one.0));
        out.extend(
            slow.into_iter()
                .take(INVITE_NODES)
                .map(|(_, to)| Action::Send { to, message: Message::Invite { entry: entry.clone() } }),
        );
    }

    /// The window forgets whom it has no room for, but a process may be drawn to them: its home, and the nodes of its files.
    pub(super) fn ask_talked_to(&mut self, now: Duration, out: &mut Vec<Action>) {
        let jobs = self.own.jobs().iter().map(|local| &local.job).filter(|job| job.talk != Talk::default());
        let partners = jobs.flat_map(|job| {
            let owners = job.talk.files.iter().flatten().map(|(owner, _)| *owner);
            std::iter::once(job.home).chain(owners)
        });
        let unknown: BTreeSet<NodeId> = partners
            .filter(|partner| self.members.contains(*partner))
            .filter(|partner| self.window.of(*partner, now).is_none())
            .take(ASK_TALKED_TO)
            .collect();
        for to in unknown {
            let number = self.negotiations.number();
            out.push(Action::Send { to, message: Message::Ask { number } });
        }
    }

    /// Another node has room: is there something for it?
    pub(super) fn invited(
        &mut self,
        now: Duration,
        from: NodeId,
        entry: Entry,
        rng: &mut dyn Rng,
        out: &mut Vec<Action>,
    ) {
        if entry.node == from && self.members.contains(from) {
            self.window.learn(now, from, &entry, Duration::ZERO);
            self.look(now, Some(from), rng, out);
        }
    }
}

/// The node that is worth most.
fn best(weighed: &[Weighed]) -> Option<NodeId> {
    weighed.iter().max_by(|one, other| one.worth.total_cmp(&other.worth)).map(|one| one.node)
}

/// The best ones, and some of the others by chance.
fn shortlist(mut weighed: Vec<Weighed>, best: usize, random: usize, rng: &mut dyn Rng) -> Vec<NodeId> {
    weighed.sort_by(|one, other| other.worth.total_cmp(&one.worth));
    let mut rest = weighed.split_off(best.min(weighed.len()));
    while weighed.len() < best + random && !rest.is_empty() {
        weighed.push(rest.swap_remove(rng.random_range(0..rest.len())));
    }
    weighed.into_iter().map(|one| one.node).collect()
}
