//! `sim`: policies compared in a whole cluster that runs in one process.
#![forbid(unsafe_code)]

use anyhow::{Context as _, bail};
use balance::Settings;
use clap::{Parser, Subcommand};
use sim::contender::{self, CONTENDERS, Contender};
use sim::kept::Kept;
use sim::liar::Lie;
use sim::many::run_all;
use sim::measure::Summary;
use sim::network::Trouble;
use sim::report::{Report, brokers_table, spreading_table};
use sim::scenario::Scenario;
use sim::spreading;
use sim::world::{Plan, run};
use std::io::{IsTerminal as _, Write as _};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Simulates clusters of this project's nodes, to compare policies and to see how news spread.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run policies in scenarios, with the same seeds, and compare them.
    #[command(visible_alias = "table")]
    Run(Comparison),
    /// Let nodes tell each other of themselves: how old is what they know, and what does it cost?
    Window(Sizes),
    /// Let brokers of clusters of several sizes place programs: how old is what they know, and what do they send and keep?
    Brokers(Sizes),
    /// List scenarios and policies.
    List,
}

#[derive(Debug, clap::Args)]
struct Comparison {
    /// Scenarios, separated by commas; all, if none is named.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Policies, separated by commas; the others are compared with the first. All, if none is named.
    #[arg(long, value_delimiter = ',')]
    policy: Vec<String>,
    /// Runs of each policy.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1000)]
    first_seed: u64,
    /// Runs at the same time; results do not depend on it.
    #[arg(long, default_value_t = NonZero::<usize>::MIN)]
    jobs: NonZero<usize>,
    /// Keep the result of each run in this file, and do not repeat what it holds of this build.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Another number of machines than the scenario has.
    #[arg(long)]
    nodes: Option<usize>,
    /// Share of messages that are lost.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Milliseconds that a message takes on average.
    #[arg(long, default_value_t = 0.1)]
    delay: f64,
    /// Seconds between two messages of load information of a node.
    #[arg(long, value_parser = period)]
    spread: Option<Duration>,
    /// Cut the cluster in two halves from one second to another, like 60-90.
    #[arg(long, value_parser = span)]
    partition: Option<(Duration, Duration)>,
    /// Crash the last node at one second and let it come back at another, like 60-90.
    #[arg(long, value_parser = span)]
    crash: Option<(Duration, Duration)>,
    /// Let the last node lie: about its clock, its load, or others (slander, praise); by replay; or that it is idle (boast), and let it
    /// refuse nobody (lure).
    #[arg(long)]
    lie: Option<Lie>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Sizes {
    /// Sizes of clusters, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "6,16,64,256,1024,10000")]
    nodes: Vec<usize>,
    /// Seconds to simulate.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Share of messages that are lost.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// The seed.
    #[arg(long, default_value_t = 1000)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn period(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.001..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("'{text}' is not 0.001 to 3600 seconds"))
}

fn span(text: &str) -> Result<(Duration, Duration), String> {
    let seconds = |part: &str| part.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    match text.split_once('-').map(|(begin, end)| (seconds(begin), seconds(end))) {
        Some((Some(begin), Some(end))) if begin < end => Ok((begin, end)),
        _ => Err(format!("'{text}' is not a span of seconds like 60-90")),
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(comparison) => compare(&comparison),
        Command::Window(sizes) => watch(&sizes),
        Command::Brokers(sizes) => place(&sizes),
        Command::List => {
            list();
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim: failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    for scenario in Scenario::all() {
        println!("{:<10} {}", scenario.name, scenario.about);
    }
    println!();
    for contender in CONTENDERS {
        println!("{:<10} {}", contender.name, contender.about);
    }
}

fn compare(wanted: &Comparison) -> anyhow::Result<()> {
    let every: Vec<&Contender> = CONTENDERS.iter().collect();
    let named = wanted
        .policy
        .iter()
        .map(|name| contender::named(name).with_context(|| format!("find the policy '{name}': see sim list")))
        .collect::<anyhow::Result<_>>()?;
    let policies = if wanted.policy.is_empty() { every } else { named };
    let named = wanted
        .scenario
        .iter()
        .map(|name| {
            Scenario::named(name).with_context(|| format!("find the scenario '{name}': see sim list"))
        })
        .collect::<anyhow::Result<_>>()?;
    let scenarios = if wanted.scenario.is_empty() { Scenario::all() } else { named };
    if !(0.0..1.0).contains(&wanted.loss) {
        bail!("lose {} of all messages: it must be at least 0 and less than 1", wanted.loss);
    }
    possible(wanted.nodes.as_slice())?;
    let trouble = Trouble {
        loss: wanted.loss,
        delay: Duration::try_from_secs_f64(wanted.delay / 1000.0).context("delay messages by --delay")?,
        partition: wanted.partition,
        crash: wanted.crash,
        lie: wanted.lie,
    };
    let kept = match &wanted.keep {
        Some(path) => Kept::open(path)?,
        None => Kept::nothing(),
    };
    let seeds: Vec<u64> = (wanted.first_seed..).take(usize::try_from(wanted.seeds)?).collect();
    let mut reports = Vec::new();
    for scenario in scenarios {
        let scenario = match wanted.nodes {
            Some(count) => scenario.resized(count),
            None => scenario,
        };
        let plan = |contender, seed| Plan {
            scenario: &scenario,
            contender,
            seed,
            trouble: trouble.clone(),
            spread: wanted.spread,
            lasts: None,
        };
        let plans: Vec<Plan<'_>> =
            policies.iter().flat_map(|contender| seeds.iter().map(|seed| plan(*contender, *seed))).collect();
        let tell = |done| progress(&format!("{}: {done}/{} runs", scenario.name, plans.len()));
        let results = run_all(&plans, wanted.jobs, &kept, &tell);
        progress("");
        let runs = results.chunks(seeds.len());
        let first = &results[..seeds.len()];
        let summaries = policies.iter().zip(runs).map(|(policy, runs)| Summary::of(policy.name, runs, first));
        let report = Report::new(&scenario, summaries.collect());
        if !wanted.json {
            println!("{}\n", report.table());
        }
        reports.push(report);
    }
    if wanted.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    let broken =
        reports.iter().flat_map(|report| &report.policies).any(|one| !one.mean.violations.is_empty());
    if broken { bail!("keep all promises: see above what was broken") } else { Ok(()) }
}

fn watch(wanted: &Sizes) -> anyhow::Result<()> {
    let lasts = Duration::try_from_secs_f64(wanted.seconds).context("simulate --seconds")?;
    possible(&wanted.nodes)?;
    let rows: Vec<_> = wanted
        .nodes
        .iter()
        .map(|count| {
            progress(&format!("{count} nodes"));
            spreading::spread(*count, lasts, wanted.loss, &Settings::default(), wanted.seed)
        })
        .collect();
    progress("");
    if wanted.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", spreading_table(&rows));
    }
    Ok(())
}

fn possible(nodes: &[usize]) -> anyhow::Result<()> {
    match nodes.iter().find(|count| !(2..=60_000).contains(*count)) {
        Some(count) => bail!("simulate {count} nodes: 2 to 60000 are possible"),
        None => Ok(()),
    }
}

/// The scenario in which brokers of clusters of any size are looked at: each node has as much to do as in any other.
const ANY_SIZE: &str = "c2";

fn place(wanted: &Sizes) -> anyhow::Result<()> {
    let lasts = Duration::try_from_secs_f64(wanted.seconds).context("simulate --seconds")?;
    possible(&wanted.nodes)?;
    let contender = contender::named("ums").context("find our policy")?;
    let mut rows = Vec::new();
    for count in &wanted.nodes {
        progress(&format!("{count} nodes"));
        let scenario = Scenario::named(ANY_SIZE).context("find a scenario")?.resized(*count);
        let trouble = Trouble { loss: wanted.loss, ..Trouble::default() };
        let plan = Plan {
            scenario: &scenario,
            contender,
            seed: wanted.seed,
            trouble,
            spread: None,
            lasts: Some(lasts),
        };
        rows.push((*count, run(&plan)));
    }
    progress("");
    if wanted.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", brokers_table(&rows));
    }
    let broken = rows.iter().any(|(_, run)| !run.violations.is_empty());
    if broken { bail!("keep all promises: see violations in --json") } else { Ok(()) }
}

/// One line that is written over by the next, for people who wait.
fn progress(text: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        // Nothing depends on it.
        let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
    }
}
