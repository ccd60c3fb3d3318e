//! `om load` and `om tune`: what this node measures of itself.

use crate::arguments::{Common, Tune};
use crate::client::{Client, unexpected};
use crate::commands::show;
use crate::exit::Failure;
use crate::tables;
use control::{Answer, NodeLoad, Request};

/// Shows what the node measures of itself.
pub(crate) fn load(common: &Common) -> Result<(), Failure> {
    ask(common, &Request::Load)
}

/// Measures how fast the node's CPUs are, or sets it.
pub(crate) fn tune(arguments: &Tune) -> Result<(), Failure> {
    ask(&arguments.common, &Request::Tune { speed: arguments.speed })
}

/// Asks for the speed, or for another one, and shows only that.
pub(crate) fn speed(common: &Common, request: &Request) -> Result<(), Failure> {
    ask_and(common, request, |load| format!("{}\n", speed_text(load)))
}

fn ask(common: &Common, request: &Request) -> Result<(), Failure> {
    ask_and(common, request, text)
}

fn ask_and(common: &Common, request: &Request, text: fn(&NodeLoad) -> String) -> Result<(), Failure> {
    let answer = Client::connect(&common.socket)?.ask(request)?;
    let Answer::Load(load) = &answer else { return Err(unexpected()) };
    show(common.json, &answer, || text(load))
}

fn speed_text(load: &NodeLoad) -> String {
    let standard = model::limits::SPEED_STANDARD;
    format!("{} ({}; the standard CPU has {standard})", load.speed, load.speed_source)
}

fn text(load: &NodeLoad) -> String {
    let NodeLoad { cpus, runnable, foreign, utilisation, pressure_some, pressure_full, .. } = load;
    format!(
        "node {}\n\
         speed        {}\n\
         CPUs         {cpus:.2}, {utilisation:.0} % in use\n\
         load         {} ({runnable:.1} runnable, {foreign:.1} of them stay here; 100 is one for each standard CPU)\n\
         memory       {}, {} free, {} available\n\
         waiting for  memory: somebody {pressure_some:.1} % of the time, everybody {pressure_full:.1} %\n\
         processes    {}\n",
        load.node,
        speed_text(load),
        load.load,
        tables::size(load.memory_total),
        tables::size(load.memory_free),
        tables::size(load.memory_available),
        load.processes
    )
}
