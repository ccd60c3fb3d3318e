//! The keeper: the one process of a lab that stays outside of its namespaces.
//!
//! ```text
//! creator ──leash──> keeper ──parent──> supervisor (pid 1) ──> node inits (pid 1 each) ──> ...
//! ```
//!
//! Whoever of this chain dies, the rest follows. The creator's death closes the leash, and the
//! keeper kills the supervisor; the keeper's death has the kernel kill the supervisor; and with a
//! pid namespace's first process the kernel kills all others. What the kernel does not remove by
//! itself (cgroups, state directory) the keeper does, and where it was killed the next `om lab`.
//!
//! A lab that shall outlive its creator is *let go*: one byte through the leash.

use crate::fork::{close_all_but, die_with_parent, fork, name_process, reset_signals, silence};
use crate::identity::{Hold, identify};
use crate::plan::Plan;
use crate::state;
use crate::supervisor;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{getpid, read, setsid};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Runs the keeper in a process forked for it; returns when the lab is gone and cleaned up after.
pub(crate) fn run(plan: &Plan, leash: &OwnedFd, report: OwnedFd) -> i32 {
    close_all_but(&[leash.as_raw_fd(), report.as_raw_fd()]);
    silence();
    name_process(c"om-lab-keeper");
    // Everything in the lab descends from here, and shall not inherit what the creator ignored or held back.
    reset_signals();
    // A terminal's ^C and a test runner's kill of the process group must not stop the cleaning.
    let _ = setsid();
    let Ok(own) = Hold::on_child(getpid()) else { return 1 };
    if unshare(CloneFlags::CLONE_NEWPID).is_err() {
        return 1;
    }
    let leash_number = leash.as_raw_fd();
    let forked = fork(|| {
        die_with_parent();
        // The keeper may have died before the line above.
        if own.ended_within(Some(0)) {
            return 1;
        }
        // Nobody but the creator and the keeper may hold the leash.
        let _ = nix::unistd::close(leash_number);
        name_process(c"om-lab-super");
        supervisor::run(plan, report)
    });
    let Ok(child) = forked else { return 1 };
    drop(own);
    close_all_but(&[leash.as_raw_fd()]);
    let Ok(supervisor) = Hold::on_child(child) else { return 1 };
    let identity = identify(child.as_raw());
    watch(leash, &supervisor);
    supervisor.kill();
    while waitpid(child, None) == Err(Errno::EINTR) {}
    if let Ok(Some(lock)) = state::lock_existing(&plan.name) {
        // Somebody may have cleaned up, and made a new lab of the same name, before us.
        let noted = state::read(&plan.name).ok().flatten().map(|state| state.supervisor);
        if noted.is_none() || noted == identity {
            let _ = lock.remove_remains();
        }
    }
    0
}

/// Waits until the supervisor is dead, or the creator of a lab that was not let go.
fn watch(leash: &OwnedFd, supervisor: &Hold) {
    loop {
        let mut waited = [
            PollFd::new(leash.as_fd(), PollFlags::POLLIN),
            PollFd::new(supervisor.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut waited, PollTimeout::NONE).is_err() {
            continue;
        }
        if waited[1].any() == Some(true) {
            return;
        }
        if waited[0].any() == Some(true) {
            match read(leash, &mut [0]) {
                Ok(1) => {
                    supervisor.ended_within(None);
                    return;
                }
                Err(Errno::EINTR) => {}
                _ => return,
            }
        }
    }
}
