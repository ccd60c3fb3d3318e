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
    /// Run it here if the node is not known or not up, or no place is known for it, instead of not at all.
    #[arg(short = 'F', long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) nature: Nature,
    /// The word after the program is its name for itself (argv[0]), and its arguments come after that.
    #[arg(short = 'z', long)]
    pub(crate) named: bool,
}

/// What a program does, which says how its statistics decay. Everything it starts inherits this, too.
#[derive(Args, Default)]
pub(crate) struct Nature {
    /// It computes: what it reads, writes and asks its home for holds it nowhere.
    #[arg(short = 'c', long, conflicts_with_all = ["io_job", "no_decay", "slow", "fast"])]
    pub(crate) cpu_job: bool,
    /// It reads and writes: it is drawn to its files and its home, however much it computes now and then.
    #[arg(short = 'i', long, conflicts_with_all = ["no_decay", "slow", "fast"])]
    pub(crate) io_job: bool,
    /// Nothing that it did is forgotten.
    #[arg(short = 'n', long, conflicts_with_all = ["slow", "fast"])]
    pub(crate) no_decay: bool,
    /// What it did is forgotten slowly, 25 thousandths a second; so it is by default.
    #[arg(short = 's', long, conflicts_with = "fast")]
    pub(crate) slow: bool,
    /// What it did is forgotten fast, 74 thousandths a second.
    #[arg(short = 'f', long)]
    pub(crate) fast: bool,
    /// Seconds after which a part is forgotten: accepted for old scripts, and means nothing, for that is the node's
    /// ('mosctl setdecay'). See -s, -f and -n.
    #[arg(short = 't', long, value_name = "SECONDS")]
    pub(crate) interval: Option<u32>,
    /// Thousandths that are kept: accepted for old scripts, and means nothing. See -s, -f and -n.
    #[arg(short = 'd', long, value_name = "THOUSANDTHS")]
    pub(crate) decay: Option<u32>,
    /// Accepted for old scripts, and means nothing: a process begins with new statistics when it becomes another program.
    #[arg(short = 'e')]
    pub(crate) cleared: bool,
    /// Accepted for old scripts, and means nothing: a process begins with new statistics when it becomes another program.
    #[arg(short = 'E', conflicts_with = "cleared")]
    pub(crate) continued: bool,
    /// Accepted for old scripts, and means nothing: a child begins with new statistics, and inherits how they decay.
    #[arg(short = 'r')]
    pub(crate) child_cleared: bool,
    /// Accepted for old scripts, and means nothing: a child begins with new statistics, and inherits how they decay.
    #[arg(short = 'R', conflicts_with = "child_cleared")]
    pub(crate) child_continued: bool,
}

impl Nature {
    /// How its statistics decay, if anything was said about it.
    fn decay(&self) -> Option<Decay> {
        let table = [
            (self.cpu_job, Decay::CpuJob),
            (self.io_job, Decay::IoJob),
            (self.no_decay, Decay::None),
            (self.slow, Decay::Slow),
            (self.fast, Decay::Fast),
        ];
        table.iter().find(|(said, _)| *said).map(|(_, decay)| *decay)
    }

    /// The options that were given and mean nothing any more, with what to use instead.
    pub(crate) fn without_meaning(&self) -> Option<String> {
        let table = [
            (self.interval.is_some(), "-t", CHOOSE),
            (self.decay.is_some(), "-d", CHOOSE),
            (self.cleared, "-e", BEGINS),
            (self.continued, "-E", BEGINS),
            (self.child_cleared, "-r", BEGINS),
            (self.child_continued, "-R", BEGINS),
        ];
        let given = table.iter().filter(|(given, ..)| *given);
        let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
        for (_, option, why) in given {
            match said.iter_mut().find(|(known, _)| known == why) {
                Some((_, options)) => options.push(option),
                None => said.push((why, vec![option])),
            }
        }
        let parts =
            said.iter().map(|(why, options)| format!("{} mean nothing here: {why}", options.join(", ")));
        (!said.is_empty()).then(|| parts.collect::<Vec<String>>().join("; "))
    }

    /// Whether anything was said, even if it means nothing.
    fn is_said(&self) -> bool {
        self.decay().is_some() || self.without_meaning().is_some()
    }
}

/// Why an option of old means nothing.
const CHOOSE: &str = "use -s, -f or -n";
const BEGINS: &str = "another program and a child begin with new statistics, and inherit how they decay";

/// What to do with a program for which there is no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// It is not started.
    #[default]
    Fails,
    /// It is started here.
    RunsHere,
}

