//! `cargo xtask bench`: the numbers of docs/performance.md.

use crate::command::{cargo, must};
use crate::root;
use anyhow::{Context as _, Result, ensure};
use std::process::{ExitCode, Stdio};

/// What is below this line of the page is measured; what is above it is written by hand.
const MARK: &str = "<!-- measured -->\n";

/// Builds everything as it is shipped, runs the measuring program of the suite, and writes its tables into the page.
pub(crate) fn run() -> Result<ExitCode> {
    must(&mut cargo(&["build", "--workspace", "--release"]))?;
    let mut bench = cargo(&["run", "--release", "--package", "suite", "--bin", "bench"]);
    let measured =
        bench.stderr(Stdio::inherit()).output().context("failed to start the measuring program")?;
    let tables = String::from_utf8_lossy(&measured.stdout);
    println!("{tables}");
    ensure!(measured.status.success(), "the measuring program ended with {}", measured.status);
    let page = root::workspace().join("docs/performance.md");
    let text = std::fs::read_to_string(&page).context("failed to read docs/performance.md")?;
    let (written, _) = text.split_once(MARK).context("docs/performance.md has no line for the tables")?;
    std::fs::write(&page, format!("{written}{MARK}\n{tables}"))
        .context("failed to write docs/performance.md")?;
    Ok(ExitCode::SUCCESS)
}
