//! Trials in the manner of the standard test harness, made from data.
//!
//! The standard harness knows its tests at compile time and has no end of its own; trials are a table of guests and
//! worlds, share one lab, and the lab must be gone when the program ends.

use crate::{Cluster, needs};
use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::process::ExitCode;

/// One test; it is skipped, with the reason printed, where something it needs is missing (in CI it fails).
pub fn trial(
    name: impl Into<String>,
    needs: &'static [&'static str],
    run: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(reason) = needs::missing(needs) {
            return if std::env::var_os("CI").is_some() {
                Err(Failed::from(format!("{reason}, and CI must have everything")))
            } else {
                Ok(Completion::ignored_with(reason))
            };
        }
        run().map(|()| Completion::Completed).map_err(|error| {
            let logs =
                if std::env::var_os("OM_SUITE_QUIET").is_some() { None } else { Cluster::logs_if_up() };
            Failed::from(format!("{error:#}\n{}", logs.unwrap_or_default()))
        })
    })
}

/// Runs trials as a test program does, and ends the lab they used.
pub fn main(trials: Vec<Trial>) -> ExitCode {
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    match Cluster::end_shared() {
        Ok(()) => conclusion.exit_code(),
        Err(error) => {
            eprintln!("the lab did not end: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the slow trials were asked for.
pub fn is_long() -> bool {
    std::env::var_os("OM_SUITE_LONG").is_some()
}
