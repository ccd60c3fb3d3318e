//! The command-line tools of the cluster.
#![forbid(unsafe_code)]

mod arguments;
mod client;
mod commands;
mod exit;
mod lab;
mod membership;
mod mosrun;
mod tables;

use clap::Parser as _;
use exit::Failure;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or("om").to_owned();
    let result = match called.as_str() {
        "mosrun" => mosrun::run(arguments::Mosrun::parse()),
        "migrate" => commands::migrate(&arguments::Migrate::parse()).map(|()| ExitCode::SUCCESS),
        "mps" => commands::ps(&arguments::Listing::parse()).map(|()| ExitCode::SUCCESS),
        _ => commands::run(arguments::Om::parse()),
    };
    result.unwrap_or_else(|failure: Failure| {
        eprintln!("{called}: {failure}");
        failure.code()
    })
}
