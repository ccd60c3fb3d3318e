//! What a difference is about, for a judge who knows of some.

use std::fmt;

/// A side of a run, on which it can be otherwise than in peace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// How it ended, or that it did not.
    Ending,
    /// What it printed on its standard output.
    Output,
    /// What it complained about.
    Complaints,
    /// The files that it left.
    Files,
    /// Moves broke, or daemons and agents complained.
    Faults,
    /// Something was left behind.
    Remains,
    /// A node's daemon was larger afterwards.
    DaemonMemory,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Aspect::Ending => "its end",
            Aspect::Output => "its output",
            Aspect::Complaints => "its complaints",
            Aspect::Files => "its files",
            Aspect::Faults => "what broke",
            Aspect::Remains => "what was left behind",
            Aspect::DaemonMemory => "the memory of a daemon",
        })
    }
}
