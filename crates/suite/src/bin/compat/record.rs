//! What is kept of the torture of one entry, until it is run again.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use suite::Workshop;
use suite::compat::{Ends, Entry};
use torture::Report;

/// The numbers of one entry.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    /// Tests that passed, found something missing, failed in peace.
    pub(crate) ends: (u64, u64, u64),
    /// Whether the tortured run was the same as that in peace.
    pub(crate) same: bool,
    /// Whether it was, but for what is known to differ.
    #[serde(default)]
    pub(crate) as_known: bool,
    /// Moves.
    pub(crate) moves: u64,
    /// Refusals by code.
    pub(crate) refusals: BTreeMap<String, u64>,
    /// How often each call, or other cause, brought a process home.
    pub(crate) home_comings: BTreeMap<String, u64>,
}

impl Record {
    pub(crate) fn of(entry: &Entry, report: &Report) -> Record {
        let Ends { ok, skipped, failed } = Ends::of(&report.printed);
        Record {
            ends: (ok, skipped, failed),
            same: report.same,
            as_known: entry.unknown_differences(report).is_empty(),
            moves: report.moves,
            refusals: report.refusals.clone(),
            home_comings: report.home_comings.clone(),
        }
    }

    /// Keeps it in place of what was kept of the entry before.
    pub(crate) fn keep(&self, entry: &Entry) -> Result<()> {
        let path = path(entry)?;
        let text = serde_json::to_string_pretty(self)?;
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    /// What is kept of the entry, if it was ever run.
    pub(crate) fn kept(entry: &Entry) -> Result<Option<Record>> {
        let path = path(entry)?;
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            text => {
                let doing = || format!("failed to read {}", path.display());
                let text = text.with_context(doing)?;
                Ok(Some(serde_json::from_str(&text).with_context(doing)?))
            }
        }
    }
}

fn path(entry: &Entry) -> Result<PathBuf> {
    let directory = Workshop::open()?.records.clone();
    fs::create_dir_all(&directory).with_context(|| format!("failed to make {}", directory.display()))?;
    Ok(directory.join(format!("{}-{}.json", entry.group, entry.name.replace('/', "-"))))
}
