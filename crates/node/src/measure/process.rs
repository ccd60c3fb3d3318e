//! What is known of a process, as others get it.

use super::table::{Known, Party};
use model::limits::SPEED_STANDARD;
use model::{NodeId, ProcessId};

/// What a node knows of one of its processes, or of a guest.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessState {
    /// The process, by its pid here.
    pub id: ProcessId,
    /// Its command name.
    pub name: String,
    /// Its parent.
    pub parent: i32,
    /// To whom it belongs; unknown as long as it has never done anything.
    pub party: Option<Party>,
    /// Threads with work, on average since the last look.
    pub runnable: f64,
    /// It waits for memory that must be read back.
    pub waits_for_memory: bool,
    /// CPU time that it used, here and away, milliseconds.
    pub cpu_ms: u64,
    /// The same since it became the program that it is, in milliseconds of the standard CPU.
    pub age_ms: u64,
    /// Resident memory where it runs, bytes.
    pub resident_bytes: u64,
    /// Resident memory that is in no file, and would travel, bytes; unknown where nobody told.
    pub dirty_bytes: Option<u64>,
    /// Page faults that needed no input, here.
    pub minor_faults: u64,
    /// Page faults that did, here.
    pub major_faults: u64,
    /// Where it is and what it does there, if it is away.
    pub away: Option<Away>,
    /// Its home and its pid there, if it is a guest.
    pub guest: Option<(NodeId, i32)>,
}

/// What a keeper tells of a process that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// The node that runs it.
    pub node: NodeId,
    /// Resident memory there, bytes.
    pub memory_bytes: u64,
    /// CPU time used away, milliseconds.
    pub cpu_ms: u64,
    /// The same in milliseconds of the standard CPU, by the speeds of the nodes where it was used.
    pub age_ms: u64,
    /// System calls that its home has done for it.
    pub forwarded: u64,
    /// Bytes that they have carried.
    pub carried_bytes: u64,
}

impl Away {
    /// Takes in a later report. `speed` is that of the node which runs it now.
    pub(super) fn after(before: Option<Away>, report: Away, speed: u32) -> Away {
        let (cpu_ms, aged_ms) = before.map_or((0, 0), |before| (before.cpu_ms, before.age_ms));
        let more = age_ms(report.cpu_ms.saturating_sub(cpu_ms), speed);
        Away { age_ms: aged_ms.saturating_add(more), ..report }
    }
}

/// CPU time of a CPU of this speed in milliseconds of the standard CPU.
pub fn age_ms(cpu_ms: u64, speed: u32) -> u64 {
    let age = u128::from(cpu_ms) * u128::from(speed) / u128::from(SPEED_STANDARD);
    age.min(u64::MAX.into()) as u64
}

/// The units in which the kernel counts, and the speed of the CPUs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Units {
    pub(super) ticks_per_second: u64,
    pub(super) page_bytes: u64,
    pub(super) speed: u32,
}

impl Units {
    /// Those of this machine.
    pub(super) fn own(speed: u32) -> Units {
        Units {
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            page_bytes: rustix::param::page_size() as u64,
            speed,
        }
    }

    pub(super) fn milliseconds(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(1000) / self.ticks_per_second
    }
}

impl ProcessState {
    pub(super) fn of(known: &Known, units: &Units) -> ProcessState {
        let glance = &known.look.glance;
        let own_ms = units.milliseconds(glance.cpu_ticks);
        let here_ms = units.milliseconds(glance.cpu_ticks.saturating_sub(known.earlier_ticks));
        let bytes = |pages: u64| pages.saturating_mul(units.page_bytes);
        let (away_ms, away_age_ms) = known.away.map_or((0, 0), |away| (away.cpu_ms, away.age_ms));
        ProcessState {
            id: known.id,
            name: glance.name(),
            parent: glance.parent,
            party: known.party,
            runnable: known.demand.runnable,
            waits_for_memory: known.demand.waiting > 0.0,
            cpu_ms: own_ms.saturating_add(away_ms),
            age_ms: age_ms(here_ms, units.speed)
                .saturating_add(away_age_ms.saturating_sub(known.earlier_away_ms)),
            resident_bytes: known.away.map_or(bytes(glance.resident_pages), |away| away.memory_bytes),
            // A deputy is empty: its own pages tell nothing.
            dirty_bytes: if known.away.is_some() { None } else { known.look.anonymous_pages.map(bytes) },
            minor_faults: glance.minor_faults,
            major_faults: glance.major_faults,
            away: known.away,
            guest: known.guest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_counted_by_the_standard_cpu() {
        for (cpu_ms, speed, age) in [
            (1000, SPEED_STANDARD, 1000),
            (1000, SPEED_STANDARD / 2, 500),
            (1000, 3 * SPEED_STANDARD, 3000),
            (0, 7, 0),
        ] {
            assert_eq!(age_ms(cpu_ms, speed), age);
        }
        assert_eq!(age_ms(u64::MAX, u32::MAX), u64::MAX);
    }

    #[test]
    fn time_away_counts_by_the_speed_of_where_it_was_used() {
        let report = |number, cpu_ms| Away {
            node: NodeId::new(number).unwrap(),
            memory_bytes: 1,
            cpu_ms,
            age_ms: 0,
            forwarded: 0,
            carried_bytes: 0,
        };
        let slow = Away::after(None, report(2, 1000), SPEED_STANDARD / 2);
        let fast = Away::after(Some(slow), report(3, 1500), 2 * SPEED_STANDARD);
        assert_eq!((slow.age_ms, fast.age_ms, fast.node.get()), (500, 1500, 3));
        // A keeper that began anew.
        assert_eq!(Away::after(Some(fast), report(3, 10), SPEED_STANDARD).age_ms, 1500);
    }
}
