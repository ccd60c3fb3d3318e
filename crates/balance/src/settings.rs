//! The constants of balancing, each with the measurement it rests on.
//!
//! "Measured" means: by the simulator (`crates/sim`) and the study before it, twenty policies in eight scenarios.

use std::time::Duration;

/// What moving and being away costs, before anything better is measured, and how eagerly nodes act.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Seconds that starting a program on another node takes longer than at home.
    pub remote_start_s: f64,
    /// Share of CPU time that being away costs beside forwarded calls.
    pub remote_overhead: f64,
    /// Seconds that a move takes without any memory.
    pub move_fixed_s: f64,
    /// Megabytes per second between two nodes.
    pub bandwidth_mb_s: f64,
    /// Seconds for a question and its answer between two nodes.
    pub round_trip_s: f64,
    /// How many times slower everything becomes on a node that has less memory than its processes use.
    pub thrash: f64,
    /// Gain of a move, in slowdowns of one process, below which it is not worth making. Measured: 0.2; below it moves
    /// double where memory is tight, above it nothing changes.
    pub theta: f64,
    /// How long a question to candidates may go unanswered, at most. Usually less: [`ASK_ROUND_TRIPS`].
    pub ask_timeout: Duration,
    /// Time between two looks at the own load.
    pub tick: Duration,
    /// Time between two messages of load information.
    pub spread: Duration,
    /// Mean age that load information should have, seconds.
    pub wanted_age_s: f64,
    /// A target whose link is booked for longer refuses moves.
    pub link_busy_max_s: f64,
    /// Moves of one node that go on at once, each to another target. A move is mostly waiting: for the other daemon, for
    /// agents that start, for the agreement.
    pub moves_at_once: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            remote_start_s: 0.02,
            remote_overhead: 0.0,
            move_fixed_s: 0.1,
            bandwidth_mb_s: 105.0,
            round_trip_s: 0.0005,
            thrash: 10.0,
            theta: 0.2,
            ask_timeout: Duration::from_millis(100),
            tick: Duration::from_secs(1),
            spread: Duration::from_millis(500),
            wanted_age_s: 2.0,
            link_busy_max_s: 2.0,
            moves_at_once: 3,
        }
    }
}

/// Candidates asked because they look best. Measured: one 1.10, two 1.07, three 1.06, four 1.05 (mean slowdown, memory
/// tight).
pub const ASK_BEST: usize = 3;

/// Candidates asked by chance, so that not everybody asks the same.
pub const ASK_RANDOM: usize = 2;

/// Round trips, of the slowest of those who are asked, after which an answer counts as lost.
pub const ASK_ROUND_TRIPS: f64 = 4.0;

/// Seconds for which an answer is waited for at least: the other daemon may be waiting for a CPU.
pub const ASK_S_MIN: f64 = 0.02;

/// Times that a question is put again which was not answered. With 30 % of messages lost and no second try, a quarter of all
/// programs found no place but home; measured (`sim run --loss 0.3`).
pub const ASK_AGAIN_MAX: u32 = 2;

/// Answers with which a decision is made although others are missing.
pub const ANSWERS_MIN: usize = 2;

/// Rounds of reserving before a new program starts at home.
pub const RESERVE_ROUNDS_MAX: usize = 6;

/// Seconds that a process stays where it is at least.
pub const RESIDENCY_S_MIN: f64 = 1.0;

/// A process stays this many times as long as its latest freeze took.
pub const RESIDENCY_FREEZES: f64 = 2.0;

/// Seconds for which a process is left alone that could not be moved; twice as long after each further failure, up to
/// [`MANUAL_REST_S`]. Else the one that gains most and cannot go would keep all others.
pub const FAILED_REST_S: f64 = 2.0;

/// Seconds for which balancing leaves a process alone that somebody has moved by hand.
pub const MANUAL_REST_S: f64 = 60.0;

/// Seconds of CPU that a new program is expected to use while none has ended yet.
pub const TYPICAL_CPU_S: f64 = 1.0;

/// Megabytes that a new program is expected to use while nothing is known of any.
pub const TYPICAL_MEMORY_MB: f64 = 64.0;

/// Seconds for which room is kept for a new program that was granted it.
pub const HOLD_START_S: f64 = 5.0;

/// Seconds for which room is kept for a process that moves, beyond twice the time its move should take.
pub const HOLD_MOVE_S: f64 = 10.0;

/// Seconds for which room is kept at most, whatever is asked for.
pub const HOLD_S_MAX: f64 = 300.0;

/// How much slower than the node it belongs to another must make a process before an idle node invites it.
pub const INVITE_RATIO: f64 = 1.2;

/// Nodes that an idle node invites at each tick.
pub const INVITE_NODES: usize = 2;

/// Nodes outside of the window that are asked at each tick, because a process here talks to them.
pub const ASK_TALKED_TO: usize = 2;

/// Share of waiting for memory (PSI `full`) from which a node counts as thrashing, whatever its memory looks like.
pub const PRESSURE_THRASHES: f64 = 0.1;
