//! `cargo xtask fuzz`: strangers' bytes for every decoder.
//!
//! The targets are programs of libFuzzer in `fuzz/`, a workspace of its own, because all they use must be built with the
//! compiler's coverage instrumentation. The flags for it are stable; a sanitizer of memory would need another toolchain,
//! and what decodes here contains no `unsafe`. `cargo fuzz` understands the same directory.
//!
//! Each target begins with the inputs in `fuzz/corpus`, which are part of the project, and keeps what it finds
//! interesting below `target/fuzz`. An input that makes it fail is written there too, and its path is printed.

use crate::command::{cargo, must, tee};
use crate::root;
use crate::tally::Tally;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The compiler's passes that libFuzzer is fed by, and checks that only debug builds have.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Clink-dead-code",
];
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Longest input, bytes: long enough for a message with several of everything.
const INPUT_BYTES_MAX: u32 = 8192;
/// Memory of one target, MiB: an input that makes it use more is a finding.
const MEMORY_MB_MAX: u32 = 1024;
/// Seconds for one input: one that takes longer is a finding. They are those of the clock on the wall, and a busy machine may
/// hold a target up for many.
const INPUT_SECONDS_MAX: u32 = 60;
/// Seconds that a target may take beyond its time before it is killed: its handler of an input that takes too long allocates
/// memory, and hangs where that is what the input was doing.
const GRACE_SECONDS: u32 = INPUT_SECONDS_MAX + 60;
/// A fixed seed, so that a short run is the same everywhere.
const SEED: u32 = 4660;

/// Seconds of each target in `cargo xtask test`.
pub(crate) const SECONDS_IN_TEST: u32 = 6;

/// Runs the targets whose name contains `only`, each for so many seconds.
pub(crate) fn run(seconds: u32, only: Option<&str>) -> Result<ExitCode> {
    let tally = every_target(seconds, only)?;
    println!("fuzz: {} targets passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same, each target counted as a test.
pub(crate) fn every_target(seconds: u32, only: Option<&str>) -> Result<Tally> {
    let names = names()?;
    let wanted: Vec<&String> =
        names.iter().filter(|name| only.is_none_or(|only| name.contains(only))).collect();
    if wanted.is_empty() {
        bail!("no target is called {}: there are {}", only.unwrap_or("so"), names.join(", "));
    }
    build()?;
    let mut tally = Tally::default();
    for name in wanted {
        match fuzz(name, seconds) {
            Ok(()) => tally.passed += 1,
            Err(error) => {
                println!("fuzz: {name}: {error:#}");
                tally.failed += 1;
            }
        }
    }
    Ok(tally)
}

/// The targets are the files that there are.
fn names() -> Result<Vec<String>> {
    let directory = root::workspace().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in
        fs::read_dir(&directory).with_context(|| format!("failed to read {}", directory.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn built() -> PathBuf {
    root::workspace().join("target/fuzz")
}

fn build() -> Result<()> {
    let mut build = cargo(&["build", "--release", "--bins", "--manifest-path", "fuzz/Cargo.toml"]);
    // With a platform named, build scripts and macros are built without the flags.
    build.args(["--target", PLATFORM]).arg("--target-dir").arg(built());
    must(build.env("RUSTFLAGS", FLAGS.join(" ")).env_remove("CARGO_ENCODED_RUSTFLAGS"))
}

fn fuzz(name: &str, seconds: u32) -> Result<()> {
    let [found, failures] = ["corpus", "failures"].map(|kind| built().join(kind).join(name));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&failures)?;
    let mut target = Command::new("timeout");
    target.arg("--signal=KILL").arg((seconds + GRACE_SECONDS).to_string());
    target.arg(built().join(PLATFORM).join("release").join(name));
    target.args([
        format!("-max_total_time={seconds}"),
        format!("-seed={SEED}"),
        format!("-max_len={INPUT_BYTES_MAX}"),
        format!("-rss_limit_mb={MEMORY_MB_MAX}"),
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-artifact_prefix={}/", failures.display()),
        "-print_final_stats=1".to_owned(),
        "-verbosity=0".to_owned(),
    ]);
    let given = root::workspace().join("fuzz/corpus").join(name);
    target.arg(&found).args(given.is_dir().then_some(given));
    let (success, lines) = tee(&mut target)?;
    let count = lines.iter().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!("fuzz: {name}: {} inputs", count.unwrap_or("?").trim());
    ensure!(success, "an input made it fail, or hang; see {}", failures.display());
    Ok(())
}
