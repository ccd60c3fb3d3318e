//! Where `mosrun` and its wrappers run a program, and what they say about automatic moves of it.

use crate::client::Client;
use crate::exit::Failure;
use clap::Args;
use control::FailureKind;
use model::{Decay, Destination, Hold, Mask, MaskNodes, NodeId, Standing};
use std::ffi::{OsStr, OsString};

/// Nodes between both ends of a range, at most: a mask names no more.
const RANGE_MAX: u16 = model::limits::MASK_NODES_MAX as u16;

/// Where a program may run, and whether it is moved automatically. Everything it starts inherits this.
#[derive(Args, Default)]
pub(crate) struct Placing {
    /// Run it at home: it stays there unless somebody moves it.
    #[arg(short = 'h', long, conflicts_with = "nodes")]
    pub(crate) home: bool,
    /// Nodes that it may use, like 2,4-7; its home is always one of them. It begins on the best one.
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
    /// It computes: that it calls its home, reads and writes does not hold it anywhere.
    #[arg(short = 'c', long, group = "decay")]
    pub(crate) cpu_job: bool,
    /// It reads and writes: that it also computes does not make that look small.
    #[arg(short = 'i', long, group = "decay")]
    pub(crate) io_job: bool,
    /// Never forget what it has done.
    #[arg(short = 'n', long, group = "decay")]
    pub(crate) no_decay: bool,
    /// Forget slowly what it has done, as is usual.
    #[arg(short = 's', long, group = "decay")]
    pub(crate) slow_decay: bool,
    /// Forget fast what it has done.
    #[arg(short = 'f', long, group = "decay")]
    pub(crate) fast_decay: bool,
}

/// Where a program begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Here, at home.
    Here,
    /// On the node that has this number or name.
    On(String),
    /// On the best node there is.
    Best,
    /// On the best of these nodes, or else on the first that takes it.
    OneOf(Vec<NodeId>),
}

/// A program, where it begins, and what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) start: Start,
    pub(crate) standing: Standing,
    pub(crate) command: Vec<OsString>,
}

impl Plan {
    /// A job that may use all nodes.
    pub(crate) fn new(start: Start, hold: Option<Hold>, command: Vec<OsString>) -> Plan {
        Plan { start, standing: Standing { hold, mask: None, job: true, decay: None }, command }
    }
}

impl Placing {
    /// Whether the first word is a node: always where no option says more of the place; else only if it is a number.
    fn takes_node(&self, first: &OsStr) -> bool {
        let silent = !(self.home || self.nodes.is_some() || self.lock || self.unlock || self.keep);
        let number = first.to_str().is_some_and(|word| word.parse::<NodeId>().is_ok());
        silent || (number && !self.home && self.nodes.is_none())
    }

    /// How fast what it does is to be forgotten, if that is said.
    fn decay(&self) -> Option<Decay> {
        let table = [
            (self.cpu_job, Decay::CpuJob),
            (self.io_job, Decay::IoJob),
            (self.no_decay, Decay::None),
            (self.slow_decay, Decay::Slow),
            (self.fast_decay, Decay::Fast),
        ];
        table.into_iter().find(|(said, _)| *said).map(|(_, decay)| decay)
    }

    /// What `[NODE] [--] COMMAND` means with these options.
    pub(crate) fn plan(&self, words: &[OsString]) -> Result<Plan, Failure> {
        let node = words.first().filter(|first| self.takes_node(first));
        let words = if node.is_some() { &words[1..] } else { words };
        // A '--' between them is nobody's word.
        let words = words.strip_prefix(&[OsString::from("--")]).unwrap_or(words);
        if words.is_empty() {
            let text = "no command: write a node, and a program after it";
            return Err(Failure::new(FailureKind::BadRequest, text));
        }
        let nodes = self.nodes.as_deref().map(parse_nodes).transpose()?;
        // As it always was: who names the place means it.
        let placed = self.home || node.is_some_and(|node| !is_best(node));
        let hold = match self {
            Placing { unlock: true, .. } => Some(Hold::Unlocked),
            Placing { lock: true, .. } => Some(Hold::Locked),
            Placing { keep: true, .. } => None,
            _ => placed.then_some(Hold::Locked),
        };
        let bad = |error| Failure::new(FailureKind::BadRequest, format!("failed to {error}"));
        let mask = nodes.clone().map(MaskNodes::try_from).transpose().map_err(bad)?.map(Mask::Only);
        let start = match (node, nodes) {
            (Some(node), _) => Start::of(node)?,
            (None, Some(nodes)) => Start::OneOf(nodes),
            (None, None) => Start::Here,
        };
        Ok(Plan {
            start,
            standing: Standing { hold, mask, job: true, decay: self.decay() },
            command: words.to_vec(),
        })
    }
}

