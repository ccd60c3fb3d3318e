//! Waiting for what has no event of its own, such as the state of another process as the kernel shows it.

use crate::SOON;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(50);

/// Looks until what is seen is so; gives what was seen then.
pub fn looked_for(
    what: &str,
    mut look: impl FnMut() -> Result<String>,
    is_so: impl Fn(&str) -> bool,
) -> Result<String> {
    let deadline = Instant::now() + SOON;
    loop {
        let seen = look()?;
        if is_so(&seen) {
            return Ok(seen);
        }
        ensure!(Instant::now() < deadline, "{what} was never seen, only:\n{seen}");
        std::thread::sleep(PAUSE);
    }
}

/// Looks until a condition holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while !condition()? {
        ensure!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
