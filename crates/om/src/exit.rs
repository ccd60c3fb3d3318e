//! How a tool ends: one line on standard error (and with `--json` one on standard output), and a code that a script can
//! tell apart.

use crate::tables;
use control::FailureKind;
use model::Reason;
use serde::Serialize;
use std::fmt;
use std::process::ExitCode;

/// Shown in every help text.
pub(crate) const CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (the process cannot move, or the node does not take it), \
4 not found, 5 not allowed. What failed changed nothing: the process runs on where it was.";

/// Characters of a failure that people are shown. Other nodes have a say in it.
const LINE_CHARACTERS_MAX: usize = 1000;

/// What went wrong, as one line that names the thing and the remedy.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
    /// All reasons, where the daemon gave any.
    pub(crate) reasons: Vec<Reason>,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into(), reasons: Vec::new() }
    }

    /// Says what went wrong: to people on standard error, and to a script on standard output if it wants JSON.
    pub(crate) fn tell(&self, tool: &str, json: bool) {
        eprintln!("{tool}: {self}");
        if json {
            // Whoever does not read it any more has the exit code.
            let _ = crate::commands::show(true, self, String::new);
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            FailureKind::Broken => 1,
            FailureKind::BadRequest => 2,
            FailureKind::Refused => 3,
            FailureKind::NotFound => 4,
            FailureKind::Forbidden => 5,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.message.replace('\n', " ");
        f.write_str(&tables::harmless(&line.chars().take(LINE_CHARACTERS_MAX).collect::<String>()))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::new(FailureKind::Broken, model::one_line(error.as_ref()))
    }
}

impl From<node::Error> for Failure {
    fn from(error: node::Error) -> Failure {
        match error {
            // These are whole sentences.
            node::Error::Cluster(text) => Failure::new(FailureKind::Broken, text),
            error => Failure::new(FailureKind::Broken, format!("failed to {error}")),
        }
    }
}
