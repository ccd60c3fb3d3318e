//! The place of `om lab`: its builder fills this file.

use crate::exit::Failure;
use control::FailureKind;
use std::process::ExitCode;

/// A whole virtual cluster on one machine.
#[derive(clap::Args)]
pub(crate) struct LabCommand {}

/// Runs the command.
pub(crate) fn run(_command: LabCommand) -> Result<ExitCode, Failure> {
    Err(Failure::new(FailureKind::Broken, "this version has no 'om lab' yet"))
}
