//! `cargo xtask check`: what a commit must pass. It goes on after a failure and reports all of them at the end.

use crate::command::{cargo, have, must};
use crate::{test, tidy};
use anyhow::{Result, bail};
use std::process::ExitCode;

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("format", || must(&mut cargo(&["fmt", "--all", "--check"]))),
    ("clippy", || must(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))),
    ("fuzz targets", || must(&mut cargo(&["check", "--manifest-path", "fuzz/Cargo.toml", "--bins"]))),
    ("tidy", rules_of_the_house),
    ("deny", licences),
    ("unit tests", unit_tests),
];

/// Runs every step; success only if all succeeded.
pub(crate) fn run() -> Result<ExitCode> {
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        if let Err(error) = step() {
            eprintln!("{name}: {error:#}");
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        println!("check: all {} steps passed", STEPS.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("check: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn rules_of_the_house() -> Result<()> {
    if tidy::run()? != ExitCode::SUCCESS {
        bail!("the tree breaks rules of the house, see above");
    }
    Ok(())
}

fn licences() -> Result<()> {
    if !have("cargo-deny") {
        println!("skipped: cargo-deny is not installed (cargo install cargo-deny --locked)");
        return Ok(());
    }
    must(&mut cargo(&["deny", "check", "licenses", "bans"]))
}

fn unit_tests() -> Result<()> {
    let tally = test::unit_tests(test::Profile::Dev)?;
    if tally.failed > 0 {
        bail!("{} unit tests failed", tally.failed);
    }
    Ok(())
}
