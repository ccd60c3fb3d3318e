//! What the daemon costs that has nothing to do, and the one whose processes are away.

use super::{is_a_try, median};
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};
use suite::{Cluster, Place, SOON};

/// How long CPU time is counted.
const WATCHED: Duration = Duration::from_secs(60);
/// Processes that are away.
const AWAY: usize = 100;
/// After this, what starting or moving leaves to be done is done.
const REST: Duration = Duration::from_secs(5);

/// An idle cluster, and one with many processes away.
pub(super) fn measure() -> Result<()> {
    println!("\n## Daemons at rest\n");
    println!(
        "Percent of one CPU over {} s; memory in MB: resident, and proportional (what is shared with other processes of this \
         machine counts in part only). Agents: the sum over all of one node ÷ {AWAY}.\n",
        watched().as_secs()
    );
    println!("| what | CPU, % | resident | proportional |\n|---|---|---|---|");
    let cluster = Cluster::balanced(3, &[])?;
    idle(&cluster).with_context(|| cluster.logs())?;
    drop(cluster);
    let cluster = Cluster::balanced(2, &["--set", "guests.max=1000", "--set", "balance.automatic=false"])?;
    away(&cluster).with_context(|| cluster.logs())
}

fn watched() -> Duration {
    if is_a_try() { Duration::from_secs(5) } else { WATCHED }
}

/// Three nodes that know each other and have nothing to do.
fn idle(cluster: &Cluster) -> Result<()> {
    std::thread::sleep(REST);
    let places: Vec<Place<'_>> = cluster.nodes().iter().map(|node| cluster.node(node)).collect();
    let shares = cpu_percent(&places)?;
    let mut memories = Vec::new();
    for &place in &places {
        memories.push(memory(place, "omd")?);
    }
    eprintln!("idle: {shares:?} {memories:?}");
    let [resident, proportional] = [0, 1].map(|index| median(memories.iter().map(|of| of[index])));
    println!(
        "| daemon, one of three, nothing to do (median) | {:.2} | {resident:.1} | {proportional:.1} |",
        median(shares.into_iter())
    );
    Ok(())
}

/// Many processes of one node wait on another one.
fn away(cluster: &Cluster) -> Result<()> {
    let home = cluster.home();
    let guests = home.guests()?;
    let here = format!(
        "mkfifo /tmp/end && {{ sleep 100000 > /tmp/end & echo $! > /tmp/holder; }} && for i in $(seq {AWAY}); do \
         {guests}/quiet < /tmp/end > /dev/null & echo $!; done > /tmp/pids; wc -l < /tmp/pids"
    );
    let started = home.must(&here)?;
    ensure!(started.trim() == AWAY.to_string(), "{started} were started");
    for pid in home.must("cat /tmp/pids")?.lines() {
        home.must(&format!("om migrate {pid} n2"))?;
    }
    std::thread::sleep(REST);
    let (host, away) =
        (cluster.node("n2"), cluster.node("n2").must("om ps --json")?.matches("local_pid").count());
    ensure!(away == AWAY, "{away} are away");
    let shares = cpu_percent(&[home, host])?;
    for ((what, place), share) in [("at their home", home), ("at their host", host)].into_iter().zip(shares) {
        let [resident, proportional] = memory(place, "omd")?;
        println!(
            "| daemon, {AWAY} processes away, {what} | {share:.2} | {resident:.1} | {proportional:.1} |"
        );
    }
    for (what, place) in [("keeper", home), ("warden", host)] {
        let all = memory(place, &format!("omd-{what}"))?;
        let [resident, proportional] = all.map(|of| of / AWAY as f64);
        println!("| {what}, for each process | | {resident:.2} | {proportional:.2} |");
    }
    // Some end with the one that holds them; that none remains is looked at next.
    home.must("cat /tmp/holder /tmp/pids | xargs kill -9 2>/dev/null; true")?;
    cluster.nothing_remains(SOON)
}

/// How much of a CPU the daemon of each place uses.
fn cpu_percent(places: &[Place<'_>]) -> Result<Vec<f64>> {
    let ticks = || -> Result<Vec<(Instant, f64)>> {
        let of = |place: &Place<'_>| {
            let line = "sed 's/.*) //' /proc/$(pgrep -x omd)/stat | cut -d' ' -f12,13; getconf CLK_TCK";
            let said = place.must(line)?;
            let numbers: Vec<f64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
            let [user, system, per_second] = numbers[..] else { anyhow::bail!("no times: {said}") };
            Ok((Instant::now(), (user + system) / per_second))
        };
        places.iter().map(of).collect()
    };
    let before = ticks()?;
    std::thread::sleep(watched());
    let share = |((began, used), (ended, by_then)): ((Instant, f64), (Instant, f64))| {
        (by_then - used) / (ended - began).as_secs_f64() * 100.0
    };
    Ok(before.into_iter().zip(ticks()?).map(share).collect())
}

/// Resident and proportional memory of all processes of this name there, MB.
fn memory(place: Place<'_>, name: &str) -> Result<[f64; 2]> {
    let line = format!("for p in $(pgrep -x {name}); do cat /proc/$p/smaps_rollup; done");
    let said = place.must(&line)?;
    let sum = |key: &str| -> f64 {
        let of = |line: &str| line.strip_prefix(key)?.split_whitespace().next()?.parse::<f64>().ok();
        said.lines().filter_map(of).sum::<f64>() / 1024.0
    };
    ensure!(sum("Rss:") > 0.0, "no process {name}");
    Ok([sum("Rss:"), sum("Pss:")])
}
