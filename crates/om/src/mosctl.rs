//! `mosctl`: openMosix's own control program, each of its verbs a row.

use crate::arguments::{Common, Mosctl};
use crate::client::{Client, unexpected};
use crate::commands::show;
use crate::exit::Failure;
use crate::node::{set_speed, settle, sweep};
use crate::tables::size;
use control::{Answer, FailureKind, NodeFound, NodeRow, Request, Switch};
use model::DecayRates;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;

/// What a verb does.
#[derive(Clone, Copy)]
enum Does {
    Set(Switch, bool),
    Sweep(fn() -> Request),
    SetSpeed,
    GetDecay,
    SetDecay,
    /// A number of a node, and how it is written.
    Tell(fn(&NodeRow) -> Option<u64>, fn(u64) -> String),
    Status,
    Whois,
    IsUp,
    /// It makes no sense today; what to use.
    Instead(&'static str),
}

use Does::{GetDecay, Instead, IsUp, Set, SetDecay, SetSpeed, Status, Sweep, Tell, Whois};

/// Verb, and what it does.
const VERBS: &[(&str, Does)] = &[
    ("stay", Set(Switch::Stay, true)),
    ("nostay", Set(Switch::Stay, false)),
    ("lstay", Set(Switch::Lstay, true)),
    ("nolstay", Set(Switch::Lstay, false)),
    ("block", Set(Switch::Block, true)),
    ("noblock", Set(Switch::Block, false)),
    ("quiet", Set(Switch::Quiet, true)),
    ("noquiet", Set(Switch::Quiet, false)),
    ("expel", Sweep(|| Request::ExpelAll)),
    ("bring", Sweep(|| Request::BringAll)),
    ("setspeed", SetSpeed),
    ("getspeed", Tell(|row| row.figures.speed.map(u64::from), plain)),
    ("getload", Tell(|row| row.figures.load.map(u64::from), plain)),
    ("getmem", Tell(|row| row.figures.memory_total, size)),
    ("getfree", Tell(|row| row.figures.memory_free, size)),
    ("getutil", Tell(|row| row.figures.utilisation.map(u64::from), |percent| format!("{percent} %"))),
    ("status", Status),
    ("whois", Whois),
    ("isup", IsUp),
    ("mfs", Instead("there is no file system of the cluster yet; files are used at home for a process")),
    ("nomfs", Instead("there is no file system of the cluster yet, so there is nothing to switch off")),
    ("gettune", Instead("costs are not tuned by hand; 'om nodes' shows round trips")),
    ("getyard", Instead("a standard CPU has the speed 10000; 'om speed' shows this node's")),
    ("setyard", Instead("a standard CPU has the speed 10000 everywhere; 'om speed N' sets this node's")),
    ("getdecay", GetDecay),
    ("setdecay", SetDecay),
];

fn plain(number: u64) -> String {
    number.to_string()
}

/// All verbs, for whoever has asked for another one.
pub(crate) fn verbs() -> String {
    VERBS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

pub(crate) fn run(arguments: &Mosctl) -> Result<ExitCode, Failure> {
    let (verb, common) = (arguments.verb.as_str(), &arguments.common);
    let Some((_, does)) = VERBS.iter().find(|(name, _)| *name == verb) else {
        let text = format!("'{verb}' is none of its verbs: {}", verbs());
        return Err(Failure::new(FailureKind::BadRequest, text));
    };
    let argument = arguments.argument.as_deref();
    match does {
        Set(switch, on) => settle(common, &Request::Switch { switch: *switch, on: *on })?,
        Sweep(request) => return sweep(common, &request()),
        SetSpeed => {
            let text = "write the speed, or 'auto', after 'setspeed'";
            set_speed(common, argument.ok_or_else(|| Failure::new(FailureKind::BadRequest, text))?)?;
        }
        GetDecay => decay(common, &Request::NodeStanding)?,
        SetDecay => {
            let rates = wanted_decay(argument, &arguments.kept)?;
            decay(common, &Request::Decay { rates: Some(rates) })?;
        }
        Tell(number, written) => {
            let row = find(arguments)?;
            let number = number(&row).ok_or_else(|| {
                let text = format!("what node {} says of itself is not known here", row.id);
                Failure::new(FailureKind::Broken, text)
            })?;
            show(common.json, &number, || format!("{}\n", written(number)))?;
        }
        Status => {
            let row = find(arguments)?;
            show(common.json, &row, || status(&row))?;
        }
        Whois => {
            let row = find(arguments)?;
            show(common.json, &row, || format!("{} {} {}\n", row.id, row.name, row.address))?;
        }
        IsUp => {
            let row = find(arguments)?;
            show(common.json, &row.alive, || if row.alive { "yes\n" } else { "no\n" }.to_owned())?;
            return Ok(ExitCode::from(u8::from(!row.alive)));
        }
        Instead(text) => return Err(Failure::new(FailureKind::BadRequest, format!("{verb}: {text}"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// What `setdecay INTERVAL [SLOW FAST]` means; what is not said is as usual.
fn wanted_decay(interval: Option<&str>, kept: &[u16]) -> Result<DecayRates, Failure> {
    let bad = || {
        let text = "write the seconds after which statistics decay, and maybe the thousandths that are kept then, \
                    slowly and fast: 'setdecay 1 975 926' is usual";
        Failure::new(FailureKind::BadRequest, text)
    };
    let usual = DecayRates::default();
    let interval_s = interval.and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    let (slow, fast) = match kept {
        [] => (usual.slow, usual.fast),
        [slow, fast] => (*slow, *fast),
        _ => return Err(bad()),
    };
    let rates = DecayRates { interval_s, slow, fast };
    if rates.is_sound() { Ok(rates) } else { Err(bad()) }
}

/// Asks for a change of how statistics decay, or for nothing, and shows how they do then.
fn decay(common: &Common, request: &Request) -> Result<(), Failure> {
    let answer = Client::connect(&common.socket)?.ask(request)?;
    let Answer::NodeStanding(standing) = &answer else { return Err(unexpected()) };
    let DecayRates { interval_s, slow, fast } = standing.decay;
    show(common.json, &standing.decay, || {
        format!(
            "interval {interval_s} s\nslow     {slow} of 1000 are kept\nfast     {fast} of 1000 are kept\n"
        )
    })
}

fn status(row: &NodeRow) -> String {
    let mut words = vec![if row.alive { "up" } else { "down" }.to_owned()];
    words.extend(row.figures.switches.iter().flatten().map(ToString::to_string));
    if row.figures.accepts == Some(false) {
        words.push("takes no guests".to_owned());
    }
    format!("{}\n", words.join(", "))
}

/// The node that is asked about: this one, or one by its number, name, address or host name.
fn find(arguments: &Mosctl) -> Result<NodeRow, Failure> {
    let answer = Client::connect(&arguments.common.socket)?.ask(&Request::Nodes)?;
    let Answer::Nodes { nodes } = answer else { return Err(unexpected()) };
    let found = match arguments.argument.as_deref() {
        None => nodes.iter().find(|row| row.found == NodeFound::Own),
        Some(text) => nodes.iter().find(|row| is_called(row, text)).or_else(|| {
            // A host name, which may take its time: it is looked up only where nothing else fits.
            let addresses: Vec<_> = (text, 0).to_socket_addrs().ok()?.map(|found| found.ip()).collect();
            let at = |row: &&NodeRow| {
                row.address.parse::<SocketAddr>().is_ok_and(|address| addresses.contains(&address.ip()))
            };
            nodes.iter().find(at)
        }),
    };
    found.cloned().ok_or_else(|| {
        let who = arguments.argument.as_deref().unwrap_or("this machine");
        Failure::new(FailureKind::NotFound, format!("no node is called '{who}'; 'om nodes' lists them"))
    })
}

fn is_called(row: &NodeRow, text: &str) -> bool {
    let host = row.address.rsplit_once(':').map_or(row.address.as_str(), |(host, _)| host);
    row.name == text || row.id.to_string() == text || host.trim_matches(['[', ']']) == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_there_once_and_every_switch_goes_on_and_off() {
        let mut names: Vec<_> = VERBS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), VERBS.len());
        for switch in Switch::ALL {
            for (name, on) in [(switch.name().to_owned(), true), (format!("no{switch}"), false)] {
                let row = VERBS.iter().find(|(verb, _)| *verb == name);
                assert!(
                    matches!(row, Some((_, Set(found, set))) if (*found, *set) == (switch, on)),
                    "{name}"
                );
            }
        }
    }
}
