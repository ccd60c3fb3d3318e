//! `cargo xtask tidy`: the rules of the house that a compiler does not know.
//!
//! Each rule is a file of its own under `tidy/` and looks at the [`Tree`]: every file of the project, and the crates
//! as cargo sees them. All rules run; all findings are shown.

mod documents;
mod edges;
mod map;
mod size;
mod tree;
mod unsafety;
mod words;

use anyhow::Result;
use std::fmt;
use std::process::ExitCode;
use tree::Tree;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    Error,
    Warning,
}

/// One place where the tree breaks a rule.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    level: Level,
    place: String,
    text: String,
}

impl Finding {
    fn error(place: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { level: Level::Error, place: place.into(), text: text.into() }
    }

    fn warning(place: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, place: place.into(), text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        write!(f, "{level}: {}: {}", self.place, self.text)
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: &[(&str, Rule)] = &[
    ("edges between crates", edges::check),
    ("ARCHITECTURE.md names every crate", map::check),
    ("unsafe only at the kernel edge", unsafety::check),
    ("file sizes", size::check),
    ("words that have no place here", words::check),
    ("documents", documents::check),
];

/// Runs every rule; success only if none found an error.
pub(crate) fn run() -> Result<ExitCode> {
    let tree = Tree::read()?;
    let mut errors = 0;
    for (name, rule) in RULES {
        let findings = rule(&tree);
        let wrong = findings.iter().filter(|finding| finding.level == Level::Error).count();
        println!("tidy: {name}: {}", if wrong == 0 { "good".to_owned() } else { format!("{wrong} wrong") });
        findings.iter().for_each(|finding| println!("  {finding}"));
        errors += wrong;
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
