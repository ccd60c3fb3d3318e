//! The command-line tools of the cluster.
#![forbid(unsafe_code)]

mod arguments;
mod client;
mod commands;
mod exit;
mod lab;
mod load;
mod membership;
mod mosrun;
mod standing;
mod tables;
mod torture;

use arguments::Command;
use clap::Parser as _;
use exit::Failure;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or("om").to_owned();
    let command = match called.as_str() {
        "mosrun" => Command::Run(arguments::Mosrun::parse()),
        "migrate" => Command::Migrate(arguments::Migrate::parse()),
        "tune" => Command::Tune(arguments::Tune::parse()),
        "mps" => Command::Ps(arguments::Listing::parse()),
        _ => arguments::Om::parse().command,
    };
    let json = command.wants_json();
    commands::run(command).unwrap_or_else(|failure: Failure| {
        failure.tell(&called, json);
        failure.code()
    })
}
