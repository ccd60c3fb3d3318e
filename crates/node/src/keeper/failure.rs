//! What it means for a process that a move of it has failed: it goes on, it has ended by itself, or it is lost.

use super::{Keeper, Place};
use crate::journey;
use control::What;
use migration::Owner;
use model::one_line;
use std::time::Duration;

/// How long a process may take from losing its memory, when it ends, to counting as ended.
const DYING: Duration = Duration::from_millis(200);

impl Keeper {
    /// What failed because the process was ending is no failure, unless it was ended here.
    pub(super) fn excuse(&self, pid: i32, error: journey::Error) -> journey::Error {
        let has_reason = !error.to_refusal().reasons.0.is_empty();
        if has_reason || !self.is_dying(pid) {
            return error;
        }
        tracing::debug!(pid, error = one_line(&error), "it ended on its way");
        journey::Error::Ended
    }

    /// Whether a member is ending by itself, or has been killed by somebody: one that was ended here is no member any more.
    fn is_dying(&self, pid: i32) -> bool {
        self.members.get(&pid).is_some_and(|member| member.ends_within(DYING))
    }

    /// Whether something failed because the process was ending, while nothing here could have ended it: its threads are
    /// stopped, or do not run here.
    pub(super) fn was_its_end(&self, pid: i32, error: &journey::Error) -> bool {
        tells_its_end(error) || self.is_dying(pid)
    }

    /// After a failed hand-over away from where the process was: if it is not there any more, nobody here could serve it
    /// elsewhere, and it ends. Gives what is to be told about it.
    pub(super) fn abide_by(
        &mut self,
        pid: i32,
        owner: Owner,
        (error, has_ended): (journey::Error, bool),
    ) -> journey::Error {
        match owner {
            Owner::Here => error,
            // It was killed by somebody else in the middle of it: nothing was lost that it still needed.
            Owner::There | Owner::Unknown if has_ended => {
                self.part_with(pid, "it has ended");
                journey::Error::Ended
            }
            Owner::There | Owner::Unknown => {
                self.give_up_one(pid, What::Lost, &one_line(&error));
                error
            }
        }
    }

    /// Nobody knows how far the remote got, so the process must not go on.
    pub(super) fn give_up_one(&mut self, pid: i32, what: What, why: &str) {
        let home = self.setup.config.node.id;
        let node = if let Place::Away(away) = &self.place { away.node } else { home };
        if let Some(member) = self.members.get(&pid) {
            member.end(&self.setup.config.paths, what, node, why);
        }
        self.part_with(pid, why);
    }

    /// The host, or what was there, is lost for good.
    pub(super) fn give_up(&mut self, what: What, why: &str) {
        // They need it no more, and it parts as soon as it has heard of the last one.
        if let Place::Away(away) = &self.place {
            away.calls.files_are_lost();
        }
        self.bury(self.dead());
        for pid in self.members.keys().copied().collect::<Vec<_>>() {
            self.give_up_one(pid, what, why);
        }
        self.farewell();
    }
}

/// Whether an error says that the process had ended: its threads are stopped, and nothing but SIGKILL ends them.
pub(super) fn tells_its_end(error: &journey::Error) -> bool {
    matches!(error, journey::Error::Ended | journey::Error::Process(tracee::Error::Gone(_)))
}
