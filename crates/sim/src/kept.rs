//! Results of runs that are kept in a file, so that long work can be interrupted.
//!
//! One line of JSON for each run. Results of another build of this program do not count: it may decide otherwise.

use crate::measure::Measures;
use crate::world::Plan;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The file, and what was in it.
#[derive(Debug, Default)]
pub struct Kept {
    program: u64,
    known: HashMap<String, Measures>,
    file: Option<Mutex<File>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    program: u64,
    plan: String,
    measures: Measures,
}

/// All that decides a run.
fn name(plan: &Plan<'_>) -> String {
    let Plan { scenario, contender, seed, trouble, spread, lasts } = plan;
    format!(
        "{} {} nodes, {}, seed {seed}, {trouble:?}, {spread:?}, {lasts:?}",
        scenario.name,
        scenario.machines.len(),
        contender.name
    )
}

impl Kept {
    /// Keeps nothing.
    pub fn nothing() -> Kept {
        Kept::default()
    }

    /// What this build has kept in a file, which is made if it is not there. A line that was cut off counts for nothing.
    pub fn open(path: &Path) -> anyhow::Result<Kept> {
        let program = std::env::current_exe().and_then(std::fs::read).context("read this program")?;
        let mut hasher = DefaultHasher::new();
        program.hash(&mut hasher);
        let program = hasher.finish();
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("open {} for results", path.display()))?;
        let mut known = HashMap::new();
        for line in BufReader::new(&file).lines() {
            let line = line.with_context(|| format!("read {}", path.display()))?;
            match serde_json::from_str::<Line>(&line) {
                Ok(line) if line.program == program => drop(known.insert(line.plan, line.measures)),
                _ => {}
            }
        }
        // Whatever was cut off stands in a line of its own.
        file.write_all(b"\n").with_context(|| format!("write to {}", path.display()))?;
        Ok(Kept { program, known, file: Some(Mutex::new(file)) })
    }

    /// The result of a run, if it was kept.
    pub fn find(&self, plan: &Plan<'_>) -> Option<Measures> {
        self.known.get(&name(plan)).cloned()
    }

    /// Keeps a result. If it cannot be written it will have to be found again: that is said, and no reason to stop.
    pub fn add(&self, plan: &Plan<'_>, measures: &Measures) {
        let Some(file) = &self.file else { return };
        let line = Line { program: self.program, plan: name(plan), measures: measures.clone() };
        let written = serde_json::to_string(&line).map_err(std::io::Error::other).and_then(|line| {
            file.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{line}\n").as_bytes())
        });
        if let Err(error) = written {
            eprintln!("sim: failed to keep a result: {error}");
        }
    }
}
