//! Daemons and agents are killed: a daemon's death harms nobody, an agent's ends its process with a cause.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Counting, SOON, Stop, main as run, trial};

/// How long an agent that lost the other one may stay.
const GONE: Duration = Duration::from_secs(model::limits::RESUME_HOST_SECONDS + 25);
const PAUSE: Duration = Duration::from_millis(3);
const CLOCK: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    run(vec![
        trial("every-daemon-killed-and-replaced", &["python3"], || in_lab(every_daemon)),
        trial("a-warden-killed", &["python3"], || in_lab(a_warden)),
        trial("a-keeper-killed", &["python3"], || in_lab(|cluster| a_keeper(cluster, false))),
        trial("a-keeper-killed-in-a-call", &["python3"], || in_lab(keeper_of_a_blocked_call)),
        trial("a-keeper-killed-under-another-daemon", &["python3"], || {
            in_lab(|cluster| a_keeper(cluster, true))
        }),
    ])
}

fn in_lab(test: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    let cluster = Cluster::up(&[])?;
    test(&cluster).with_context(|| cluster.logs())
}

/// The daemon's program as a new version at the same place, with another version number in it; the running one stays.
const RENEW: &str = "p=$(command -v omd) && cp $p /tmp/omd.new && \
     sed -i 's/0[.]1[.]0/0.9.9/g' /tmp/omd.new && /tmp/omd.new --version";

fn every_daemon(cluster: &Cluster) -> Result<()> {
    let counting = Counting::start(cluster, PAUSE)?;
    let (home, pid) = (cluster.home(), counting.run.pid);
    counting.run.go(Stop::N2)?;
    for (round, node) in ["n1", "n2", "n3"].into_iter().enumerate() {
        cluster.kill_daemon(node)?;
        counting.goes_on(SOON)?;
        if round == 1 {
            // While nobody is there who would let a connection in.
            cluster.reset("n2")?;
        }
        let version = cluster.node(node).must(RENEW)?;
        ensure!(version.contains("0.9.9"), "{version}");
        cluster.start_daemon(node, "/tmp/omd.new")?;
        counting.goes_on(CLOCK)?;
        ensure!(home.whereabouts(pid)? == cluster.number("n2")?, "it is elsewhere");
        ensure!(home.must("om ps")?.contains("python3"), "om ps does not show it");
        // A connection that is cut now comes back through the new daemon.
        ensure!(cluster.reset("n2")? > 0, "nothing was cut");
        counting.goes_on(CLOCK)?;
    }
    ensure!(cluster.log_lines("n1", &["the connection is back"])?.len() >= 3, "nothing was cut");
    for stop in [Stop::N3, Stop::N2, Stop::Home, Stop::N2, Stop::Home] {
        counting.run.go(stop)?;
        counting.goes_on(SOON)?;
    }
    counting.finish()?;
    cluster.nothing_remains(GONE)
}

fn a_warden(cluster: &Cluster) -> Result<()> {
    let counting = Counting::start(cluster, PAUSE)?;
    counting.run.go(Stop::N2)?;
    let begun = Instant::now();
    ensure!(cluster.kill_agents("n2", "warden")? == 1, "no warden");
    counting.was_ended(&["node=2", "does not know it any more"], SOON)?;
    cluster.nothing_remains(SOON)?;
    println!("all gone after {:?}", begun.elapsed());
    Ok(())
}

fn a_keeper(cluster: &Cluster, daemon_replaced: bool) -> Result<()> {
    let counting = Counting::start(cluster, PAUSE)?;
    counting.run.go(Stop::N2)?;
    if daemon_replaced {
        cluster.kill_daemon("n1")?;
        cluster.start_daemon("n1", "omd")?;
    }
    ensure!(cluster.kill_agents("n1", "keeper")? == 1, "no keeper");
    counting.was_ended(&["node=2", "its keeper died"], SOON)?;
    cluster.nothing_remains(GONE)
}

/// Nobody wakes a deputy that waits in a call for the sake of its keeper.
fn keeper_of_a_blocked_call(cluster: &Cluster) -> Result<()> {
    let place = cluster.home();
    let words = ["/usr/bin/python3", "-c", "print('ready', flush=True); input()"].map(str::to_owned);
    let mut run = suite::Run::command(place, &words, suite::Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    run.go(Stop::N3)?;
    let blocked =
        format!("grep -q read /proc/{}/wchan || grep -q '^0 0x0' /proc/{}/syscall", run.pid, run.pid);
    let deadline = Instant::now() + SOON;
    while place.shell(&blocked)?.status != 0 {
        ensure!(Instant::now() < deadline, "its deputy does not read");
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(cluster.kill_agents("n1", "keeper")? == 1, "no keeper");
    let (status, _) = run.end(SOON)?;
    ensure!(status == 128 + 9, "it ended with {status}");
    let causes =
        cluster.log_lines("n1", &["SIGKILL", "its keeper died", &format!("pid={} ", run.pid), "node=3"])?;
    ensure!(causes.len() == 1, "{causes:?}");
    cluster.nothing_remains(GONE)
}
