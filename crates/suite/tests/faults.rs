//! Every phase of a move, on each side: the agent is killed there once, an error happens there once, and it is slow there
//! once.
//!
//! Before the word the program goes on where it was; after it, where it goes to, or it ends, and the log tells why. It never
//! goes on twice and never vanishes: what it prints and writes shows it.
#![forbid(unsafe_code)]

use Meant::{Ends, Lives, May};
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use suite::{Cluster, Counting, SOON, Stop, Workshop, faulty_programs, main as run, trial};

const GONE: Duration = Duration::from_secs(model::limits::RESUME_HOST_SECONDS + 35);
const PAUSE: Duration = Duration::from_millis(2);

/// What a fault means for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meant {
    /// It goes on.
    Lives,
    /// It ends, with a cause in the log.
    Ends,
    /// Either: the fault may fall before the word or behind it, or nobody could give it back.
    May,
}

/// Point, node, and what it means if the agent is killed, or fails, there.
type Row = (&'static str, &'static str, Meant, Meant);

const OUT: &[Row] = &[
    ("daemon.offer", "n2", Lives, Lives),
    ("daemon.accept", "n2", Lives, Lives),
    ("keeper.offered", "n1", Lives, Lives),
    ("keeper.files", "n1", Lives, Lives),
    ("keeper.body", "n1", Lives, Lives),
    ("keeper.frozen", "n1", Lives, Lives),
    ("keeper.image", "n1", Lives, Lives),
    ("keeper.pages", "n1", Lives, Lives),
    ("keeper.prepared", "n1", Lives, Lives),
    ("keeper.committed", "n1", Ends, Ends),
    ("keeper.hollow", "n1", Ends, Ends),
    ("keeper.started", "n1", Ends, Ends),
    ("warden.met", "n2", Lives, Lives),
    ("warden.body", "n2", Lives, Lives),
    ("warden.image", "n2", Lives, Lives),
    ("warden.pages", "n2", Lives, Lives),
    ("warden.prepared", "n2", May, May),
    ("warden.committed", "n2", Ends, Ends),
    ("warden.started", "n2", Ends, Ends),
];

const HOME: &[Row] = &[
    ("warden.quiesce", "n2", Ends, Ends),
    ("keeper.quiesced", "n1", Ends, Lives),
    ("keeper.flushed", "n1", Ends, Lives),
    ("warden.captured", "n2", Ends, Lives),
    ("warden.sent", "n2", May, May),
    ("keeper.fill", "n1", Ends, Lives),
    ("keeper.taken", "n1", Ends, Ends),
    ("keeper.filled", "n1", Ends, Ends),
    ("keeper.released", "n1", Lives, Lives),
    ("warden.release", "n2", Lives, Lives),
    ("warden.resume", "n2", Ends, Ends),
];

const ON: &[Row] = &[
    ("warden.onward", "n2", Ends, Lives),
    ("keeper.move-on", "n1", Ends, Lives),
    ("keeper.on-quiesced", "n1", Ends, Lives),
    ("keeper.on-sent", "n1", Ends, Lives),
    ("keeper.on-prepared", "n1", Ends, Lives),
    ("keeper.on-committed", "n1", Ends, Ends),
    ("keeper.on-started", "n1", Ends, Ends),
    ("warden.met", "n3", Lives, Lives),
    ("warden.body", "n3", Lives, Lives),
    ("warden.image", "n3", Lives, Lives),
    ("warden.pages", "n3", Lives, Lives),
    ("warden.committed", "n3", Ends, Ends),
];

/// Where an agent that hangs for a moment only makes the move longer: the process waits, and nobody loses patience.
const SLOW: &[Row] = &[
    ("daemon.offer", "n2", Lives, Lives),
    ("keeper.files", "n1", Lives, Lives),
    ("keeper.pages", "n1", Lives, Lives),
    ("keeper.committed", "n1", Lives, Lives),
    ("warden.body", "n2", Lives, Lives),
    ("warden.pages", "n2", Lives, Lives),
    ("warden.committed", "n2", Lives, Lives),
];