fn is_best(word: &OsStr) -> bool {
    word == "best" || word == "balance"
}

impl Start {
    /// A place as people write it.
    fn of(word: &OsStr) -> Result<Start, Failure> {
        match word.to_str() {
            Some("home") => Ok(Start::Here),
            Some(_) if is_best(word) => Ok(Start::Best),
            Some(name) => Ok(Start::On(name.to_owned())),
            None => {
                let text = format!("no node is called '{}'", word.display());
                Err(Failure::new(FailureKind::NotFound, text))
            }
        }
    }

    /// The nodes that a program is to be moved to at once: the first that takes it.
    pub(crate) fn destinations(&self, client: &mut Client) -> Result<Vec<Destination>, Failure> {
        match self {
            Start::Here => Ok(Vec::new()),
            Start::On(name) => Ok(vec![client.destination(name)?]),
            Start::Best => Ok(vec![client.best(&[])?]),
            Start::OneOf(nodes) => {
                let best = match client.best(nodes) {
                    Ok(best) => Some(best),
                    // Nobody is known to be fit; maybe one is.
                    Err(failure) if failure.kind == FailureKind::Refused => None,
                    Err(failure) => return Err(failure),
                };
                let others = nodes.iter().map(|node| Destination::Node(*node));
                let others = others.filter(|node| Some(*node) != best);
                Ok(best.into_iter().chain(others).collect())
            }
        }
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
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Option<Vec<u16>> {
        parse_nodes(text).ok().map(|nodes| nodes.into_iter().map(NodeId::get).collect())
    }

    #[test]
    fn lists_of_nodes_are_read_as_openmosix_writes_them() {
        assert_eq!(numbers("2,4-7"), Some(vec![2, 4, 5, 6, 7]));
        assert_eq!(numbers("7,1,7"), Some(vec![1, 7]));
        assert_eq!(numbers("9"), Some(vec![9]));
        for bad in ["", "0", "a", "7-4", "1-", "-3", "1,,2", "1-65535"] {
            assert_eq!(numbers(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_names_the_place_means_it() {
        let of = |placing: Placing, first: &str| {
            let plan = placing.plan(&[first, "--", "ls", "-l"].map(OsString::from)).ok().unwrap();
            (plan.start, plan.standing.hold, plan.command.len())
        };
        let default = Placing::default;
        let (locked, on) = (Some(Hold::Locked), |name: &str| Start::On(name.to_owned()));
        assert_eq!(of(default(), "n2"), (on("n2"), locked, 2));
        assert_eq!(of(default(), "home"), (Start::Here, locked, 2));
        assert_eq!(of(default(), "best"), (Start::Best, None, 2));
        assert_eq!(of(Placing { unlock: true, ..default() }, "2"), (on("2"), Some(Hold::Unlocked), 2));
        assert_eq!(of(Placing { lock: true, ..default() }, "lame"), (Start::Here, locked, 4));
        assert_eq!(of(Placing { keep: true, ..default() }, "best"), (Start::Here, None, 4));
        assert_eq!(of(Placing { home: true, ..default() }, "3"), (Start::Here, locked, 4));
        let two = Start::OneOf(vec![NodeId::new(2).unwrap()]);
        assert_eq!(of(Placing { nodes: Some("2".to_owned()), ..default() }, "3"), (two, None, 4));
        for words in [&["2"][..], &["2", "--"], &[]] {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            assert!(default().plan(&words).is_err(), "{words:?}");
        }
    }
}
