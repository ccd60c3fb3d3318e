//! A node measures itself, and nothing of the machine beneath it or of its neighbours.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Place, SOON, main as run, trial};

/// Threads that something else than the test may have had at work in the moment of a measurement.
const QUIET: f64 = 0.5;
/// Measurements in a row that must be quiet.
const QUIET_IN_A_ROW: usize = 3;

fn main() -> ExitCode {
    run(vec![trial("half-a-cpu-and-its-load", &[], half_a_cpu_and_its_load)])
}

fn half_a_cpu_and_its_load() -> Result<()> {
    let cluster = Cluster::up(&["--cpus", "0.5,1,1"])?;
    let outcome = with_a_busy_program(&cluster);
    outcome.with_context(|| cluster.logs())
}

fn with_a_busy_program(cluster: &Cluster) -> Result<()> {
    let (small, neighbours) = (cluster.home(), [cluster.node("n2"), cluster.node("n3")]);
    let cpus = number(&load(small)?, "cpus")?;
    ensure!((cpus - 0.5).abs() < 0.01, "half a CPU is measured as {cpus}");
    for place in neighbours {
        let cpus = number(&load(place)?, "cpus")?;
        ensure!((cpus - 1.0).abs() < 0.01, "one CPU is measured as {cpus}");
    }
    is_quiet(small)?;
    let line = "sh -c 'while :; do :; done' < /dev/null > /dev/null 2>&1 & echo $!";
    let pid: i32 = small.must(line)?.trim().parse().context("no pid")?;
    let busy = await_load(small, |load| {
        let (runnable, percent) = (number(load, "runnable")?, number(load, "utilisation")?);
        Ok((runnable - 1.0).abs() <= QUIET && percent > 30.0)
    });
    let busy = busy.context("the busy program is not seen as load")?;
    // One thread for half a CPU is twice what a whole one of its speed would have of it.
    let (speed, counted) = (number(&busy, "speed")?, number(&busy, "load")?);
    let expected = number(&busy, "runnable")? / 0.5 * 1e4 / speed * 100.0;
    ensure!((counted - expected).abs() <= 1.0, "a load of {counted}, expected {expected}: {busy}");
    // It shares its CPU with n3 or n2, and all of them the machine.
    neighbours.into_iter().try_for_each(is_quiet)?;
    small.must(&format!("kill -9 {pid}"))?;
    is_quiet(small)
}

/// What a node measures of itself, as soon as it has measured.
fn load(place: Place<'_>) -> Result<Value> {
    await_load(place, |_| Ok(true))
}

fn number(load: &Value, key: &str) -> Result<f64> {
    load[key].as_f64().with_context(|| format!("no {key} in {load}"))
}

/// Asks a node until what it measures is as wanted.
fn await_load(place: Place<'_>, mut wanted: impl FnMut(&Value) -> Result<bool>) -> Result<Value> {
    let deadline = Instant::now() + SOON;
    loop {
        let said = place.shell("om load --json")?;
        let load = serde_json::from_str::<Value>(&said.output).unwrap_or_default();
        if said.status == 0 && wanted(&load)? {
            return Ok(load);
        }
        ensure!(Instant::now() < deadline, "it measures {}{}", said.output, said.errors);
        // It measures once a second.
        std::thread::sleep(Duration::from_millis(1100));
    }
}

/// Waits until a node finds nothing to do on itself, again and again.
fn is_quiet(place: Place<'_>) -> Result<()> {
    let mut in_a_row = 0;
    let outcome = await_load(place, |load| {
        in_a_row = if number(load, "runnable")? < QUIET { in_a_row + 1 } else { 0 };
        Ok(in_a_row == QUIET_IN_A_ROW)
    });
    outcome.map(drop).context("it sees load that is not its own")
}
