//! Where a call runs, and the row that says so.

use crate::arg::Arg;
use crate::condition::Condition;

/// Where a call of a migrated process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Where its memory is, natively and unseen.
    Local,
    /// At home, by its deputy; returns soon.
    Home,
    /// At home, by its deputy; may wait for something.
    HomeBlocking,
    /// By code of its own in the warden.
    Special(Special),
    /// The process comes home first, and runs it there natively.
    GoHome,
    /// Nowhere: x86-64 kernels answer `ENOSYS`.
    Obsolete,
}

/// Calls that the warden treats one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Mapping something else than private anonymous memory.
    Mmap,
    /// Sleeping for a relative time: the warden notes when it began, then lets it go on locally, so that a process
    /// that moves in the middle sleeps only for the rest.
    Sleep,
    /// Setting a signal's disposition: done locally, and known to the deputy.
    Sigaction,
    /// A thread makes a thread or a process.
    Birth,
    /// The process becomes another program: at home, where its files are.
    Exec,
    /// One thread ends.
    ExitThread,
    /// The process ends.
    ExitGroup,
    /// By option, see [`crate::prctl_route`].
    Prctl,
    /// Asking a CPU clock: what it showed before, and what was used here.
    CpuTime,
}

/// What a call does besides answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It makes, closes or renumbers file descriptors.
    Descriptors,
    /// It changes the working directory, the root or the umask.
    Directory,
    /// It changes users, groups or capabilities.
    Credentials,
    /// It makes, ends or reaps processes or threads.
    Processes,
    /// It changes sessions or process groups.
    Session,
    /// It makes or changes mappings of memory.
    Memory,
    /// It sends signals, now or later, or changes what they do.
    Signals,
    /// It changes limits, priorities or scheduling.
    Limits,
    /// It changes mounts or namespaces.
    Mounts,
    /// It changes the home node as a whole.
    Node,
}

/// One exception from a row's route.
#[derive(Debug)]
pub struct Case {
    /// When it applies.
    pub when: Condition,
    /// Where the call then runs.
    pub route: Route,
}

/// All that is known about one system call.
#[derive(Debug)]
pub struct Row {
    /// Its number on x86-64.
    pub nr: u32,
    /// Its name.
    pub name: &'static str,
    /// Its arguments; empty where nobody carries them.
    pub args: &'static [Arg],
    /// What it does besides answering.
    pub effects: &'static [Effect],
    /// Where it runs when no case applies.
    pub route: Route,
    /// Exceptions; the first that holds decides.
    pub cases: &'static [Case],
    /// Why it is treated so, where that is not plain.
    pub note: &'static str,
}

impl Row {
    /// Where a call with these arguments runs, for a process with this pid.
    pub fn route_of(&self, args: &[u64; 6], own_pid: i32) -> Route {
        self.cases.iter().find(|case| case.when.holds(args, own_pid)).map_or(self.route, |case| case.route)
    }

    /// Which argument is a signal mask for the time of the call, or leads to one.
    pub fn temporary_mask(&self) -> Option<usize> {
        self.args.iter().position(|arg| matches!(arg, Arg::Mask | Arg::MaskPair))
    }

    /// Which argument says how long to wait, counted from now.
    pub fn timeout(&self) -> Option<usize> {
        self.args.iter().position(|arg| matches!(arg, Arg::Timeout(..)))
    }

    /// Which argument is a path; the first, where there are two.
    pub fn path(&self) -> Option<usize> {
        self.args.iter().position(|arg| matches!(arg, Arg::Path))
    }

    /// Whether it has this effect.
    pub fn has(&self, effect: Effect) -> bool {
        self.effects.contains(&effect)
    }
}
