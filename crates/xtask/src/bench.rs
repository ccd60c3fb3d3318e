//! `cargo xtask bench`: the numbers of docs/performance.md.

use crate::command::{cargo, must};
use anyhow::Result;
use std::process::ExitCode;

/// Builds everything as it is shipped and runs the measuring program of the suite.
pub(crate) fn run() -> Result<ExitCode> {
    must(&mut cargo(&["build", "--workspace", "--release"]))?;
    must(&mut cargo(&["run", "--release", "--package", "suite", "--bin", "bench"]))?;
    Ok(ExitCode::SUCCESS)
}
