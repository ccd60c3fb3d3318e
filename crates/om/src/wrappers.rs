//! The small programs that openMosix had beside `mosrun`: one row each.

use crate::arguments::Wrapper;
use crate::exit::Failure;
use crate::mosrun::carry_out;
use crate::placing::{Placing, Plan, Start};
use control::FailureKind;
use model::{Decay, Hold};
use std::process::ExitCode;

/// Where such a program runs its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here.
    Home,
    /// On the node that its first word names.
    Named,
    /// On the best one; a computing job gains by that.
    Best,
}

/// Name, place, how fast what it has done is forgotten, and what it is for.
pub(crate) const WRAPPERS: &[(&str, Place, Option<Decay>, &str)] = &[
    ("nomig", Place::Home, None, "Run a program here and do not move it"),
    ("runhome", Place::Home, None, "Run a program at home"),
    ("runon", Place::Named, None, "Run a program on a node: runon NODE COMMAND"),
    (
        "cpujob",
        Place::Best,
        Some(Decay::CpuJob),
        "Run a program that computes, on the best node; what it reads and writes holds it nowhere",
    ),
    (
        "iojob",
        Place::Home,
        Some(Decay::IoJob),
        "Run a program that reads and writes much, near its files: at home",
    ),
    (
        "nodecay",
        Place::Best,
        Some(Decay::None),
        "Run a program on the best node, and never forget what it has done",
    ),
    (
        "slowdecay",
        Place::Best,
        Some(Decay::Slow),
        "Run a program on the best node, and forget slowly what it has done",
    ),
    (
        "fastdecay",
        Place::Best,
        Some(Decay::Fast),
        "Run a program on the best node, and forget fast what it has done",
    ),
];

/// The wrapper of this name, if there is one.
pub(crate) fn named(name: &str) -> Option<&'static str> {
    WRAPPERS.iter().map(|(known, ..)| *known).find(|known| *known == name)
}

/// Runs the wrapper of this name.
pub(crate) fn run(name: &str, arguments: Wrapper) -> Result<ExitCode, Failure> {
    let row = WRAPPERS.iter().find(|(known, ..)| *known == name);
    let place = row.map(|(_, place, ..)| *place);
    let command = arguments.command;
    let mut plan = match place {
        Some(Place::Named) => Placing::default().plan(&command)?,
        Some(Place::Best) => Plan::new(Start::Best, None, command),
        Some(Place::Home) | None => Plan::new(Start::Here, Some(Hold::Locked), command),
    };
    plan.standing.decay = row.and_then(|(_, _, decay, _)| *decay);
    match carry_out(&plan, 0, &arguments.socket) {
        // A place for it is a wish: a program that is alone in its cluster runs all the same.
        Err(failure) if place == Some(Place::Best) && failure.kind == FailureKind::Refused => {
            eprintln!("{name}: it runs here: {failure}");
            plan.start = Start::Here;
            carry_out(&plan, 0, &arguments.socket)
        }
        outcome => outcome,
    }
}
