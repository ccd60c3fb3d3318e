//! What is to be tortured, and how.

use crate::Mask;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Movers of one torture, at most.
pub(crate) const MOVERS_MAX: u16 = 32;

/// A command, and how it is to be moved about.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The command and its arguments, as the first node finds them.
    pub command: Vec<OsString>,
    /// What both runs are given on their standard input; on a terminal it is typed.
    pub input: Vec<u8>,
    /// Whether both runs have a terminal; their standard error is then part of their standard output.
    pub terminal: bool,
    /// Files and directories of this machine that both runs find in their scratch directory.
    pub brought: Vec<PathBuf>,
    /// What may differ.
    pub masks: Vec<Mask>,
    /// Mean time that a mover rests between two moves.
    pub every: Duration,
    /// How many moves may be under way at once.
    pub movers: u16,
    /// What chance is made of.
    pub seed: u64,
    /// How long each of the two runs may take.
    pub time_limit: Duration,
}

impl Plan {
    /// This command with nothing on its input, on pipes, moved every 20 ms by two movers, for ten minutes at most.
    pub fn new<Word: Into<OsString>>(command: impl IntoIterator<Item = Word>, seed: u64) -> Plan {
        Plan {
            command: command.into_iter().map(Into::into).collect(),
            input: Vec::new(),
            terminal: false,
            brought: Vec::new(),
            masks: Vec::new(),
            every: Duration::from_millis(20),
            movers: 2,
            seed,
            time_limit: Duration::from_secs(600),
        }
    }
}
