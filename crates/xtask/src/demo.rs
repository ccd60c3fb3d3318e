//! `cargo xtask demo`: the whole thing in one minute, on one machine.

use crate::command::{cargo, command, must};
use crate::{root, setup};
use anyhow::Result;
use std::process::ExitCode;

/// What the demonstration uses beside Rust.
const USED: &[&str] = &["cc", "python3", "ps"];

/// Builds the programs as they are shipped and runs the suite's narrated demonstration with them.
///
/// Succeeds only if the demonstration saw with its own eyes what it tells.
pub(crate) fn run() -> Result<ExitCode> {
    setup::provide(|program| USED.contains(&program))?;
    must(&mut cargo(&["build", "--workspace", "--release"]))?;
    let programs = root::programs();
    let status = command(programs.join("demo"), &[]).env("OM_BIN_DIR", &programs).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
