//! `cargo xtask test`: everything CI runs.
//!
//! set up → build → unit tests → fuzzing → the suite → leftovers → what failed → `N passed, N failed, N skipped`.

use crate::command::{cargo, have, must, tee};
use crate::leaks::Snapshot;
use crate::tally::Tally;
use crate::{fuzz, root, setup};
use anyhow::Result;
use std::process::ExitCode;
use std::time::Instant;

/// The variable that marks every process which descends from this run; see [`crate::leaks`].
pub(crate) const RUN_MARK: &str = "OM_TEST_RUN";

/// How long the suite may take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// What CI runs on every change.
    Usual,
    /// More moves, more worlds.
    Long,
}

/// How the tests are built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to build: `check`.
    Dev,
    /// As shipped: `test`, because the engine's speed is part of what the suite tests.
    Release,
}

/// Two at a time: the guests sleep more than they compute, and more would make their clocks lie.
const PAIRS: u8 = 2;
/// Trials with a lab of their own each, which wait for connections to come back, or not to.
const PATIENT: u8 = 4;

/// Trials that must not disturb each other.
const ALONE: u8 = 1;

/// The test programs of the suite, in the order in which their failures are worth reading, and how many of their trials run
/// at a time.
const SUITE: &[(&str, u8)] = &[
    ("worlds", PAIRS),
    ("marshalling", PAIRS),
    ("away", PAIRS),
    ("midway", PAIRS),
    ("sessions", PAIRS),
    ("stops", PAIRS),
    ("home_again", PAIRS),
    ("refusals", PAIRS),
    ("own_files", PAIRS),
    ("stress", PAIRS),
    ("survival", PATIENT),
    ("rerun", PATIENT),
    ("switches", PAIRS),
    ("daemons", PATIENT),
    ("faults", PATIENT),
    ("membership", PATIENT),
    ("measure", PAIRS),
    ("ports", PAIRS),
    ("wall", PAIRS),
    ("hostile", PAIRS),
    // Its emulator takes a CPU of its own.
    ("second_kernel", ALONE),
    ("torture", PAIRS),
    ("mix", PAIRS),
    ("compat", PAIRS),
    // It needs the machine for itself: what is tested is how its CPUs are shared.
    ("balance", ALONE),
];

/// Runs everything; success only if nothing failed. The last line is the tally, also when nothing could be built.
pub(crate) fn run(length: Length, only: Option<String>) -> Result<ExitCode> {
    let tally = everything(length, only.as_deref()).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        Tally { failed: 1, ..Tally::default() }
    });
    if !tally.failures.is_empty() {
        println!("== what failed, from the beginning of what it said");
        tally.failures.iter().for_each(|failure| println!("{failure}"));
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn everything(length: Length, only: Option<&str>) -> Result<Tally> {
    timed("set-up", setup::run)?;
    timed("the build", || must(&mut cargo(&["build", "--workspace", "--release"])))?;
    let mut tally = Tally::default();
    if only.is_none() {
        tally = tally.plus(timed("unit tests", || unit_tests(Profile::Release))?);
        println!("== fuzz");
        let fuzzed = timed("fuzz", || fuzz::every_target(fuzz::SECONDS_IN_TEST, None));
        // Targets that cannot be built are one failure, and no reason to leave out the rest.
        tally = tally.plus(fuzzed.unwrap_or_else(|error| {
            eprintln!("xtask: {error:#}");
            Tally { failed: 1, ..Tally::default() }
        }));
    }
    timed("building the suite", || {
        must(&mut cargo(&["test", "--release", "--package", "suite", "--tests", "--no-run"]))
    })?;

    let mark = format!("{}", std::process::id());
    let before = Snapshot::take(&mark);
    for &(name, at_a_time) in SUITE {
        tally = tally.plus(timed(name, || suite(name, at_a_time, length, only, &mark))?);
    }
    let leftovers = before.leftovers(&mark);
    leftovers.iter().for_each(|line| println!("leftover: {line}"));
    if leftovers.is_empty() {
        println!("leftovers: none");
        tally.passed += 1;
    } else {
        tally.failed += 1;
    }
    Ok(tally)
}

/// Does one step, and says how long it took: where the time of a run goes is seen in its output.
fn timed<T>(what: &str, step: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = step();
    println!("{what} took {:.0} s", began.elapsed().as_secs_f64());
    done
}

/// The tests of every crate except the suite's own worlds: those need a lab and come later, one after the other.
pub(crate) fn unit_tests(profile: Profile) -> Result<Tally> {
    let everywhere = unit_tests_of(&["--workspace", "--exclude", "suite"], profile)?;
    Ok(everywhere.plus(unit_tests_of(&["--package", "suite", "--lib", "--bins"], profile)?))
}

fn unit_tests_of(packages: &[&str], profile: Profile) -> Result<Tally> {
    let mut tests = if have("cargo-nextest") {
        cargo(&["nextest", "run", "--no-fail-fast", "--no-tests=pass", "--status-level=fail"])
    } else {
        cargo(&["test", "--no-fail-fast"])
    };
    tests.args(packages);
    if profile == Profile::Release {
        tests.arg("--release");
    }
    judged(&mut tests)
}

fn suite(name: &str, at_a_time: u8, length: Length, only: Option<&str>, mark: &str) -> Result<Tally> {
    println!("== {name}");
    let mut tests = cargo(&["test", "--release", "--package", "suite", "--test", name, "--"]);
    tests.arg(format!("--test-threads={at_a_time}")).args(only);
    tests.env(RUN_MARK, mark).env("OM_BIN_DIR", root::programs());
    if length == Length::Long {
        tests.env("OM_SUITE_LONG", "1");
    }
    judged(&mut tests)
}

/// A test program that fails without saying how many tests failed counts as one failure: it crashed, or did not build.
fn judged(tests: &mut std::process::Command) -> Result<Tally> {
    let (success, lines) = tee(tests)?;
    let mut tally = Tally::read(lines.iter().map(String::as_str));
    if !success && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}
