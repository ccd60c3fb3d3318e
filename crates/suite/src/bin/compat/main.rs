//! Runs what [`suite::compat`] lists, in peace and under torture, and prints the tables of docs/compatibility.md.
//!
//! `compat PAGE [WORD]...` runs the entries whose group or name contains a word, and takes the rest from earlier runs. What
//! was never run here stays as PAGE has it, which is only read.
#![forbid(unsafe_code)]

mod before;
mod page;
mod record;

use anyhow::{Context as _, Result};
use before::Before;
use record::Record;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, ExitCode};
use suite::compat::{self, Entry};
use suite::{Workshop, missing};
use torture::Ground;

/// What chance is made of.
const SEED: u64 = 20;
/// The nodes of the lab.
const NODES: u16 = 3;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("compat: something was not as in peace, see above");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("compat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is wanted and prints the page; whether nothing differed that is not known to differ.
fn run() -> Result<bool> {
    every_stressor_is_listed()?;
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    anyhow::ensure!(!words.is_empty(), "usage: compat PAGE [WORD]...");
    let page = words.remove(0);
    let before = fs::read_to_string(&page).with_context(|| format!("failed to read {page}"))?;
    let wanted = |entry: &Entry| {
        let named = |word: &String| entry.group.contains(word.as_str()) || entry.name.contains(word.as_str());
        words.is_empty() || words.iter().any(named)
    };
    let name = format!("c{}", std::process::id());
    let mut ground = Ground::up(&name, NODES, Some(Workshop::open()?.programs.clone()))?;
    let mut as_known = true;
    for entry in compat::entries().filter(|entry| wanted(entry)) {
        let title = format!("{} {}", entry.group, entry.name);
        if let Some(reason) = missing(entry.needs) {
            eprintln!("== {title}: skipped, {reason}");
            continue;
        }
        eprintln!("== {title}");
        let report = ground.torture(&entry.plan(SEED)?, &|_| {}).with_context(|| title.clone())?;
        eprint!("{report}");
        for difference in entry.unknown_differences(&report) {
            eprintln!("{title}: not known to differ: {difference}");
        }
        let record = Record::of(entry, &report);
        record.keep(entry)?;
        let (passed, ..) = record.ends;
        // What runs nothing is the same in peace.
        as_known &= passed > 0 && record.as_known;
    }
    ground.down()?;
    let records = compat::entries().map(|entry| Ok((entry, Record::kept(entry)?)));
    print!("{}", page::tables(&records.collect::<Result<Vec<_>>>()?, &Before::of(&before)));
    Ok(as_known)
}

/// A stressor that is neither run nor left out for a reason would be one that nobody has thought of.
fn every_stressor_is_listed() -> Result<()> {
    if missing(&["stress-ng"]).is_some() {
        return Ok(());
    }
    let told = Command::new("stress-ng").arg("--stressors").output().context("failed to start stress-ng")?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let left_out = compat::STRESSORS_LEFT_OUT.iter().flat_map(|left_out| left_out.tests.iter().copied());
    let known: BTreeSet<&str> = compat::stressors().chain(left_out).collect();
    let unknown: Vec<_> = told.split_whitespace().filter(|name| !known.contains(name)).collect();
    anyhow::ensure!(unknown.is_empty(), "stressors that are in no list: {}", unknown.join(" "));
    Ok(())
}
