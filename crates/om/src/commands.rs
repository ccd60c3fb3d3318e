//! What each subcommand does.

use crate::arguments::{Command, Common, Expel, Key, Listing, Migrate, OfProcess};
use crate::client::{Client, unexpected};
use crate::exit::Failure;
use crate::{
    lab, load, log, manual, map, membership, mosctl, mosmon, mosrun, mtop, node, screen, standing, tables,
    wrappers,
};
use anyhow::Context as _;
use control::{Answer, Request};
use model::Hold;
use std::io::Write as _;
use std::process::ExitCode;

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Migrate(arguments) => migrate(&arguments)?,
        Command::Where(arguments) => locate(&arguments)?,
        Command::Why(arguments) => return why(&arguments),
        Command::Lock(arguments) => standing::set(&arguments, Hold::Locked)?,
        Command::Unlock(arguments) => standing::set(&arguments, Hold::Unlocked)?,
        Command::Load(arguments) => load::load(&arguments.common)?,
        Command::Tune(arguments) => load::tune(&arguments)?,
        Command::Ps(arguments) => ps(&arguments)?,
        Command::Nodes(arguments) => nodes(&arguments)?,
        Command::Counts(arguments) => counts(&arguments)?,
        Command::Expel(arguments) if arguments.all => {
            return node::sweep(&arguments.common, &Request::ExpelAll);
        }
        Command::Expel(arguments) => expel(&arguments)?,
        Command::Key(Key::Rotate(arguments)) => rotate_key(&arguments)?,
        Command::Leave(arguments) => leave(&arguments)?,
        Command::Showmap(arguments) => map::showmap(&arguments)?,
        Command::Setpe(arguments) => map::setpe(&arguments)?,
        Command::Bring(arguments) => return node::sweep(&arguments.common, &Request::BringAll),
        Command::Node(arguments) => node::node(&arguments)?,
        Command::Speed(arguments) => node::speed(&arguments)?,
        Command::Log(arguments) => log::run(&arguments)?,
        Command::Mon(arguments) => screen::run(&arguments, mosmon::Mosmon::default())?,
        Command::Top(arguments) => screen::run(&arguments, mtop::Mtop::default())?,
        Command::Ctl(arguments) => return mosctl::run(&arguments),
        Command::Man(arguments) => manual::write(&arguments.directory)?,
        Command::Completions(arguments) => manual::complete(arguments.shell)?,
        Command::Wrapped(name, arguments) => return wrappers::run(name, arguments),
        Command::Run(arguments) => return mosrun::run(arguments),
        Command::Init(arguments) => membership::init(&arguments)?,
        Command::Invite(arguments) => membership::invite(&arguments)?,
        Command::Join(arguments) => membership::join(&arguments)?,
        Command::Lab(arguments) => return lab::run(arguments),
    }
    Ok(ExitCode::SUCCESS)
}

fn migrate(arguments: &Migrate) -> Result<(), Failure> {
    let mut client = Client::connect(&arguments.common.socket)?;
    let to = match arguments.node.as_str() {
        "best" | "balance" => client.best(&[])?,
        node => client.destination(node)?,
    };
    let answer = client.ask_visibly(&Request::Migrate { pid: arguments.pid, to })?;
    show_move(&arguments.common, &answer)
}

fn expel(arguments: &Expel) -> Result<(), Failure> {
    let mut client = Client::connect(&arguments.common.socket)?;
    let (Some(pid), Some(home)) = (arguments.pid, &arguments.home) else {
        return Err(Failure::new(control::FailureKind::BadRequest, "write the guest's pid and its home"));
    };
    let home = client.node(home)?;
    let answer = client.ask_visibly(&Request::Expel { pid, home })?;
    show_move(&arguments.common, &answer)
}

fn show_move(common: &Common, answer: &Answer) -> Result<(), Failure> {
    let Answer::Moved { pid, node, freeze_us, total_us, bytes } = answer else { return Err(unexpected()) };
    show(common.json, answer, || {
        format!(
            "process {pid} runs on node {node}: {}, it stood still for {:.1} ms of {:.1} ms\n",
            tables::size(*bytes),
            *freeze_us as f64 / 1e3,
            *total_us as f64 / 1e3
        )
    })
}

