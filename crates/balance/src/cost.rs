//! One cost for all: the sum over processes of their expected slowdown.
//!
//! Placement takes the node where a new program makes the sum grow least ([`start`]); a move is worth what it takes off the
//! sum ([`gain`]). Memory ushering needs no rule of its own: on a node without memory the stretch holds the thrashing, so
//! the cheapest process whose leaving ends it wins by far, and a node that would thrash is never best. Input, output and
//! communication are stretch too: each second of CPU time brings calls that wait for the home, and bytes that come from
//! wherever the files are ([`stretch_by_talk`]), so who talks much stays with whom it talks to, or is drawn back.
//!
//! Everything here is a function of its arguments. Times are wall seconds, ages seconds of the standard CPU.

use crate::job::Job;
use crate::settings::Settings;
use crate::state::{Link, Place, State};
use model::NodeId;

/// Age plus remaining time that a process has at least, seconds: what is younger is not more important for it.
const LIFE_S_MIN: f64 = 0.25;

/// Expected CPU time of a new program at least, seconds.
const CPU_S_MIN: f64 = 0.02;

/// Seconds after which a newcomer on a full node has pushed an older process away.
const DISPLACEMENT_S: f64 = 0.5;

/// Seconds that a displacement costs the displaced beside the move.
const DISPLACEMENT_MOVE_S: f64 = 0.3;

/// Price of a displacement, slowdowns: it may fail.
const DISPLACEMENT_RISK: f64 = 0.05;

/// Wall seconds that a second of CPU time takes longer at `node`, because of whom the process talks to.
pub fn stretch_by_talk(job: &Job, node: NodeId, link: &Link) -> f64 {
    let calls = if node == job.home { 0.0 } else { job.talk.calls * link.round_trip_s };
    let far = job.talk.files.iter().flatten().filter(|(owner, _)| *owner != node);
    calls + far.map(|(_, megabytes)| megabytes / link.bandwidth_mb_s).sum::<f64>()
}

/// C of the study: by how much the sum of slowdowns grows if this new program starts at this place, directly.
///
/// `typical_s` is the CPU time that programs use typically.
pub fn start(job: &Job, place: &Place, typical_s: f64, settings: &Settings) -> f64 {
    let state = &place.state;
    let cpu_s = job.whole_s.unwrap_or(typical_s).max(CPU_S_MIN);
    let with = state.stretch_with(job.width, job.memory_mb);
    let away = if place.node == job.home {
        0.0
    } else {
        (settings.remote_start_s + settings.remote_overhead * cpu_s * with) / cpu_s
    };
    let harm = state.ages.harm(cpu_s, typical_s) * (with - state.stretch_now());
    with + away + stretch_by_talk(job, place.node, &place.link) + harm
}

/// The same by displacement: it starts at this place, which is full, and an old process soon leaves for the place where the
/// stretch is `elsewhere`. None if nobody there is old enough or may leave, or memory does not allow it.
pub fn start_by_displacement(
    job: &Job,
    place: &Place,
    elsewhere: f64,
    typical_s: f64,
    settings: &Settings,
) -> Option<f64> {
    let state = &place.state;
    let cpu_s = job.whole_s.unwrap_or(typical_s).max(CPU_S_MIN);
    let oldest = state.ages.oldest()?;
    let fits = state.memory_mb + job.memory_mb <= state.usable_mb;
    let old_enough = oldest >= cpu_s.max(4.0 * (place.link.fixed_s + DISPLACEMENT_S));
    if state.jobs < state.cpus || state.stays || !fits || !old_enough {
        return None;
    }
    let now = state.stretch_now();
    let with = state.stretch_with(job.width, job.memory_mb);
    let crowded = (DISPLACEMENT_S / cpu_s).min(1.0);
    let away = if place.node == job.home {
        0.0
    } else {
        settings.remote_start_s / cpu_s + settings.remote_overhead * now
    };
    let displaced = (oldest * (elsewhere - now).max(0.0) + place.link.fixed_s + DISPLACEMENT_MOVE_S)
        / (2.0 * oldest)
        + DISPLACEMENT_RISK;
    let talk = stretch_by_talk(job, place.node, &place.link);
    Some(crowded * with + (1.0 - crowded) * now + away + talk + displaced)
}

/// G of the study: by how much the sum of slowdowns falls if this process moves from `here` to `there`.
///
/// The move back, at an otherwise unchanged state, has the opposite gain less what two moves cost: so of two moves that
/// undo each other at most one is worth making.
pub fn gain(job: &Job, here: &Place, there: &Place, typical_s: f64, settings: &Settings) -> f64 {
    let (source, target) = (&here.state, &there.state);
    let remaining = job.remaining_s();
    let (stay, left) = (source.stretch_now(), source.stretch_without(job.width, job.memory_mb));
    let (before, with) = (target.stretch_now(), target.stretch_with(job.width, job.memory_mb));
    let own = remaining
        * (stay + stretch_by_talk(job, here.node, &there.link)
            - with
            - stretch_by_talk(job, there.node, &there.link))
        - move_s(job.memory_mb, here, there)
        - overhead_change(job, here, there, with, stay, settings) * remaining;
    own / (job.age_s + remaining).max(LIFE_S_MIN)
        + source.ages.without(job.age_s).harm(remaining, typical_s) * (stay - left)
        - target.ages.harm(remaining, typical_s) * (with - before)
}

/// F of the study: seconds that a move with so much memory takes, the wait for busy links included.
pub fn move_s(memory_mb: f64, here: &Place, there: &Place) -> f64 {
    let queue = here.state.link_busy_s.max(there.state.link_busy_s);
    there.link.fixed_s + memory_mb / there.link.bandwidth_mb_s + queue
}

/// What being away costs more there than here, for each second of CPU time.
fn overhead_change(job: &Job, here: &Place, there: &Place, with: f64, stay: f64, settings: &Settings) -> f64 {
    let at = |node: NodeId, stretch: f64| {
        if node == job.home { 0.0 } else { settings.remote_overhead * stretch }
    };
    at(there.node, with) - at(here.node, stay)
}

/// Least that [`start`] can be at a node in this state, whatever else is true there.
pub fn start_at_best(job: &Job, state: &State, typical_s: f64, settings: &Settings) -> f64 {
    let cpu_s = job.whole_s.unwrap_or(typical_s).max(CPU_S_MIN);
    1.0 / state.speed + settings.remote_start_s / cpu_s
}
