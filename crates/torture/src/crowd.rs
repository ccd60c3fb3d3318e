//! The processes of a run: all that are on the first node and do not belong to the lab.

use lab::NodeState;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What every agent of ours, and the daemon, is.
const DAEMON: &str = "omd";

/// A process of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its pid on its node.
    pub(crate) pid: i32,
    /// The kernel's letter for its state.
    pub(crate) state: u8,
}

/// Finds the processes of a run.
pub(crate) struct Crowd {
    proc: PathBuf,
    /// What was there before the run: pid and start time.
    before: BTreeSet<(i32, u64)>,
    /// This very program, which also is what brings the command into the node.
    own: PathBuf,
}

impl Crowd {
    /// To be called before the run begins: what is there then does not belong to it.
    pub(crate) fn before(home: &NodeState) -> Crowd {
        let proc = home.seen_from_outside("/proc");
        let own = std::env::current_exe().unwrap_or_default();
        let mut crowd = Crowd { proc, before: BTreeSet::new(), own };
        crowd.before = crowd.all().into_iter().map(|(member, start)| (member.pid, start)).collect();
        crowd
    }

    /// Every process of the run that has not ended.
    pub(crate) fn members(&self) -> Vec<Member> {
        let all = self.all().into_iter();
        let ours = all.filter(|(member, start)| !self.before.contains(&(member.pid, *start)));
        let living = ours.map(|(member, _)| member).filter(|member| !matches!(member.state, b'Z' | b'X'));
        living.filter(|member| !self.is_of_the_lab(member.pid)).collect()
    }

    fn all(&self) -> Vec<(Member, u64)> {
        let entries = fs::read_dir(&self.proc).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        // One that cannot be read has just ended.
        let stats = pids.filter_map(|pid| Some((pid, procinfo::stat_in(&self.proc, pid).ok()?)));
        stats.map(|(pid, stat)| (Member { pid, state: stat.state }, stat.start_ticks)).collect()
    }

    /// Agents of the daemon, and what holds the command in its node.
    fn is_of_the_lab(&self, pid: i32) -> bool {
        let program = fs::read_link(self.proc.join(pid.to_string()).join("exe"));
        program.is_ok_and(|program| program == self.own || program.ends_with(Path::new(DAEMON)))
    }

    /// What a process is doing, for the reader of a failure.
    pub(crate) fn describe(&self, member: &Member) -> String {
        let directory = self.proc.join(member.pid.to_string());
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        let words =
            |text: &str| text.split(['\0', ' ', '\n']).collect::<Vec<_>>().join(" ").trim().to_owned();
        let threads = fs::read_dir(directory.join("task")).into_iter().flatten().count();
        format!(
            "process {} ({}), state {}, {threads} threads, in {} of call {}",
            member.pid,
            words(&read("cmdline")),
            char::from(member.state),
            words(&read("wchan")),
            words(&read("syscall")),
        )
    }
}
