//! How much memory a node should keep free now: more, the faster it is being filled. Arithmetic, without reading anything.

use super::Memory;
use std::time::{Duration, Instant};

/// The part of its memory that a node keeps free where nothing grows, one part in so many: for the kernel and for surprises.
const SPARED: u64 = 20;
/// The largest part that it keeps free for what grows.
const SPARED_AT_MOST: u64 = 4;
/// What grows is expected to go on growing for so long: a process must be chosen, agreed on, and moved meanwhile.
const LEAD: Duration = Duration::from_secs(2);
/// Of the speed at which memory was filled, what still counts a second later if nothing is filled any more.
const FADES: f64 = 0.3;
/// After an alarm, the next is given when so many parts in ten of what was left have gone, too.
const WORSE_TENTHS: u64 = 7;
/// Parts in ten of the reserve that must be free before the next shortage is a new one.
const RELIEVED_TENTHS: u64 = 12;
/// Time between two looks at least, for a speed that is one.
const APART: Duration = Duration::from_millis(10);

/// What is known from looks at the memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Headroom {
    last: Option<(Instant, u64)>,
    /// Bytes that were filled each second, lately.
    filling: f64,
    reserve: u64,
    /// What was left at the last alarm, as long as that shortage lasts.
    alarmed: Option<u64>,
}

impl Headroom {
    /// Takes in a look; whether memory has just become short, or much shorter.
    pub(super) fn look(&mut self, now: Instant, memory: Memory) -> bool {
        self.take_speed(now, memory.available);
        let growth = (self.filling * LEAD.as_secs_f64()) as u64;
        self.reserve = growth.min(memory.total / SPARED_AT_MOST).max(memory.total / SPARED);
        let left = memory.available;
        if left >= self.reserve {
            if left.saturating_mul(10) > self.reserve.saturating_mul(RELIEVED_TENTHS) {
                self.alarmed = None;
            }
            return false;
        }
        let worse = |before: u64| left.saturating_mul(10) < before.saturating_mul(WORSE_TENTHS);
        let alarms = self.alarmed.is_none_or(worse);
        if alarms {
            self.alarmed = Some(left);
        }
        alarms
    }

    /// What should be free now, bytes.
    pub(super) fn reserve(&self) -> u64 {
        self.reserve
    }

    fn take_speed(&mut self, now: Instant, available: u64) {
        let Some((at, before)) = self.last else {
            self.last = Some((now, available));
            return;
        };
        let time = now.saturating_duration_since(at);
        if time < APART {
            return;
        }
        let filled = before.saturating_sub(available) as f64 / time.as_secs_f64();
        self.filling = filled.max(self.filling * FADES.powf(time.as_secs_f64()));
        self.last = Some((now, available));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A headroom after looks at what was available of 1000, so many milliseconds apart, and the alarms they gave.
    fn looks(apart_ms: u64, available: &[u64]) -> (Headroom, Vec<bool>) {
        let (mut headroom, mut now) = (Headroom::default(), Instant::now());
        let alarms = available.iter().map(|&available| {
            now += Duration::from_millis(apart_ms);
            headroom.look(now, Memory { total: 1000, free: 0, available })
        });
        let alarms = alarms.collect();
        (headroom, alarms)
    }

    #[test]
    fn what_rests_alarms_at_the_edge_and_once() {
        let (headroom, alarms) = looks(60_000, &[600, 100, 49, 48, 47, 30, 29, 55, 48, 70, 48]);
        assert_eq!(headroom.reserve(), 50);
        // Once for the shortage, once for a much worse one; 55 is no end of it, 70 is.
        let expected = [false, false, true, false, false, true, false, false, false, false, true];
        assert_eq!(alarms, expected);
    }

    #[test]
    fn what_grows_alarms_before_the_edge() {
        // 75 each second: in two seconds 150 would be filled.
        let (headroom, alarms) = looks(200, &[500, 485, 170, 155, 140]);
        assert_eq!(headroom.reserve(), 250, "the fast one before counts, but not beyond its bound");
        assert_eq!(alarms, [false, false, true, false, false]);
        let (_, alarms) = looks(200, &[185, 170, 155, 140]);
        assert_eq!(alarms, [false, false, false, true]);
        // The same in the end, but nothing grows.
        let (_, alarms) = looks(200, &[140, 140, 140]);
        assert_eq!(alarms, [false; 3]);
    }

    #[test]
    fn a_speed_fades() {
        let (headroom, _) = looks(1000, &[900, 800, 800, 800, 800, 800]);
        assert_eq!(headroom.reserve(), 50);
        // Looks that come together are one.
        let (headroom, _) = looks(0, &[900, 100]);
        assert_eq!(headroom.reserve(), 50);
    }
}
