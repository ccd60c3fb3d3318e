//! Many equal programs that compute, started on one node: what a cluster is to spread.

use crate::{Input, Place, Run, find};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The number of the node where they are started.
const HOME: u64 = 1;

/// Programs that compute for about so many seconds of a CPU each, all started on one node.
pub struct Crowd<'a> {
    home: Place<'a>,
    runs: Vec<Run<'a>>,
    millions: u32,
}

impl<'a> Crowd<'a> {
    /// Starts so many, each of so many million steps and with so much memory.
    pub fn start(home: Place<'a>, count: usize, millions: u32, megabytes: u32) -> Result<Crowd<'a>> {
        let program = format!("{}/grind", home.guests()?);
        let words = [program, millions.to_string(), megabytes.to_string()];
        let start = |_| Run::command(home, &words, Input::Pipes, String::new());
        Ok(Crowd { home, runs: (0..count).map(start).collect::<Result<_>>()?, millions })
    }

    /// How many of those that run are on each node.
    pub fn places(&self) -> Result<BTreeMap<u64, usize>> {
        let said = self.home.must("om ps --json")?;
        let rows = find(&said, "own").with_context(|| said.clone())?;
        let rows = rows.as_array().context("own is no list")?;
        // Who was never moved is not listed.
        let known = |run: &Run<'_>| rows.iter().find(|row| row["pid"] == run.pid)?["node"].as_u64();
        let mut places = BTreeMap::new();
        for run in &self.runs {
            *places.entry(known(run).unwrap_or(HOME)).or_default() += 1;
        }
        Ok(places)
    }

    /// Waits until a distribution is to somebody's liking; gives the time that it took.
    pub fn settles(
        &self,
        patience: Duration,
        likes: impl Fn(&BTreeMap<u64, usize>) -> bool,
    ) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let places = self.places()?;
            if likes(&places) {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < patience, "after {patience:?} they are at {places:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits for all of them. Every one computes what the others compute.
    pub fn finish(self, patience: Duration) -> Result<()> {
        let said = format!("ground {}: ", self.millions);
        let mut results = BTreeMap::new();
        for mut run in self.runs {
            let (status, output) = run.end(patience)?;
            let text = String::from_utf8_lossy(&output).into_owned();
            ensure!(status == 0 && text.contains(&said), "it ended with {status}: {text}");
            *results.entry(text).or_insert(0) += 1;
        }
        ensure!(results.len() == 1, "they computed different things: {results:?}");
        Ok(())
    }
}

/// Whether jobs per CPU differ by one job of the smallest node at most; the nodes' numbers begin with 1.
pub fn is_even(places: &BTreeMap<u64, usize>, cpus: &[f64]) -> bool {
    let count: usize = places.values().sum();
    let fair = count as f64 / cpus.iter().sum::<f64>();
    (1..).zip(cpus).all(|(node, cpus)| {
        let here = places.get(&node).copied().unwrap_or(0) as f64;
        (here - fair * cpus).abs() <= 1.0
    })
}
