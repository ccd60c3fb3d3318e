//! What it costs to be told why a process cannot move.

use super::{is_a_try, median};
use anyhow::{Context as _, Result, ensure};
use suite::{Cluster, Input, Run, find};

const MAPPINGS: u32 = 200;
const DESCRIPTORS: u32 = 100;
/// How often each of them is asked, in turn.
const ROUNDS: usize = 200;

/// `om why` of a program with little, and of one with much to look through, beside what any command of `om` costs.
pub(super) fn measure(cluster: &Cluster) -> Result<()> {
    let home = cluster.home();
    let started = |mappings: u32, descriptors: u32| -> Result<Run<'_>> {
        let program = format!("{}/laden", home.guests()?);
        let words = [program, mappings.to_string(), descriptors.to_string()];
        let run = Run::command(home, &words, Input::Pipes, String::new())?;
        run.expect("ready", 0)?;
        Ok(run)
    };
    let runs = [started(0, 0)?, started(MAPPINGS, DESCRIPTORS)?];
    for run in &runs {
        let said = home.must(&format!("om why --json {}", run.pid))?;
        let reasons = find(&said, "reasons").with_context(|| said.clone())?;
        ensure!(reasons.as_array().is_some_and(Vec::is_empty), "it cannot move: {said}");
    }
    let [few, many] = [&runs[0], &runs[1]].map(|run| format!("om why {}", run.pid));
    let timed = ["om --version", &few, &many]
        .map(|command| format!("a=$(date +%s%N); {command} > /dev/null; b=$(date +%s%N); echo $((b - a))"));
    let rounds = if is_a_try() { 3 } else { ROUNDS };
    let said = home.must(&format!("for i in $(seq {rounds}); do {}; done", timed.join("; ")))?;
    let spans = said.lines().map(str::parse::<f64>).collect::<Result<Vec<_>, _>>()?;
    ensure!(spans.len() == timed.len() * rounds, "it measured something else: {said}");
    let of = |index: usize| median(spans.iter().skip(index).step_by(timed.len()).copied()) / 1e6;
    println!(
        "\n## om why\n\nMilliseconds from the command's start by a shell to its end; medians of {rounds}, in turn.\n"
    );
    println!("| command | ms |\n|---|---|");
    println!("| `om --version`, which asks nobody | {:.2} |", of(0));
    println!("| `om why`, few mappings and descriptors | {:.2} |", of(1));
    println!("| `om why`, {MAPPINGS} mappings and {DESCRIPTORS} descriptors more | {:.2} |", of(2));
    for mut run in runs {
        run.send(b"finish\n")?;
        run.end(suite::SOON)?;
    }
    Ok(())
}
