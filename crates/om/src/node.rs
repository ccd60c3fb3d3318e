//! `om node`, `om speed`, `om bring`, `om expel --all`: what is set for this node, and emptying it.

use crate::arguments::{Common, NodeCommand, OnOff, Speed};
use crate::client::{Client, unexpected};
use crate::commands::show;
use crate::exit::Failure;
use crate::load;
use control::{Answer, FailureKind, NodeStanding, Request, Switch};
use model::limits::{SPEED_STANDARD, SPEEDS};
use std::process::ExitCode;

/// Shows or changes a switch, or shows all.
pub(crate) fn node(arguments: &NodeCommand) -> Result<(), Failure> {
    let request = match arguments.switch {
        Some(switch) => {
            let on = arguments.state.unwrap_or(OnOff::On) == OnOff::On;
            Request::Switch { switch: switch.into(), on }
        }
        None => Request::NodeStanding,
    };
    settle(&arguments.common, &request)
}

pub(crate) fn speed(arguments: &Speed) -> Result<(), Failure> {
    match &arguments.speed {
        None => load::speed(&arguments.common, &Request::Load),
        Some(text) => set_speed(&arguments.common, text),
    }
}

/// Sets the speed, or has it measured, and shows it.
pub(crate) fn set_speed(common: &Common, text: &str) -> Result<(), Failure> {
    load::speed(common, &Request::Tune { speed: speed_of(text)? })
}

/// A speed as people write it; `auto` is none.
fn speed_of(text: &str) -> Result<Option<u32>, Failure> {
    match text {
        "auto" => Ok(None),
        number => number.parse().ok().filter(|speed| SPEEDS.contains(speed)).map(Some).ok_or_else(|| {
            let (least, most) = (SPEEDS.start(), SPEEDS.end());
            let text = format!("'{number}' is no speed: write a number from {least} to {most}, or 'auto'");
            Failure::new(FailureKind::BadRequest, text)
        }),
    }
}

/// Asks for a change, or for nothing, and shows what is set then.
pub(crate) fn settle(common: &Common, request: &Request) -> Result<(), Failure> {
    let answer = Client::connect(&common.socket)?.ask(request)?;
    let Answer::NodeStanding(standing) = &answer else { return Err(unexpected()) };
    show(common.json, &answer, || shown(standing))
}

fn shown(standing: &NodeStanding) -> String {
    let mut text = String::new();
    for switch in Switch::ALL {
        let state = if standing.switches.contains(&switch) { "on" } else { "off" };
        text.push_str(&format!("{switch:<6} {state}\n"));
    }
    match standing.speed {
        Some(speed) => text.push_str(&format!("speed  {speed} (set)\n")),
        None => text.push_str(&format!("speed  as measured (the standard CPU has {SPEED_STANDARD})\n")),
    }
    text
}

/// Moves everything away, or home; the code is not 0 where something did not move.
pub(crate) fn sweep(common: &Common, request: &Request) -> Result<ExitCode, Failure> {
    let answer = Client::connect(&common.socket)?.ask(request)?;
    let Answer::Swept(sweep) = &answer else { return Err(unexpected()) };
    show(common.json, &answer, || {
        let what = match request {
            Request::ExpelAll => "guests went home; no new ones are let in ('om node block off' does again)",
            _ => "processes came home; none leaves by itself ('om node lstay off' lets them again)",
        };
        format!("{} {what}\n", sweep.moved)
    })?;
    for line in &sweep.failures {
        eprintln!("om: {}", crate::tables::harmless(&line.replace('\n', " ")));
    }
    Ok(if sweep.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
