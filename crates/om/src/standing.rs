//! What people say about automatic moves of a process: `om lock`, `om unlock`, and the options of `mosrun`.

use crate::arguments::OfProcess;
use crate::client::{Client, unexpected};
use crate::commands::show;
use crate::exit::Failure;
use clap::Args;
use control::{Answer, FailureKind, Request};
use model::{Destination, Hold, Mask, MaskNodes, NodeId, Standing};
use std::ffi::OsStr;

/// Nodes between both ends of a range, at most: a mask names no more.
const RANGE_MAX: u16 = model::limits::MASK_NODES_MAX as u16;

/// Where a program may run, and whether it is moved automatically. Everything it starts inherits this.
#[derive(Args, Default)]
pub(crate) struct Placing {
    /// Run it at home: it stays there unless somebody moves it.
    #[arg(short = 'h', long, conflicts_with = "nodes")]
    pub(crate) home: bool,
    /// Nodes that it may use, like 2,4-7; its home is always one of them.
    #[arg(short = 'j', long, value_name = "NODES")]
    pub(crate) nodes: Option<String>,
    /// Let it be moved automatically, even if its parent is locked.
    #[arg(short = 'l', long, conflicts_with_all = ["lock", "keep"])]
    pub(crate) unlock: bool,
    /// Lock it: it stays where it is unless somebody moves it. So it is by default where a node is given.
    #[arg(short = 'L', long, conflicts_with = "keep")]
    pub(crate) lock: bool,
    /// Keep the lock of its parent, if it has one.
    #[arg(short = 'k', long)]
    pub(crate) keep: bool,
}

/// Where a program begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start<'a> {
    /// Here; it goes where the cluster thinks best.
    Here,
    /// On the node that has this number or name.
    On(&'a OsStr),
    /// On the first of these nodes that takes it, unless its home is among them.
    OneOf(Vec<NodeId>),
}

impl Placing {
    /// Whether the first word is a node: always where no option says more of the place; else only if it is a number.
    pub(crate) fn takes_node(&self, first: &OsStr) -> bool {
        let silent = !(self.home || self.nodes.is_some() || self.lock || self.unlock || self.keep);
        let number = first.to_str().is_some_and(|word| word.parse::<NodeId>().is_ok());
        silent || (number && !self.home && self.nodes.is_none())
    }

    /// Where it begins, and what is said about it.
    pub(crate) fn plan<'a>(&self, node: Option<&'a OsStr>) -> Result<(Start<'a>, Standing), Failure> {
        let nodes = self.nodes.as_deref().map(parse_nodes).transpose()?;
        // As it always was: who names the place means it.
        let placed = self.home || node.is_some();
        let hold = match self {
            Placing { unlock: true, .. } => Some(Hold::Unlocked),
            Placing { lock: true, .. } => Some(Hold::Locked),
            Placing { keep: true, .. } => None,
            _ => placed.then_some(Hold::Locked),
        };
        let bad = |error| Failure::new(FailureKind::BadRequest, format!("failed to {error}"));
        let mask = nodes.clone().map(MaskNodes::try_from).transpose().map_err(bad)?.map(Mask::Only);
        let start = match (node, nodes) {
            (Some(node), _) => Start::On(node),
            (None, Some(nodes)) => Start::OneOf(nodes),
            (None, None) => Start::Here,
        };
        Ok((start, Standing { hold, mask, job: true }))
    }
}

/// Nodes in a text like `2,4-7`.
fn parse_nodes(text: &str) -> Result<Vec<NodeId>, Failure> {
    let bad = || {
        let remedy = "give numbers and ranges of nodes, like 2,4-7";
        Failure::new(FailureKind::BadRequest, format!("'{text}' names no nodes: {remedy}"))
    };
    let mut nodes = Vec::new();
    for word in text.split(',') {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let number = |word: &str| word.trim().parse::<NodeId>().map_err(|_| bad());
        let (first, last) = (number(first)?, number(last)?);
        if last < first || last.get() - first.get() >= RANGE_MAX {
            return Err(bad());
        }
        nodes.extend((first.get()..=last.get()).filter_map(NodeId::new));
    }
    Ok(nodes)
}

/// The nodes that a program is to be moved to at once, the first that takes it.
pub(crate) fn destinations(
    client: &mut Client,
    start: &Start<'_>,
    own_pid: i32,
) -> Result<Vec<Destination>, Failure> {
    match start {
        Start::Here => Ok(Vec::new()),
        Start::On(node) => {
            let name = node.to_str().ok_or_else(|| {
                Failure::new(FailureKind::NotFound, format!("no node is called '{}'", node.display()))
            })?;
            Ok(vec![client.destination(name)?])
        }
        Start::OneOf(nodes) => {
            let Answer::Where(here) = client.ask(&Request::Where { pid: own_pid })? else {
                return Err(unexpected());
            };
            let elsewhere = !nodes.contains(&here.home);
            Ok(nodes.iter().filter(|_| elsewhere).map(|node| Destination::Node(*node)).collect())
        }
    }
}

/// `om lock` and `om unlock`.
pub(crate) fn set(arguments: &OfProcess, hold: Hold) -> Result<(), Failure> {
    let standing = Standing { hold: Some(hold), ..Standing::default() };
    let request = Request::Stand { pid: arguments.pid, standing };
    let answer = Client::connect(&arguments.common.socket)?.ask(&request)?;
    let Answer::Stands { pid, standing } = &answer else { return Err(unexpected()) };
    show(arguments.common.json, &answer, || match standing.hold {
        Some(Hold::Locked) => {
            format!("process {pid} is locked: it and what it starts are not moved automatically\n")
        }
        _ => format!("process {pid} is not locked\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Option<Vec<u16>> {
        parse_nodes(text).ok().map(|nodes| nodes.into_iter().map(NodeId::get).collect())
    }

    #[test]
    fn lists_of_nodes() {
        assert_eq!(numbers("2,4-7"), Some(vec![2, 4, 5, 6, 7]));
        assert_eq!(numbers("9"), Some(vec![9]));
        for bad in ["", "0", "a", "7-4", "1-", "-3", "1,,2", "1-65535"] {
            assert_eq!(numbers(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_names_the_place_means_it() {
        let word = OsStr::new;
        let of = |placing: Placing, first: &'static str| {
            let node = placing.takes_node(word(first)).then_some(word(first));
            let (start, standing) = placing.plan(node).ok().unwrap();
            (start, standing.hold)
        };
        let default = Placing::default;
        assert_eq!(of(default(), "n2"), (Start::On(word("n2")), Some(Hold::Locked)));
        assert_eq!(
            of(Placing { unlock: true, ..default() }, "2"),
            (Start::On(word("2")), Some(Hold::Unlocked))
        );
        assert_eq!(of(Placing { lock: true, ..default() }, "lame"), (Start::Here, Some(Hold::Locked)));
        assert_eq!(of(Placing { keep: true, ..default() }, "lame"), (Start::Here, None));
        assert_eq!(of(Placing { home: true, ..default() }, "3"), (Start::Here, Some(Hold::Locked)));
        let two = vec![NodeId::new(2).unwrap()];
        assert_eq!(of(Placing { nodes: Some("2".to_owned()), ..default() }, "3"), (Start::OneOf(two), None));
    }
}
