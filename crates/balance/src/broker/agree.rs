//! Answers come, or do not: a negotiation goes on until somebody keeps room or there is nobody left.

use super::negotiation::{Candidate, Negotiation, Phase, Subject};
use super::seek::TIE;
use super::{Action, Broker, CHECKS_MAX, Check, Outcome, Ticket};
use crate::cost;
use crate::entry::{KB_PER_MB, Sound};
use crate::job::{Job, JobId};
use crate::rules::may_go;
use crate::settings::{ANSWERS_MIN, ASK_AGAIN_MAX, HOLD_MOVE_S, HOLD_START_S, RESERVE_ROUNDS_MAX};
use crate::state::{Place, State};
use model::NodeId;
use rand::{Rng, RngExt as _};
use std::time::Duration;
use wire::balance::{Brief, Entry, Errand, Message, Refusal, Seen};

impl Broker {
    /// A candidate tells its true state.
    pub(super) fn told(
        &mut self,
        now: Duration,
        from: NodeId,
        number: u32,
        entry: Entry,
        rng: &mut dyn Rng,
        out: &mut Vec<Action>,
    ) {
        let Ok(sound) = Sound::judge(entry.clone()) else { return };
        if sound.node() != from {
            return;
        }
        let state = self.state_of(&sound);
        if self.checked(from, number, &state) {
            return;
        }
        let asking = self.negotiations.get(number).and_then(|negotiation| match negotiation.phase {
            Phase::Asking { since } => Some((negotiation, since)),
            Phase::Reserving { .. } => None,
        });
        let Some((negotiation, since)) = asking else {
            // Too late to be weighed, or asked for nothing but to be known.
            if self.members.contains(from) {
                self.window.learn(now, from, &entry, Duration::ZERO);
            }
            return;
        };
        let goes = may_go(negotiation.job.home, &negotiation.bounds, &sound, &self.classes);
        let Some(candidate) = negotiation.candidate(from) else { return };
        candidate.said = Some((state, since));
        if !goes {
            negotiation.drop_candidate(from);
        }
        let complete = negotiation.candidates.iter().all(|candidate| candidate.said.is_some());
        let age = now.saturating_sub(since);
        self.links.answered(from, age.as_secs_f64());
        self.window.learn(now, from, &entry, age);
        if complete {
            self.decide(now, number, rng, out);
        }
    }

    /// Weighs all candidates that have answered, and asks the best to keep room; or the best is here.
    fn decide(&mut self, now: Duration, number: u32, rng: &mut dyn Rng, out: &mut Vec<Action>) {
        let Some(negotiation) = self.negotiations.remove(number) else { return };
        let chosen = match &negotiation.subject {
            Subject::Start(_) => self.best_start(now, &negotiation, rng),
            Subject::Move(id) => self.best_target(now, id, &negotiation),
        };
        match (chosen.filter(|_| negotiation.rounds < RESERVE_ROUNDS_MAX), &negotiation.subject) {
            (Some(place), _) => self.request_room(now, number, negotiation, &place, out),
            (None, Subject::Start(request)) => self.start_here(*request, &negotiation.job, out),
            (None, Subject::Move(_)) => {}
        }
    }

    /// Where a new program starts best; none if that is here.
    fn best_start(&mut self, now: Duration, negotiation: &Negotiation, rng: &mut dyn Rng) -> Option<Place> {
        let others = self.answered(negotiation);
        let here = self.here(now)?;
        let settings = self.settings;
        let scene = self.scene(&here, &others, &settings);
        let mut costs = Vec::with_capacity(others.len() + 1);
        self.policy.weigh_starts(&scene, &negotiation.job, &mut costs, rng);
        let weighed = costs.into_iter().map(|cost| cost + TIE * rng.random::<f64>()).zip(scene.places());
        let (_, best) = weighed.min_by(|one, other| one.0.total_cmp(&other.0))?;
        (best.node != self.me).then_some(*best)
    }

    /// Where a process moves best; none if it stays or is no longer here.
    fn best_target(&self, now: Duration, id: &JobId, negotiation: &Negotiation) -> Option<Place> {
        let local = self.own.job(id).filter(|_| self.stays.may_move(now, id))?;
        let others = self.answered(negotiation);
        let here = self.here(now)?;
        let settings = self.settings;
        let scene = self.scene(&here, &others, &settings);
        let mut gains = Vec::with_capacity(others.len());
        self.policy.weigh_moves(&scene, &local.job, &mut gains);
        let (gain, best) = gains.into_iter().zip(&others).max_by(|one, other| one.0.total_cmp(&other.0))?;
        (gain > 0.0).then_some(*best)
    }

    fn answered(&self, negotiation: &Negotiation) -> Vec<Place> {
        let said = negotiation.candidates.iter().filter_map(|candidate| {
            let (state, asked) = candidate.said.as_ref()?;
            Some(self.there(candidate.node, *asked, *state))
        });
        said.collect()
    }

