//! The command-line tools of the cluster.
#![forbid(unsafe_code)]

mod lab;

use clap::Parser;
use std::process::ExitCode;

/// openMosix: processes that move between machines.
#[derive(Parser)]
#[command(name = "om", version)]
enum Om {
    /// A virtual cluster on this machine.
    Lab(lab::LabCommand),
}

fn main() -> ExitCode {
    let Om::Lab(command) = Om::parse();
    lab::run(command).unwrap_or_else(|error| {
        eprintln!("om: {error:#}");
        ExitCode::FAILURE
    })
}