fn main() -> ExitCode {
    run(vec![
        trial("what-is-shipped-has-none", &[], shipped_has_none),
        trial("out/kill", &["python3"], || all(OUT, &[Stop::N2], "kill")),
        trial("out/error", &["python3"], || all(OUT, &[Stop::N2], "error")),
        trial("out/slow", &["python3"], || all(SLOW, &[Stop::N2], "hang-3")),
        trial("home/kill", &["python3"], || all(HOME, &[Stop::N2, Stop::Home], "kill")),
        trial("home/error", &["python3"], || all(HOME, &[Stop::N2, Stop::Home], "error")),
        trial("on/kill", &["python3"], || all(ON, &[Stop::N2, Stop::N3], "kill")),
        trial("on/error", &["python3"], || all(ON, &[Stop::N2, Stop::N3], "error")),
    ])
}

/// The programs with faults, built when they are first asked for.
fn programs() -> Result<&'static PathBuf> {
    static BUILT: std::sync::OnceLock<std::result::Result<PathBuf, String>> = std::sync::OnceLock::new();
    let built = BUILT.get_or_init(|| faulty_programs().map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn has_faults(program: &std::path::Path) -> Result<bool> {
    let bytes = std::fs::read(program).with_context(|| format!("failed to read {}", program.display()))?;
    Ok(bytes.windows(b"a fault on demand".len()).any(|window| window == b"a fault on demand"))
}

fn shipped_has_none() -> Result<()> {
    ensure!(has_faults(&programs()?.join("omd"))?, "the canary: the faulty program has none");
    ensure!(!has_faults(&Workshop::open()?.programs.join("omd"))?, "omd has faults on demand");
    Ok(())
}

fn all(rows: &[Row], stops: &[Stop], what: &str) -> Result<()> {
    let cluster = Cluster::up_from(programs()?, &[])?;
    let mut wrong = Vec::new();
    for row in rows {
        if let Err(error) = one(&cluster, row, stops, what) {
            wrong.push(format!("{} at {}: {error:#}", row.0, row.1));
        }
    }
    ensure!(wrong.is_empty(), "{what}:\n{}\n{}", wrong.join("\n"), cluster.logs());
    cluster.nothing_remains(GONE)
}

fn one(cluster: &Cluster, &(point, node, killed, failed): &Row, stops: &[Stop], what: &str) -> Result<()> {
    let meant = if what == "kill" { killed } else { failed };
    let counting = Counting::start(cluster, PAUSE)?;
    let (last, first) = stops.split_last().context("no journey")?;
    for stop in first {
        counting.run.go(*stop)?;
    }
    let arm = |node: &'static str, point: &str, what: &str| {
        cluster.node(node).must(&format!("echo {point}:{what} > /run/openmosix/fault"))
    };
    arm(node, point, what)?;
    if point == "warden.resume" {
        // It comes by there only if its way home fails.
        arm("n1", "keeper.flushed", "error")?;
    }
    let outcome = counting.run.go(*last);
    let deadline = std::time::Instant::now() + SOON;
    while cluster.node(node).shell("test -e /run/openmosix/fault")?.status == 0 {
        ensure!(std::time::Instant::now() < deadline, "nobody came by: {outcome:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    if point.starts_with("daemon.") && what == "kill" {
        cluster.start_daemon(node, "omd")?;
    }
    let lives = match meant {
        Lives => true,
        Ends => false,
        May => counting.goes_on(Duration::from_secs(2)).is_ok(),
    };
    if !lives {
        return counting.was_ended(&[], SOON);
    }
    counting.goes_on(SOON).with_context(|| format!("the move: {outcome:?}"))?;
    if what.starts_with("hang") {
        ensure!(outcome.is_ok(), "the move: {outcome:?}");
    }
    if meant == Lives && stops.len() == 1 {
        // It is as it was, and can be moved as before.
        counting.run.go(Stop::N3).context("after the fault")?;
        counting.run.go(Stop::Home).context("after the fault")?;
        counting.goes_on(SOON)?;
    }
    counting.finish().map(drop)
}
