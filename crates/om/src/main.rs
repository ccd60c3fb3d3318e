//! The command-line tools of the cluster.
#![forbid(unsafe_code)]

mod arguments;
mod best;
mod client;
mod commands;
mod exit;
mod job;
mod lab;
mod load;
mod log;
mod manual;
mod map;
mod membership;
mod mosctl;
mod mosmon;
mod mosrun;
mod mtop;
mod node;
mod placing;
mod screen;
mod standing;
mod tables;
mod torture;
mod wrappers;

use arguments::Command;
use clap::Parser as _;
use exit::Failure;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Words of the classic tools that look like several letters to a modern one.
fn classic(words: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    words.map(|word| if word == "-off" { "--off".into() } else { word })
}

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or("om").to_owned();
    let command = match called.as_str() {
        "mosrun" => Command::Run(arguments::Mosrun::parse()),
        "migrate" => Command::Migrate(arguments::Migrate::parse()),
        "tune" => Command::Tune(arguments::Tune::parse()),
        "showmap" => Command::Showmap(arguments::Listing::parse()),
        "setpe" => Command::Setpe(arguments::Setpe::parse_from(classic(std::env::args_os()))),
        "mps" => Command::Ps(arguments::Listing::parse()),
        "mosmon" => Command::Mon(arguments::Screen::parse()),
        "mtop" => Command::Top(arguments::Screen::parse()),
        "mosctl" => Command::Ctl(arguments::Mosctl::parse()),
        name => match wrappers::named(name) {
            Some(name) => Command::Wrapped(name, arguments::Wrapper::parse()),
            None => arguments::Om::parse().command,
        },
    };
    let json = command.wants_json();
    commands::run(command).unwrap_or_else(|failure: Failure| {
        failure.tell(&called, json);
        failure.code()
    })
}
