//! The daemon's round: what dead agents have left is dealt with, whoever started them.

use super::Daemon;
use crate::{held, history};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often it is looked whether a keeper is dead that this daemon did not start; of its own children it hears at once.
const EVERY: Duration = Duration::from_secs(1);
/// Rounds between two looks at all sockets.
const ROUNDS_PER_LOOK: u32 = 10;

pub(super) fn start(daemon: &Arc<Daemon>) {
    let daemon: Weak<Daemon> = Arc::downgrade(daemon);
    std::thread::spawn(move || {
        for round in 0u32.. {
            let Some(daemon) = daemon.upgrade() else { return };
            let settled = held::settle(&daemon.setup.config.paths);
            if settled > 0 || round.is_multiple_of(ROUNDS_PER_LOOK) {
                daemon.agents.sweep();
                // Of the dead nobody has to know anything.
                history::all(&daemon.setup.config.paths);
            }
            drop(daemon);
            std::thread::sleep(EVERY);
        }
    });
}
