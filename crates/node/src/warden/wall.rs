//! The wall around a guest, as far as it is not made inside of it: what it may use, and what else its kernel denies it.

use crate::{Error, Setup, cgroup, machine};
use model::Session;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

/// Least memory that a guest is limited to, bytes: its kernel structures count too, however small it is.
const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// What a body needs to be born behind the wall.
#[derive(Debug)]
pub(super) struct Wall {
    doors: Vec<File>,
    /// The version of Landlock that is used.
    pub(super) landlock: Option<u32>,
}

impl Wall {
    /// Makes the groups of a guest and looks at what else this kernel offers.
    ///
    /// What is lacking is logged and done without, unless the configuration says that it is required.
    pub(super) fn put_up(setup: &Setup, session: Session) -> Result<Wall, Error> {
        let rules = &setup.config.guests;
        let landlock = kernel::landlock::version()
            .inspect_err(|errno| tracing::warn!(%errno, "no Landlock here: guests do without"))
            .ok();
        let limits = limits(setup);
        let doors = match cgroup::make(session, &limits) {
            Ok(groups) => {
                if !groups.lacking.is_empty() {
                    let lacking = groups.lacking.join(", ");
                    if rules.require_limits {
                        return Err(Error::Missing(
                            "limit guests: this node lacks a cgroup controller, and guests.require_limits is set",
                        ));
                    }
                    tracing::warn!(lacking, "no such cgroup controllers: guests are not limited in this");
                }
                groups.doors
            }
            Err(error) if rules.require_limits => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "guests are not limited here");
                Vec::new()
            }
        };
        tracing::info!(?limits, groups = doors.len(), landlock, "the wall");
        Ok(Wall { doors, landlock })
    }

    /// The files by which it joins its groups.
    pub(super) fn doors(&self) -> Vec<BorrowedFd<'_>> {
        self.doors.iter().map(AsFd::as_fd).collect()
    }
}

fn limits(setup: &Setup) -> cgroup::Limits {
    let rules = &setup.config.guests;
    let memory_bytes = match rules.memory_max_mb {
        // What the daemon has just found to be enough for the offer.
        0 => machine::memory().available.saturating_sub(rules.memory_reserve_mb << 20),
        megabytes => megabytes << 20,
    };
    cgroup::Limits {
        memory_bytes: memory_bytes.max(MEMORY_BYTES_MIN),
        tasks: u64::from(rules.tasks_max),
        cpu_weight: u64::from(rules.cpu_weight),
    }
}

/// Dropped when the guest is gone, it takes its groups down.
pub(super) struct TakenDown(pub(super) Session);

impl Drop for TakenDown {
    fn drop(&mut self) {
        cgroup::remove(self.0);
    }
}

/// Why a guest ended here that nobody has told to: one line.
pub(super) fn cause(session: Session) -> &'static str {
    if cgroup::killed_for_memory(session) > 0 {
        "the kernel ended the guest: it wanted more memory than guests.memory_max_mb or its host's free memory allows"
    } else {
        "the guest was ended on its host: by its kernel, by a 32-bit call of its own, or by its administrator"
    }
}
