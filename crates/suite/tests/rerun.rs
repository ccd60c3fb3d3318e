//! A whole node dies: what ran there ends with SIGKILL and a cause, and a job of `mosrun --rerun` runs again.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Input, Run, SOON, main as run, trial};

/// How long a home waits for a host that is lost, and what the ends take.
const GONE: Duration = Duration::from_secs(model::limits::RESUME_HOST_SECONDS + 25);

fn main() -> ExitCode {
    run(vec![
        trial("a-host-lost-and-the-job-is-done", &[], || in_lab(host_lost)),
        trial("a-keeper-lost", &[], || in_lab(keeper_lost)),
        trial("killed-by-its-user-stays-killed", &[], || in_lab(killed_by_its_user)),
    ])
}

fn in_lab(test: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    let cluster = Cluster::up(&[])?;
    test(&cluster).with_context(|| cluster.logs())
}

/// A job that tells each of its starts, with an argument, its directory and a variable, and ends by a sign from outside.
/// It computes more than it looks for that.
const JOB: &str = "echo start-$0-$PWD-$MARK; while ! test -e /tmp/enough; do i=0; \
     while [ $i -lt 20000 ]; do i=$((i+1)); done; done; exit 7";

fn start<'a>(cluster: &'a Cluster, place: &str) -> Result<Run<'a>> {
    let line = format!("cd /tmp && MARK=blue exec mosrun --rerun=2 {place} sh -c \"$1\" word");
    let words = ["sh", "-c", &line, "sh", JOB].map(str::to_owned);
    let run = Run::command(cluster.home(), &words, Input::Pipes, String::new())?;
    run.expect("start-word-/tmp-blue", 0)?;
    Ok(run)
}

/// The pid of the job, once it is away and another one than before.
fn away(cluster: &Cluster, before: i32) -> Result<i32> {
    let list =
        "om ps --json | grep -o '\"pid\":[0-9]*,\"name\":\"[^\"]*\",\"uid\":[0-9]*,\"home\":1,\"node\":[23]'";
    let deadline = Instant::now() + SOON;
    loop {
        let said = cluster.home().shell(list)?.output;
        let pids = said.lines().filter_map(|line| line.split([':', ',']).nth(1)?.parse().ok());
        if let Some(pid) = pids.into_iter().find(|pid| *pid != before) {
            return Ok(pid);
        }
        ensure!(Instant::now() < deadline, "it is not away: {}", cluster.home().must("om ps")?);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn host_lost(cluster: &Cluster) -> Result<()> {
    let mut run = start(cluster, "-j2-3")?;
    let first = away(cluster, 0)?;
    let on = cluster.home().whereabouts(first)?;
    cluster.kill_node(if on == cluster.number("n2")? { "n2" } else { "n3" })?;
    let deadline = Instant::now() + GONE;
    while !run.said().contains("started again, 1 of 2") {
        ensure!(Instant::now() < deadline, "it is not started again: {}", run.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    let second = away(cluster, first)?;
    ensure!(cluster.home().whereabouts(second)? != on, "it is on the dead node");
    cluster.home().must("touch /tmp/enough")?;
    let (status, output) = run.end(SOON)?;
    ensure!(status == 7, "it ended with {status}: {}", run.said());
    let starts = String::from_utf8_lossy(&output).matches("start-word-/tmp-blue").count();
    ensure!(starts == 2, "it was started {starts} times");
    let causes = cluster.home().must(&format!("om log --pid {first} --json"))?;
    ensure!(causes.contains("\"lost\"") && causes.contains(&format!("\"node\":{on}")), "{causes}");
    Ok(())
}

fn keeper_lost(cluster: &Cluster) -> Result<()> {
    let mut run = start(cluster, "2")?;
    let mut last = 0;
    // As often as it may be started again, and once more.
    for _ in 0..3 {
        last = away(cluster, last)?;
        ensure!(cluster.kill_agents("n1", "keeper")? == 1, "no keeper");
    }
    let (status, _) = run.end(SOON)?;
    ensure!(status == 128 + 9, "it ended with {status}: {}", run.said());
    ensure!(run.said().matches("on node 2 was lost (its keeper died)").count() == 2, "{}", run.said());
    let causes = cluster.home().must(&format!("om log --pid {last}"))?;
    ensure!(causes.contains("its keeper died"), "{causes}");
    cluster.nothing_remains(GONE)
}

fn killed_by_its_user(cluster: &Cluster) -> Result<()> {
    let mut run = start(cluster, "2")?;
    let pid = away(cluster, 0)?;
    cluster.home().must(&format!("kill -9 {pid}"))?;
    let (status, _) = run.end(SOON)?;
    ensure!(status == 128 + 9, "it ended with {status}: {}", run.said());
    ensure!(!run.said().contains("started again"), "{}", run.said());
    // A signal that is meant for the job goes through mosrun to it.
    let mut run = start(cluster, "2")?;
    away(cluster, pid)?;
    cluster.home().must(&format!("kill -TERM {}", run.pid))?;
    let (status, _) = run.end(SOON)?;
    ensure!(status == 128 + 15, "it ended with {status}: {}", run.said());
    Ok(())
}
