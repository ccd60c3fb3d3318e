//! What was seen of each process at the last look, and what two looks tell: arithmetic, without reading anything.

use super::process::Away;
use model::{NodeId, ProcessId};
use procinfo::Glance;
use std::time::{Duration, Instant};

/// To whom a process belongs, as far as load is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// May be moved automatically.
    Job,
    /// Another node's, which is here.
    Guest,
    /// Stays where it is by the rules.
    Foreign,
    /// The cluster's own, or what is left here of a process that is away: no load of this node.
    Own,
}

/// One look at a process. What costs more is looked at only where something happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    pub(super) glance: Glance,
    /// CPU time and waiting for a CPU of the only thread, nanoseconds.
    pub(super) sched: Option<(u64, u64)>,
    /// Threads that run or wait for a CPU, where there are several.
    pub(super) running_threads: Option<f64>,
    /// Resident pages that are in no file.
    pub(super) anonymous_pages: Option<u64>,
}

impl Look {
    /// Whether anything happened in the process since a look before: else it needs no closer look.
    pub(super) fn is_active(before: Option<&Look>, now: &Glance) -> bool {
        matches!(now.state, b'R' | b'D')
            || before.is_none_or(|before| before.glance.cpu_ticks != now.cpu_ticks)
    }
}

/// What a process wanted between two looks, in threads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Demand {
    /// Threads with work: those that run, wait for a CPU, or for swapped-out memory.
    pub(super) runnable: f64,
    /// Those of them that wait for memory.
    pub(super) waiting: f64,
}

impl Demand {
    /// From one look, and from the one before if there was one so long ago.
    ///
    /// For a process with one thread the kernel has kept the time for which it ran or waited for a CPU; several threads
    /// are counted as they are found. A process that sleeps uninterruptibly waits for memory if it had to read a page
    /// since the last look.
    pub(super) fn between(before: Option<(&Look, Duration)>, now: &Look) -> Demand {
        let state = now.glance.state;
        let faulted = before.is_some_and(|(before, _)| now.glance.major_faults > before.glance.major_faults);
        let waiting = if state == b'D' && faulted { 1.0 } else { 0.0 };
        let found = now.running_threads.unwrap_or(if state == b'R' { 1.0 } else { 0.0 });
        let kept = before.and_then(|(before, time)| {
            let ((ran, waited), (ran_now, waited_now)) = (before.sched?, now.sched?);
            let ran = ran_now.saturating_sub(ran);
            if state == b'R' && ran == 0 {
                // It has waited all the time; that is added up only when its turn comes.
                return Some(1.0);
            }
            let wanted = Duration::from_nanos(ran.saturating_add(waited_now.saturating_sub(waited)));
            let share = wanted.as_secs_f64() / time.as_secs_f64();
            share.is_finite().then(|| share.clamp(0.0, 1.0))
        });
        Demand { runnable: kept.unwrap_or(found).max(waiting), waiting }
    }
}

/// What is known of a process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) id: ProcessId,
    pub(super) look: Look,
    pub(super) looked_at: Instant,
    pub(super) demand: Demand,
    /// CPU time that it used between the last two looks, clock ticks; 0 after the first.
    pub(super) ran_ticks: u64,
    pub(super) party: Option<Party>,
    /// The round in which its party was asked for.
    pub(super) judged: u64,
    /// The round in which it was last there.
    pub(super) seen: u64,
    /// CPU time before it became the program that it is, clock ticks.
    pub(super) earlier_ticks: u64,
    /// The same of what it has used away, milliseconds of the standard CPU.
    pub(super) earlier_away_ms: u64,
    /// What its keeper tells, if it is away.
    pub(super) away: Option<Away>,
    /// Its home and its pid there, if it is a guest.
    pub(super) guest: Option<(NodeId, i32)>,
}

impl Known {
    pub(super) fn first_seen(pid: i32, look: Look, now: Instant, round: u64) -> Known {
        Known {
            id: ProcessId { pid, start_ticks: look.glance.start_ticks },
            look,
            looked_at: now,
            demand: Demand::between(None, &look),
            ran_ticks: 0,
            party: None,
            judged: 0,
            seen: round,
            earlier_ticks: 0,
            earlier_away_ms: 0,
            away: None,
            guest: None,
        }
    }

    /// Takes in another look at the same process.
    pub(super) fn update(&mut self, look: Look, now: Instant) {
        let time = now.saturating_duration_since(self.looked_at);
        self.demand = Demand::between(Some((&self.look, time)), &look);
        self.ran_ticks = look.glance.cpu_ticks.saturating_sub(self.look.glance.cpu_ticks);
        if !look.glance.is_named_like(&self.look.glance) {
            self.party = None;
        }
        // What was not looked at again is what it was.
        let anonymous_pages = look.anonymous_pages.or(self.look.anonymous_pages);
        self.look = Look { anonymous_pages, ..look };
        self.looked_at = now;
    }

