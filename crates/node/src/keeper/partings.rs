//! Processes of a family that end, or become other programs, while they are away: they leave all of their slots.
//!
//! Their host hears of it at once, and not from the keeper's main thread: that one may be waiting for somebody who waits
//! for this, a process for what it has made with `vfork`.

use super::calls::{Calls, lock};
use super::slot::{News, Tenant};
use nix::libc;
use std::path::Path;
use wire::session::{self, GoneOrder, Kind};

/// What a process asked for that it does not come back from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// To end.
    End,
    /// To become another program.
    Exec,
}

/// Whether a call that is carried out at home ends the process there.
pub(super) fn ends_its_process(nr: u32) -> bool {
    [libc::SYS_exit, libc::SYS_exit_group].contains(&i64::from(nr))
}

impl Calls {
    /// The process of a slot is about to leave.
    pub(super) fn may_part(&self, index: u32, how: Parting) {
        lock(&self.partings).push((index, how));
    }

    /// It has not left.
    pub(super) fn stays(&self, index: u32) {
        lock(&self.partings).retain(|&(other, _)| other != index);
    }

    /// Looks whether a process has left; `true` if one has. A call that succeeds has no result: its thread's list of
    /// robust futexes is gone, or, if it was not the leader, the thread itself, which is the leader now.
    pub(super) fn look_for_partings(&self) -> bool {
        let over = |tenant: &Tenant, index: u32| {
            let task = format!("/proc/{}/task/{}", tenant.pid, tenant.tid);
            self.shared.owner_died(index) || !Path::new(&task).exists()
        };
        // The list is not held meanwhile: whoever holds a slot may want it.
        let watched = lock(&self.partings).clone();
        let mut found = false;
        for (index, how) in watched {
            if let Some(tenant) = self.tenant(index).filter(|tenant| over(tenant, index)) {
                found |= self.let_go(tenant.pid, how);
            }
        }
        found | self.look_for_the_killed()
    }

    /// Looks whether a process was ended that had not asked for it; `true` if one was.
    pub(super) fn look_for_the_killed(&self) -> bool {
        let mut found = false;
        for index in self.used().filter(|&index| self.shared.owner_died(index)) {
            let leader = self.tenant(index).filter(|tenant| tenant.tid == tenant.pid);
            let Some(Tenant { pid, .. }) = leader else { continue };
            if procinfo::stat(pid).is_ok_and(|stat| !matches!(stat.state, b'Z' | b'X')) {
                continue;
            }
            found |= self.let_go(pid, Parting::End);
        }
        found
    }

    /// A process is served no more; its host hears of it once, whoever finds out first. `false` if somebody else has.
    pub(super) fn let_go(&self, pid: i32, how: Parting) -> bool {
        let found = self.release(pid);
        if found {
            // First: the host of the last one parts as soon as it hears of this.
            self.tell(match how {
                Parting::End => News::Ended { pid },
                Parting::Exec => News::Execed { pid },
            });
            // A lost connection is noticed, and dealt with, where frames are read.
            let has_files = self.own_files().is_some_and(|own| own.pid == pid);
            let _ = self.send(Kind::Gone, &[&session::encode(&GoneOrder { pid, has_files })]);
        }
        found
    }
}