    fn request_room(
        &mut self,
        now: Duration,
        number: u32,
        mut negotiation: Negotiation,
        place: &Place,
        out: &mut Vec<Action>,
    ) {
        let (errand, hold_s, moves_ms) = match &negotiation.subject {
            Subject::Start(_) => (Errand::Start, HOLD_START_S, Vec::new()),
            Subject::Move(id) => {
                let move_s =
                    self.here(now).map_or(0.0, |here| cost::move_s(negotiation.job.memory_mb, &here, place));
                (Errand::Move, HOLD_MOVE_S + 2.0 * move_s, self.stays.moves_ms(now, id))
            }
        };
        let seen = Seen {
            jobs_hundredths: (place.state.jobs * 100.0).round() as u32,
            memory_taken_kb: (place.state.memory_mb * KB_PER_MB) as u64,
        };
        let hold_ms = (hold_s * 1000.0) as u32;
        let job = brief(&negotiation.job, errand, moves_ms);
        let request = Message::Reserve { number, seen, job, hold_ms };
        out.push(Action::Send { to: place.node, message: request.clone() });
        self.note(now, place.node, Some(number), 1.0, &negotiation.job);
        negotiation.phase = Phase::Reserving { node: place.node, since: now, seen, request };
        negotiation.again = 0;
        negotiation.until = now + self.links.patience(std::iter::once(place.node), self.settings.ask_timeout);
        negotiation.rounds += 1;
        out.push(Action::Wake { at: negotiation.until });
        self.negotiations.insert(number, negotiation);
    }

    /// Room is kept there.
    pub(super) fn granted(
        &mut self,
        now: Duration,
        from: NodeId,
        number: u32,
        rng: &mut dyn Rng,
        out: &mut Vec<Action>,
    ) {
        let waited = self
            .negotiations
            .get(number)
            .is_some_and(|one| matches!(one.phase, Phase::Reserving { node, .. } if node == from));
        if self.negotiations.is_taken_up(from, number) {
            return;
        }
        let release = Action::Send { to: from, message: Message::Release { number } };
        // One that waits for somebody else goes on waiting.
        let Some(negotiation) = waited.then(|| self.negotiations.remove(number)).flatten() else {
            return out.push(release);
        };
        self.negotiations.take_up(from, number);
        match negotiation.subject {
            Subject::Start(request) => {
                let ticket = Some(Ticket { asker: self.me, number });
                out.push(Action::Start { request, at: from, ticket });
            }
            Subject::Move(id) => match self.own.job(&id).cloned() {
                Some(local) if !self.is_sending_to(from) => {
                    let promised_s = self.promise(now, &local.job, &negotiation.candidates, from);
                    self.depart(&local, from, Some(number), now, promised_s, out);
                    self.look(now, None, rng, out);
                }
                _ => {
                    self.ledger.strike(from, number);
                    out.push(release);
                }
            },
        }
    }

    /// Seconds that a process itself gains by a move, by what its target has said.
    fn promise(&self, now: Duration, job: &Job, candidates: &[Candidate], to: NodeId) -> f64 {
        let said = candidates.iter().find(|candidate| candidate.node == to).and_then(|one| one.said);
        let (Some((state, _)), Some(here)) = (said, self.here(now)) else { return 0.0 };
        let there = Place { node: to, state, link: self.links.to(to) };
        let change = here.state.stretch_now() - state.stretch_with(job.width, job.memory_mb);
        job.remaining_s() * change - cost::move_s(job.memory_mb, &here, &there)
    }

    /// Room is not kept there.
    #[expect(clippy::too_many_arguments, reason = "a message, and what every step has")]
    pub(super) fn refused(
        &mut self,
        now: Duration,
        from: NodeId,
        number: u32,
        why: Refusal,
        entry: Entry,
        rng: &mut dyn Rng,
        out: &mut Vec<Action>,
    ) {
        let Some(negotiation) = self.negotiations.get(number) else { return };
        let Phase::Reserving { node, since, seen, .. } = negotiation.phase else { return };
        if node != from {
            return;
        }
        let sound = Sound::judge(entry.clone()).ok().filter(|sound| sound.node() == from);
        let (width, memory_mb) = (negotiation.job.width, negotiation.job.memory_mb);
        let state = sound.map(|sound| sound.state(self.settings.thrash));
        // Who refuses because it is fuller than it seemed, and does not say so, would be asked again and again.
        let worse = state.filter(|state| {
            let seemed = state.stretch(jobs_of(seen) + width, memory_mb_of(seen) + memory_mb);
            state.stretch_with(width, memory_mb) > seemed
        });
        match (why, worse) {
            (Refusal::Changed, Some(state)) => {
                if let Some(candidate) = negotiation.candidate(from) {
                    candidate.said = Some((state, since));
                }
                self.window.learn(now, from, &entry, now.saturating_sub(since));
            }
            _ => negotiation.drop_candidate(from),
        }
        self.ledger.strike(from, number);
        self.decide(now, number, rng, out);
    }

