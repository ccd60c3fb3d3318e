//! What a keeper tells of its processes: to the daemon, and to the logs.

use super::member::Member;
use super::slot::Traffic;
use super::{Keeper, Place};
use crate::journal;
use control::{KeeperStatus, Record, What};
use model::{NodeId, ProcessId};

impl Keeper {
    /// Notes down for `om log` what happened to a process.
    pub(super) fn record(&self, what: What, pid: i32, node: Option<NodeId>, cause: &str) {
        let process = self.members.get(&pid).map(Member::process);
        // One that is at home again, or has ended here, is no member any more.
        let process =
            process.or_else(|| Some(ProcessId { pid, start_ticks: procinfo::stat(pid).ok()?.start_ticks }));
        let Some(process) = process else { return };
        let name = procinfo::name(pid, pid).unwrap_or_default();
        let record = journal::now(what).process(process, name).cause(cause);
        journal::note(&self.setup.config.paths, Record { node, ..record });
    }

    /// What is known of each of them.
    pub(super) fn statuses(&self) -> Vec<KeeperStatus> {
        self.members.values().map(|member| self.status_of(member)).collect()
    }

    fn status_of(&self, member: &Member) -> KeeperStatus {
        match &self.place {
            Place::Away(away) if !member.is_home => {
                member.status(away.node, away.calls.traffic(member.process().pid))
            }
            _ => member.status(self.setup.config.node.id, Traffic::default()),
        }
    }

    /// Notes down what a process had used away that has ended.
    pub(super) fn note_end(&self, pid: i32) {
        let Some(member) = self.members.get(&pid) else { return };
        let status = self.status_of(member);
        journal::note_end(&self.setup.config.paths, status.process, member.name(), status.used_away());
    }
}
