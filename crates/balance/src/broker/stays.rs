//! How long processes have been here and how often they have moved: what keeps them from wandering.

use super::rooms::Ticket;
use crate::job::JobId;
use crate::settings::{FAILED_REST_S, MANUAL_REST_S, RESIDENCY_FREEZES, RESIDENCY_S_MIN};
use model::limits::{JOBS_MAX, MOVES_PER_MINUTE_MAX};
use std::collections::BTreeMap;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const MANUAL_REST: Duration = Duration::from_secs(MANUAL_REST_S as u64);

/// How long a process stays at least that has stood still for so many seconds.
fn residency(frozen_s: f64) -> Duration {
    Duration::from_secs_f64((RESIDENCY_FREEZES * frozen_s).clamp(RESIDENCY_S_MIN, MANUAL_REST_S))
}

/// Processes that are remembered at most: as many as are looked at, and as many that have come since.
pub(super) const STAYS_MAX: usize = 2 * JOBS_MAX;

#[derive(Clone, Debug, Default)]
struct Stay {
    /// Balancing leaves it alone until then.
    rests_until: Duration,
    /// Its moves within the last minute.
    moves: Vec<Duration>,
    /// Moves in a row that failed.
    failures: i32,
    /// When it came, and by which promise.
    came: Option<(Duration, Ticket)>,
}

/// What is known of processes that came here, or were touched by somebody's hand.
#[derive(Debug, Default)]
pub(super) struct Stays(BTreeMap<JobId, Stay>);

impl Stays {
    /// It has come, after a freeze of this length and these moves before (milliseconds ago).
    pub(super) fn landed(
        &mut self,
        now: Duration,
        id: JobId,
        ticket: Option<Ticket>,
        frozen_s: f64,
        before_ms: &[u32],
    ) {
        let mut moves: Vec<Duration> =
            before_ms.iter().map(|ago| now.saturating_sub(Duration::from_millis(u64::from(*ago)))).collect();
        moves.push(now);
        self.make_room();
        let came = ticket.map(|ticket| (now, ticket));
        self.0.insert(id, Stay { rests_until: now + residency(frozen_s), moves, failures: 0, came });
    }

    /// Who came by this promise has stood still for so long.
    pub(super) fn froze(&mut self, now: Duration, ticket: &Ticket, frozen_s: f64) {
        let came = |stay: &Stay| stay.came.filter(|(_, by)| by == ticket).map(|(at, _)| at);
        for stay in self.0.values_mut() {
            if let Some(at) = came(stay) {
                // Once: a promise's number is used again some day.
                stay.came = None;
                stay.rests_until = stay.rests_until.max((at + residency(frozen_s)).min(now + MANUAL_REST));
            }
        }
    }

    /// A move of it has failed.
    pub(super) fn failed(&mut self, now: Duration, id: JobId) {
        self.make_room();
        let stay = self.0.entry(id).or_default();
        let rest_s = (FAILED_REST_S * 2_f64.powi(stay.failures)).min(MANUAL_REST_S);
        stay.failures = stay.failures.saturating_add(1);
        stay.rests_until = stay.rests_until.max(now + Duration::from_secs_f64(rest_s));
    }

    /// Somebody has moved it by hand.
    pub(super) fn ordered(&mut self, now: Duration, id: JobId) {
        self.make_room();
        self.0.entry(id).or_default().rests_until = now + Duration::from_secs_f64(MANUAL_REST_S);
    }

    /// Somebody is forgotten, and may move again, before the table grows without bound.
    fn make_room(&mut self) {
        if self.0.len() >= STAYS_MAX {
            self.0.pop_first();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it may move now.
    pub(super) fn may_move(&self, now: Duration, id: &JobId) -> bool {
        self.0.get(id).is_none_or(|stay| {
            let lately = stay.moves.iter().filter(|at| now.saturating_sub(**at) < MINUTE).count();
            now >= stay.rests_until && lately < MOVES_PER_MINUTE_MAX
        })
    }

    /// Its moves within the last minute, milliseconds ago.
    pub(super) fn moves_ms(&self, now: Duration, id: &JobId) -> Vec<u32> {
        let moves = self.0.get(id).map_or(&[][..], |stay| &stay.moves);
        let ago = moves.iter().map(|at| now.saturating_sub(*at)).filter(|ago| *ago < MINUTE);
        // Newest last: those beyond the bound could not have been made.
        ago.map(|ago| ago.as_millis() as u32).take(MOVES_PER_MINUTE_MAX).collect()
    }

    /// It is somebody else's now.
    pub(super) fn left(&mut self, id: &JobId) {
        self.0.remove(id);
    }

    /// Forgets those that are not here, when what is known of them does not matter any more. A process that sleeps is not
    /// seen for a while, and is no other when it wakes.
    pub(super) fn forget(&mut self, now: Duration, here: impl Fn(&JobId) -> bool) {
        let matters = |stay: &Stay| {
            now < stay.rests_until || stay.moves.iter().any(|at| now.saturating_sub(*at) < MINUTE)
        };
        self.0.retain(|id, stay| matters(stay) || here(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{NodeId, ProcessId};

    #[test]
    fn who_stood_still_long_stays_long() {
        let id = JobId { home: NodeId::new(1).unwrap(), process: ProcessId { pid: 1, start_ticks: 1 } };
        let ticket = Ticket { asker: NodeId::new(2).unwrap(), number: 3 };
        let second = Duration::from_secs(1);
        let mut stays = Stays::default();
        stays.landed(second, id, Some(ticket), 0.0, &[]);
        stays.froze(second, &Ticket { number: 4, ..ticket }, 10.0);
        assert!(stays.may_move(2 * second, &id), "that was about another");
        stays.froze(2 * second, &ticket, 10.0);
        assert!(!stays.may_move(20 * second, &id) && stays.may_move(21 * second, &id));
        stays.froze(30 * second, &ticket, 1e9);
        assert!(stays.may_move(30 * second, &id), "it is said once");
    }

    #[test]
    fn who_cannot_be_moved_is_tried_ever_more_seldom() {
        let id = JobId { home: NodeId::new(1).unwrap(), process: ProcessId { pid: 1, start_ticks: 1 } };
        let mut stays = Stays::default();
        let mut now = Duration::ZERO;
        for rest_s in [2, 4, 8, 16, 32, 60, 60] {
            assert!(stays.may_move(now, &id));
            stays.failed(now, id);
            now += Duration::from_secs(rest_s);
            assert!(!stays.may_move(now - Duration::from_millis(1), &id), "after {rest_s} s");
        }
        stays.landed(now, id, None, 0.0, &[]);
        now += Duration::from_secs(1);
        stays.failed(now, id);
        assert!(stays.may_move(now + Duration::from_secs(2), &id));
    }
}
