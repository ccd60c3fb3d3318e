//! Incarnations: each life of the daemon has a higher number than all before.
//!
//! It is the time, so that it rises also where nothing can be written; and it is written down, so that it rises also
//! where the clock goes back. Where neither helps, the other nodes tell what they remember.

use crate::config::{Paths, write_file};
use std::time::{SystemTime, UNIX_EPOCH};

const FILE: &str = "incarnation";

/// The incarnation of this life.
pub(super) fn next(paths: &Paths) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let last = std::fs::read_to_string(paths.state.join(FILE)).ok().and_then(|text| text.trim().parse().ok());
    let incarnation = follow(now, last);
    note(paths, incarnation);
    incarnation
}

/// Writes down that this incarnation was used.
pub(super) fn note(paths: &Paths, incarnation: u64) {
    let path = paths.state.join(FILE);
    let made = std::fs::create_dir_all(&paths.state).map_err(crate::Error::file("make", &paths.state));
    if let Err(error) = made.and_then(|()| write_file(&path, &format!("{incarnation}\n"), 0o644)) {
        tracing::warn!(%error, "cannot keep this life's number; it follows from the clock");
    }
}

fn follow(now: u64, last: Option<u64>) -> u64 {
    // A file that somebody has spoilt is not followed into a corner from where nothing follows.
    let last = last.filter(|last| *last < membership::INCARNATION_MAX / 2);
    now.max(last.map_or(1, |last| last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_follow_each_other_whatever_the_clock_does() {
        for (now, last, next) in [
            (1000, None, 1000),
            (1000, Some(900), 1000),
            (10, Some(900), 901),
            (0, None, 1),
            (1000, Some(u64::MAX), 1000),
        ] {
            assert_eq!(follow(now, last), next, "{now} {last:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths { state: directory.path().join("state"), ..Paths::default() };
        let first = super::next(&paths);
        std::fs::write(paths.state.join(FILE), format!("{}\n", first + 1_000_000)).unwrap();
        assert_eq!(super::next(&paths), first + 1_000_001);
    }
}