    /// Something is going on in it.
    pub(super) fn is_busy(&self) -> bool {
        self.demand.runnable > 0.0 || self.ran_ticks > 0
    }

    /// It became another program: what it did before does not count.
    pub(super) fn clear(&mut self) {
        self.earlier_ticks = self.look.glance.cpu_ticks;
        self.earlier_away_ms = self.away.map_or(0, |away| away.age_ms);
        self.party = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(state: u8, ticks: u64, major_faults: u64, sched: Option<(u64, u64)>) -> Look {
        let text = format!(
            "1 (x) {} 0 0 0 0 0 0 0 0 {major_faults} 0 {ticks} 0 0 0 0 0 1 0 5 0 9",
            char::from(state)
        );
        let glance = procinfo::parse_glance(text.as_bytes()).unwrap();
        Look { glance, sched, running_threads: None, anonymous_pages: None }
    }

    #[test]
    fn demand_is_what_was_used_and_what_was_waited_for() {
        let second = Duration::from_secs(1);
        let before = look(b'S', 0, 0, Some((1_000_000_000, 0)));
        let ran = |nanoseconds: u64, waited| Some((1_000_000_000 + nanoseconds, waited));
        for (now, runnable, waiting) in [
            (look(b'S', 0, 0, ran(0, 0)), 0.0, 0.0),
            // Half of the time it ran, for a quarter it waited for its turn.
            (look(b'S', 50, 0, ran(500_000_000, 250_000_000)), 0.75, 0.0),
            (look(b'R', 100, 0, ran(2_000_000_000, 0)), 1.0, 0.0),
            // It has not got a turn.
            (look(b'R', 0, 0, ran(0, 0)), 1.0, 0.0),
            (look(b'D', 0, 3, ran(0, 0)), 1.0, 1.0),
            // Uninterruptible, but not for memory.
            (look(b'D', 0, 0, ran(0, 0)), 0.0, 0.0),
            // The kernel keeps no times.
            (look(b'R', 9, 0, None), 1.0, 0.0),
            (look(b'S', 9, 0, None), 0.0, 0.0),
        ] {
            let demand = Demand::between(Some((&before, second)), &now);
            assert_eq!(demand, Demand { runnable, waiting }, "{now:?}");
        }
        let threads = Look { running_threads: Some(7.0), ..look(b'S', 1, 0, None) };
        assert_eq!(Demand::between(Some((&before, second)), &threads).runnable, 7.0);
        assert_eq!(Demand::between(None, &look(b'R', 0, 0, None)).runnable, 1.0);
    }

    #[test]
    fn only_where_something_happens_a_closer_look_is_needed() {
        let before = look(b'S', 5, 0, None);
        for (state, ticks, active) in [(b'S', 5, false), (b'S', 6, true), (b'R', 5, true), (b'D', 5, true)] {
            assert_eq!(Look::is_active(Some(&before), &look(state, ticks, 0, None).glance), active);
        }
        assert!(Look::is_active(None, &before.glance));
    }

    #[test]
    fn another_program_is_judged_anew() {
        let start = Instant::now();
        let mut known = Known::first_seen(1, look(b'R', 50, 0, None), start, 1);
        known.party = Some(Party::Job);
        known.update(look(b'S', 70, 0, None), start + Duration::from_secs(1));
        assert_eq!((known.ran_ticks, known.party, known.is_busy()), (20, Some(Party::Job), true));
        let node = NodeId::new(2).unwrap();
        known.away =
            Some(Away { node, memory_bytes: 0, cpu_ms: 300, age_ms: 500, forwarded: 0, carried_bytes: 0 });
        known.clear();
        assert_eq!((known.earlier_ticks, known.earlier_away_ms, known.party), (70, 500, None));
        let units = super::super::process::Units { ticks_per_second: 100, page_bytes: 4096, speed: 10_000 };
        let state = super::super::process::ProcessState::of(&known, &units);
        assert_eq!((state.age_ms, state.cpu_ms), (0, 1000));
    }

    proptest! {
        #[test]
        fn demand_is_a_number_of_threads(
            state in prop::sample::select(vec![b'R', b'S', b'D', b'Z']),
            sched in any::<[Option<(u64, u64)>; 2]>(), millis in 0_u64..5000, faults in any::<[u64; 2]>(),
        ) {
            let before = look(b'S', 0, faults[0], sched[0]);
            let now = look(state, 1, faults[1], sched[1]);
            let demand = Demand::between(Some((&before, Duration::from_millis(millis))), &now);
            prop_assert!((0.0..=1.0).contains(&demand.runnable) && demand.waiting <= demand.runnable);
        }
    }
}
