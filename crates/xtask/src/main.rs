//! The menu of the workshop: demo, test, check, tidy, fuzz, bench, compat, setup.
//!
//! Every other way of building and testing (CI, packages, an editor) calls one of these, so that there is one
//! meaning of "it works". Each entry is a file of its own name.
#![forbid(unsafe_code)]

mod apt;
mod bench;
mod check;
mod command;
mod compat;
mod demo;
mod fuzz;
mod kernel;
mod leaks;
mod root;
mod setup;
mod tally;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The menu of the workshop")]
struct Arguments {
    #[command(subcommand)]
    entry: Entry,
}

#[derive(Subcommand)]
enum Entry {
    /// Show it: three nodes on this machine, one ordinary program, four moves
    Demo,
    /// Everything CI runs: build, unit tests, the guest programs in every world, the search for leftovers
    Test {
        /// Also the slow worlds: more moves, every restart kind everywhere
        #[arg(long)]
        long: bool,
        /// Only trials of the suite whose name contains this
        #[arg(long)]
        only: Option<String>,
    },
    /// Format, lints, the rules of the house, licences, unit tests; reports every failure
    Check,
    /// Only the rules of the house
    Tidy,
    /// Strangers' bytes for every decoder
    Fuzz {
        /// For each target
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Only targets whose name contains this
        target: Option<String>,
    },
    /// Measure what docs/performance.md shows
    Bench,
    /// The tests of other projects, moved about: counts what docs/compatibility.md shows; takes an hour
    Compat {
        /// Only entries whose group or name contains one of these; the others stay as they were counted last
        words: Vec<String>,
    },
    /// Install what the tests need on Debian 12 (only what is missing)
    Setup,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().entry {
        Entry::Demo => demo::run(),
        Entry::Test { long, only } => {
            test::run(if long { test::Length::Long } else { test::Length::Usual }, only)
        }
        Entry::Check => check::run(),
        Entry::Tidy => tidy::run(),
        Entry::Fuzz { seconds, target } => fuzz::run(seconds, target.as_deref()),
        Entry::Bench => bench::run(),
        Entry::Compat { words } => compat::run(&words),
        Entry::Setup => setup::run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