/// A program with its arguments, its own name first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) file: OsString,
    pub(crate) arguments: Vec<OsString>,
}

impl Program {
    /// The usual: its name is what it is called by. Nothing if there are no words.
    pub(crate) fn new(words: &[OsString]) -> Option<Program> {
        let file = words.first()?.clone();
        Some(Program { file, arguments: words.to_vec() })
    }

    /// With a name that follows it; its own if nothing does.
    fn named(words: &[OsString]) -> Option<Program> {
        match words {
            [file, arguments @ ..] if !arguments.is_empty() => {
                Some(Program { file: file.clone(), arguments: arguments.to_vec() })
            }
            words => Program::new(words),
        }
    }
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
    pub(crate) program: Program,
    pub(crate) otherwise: Otherwise,
}

impl Placing {
    /// Whether the first word is a node: always where no option says more of the place; else only if it is a number.
    fn takes_node(&self, first: &OsStr) -> bool {
        let of_place = self.home || self.nodes.is_some() || self.lock || self.unlock || self.keep;
        let silent = !(of_place || self.nature.is_said());
        let number = first.to_str().is_some_and(|word| word.parse::<NodeId>().is_ok());
        silent || (number && !self.home && self.nodes.is_none())
    }

    /// What `[NODE] [--] COMMAND` means with these options.
    pub(crate) fn plan(&self, words: &[OsString]) -> Result<Plan, Failure> {
        let node = words.first().filter(|first| self.takes_node(first));
        let words = if node.is_some() { &words[1..] } else { words };
        // A '--' between them is nobody's word.
        let words = words.strip_prefix(&[OsString::from("--")]).unwrap_or(words);
        let program = if self.named { Program::named(words) } else { Program::new(words) };
        let program = program.ok_or_else(|| {
            Failure::new(FailureKind::BadRequest, "no command: write a node, and a program after it")
        })?;
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
        let standing = Standing { hold, mask, decay: self.nature.decay(), job: true };
        let otherwise = if self.force { Otherwise::RunsHere } else { Otherwise::Fails };
        Ok(Plan { start, standing, program, otherwise })
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
    fn what_a_program_does_is_said_in_one_letter() {
        let of = |nature: Nature, first: &str| {
            let placing = Placing { nature, ..Placing::default() };
            let plan = placing.plan(&[first, "ls"].map(OsString::from)).ok().unwrap();
            (plan.start, plan.standing.decay, plan.standing.hold, plan.program.arguments.len())
        };
        let default = Nature::default;
        let here = |decay, words| (Start::Here, decay, None, words);
        assert_eq!(of(Nature { cpu_job: true, ..default() }, "tar"), here(Some(Decay::CpuJob), 2));
        assert_eq!(of(Nature { io_job: true, ..default() }, "best"), here(Some(Decay::IoJob), 2));
        assert_eq!(of(Nature { interval: Some(5), ..default() }, "tar"), here(None, 2));
        let two = (Start::On("2".to_owned()), Some(Decay::Fast), Some(Hold::Locked), 1);
        assert_eq!(of(Nature { fast: true, ..default() }, "2"), two);
        let old = Nature { interval: Some(5), decay: Some(900), continued: true, ..default() };
        let said = old.without_meaning().unwrap();
        assert!(said.starts_with("-t, -d mean nothing here: use -s") && said.contains("; -E mean"), "{said}");
        assert_eq!(Nature { slow: true, ..default() }.without_meaning(), None);
    }

    #[test]
    fn a_program_may_have_another_name() {
        let of = |named, words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let placing = Placing { named, ..Placing::default() };
            let Program { file, arguments } = placing.plan(&words).ok().unwrap().program;
            let arguments = arguments.iter().map(|word| word.to_str().unwrap().to_owned());
            (file.into_string().unwrap(), arguments.collect::<Vec<String>>())
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
        assert_eq!(of(false, &["2", "bash", "-l"]), ("bash".to_owned(), words(&["bash", "-l"])));
        assert_eq!(of(true, &["2", "bash", "-bash", "-l"]), ("bash".to_owned(), words(&["-bash", "-l"])));
        assert_eq!(of(true, &["2", "bash"]), ("bash".to_owned(), words(&["bash"])));
    }

    #[test]
    fn who_names_the_place_means_it() {
        let of = |placing: Placing, first: &str| {
            let plan = placing.plan(&[first, "--", "ls", "-l"].map(OsString::from)).ok().unwrap();
            (plan.start, plan.standing.hold, plan.program.arguments.len())
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
