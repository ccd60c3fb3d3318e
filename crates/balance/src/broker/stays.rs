//! How long processes have been here and how often they have moved: what keeps them from wandering.

use crate::job::JobId;
use crate::settings::{MANUAL_REST_S, RESIDENCY_FREEZES, RESIDENCY_S_MIN};
use model::limits::{JOBS_MAX, MOVES_PER_MINUTE_MAX};
use std::collections::BTreeMap;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Processes that are remembered at most: as many as are looked at, and as many that have come since.
pub(super) const STAYS_MAX: usize = 2 * JOBS_MAX;

#[derive(Clone, Debug, Default)]
struct Stay {
    /// Balancing leaves it alone until then.
    rests_until: Duration,
    /// Its moves within the last minute.
    moves: Vec<Duration>,
}

/// What is known of processes that came here, or were touched by somebody's hand.
#[derive(Debug, Default)]
pub(super) struct Stays(BTreeMap<JobId, Stay>);

impl Stays {
    /// It has come, after a freeze of this length and these moves before (milliseconds ago).
    pub(super) fn landed(&mut self, now: Duration, id: JobId, frozen_s: f64, before_ms: &[u32]) {
        let rest_s = (RESIDENCY_FREEZES * frozen_s).clamp(RESIDENCY_S_MIN, MANUAL_REST_S);
        let mut moves: Vec<Duration> =
            before_ms.iter().map(|ago| now.saturating_sub(Duration::from_millis(u64::from(*ago)))).collect();
        moves.push(now);
        self.make_room();
        self.0.insert(id, Stay { rests_until: now + Duration::from_secs_f64(rest_s), moves });
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

    /// Keeps only those for which `here` holds.
    pub(super) fn retain(&mut self, mut here: impl FnMut(&JobId) -> bool) {
        self.0.retain(|id, _| here(id));
    }
}