fn locate(arguments: &OfProcess) -> Result<(), Failure> {
    let answer = Client::connect(&arguments.common.socket)?.ask(&Request::Where { pid: arguments.pid })?;
    let Answer::Where(location) = &answer else { return Err(unexpected()) };
    show(arguments.common.json, &answer, || {
        let place = if location.node == location.home {
            format!("at home (node {})", location.home)
        } else {
            format!("on node {} (home: node {})", location.node, location.home)
        };
        let times = if location.moves == 1 { "once".to_owned() } else { format!("{} times", location.moves) };
        format!("process {} runs {place}; moved {times}\n", location.pid)
    })
}

fn why(arguments: &OfProcess) -> Result<ExitCode, Failure> {
    let answer = Client::connect(&arguments.common.socket)?.ask(&Request::Why { pid: arguments.pid })?;
    let Answer::Why { reasons, home_comings, stays } = &answer else { return Err(unexpected()) };
    show(arguments.common.json, &answer, || {
        let mut text = String::new();
        if reasons.is_empty() {
            text.push_str(&format!("nothing known keeps process {} from moving\n", arguments.pid));
        } else {
            text.push_str(&format!("process {} cannot move:\n", arguments.pid));
            text.extend(reasons.iter().map(|reason| format!("  {reason}\n")));
        }
        if !stays.is_empty() {
            text.push_str("it is not moved automatically:\n");
            text.extend(stays.iter().map(|stay| format!("  {stay}\n")));
        }
        if !home_comings.is_empty() {
            text.push_str("these calls brought it home:\n");
            text.extend(home_comings.iter().map(|(call, times)| format!("  {call}: {times}\n")));
        }
        text
    })?;
    Ok(ExitCode::from(if reasons.is_empty() { 0 } else { 3 }))
}

fn ps(arguments: &Listing) -> Result<(), Failure> {
    let answer = Client::connect(&arguments.common.socket)?.ask(&Request::Ps)?;
    let Answer::Processes { own, guests } = &answer else { return Err(unexpected()) };
    show(arguments.common.json, &answer, || tables::processes(own, guests))
}

fn nodes(arguments: &Listing) -> Result<(), Failure> {
    let answer = Client::connect(&arguments.common.socket)?.ask(&Request::Nodes)?;
    let Answer::Nodes { nodes } = &answer else { return Err(unexpected()) };
    show(arguments.common.json, &answer, || tables::nodes(nodes))
}

fn counts(arguments: &Listing) -> Result<(), Failure> {
    let answer = Client::connect(&arguments.common.socket)?.ask(&Request::Counts)?;
    let Answer::Counts { counts } = &answer else { return Err(unexpected()) };
    show(arguments.common.json, &answer, || tables::counts(counts))
}

fn rotate_key(arguments: &Listing) -> Result<(), Failure> {
    let answer = Client::connect(&arguments.common.socket)?.ask(&Request::RotateKey)?;
    let Answer::KeyRotated { generation, told, missed } = &answer else { return Err(unexpected()) };
    show(arguments.common.json, &answer, || {
        let mut text =
            format!("the cluster has key number {generation}; nodes that have it: {}\n", told.len() + 1);
        if !missed.is_empty() {
            let ids: Vec<_> = missed.iter().map(ToString::to_string).collect();
            text.push_str(&format!("not reached: {}; they fetch it when they are back\n", ids.join(", ")));
        }
        text
    })
}

pub(crate) fn leave(arguments: &Listing) -> Result<(), Failure> {
    let answer = Client::connect(&arguments.common.socket)?.ask_aloud(&Request::Leave)?;
    let Answer::Left { guests, own } = &answer else { return Err(unexpected()) };
    show(arguments.common.json, &answer, || {
        format!(
            "this node has left: guests that went home: {guests}, own processes that came home: {own}; its daemon has ended\n"
        )
    })
}

/// Prints a value as JSON or as text. A reader that has left (`om ps | head`) is no failure.
pub(crate) fn show<Value: serde::Serialize>(
    json: bool,
    value: &Value,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let text = if json {
        let mut text = serde_json::to_string(value).context("cannot print the answer")?;
        text.push('\n');
        text
    } else {
        tables::harmless(&text())
    };
    print(text.as_bytes())
}

/// Prints; a reader that has left is no failure.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(anyhow::Error::new(error).into()),
        _ => Ok(()),
    }
}