    /// Some have not answered in time: they are asked again, and then done without.
    pub(super) fn time_up(&mut self, now: Duration, rng: &mut dyn Rng, out: &mut Vec<Action>) {
        for number in self.negotiations.overdue(now) {
            let Some(negotiation) = self.negotiations.get(number) else { continue };
            let again = question_again(number, negotiation);
            if again.is_empty() {
                if let Phase::Reserving { node, .. } = negotiation.phase {
                    negotiation.drop_candidate(node);
                    self.ledger.strike(node, number);
                    out.push(Action::Send { to: node, message: Message::Release { number } });
                } else {
                    negotiation.candidates.retain(|candidate| candidate.said.is_some());
                }
                self.decide(now, number, rng, out);
                continue;
            }
            negotiation.again += 1;
            if let Phase::Asking { since } = &mut negotiation.phase {
                *since = now;
            }
            let asked = again.iter().map(|(to, _)| *to);
            negotiation.until = now + self.links.patience(asked, self.settings.ask_timeout);
            out.push(Action::Wake { at: negotiation.until });
            out.extend(again.into_iter().map(|(to, message)| Action::Send { to, message }));
        }
    }

    /// A move is over: whoever is next need not wait for the tick.
    pub(super) fn departed(
        &mut self,
        now: Duration,
        id: JobId,
        outcome: Outcome,
        rng: &mut dyn Rng,
        out: &mut Vec<Action>,
    ) {
        let Some(index) = self.outgoing.iter().position(|outgoing| outgoing.id == id) else { return };
        let outgoing = self.outgoing.swap_remove(index);
        let (to, number) = (outgoing.to, outgoing.number);
        match outcome {
            // The next sample has it again.
            Outcome::Failed => {
                self.give_back(to, number, out);
                self.stays.failed(now, id);
            }
            Outcome::Moved { took_s, frozen_s } => {
                let frozen_ms = (frozen_s * 1000.0) as u32;
                let froze = Message::Froze { number, frozen_ms };
                if outgoing.asked {
                    out.push(Action::Send { to, message: froze });
                }
                // What it has behind it travels with the promise.
                self.stays.left(&id);
                self.links.moved(to, outgoing.job.memory_mb, took_s);
                let number = self.negotiations.number();
                if self.checks.len() >= CHECKS_MAX {
                    self.checks.remove(0);
                }
                self.checks.push(Check { number, outgoing, took_s });
                out.push(Action::Send { to, message: Message::Ask { number } });
            }
        }
        self.look(now, None, rng, out);
    }

    /// Nothing has come of a promise: it counts no more, here and there.
    pub(super) fn give_back(&mut self, to: NodeId, number: u32, out: &mut Vec<Action>) {
        self.ledger.strike(to, number);
        out.push(Action::Send { to, message: Message::Release { number } });
    }

    /// Whether this was the answer to a question after a move; then the promise is compared with it.
    fn checked(&mut self, from: NodeId, number: u32, state: &State) -> bool {
        let hit = |check: &Check| check.number == number && check.outgoing.to == from;
        let Some(index) = self.checks.iter().position(hit) else { return false };
        let Check { outgoing, took_s, .. } = self.checks.swap_remove(index);
        let achieved = outgoing.job.remaining_s() * (outgoing.stay - state.stretch_now()) - took_s;
        self.theta.observe(outgoing.promised_s, achieved);
        true
    }
}

/// What is to be said again to whom; nothing if it has been said often enough, or can be done without.
fn question_again(number: u32, negotiation: &Negotiation) -> Vec<(NodeId, Message)> {
    if negotiation.again >= ASK_AGAIN_MAX {
        return Vec::new();
    }
    match &negotiation.phase {
        Phase::Reserving { node, request, .. } => vec![(*node, request.clone())],
        Phase::Asking { .. } => {
            let (told, silent): (Vec<_>, Vec<_>) =
                negotiation.candidates.iter().partition(|candidate| candidate.said.is_some());
            let enough = told.len() >= ANSWERS_MIN;
            let silent = silent.into_iter().filter(|_| !enough);
            silent.map(|candidate| (candidate.node, Message::Ask { number })).collect()
        }
    }
}

/// The processes that somebody saw on a node.
pub(super) fn jobs_of(seen: Seen) -> f64 {
    f64::from(seen.jobs_hundredths) / 100.0
}

/// Their memory.
pub(super) fn memory_mb_of(seen: Seen) -> f64 {
    seen.memory_taken_kb as f64 / KB_PER_MB
}

fn brief(job: &Job, errand: Errand, moves_ms: Vec<u32>) -> Brief {
    Brief {
        errand,
        home: job.home,
        memory_kb: (job.memory_mb * KB_PER_MB) as u64,
        age_ms: (job.age_s * 1000.0) as u64,
        width_hundredths: (job.width * 100.0).round() as u32,
        moves_ms,
    }
}
