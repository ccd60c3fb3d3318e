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
mod terminal;
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

/// The same for mosrun and its wrappers, where a node may be an option: `-3`, before the first word that is none.
fn classic_nodes(words: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut options = true;
    words.enumerate().map(move |(index, word)| {
        let text = word.to_str().unwrap_or_default();
        let number = text.strip_prefix('-').filter(|rest| rest.parse::<u16>().is_ok());
        let node = number.filter(|_| options && index > 0).map(OsString::from);
        options &= index == 0 || (text.starts_with('-') && text != "--" && node.is_none());
        node.unwrap_or(word)
    })
}

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or("om").to_owned();
    let command = match called.as_str() {
        "mosrun" => Command::Run(arguments::Mosrun::parse_from(classic_nodes(std::env::args_os()))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_be_an_option() {
        for (line, want) in [
            ("mosrun -3 ls -1", "mosrun 3 ls -1"),
            ("mosrun -L -3 ls", "mosrun -L 3 ls"),
            ("mosrun -c ls -3", "mosrun -c ls -3"),
            ("mosrun -- -3", "mosrun -- -3"),
            ("mosrun 2 head -5", "mosrun 2 head -5"),
            ("-3", "-3"),
        ] {
            let words: Vec<OsString> = classic_nodes(line.split(' ').map(OsString::from)).collect();
            assert_eq!(words.join(" ".as_ref()), OsString::from(want));
        }
    }
}
