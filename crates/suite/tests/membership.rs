//! Nodes in a real network find each other, lose each other, and are told from strangers: whatever happens to a network, a
//! clock or a disk, one line says so and the node goes on with what it has.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Counting, SOON, find, main as run, trial};

/// How soon a node is to count as dead in these labs.
const DEAD_AFTER: Duration = Duration::from_secs(3);
const DEAD_AFTER_SETTING: [&str; 2] = ["--set", "cluster.dead_after_seconds=3"];
/// How long a node takes to notice that its interfaces have changed, and to find everybody again.
const FOUND_AGAIN: Duration = Duration::from_secs(25);
/// A time in which nodes that can find each other have done so: they begin with three beacons in two seconds.
const SURELY: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    run(vec![
        trial("a-wrong-key", &[], || in_lab(3, wrong_key)),
        trial("a-member-whose-key-was-spoilt", &["python3"], || in_lab(3, spoilt_key)),
        trial("two-machines-with-one-id", &[], || in_lab(3, one_id)),
        trial("two-clusters-in-one-network", &[], || in_lab(4, two_clusters)),
        trial("no-multicast-but-seeds", &[], || in_lab(3, seeds)),
        trial("ipv6-alone", &["ip", "python3"], || in_lab(3, ipv6)),
        trial("an-interface-comes-and-goes", &["ip"], || in_lab(3, interface)),
        trial("another-address", &["ip", "python3"], || in_lab(3, another_address)),
        trial("a-daemon-that-is-paused", &["python3"], || in_lab(3, paused)),
        trial("a-clock-jumps", &["cc", "python3"], || in_lab(3, clock)),
        trial("a-full-disk", &["python3"], || in_lab(3, full_disk)),
        trial("a-directory-that-nobody-may-write-to", &[], || in_lab(3, read_only)),
        trial("a-death-is-shown-in-time", &[], death),
    ])
}

fn in_lab(nodes: usize, test: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    let by_hand = ["--set", "balance.automatic=false"];
    let cluster = Cluster::balanced(nodes, &[by_hand, DEAD_AFTER_SETTING].concat())?;
    test(&cluster).with_context(|| cluster.logs())
}

/// The rows of `om nodes`, as one node shows them.
fn rows(cluster: &Cluster, node: &'static str) -> Result<Vec<Value>> {
    let said = cluster.node(node).must("om nodes --json")?;
    let rows = find(&said, "nodes").with_context(|| said.clone())?;
    Ok(rows.as_array().context("nodes is no list")?.clone())
}

/// What one node thinks of all: `1 there, 3 gone`. A suspicion is no opinion yet: on a busy machine they come and go.
fn view(cluster: &Cluster, node: &'static str) -> Result<String> {
    let word = |row: &Value| match row["state"].as_str() {
        Some("alive" | "suspect") => format!("{} there", row["id"]),
        other => format!("{} {}", row["id"], other.unwrap_or("?")),
    };
    Ok(rows(cluster, node)?.iter().map(word).collect::<Vec<_>>().join(", "))
}

/// Waits until each of these nodes thinks so of the cluster; gives the time that it took.
fn all_think(
    cluster: &Cluster,
    nodes: &[&'static str],
    wanted: &str,
    patience: Duration,
) -> Result<Duration> {
    let began = Instant::now();
    for &node in nodes {
        loop {
            let view = view(cluster, node)?;
            if view == wanted {
                break;
            }
            ensure!(began.elapsed() < patience, "after {patience:?} {node} thinks '{view}', not '{wanted}'");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(began.elapsed())
}

const ALL: [&str; 3] = ["n1", "n2", "n3"];
const ALL_THERE: &str = "1 there, 2 there, 3 there";

/// Waits until exactly one line of a node's log has these words, and gives it.
fn one_line(cluster: &Cluster, node: &str, words: &[&str]) -> Result<String> {
    let deadline = Instant::now() + SOON;
    loop {
        let lines = cluster.log_lines(node, words)?;
        ensure!(lines.len() <= 1, "{node} says it more than once: {lines:?}");
        if let [line] = &lines[..] {
            return Ok(line.clone());
        }
        ensure!(Instant::now() < deadline, "{node} says nothing of {words:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Changes something while a node's daemon is down. What it knew of others, and what it has said until now, is forgotten.
fn change(cluster: &Cluster, node: &'static str, line: &str) -> Result<()> {
    cluster.kill_daemon(node)?;
    cluster.node(node).must(&format!(
        "rm -f /run/openmosix/nodes.json /var/log/openmosix/*.jsonl*; : > /var/log/openmosix/omd.log; {line}"
    ))?;
    cluster.start_daemon(node, "omd")
}

/// A line of shell that adds settings to `[cluster]`; a lab's configuration has that table at its beginning, in dots.
fn set(settings: &str) -> String {
    format!("sed -i '1i {settings}' /etc/openmosix/omd.toml")
}

/// Somebody with certificate and key of his own who knows where the nodes are.
fn wrong_key(cluster: &Cluster) -> Result<()> {
    let address = |node: &str| Ok::<_, anyhow::Error>(format!("{}:4660", cluster.address(node)?));
    let seeds = set(&format!("cluster.seeds = [\"{}\", \"{}\"]", address("n1")?, address("n2")?));
    change(
        cluster,
        "n3",
        &format!(
            "om init --id 3 --name n3 --directory /tmp/own && \
             cp /tmp/own/*.pem /tmp/own/*.key /etc/openmosix && {seeds}"
        ),
    )?;
    all_think(cluster, &["n1", "n2"], "1 there, 2 there, 3 gone", SOON)?;
    one_line(cluster, "n3", &["datagrams under a key that this node does not have", "dropped"])?;
    one_line(cluster, "n1", &["datagrams under a key that this node does not have", "dropped"])?;
    std::thread::sleep(SURELY);
    // It goes on alone, and has learnt nothing: no name, no address, no kernel.
    all_think(cluster, &["n3"], "3 there", SOON)?;
    let told = cluster.node("n3").must("om log --json; cat /run/openmosix/nodes.json 2>/dev/null; true")?;
    ensure!(!told.contains("n1") && !told.contains("n2"), "{told}");
    // Each of the two that is not let in is one line, however often it tries.
    for (node, other) in [("n3", "10.77.0.1"), ("n3", "10.77.0.2"), ("n1", "10.77.0.3"), ("n2", "10.77.0.3")]
    {
        let lines = cluster.log_lines(node, &["connection dropped", &format!("from={other}:")])?;
        ensure!(lines.len() <= 1, "{node} says it more than once: {lines:?}");
    }
    one_line(cluster, "n3", &["datagrams under a key that this node does not have"])?;
    all_think(cluster, &["n1", "n2"], "1 there, 2 there, 3 gone", SOON).map(drop)
}

/// Who can prove by its certificate that it is a member gets what it lacks.
fn spoilt_key(cluster: &Cluster) -> Result<()> {
    // Of two keys of one generation either may stay; this one is older, and does not.
    change(cluster, "n3", "sed -i 's/^1 ..../0 aaaa/' /etc/openmosix/cluster.key")?;
    one_line(cluster, "n3", &["datagrams under a key that this node does not have"])?;
    all_think(cluster, &ALL, ALL_THERE, FOUND_AGAIN)?;
    moves(cluster, "n3")
}

/// A machine was copied, with all its secrets.
fn one_id(cluster: &Cluster) -> Result<()> {
    let files = cluster.node("n2").must("cd /etc/openmosix && tar -cf - . | base64 -w 0")?;
    let take = format!(
        "echo {} | base64 -d | tar -C /etc/openmosix -xf - && sed -i 's/\"n2\"/\"copy\"/' /etc/openmosix/omd.toml",
        files.trim()
    );
    change(cluster, "n3", &take)?;
    for node in ALL {
        let line = one_line(cluster, node, &["two machines have the id 2"])?;
        ensure!(line.contains("'copy' at") && line.contains("'n2' at"), "{line}");
    }
    // The younger one is used, the elder one goes on by itself.
    one_line(cluster, "n2", &["two machines have the id 2", "goes on alone"])?;
    let copy = format!("{}:4660", "10.77.0.3");
    let deadline = Instant::now() + SOON;
    while !rows(cluster, "n1")?.iter().any(|row| row["id"] == 2 && row["address"] == copy.as_str()) {
        ensure!(Instant::now() < deadline, "n1 does not use the younger one: {:?}", rows(cluster, "n1")?);
        std::thread::sleep(Duration::from_millis(50));
    }
    all_think(cluster, &["n1"], "1 there, 2 there, 3 gone", SOON).map(drop)
}

fn two_clusters(cluster: &Cluster) -> Result<()> {
    change(
        cluster,
        "n3",
        "om init --id 1 --name n3 --directory /tmp/own --listen 0.0.0.0:4660 && rm /etc/openmosix/* && \
         cp /tmp/own/*.pem /tmp/own/*.key /etc/openmosix && \
         printf '[node]\\nid = 1\\nname = \"n3\"\\n' > /etc/openmosix/omd.toml",
    )?;
    let token = cluster.node("n3").must("om invite --address 10.77.0.3:4660 --json")?;
    let token = find(&token, "token").and_then(|token| Some(token.as_str()?.to_owned())).context(token)?;
    change(
        cluster,
        "n4",
        &format!(
            "rm /etc/openmosix/*; om join {token} --name n4 --directory /tmp/own && \
             cp /tmp/own/*.pem /tmp/own/*.key /etc/openmosix && \
             printf '[node]\\nid = 2\\nname = \"n4\"\\n' > /etc/openmosix/omd.toml"
        ),
    )?;
    all_think(cluster, &["n3", "n4"], "1 there, 2 there", SOON)?;
    all_think(cluster, &["n1", "n2"], "1 there, 2 there, 3 gone, 4 gone", SOON)?;
    for node in cluster.nodes() {
        one_line(cluster, node, &["another cluster on this network"])?;
    }
    for (node, other) in [("n1", "n2"), ("n2", "n1"), ("n3", "n4"), ("n4", "n3")] {
        let rows = rows(cluster, node)?;
        let names: Vec<_> =
            rows.iter().filter(|row| row["state"] == "alive").map(|row| &row["name"]).collect();
        ensure!(names.contains(&&Value::from(node)) && names.contains(&&Value::from(other)), "{names:?}");
    }
    Ok(())
}

/// Each speaks into a group in which nobody listens: so it is where no multicast passes.
fn seeds(cluster: &Cluster) -> Result<()> {
    for (node, group) in ALL.into_iter().zip(1..) {
        cluster.kill_daemon(node)?;
        let line = set(&format!("cluster.multicast_v4 = \"239.192.99.{group}\""));
        cluster.node(node).must(&format!("rm -f /run/openmosix/nodes.json; {line}"))?;
    }
    for node in ALL {
        cluster.start_daemon(node, "omd")?;
    }
    std::thread::sleep(SURELY);
    for (node, alone) in ALL.into_iter().zip(["1 there", "2 there", "3 there"]) {
        ensure!(view(cluster, node)? == alone, "{node} has found somebody: {}", view(cluster, node)?);
    }
    let seed = set("cluster.seeds = [\"10.77.0.1:4660\"]");
    change(cluster, "n2", &seed)?;
    change(cluster, "n3", &seed)?;
    all_think(cluster, &ALL, ALL_THERE, SOON)?;
    let found = |node, id: u64| -> Result<String> {
        let rows = rows(cluster, node)?;
        let row = rows.iter().find(|row| row["id"] == id).context("no row")?;
        Ok(row["found"].as_str().unwrap_or_default().to_owned())
    };
    ensure!(found("n2", 1)? == "seed" && found("n3", 1)? == "seed", "{:?}", rows(cluster, "n2")?);
    let others = [found("n2", 3)?, found("n3", 2)?];
    ensure!(others.contains(&"relay".to_owned()), "they were found {others:?}");
    Ok(())
}

/// No IPv4 at all: they are found by multicast, and a process moves.
fn ipv6(cluster: &Cluster) -> Result<()> {
    for (node, id) in ALL.into_iter().zip(1..) {
        cluster.kill_daemon(node)?;
        cluster.node(node).must(&format!(
            "ip -4 addr flush dev eth0 && ip -6 addr add fd00:77::{id}/64 dev eth0 nodad && \
             sed -i 's/0.0.0.0:4660/[::]:4660/' /etc/openmosix/omd.toml && rm -f /run/openmosix/nodes.json"
        ))?;
    }
    for node in ALL {
        cluster.start_daemon(node, "omd")?;
    }
    all_think(cluster, &ALL, ALL_THERE, SOON)?;
    for row in rows(cluster, "n1")?.iter().filter(|row| row["id"] != 1) {
        let address = row["address"].as_str().unwrap_or_default();
        ensure!(row["found"] == "multicast" && address.starts_with('['), "{row}");
    }
    moves(cluster, "n3")
}

/// A process goes there, works there, and comes home.
fn moves(cluster: &Cluster, node: &str) -> Result<()> {
    let counting = Counting::start(cluster, Duration::from_millis(5))?;
    for to in [node, "home"] {
        let moved = cluster.home().migrate_patiently(counting.run.pid, to)?;
        moved.map_err(|refusal| anyhow::anyhow!("{}", refusal.text)).with_context(|| to.to_owned())?;
        counting.goes_on(SOON)?;
    }
    counting.finish().map(drop)
}

fn interface(cluster: &Cluster) -> Result<()> {
    for round in 1..=2 {
        cluster.node("n3").must("ip link set eth0 down")?;
        all_think(cluster, &["n1", "n2"], "1 there, 2 there, 3 gone", FOUND_AGAIN)?;
        all_think(cluster, &["n3"], "1 gone, 2 gone, 3 there", FOUND_AGAIN)?;
        say(cluster, &["no network", "goes on alone until there is one"], round)?;
        cluster.node("n3").must("ip link set eth0 up")?;
        all_think(cluster, &ALL, ALL_THERE, FOUND_AGAIN)?;
        // It has said so when it was started, too.
        say(cluster, &["looking for other nodes; reached at 10.77.0.3"], round + 1)?;
    }
    Ok(())
}

/// Waits until n3 has said something so often, and never more.
fn say(cluster: &Cluster, words: &[&str], times: usize) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let lines = cluster.log_lines("n3", words)?;
        if lines.len() >= times {
            ensure!(lines.len() == times, "n3 says it too often: {lines:?}");
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "n3 has said {words:?} {} times, not {times}", lines.len());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A node gets another address, under the eyes of its daemon, which nobody starts again.
fn another_address(cluster: &Cluster) -> Result<()> {
    let counting = Counting::start(cluster, Duration::from_millis(5))?;
    cluster.node("n3").must("ip addr del 10.77.0.3/24 dev eth0 && ip addr add 10.77.0.99/24 dev eth0")?;
    let deadline = Instant::now() + FOUND_AGAIN;
    let there = |node| -> Result<bool> {
        let rows = rows(cluster, node)?;
        let new = |row: &Value| row["address"] == "10.77.0.99:4660" && row["alive"] == true;
        Ok(rows.iter().any(|row| row["id"] == 3 && row["state"] == "alive" && new(row)))
    };
    while !(there("n1")? && there("n2")?) {
        ensure!(Instant::now() < deadline, "it is not there: {:?}", rows(cluster, "n1")?);
        std::thread::sleep(Duration::from_millis(100));
    }
    all_think(cluster, &ALL, ALL_THERE, FOUND_AGAIN)?;
    counting.finish()?;
    moves(cluster, "n3")
}

/// A daemon that does not get to run counts as dead; what is there goes on, and the node is taken back.
fn paused(cluster: &Cluster) -> Result<()> {
    let counting = Counting::start(cluster, Duration::from_millis(5))?;
    let moved = cluster.home().migrate_patiently(counting.run.pid, "n3")?;
    moved.map_err(|refusal| anyhow::anyhow!("{}", refusal.text))?;
    let daemon = cluster.node("n3").must("ps -eo pid=,comm= | awk '$2 == \"omd\" { print $1 }'")?;
    let daemon = daemon.trim();
    cluster.node("n3").must(&format!("kill -STOP {daemon}"))?;
    all_think(cluster, &["n1", "n2"], "1 there, 2 there, 3 gone", SOON)?;
    counting.goes_on(SOON)?;
    std::thread::sleep(DEAD_AFTER);
    cluster.node("n3").must(&format!("kill -CONT {daemon}"))?;
    all_think(cluster, &ALL, ALL_THERE, FOUND_AGAIN)?;
    ensure!(cluster.home().whereabouts(counting.run.pid)? == 3, "it is elsewhere");
    counting.finish()?;
    moves(cluster, "n3")
}

/// What a daemon is told of the time of day, shifted by as many seconds as a file says: a machine's own clock belongs to
/// whoever else is on it.
const SHIFT: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    long shift = 0;
    FILE *file = clock == CLOCK_REALTIME ? fopen("/tmp/shift", "r") : NULL;
    if (file) {
        if (fscanf(file, "%ld", &shift) != 1)
            shift = 0;
        fclose(file);
    }
    if (result == 0)
        now->tv_sec += shift;
    return result;
}
"#;

fn clock(cluster: &Cluster) -> Result<()> {
    let node = cluster.node("n3");
    node.must(&format!(
        "cat > /tmp/shift.c <<'THE END'{SHIFT}THE END\ncc -shared -fPIC -O1 -o /tmp/shift.so /tmp/shift.c"
    ))?;
    cluster.kill_daemon("n3")?;
    cluster.start_daemon("n3", "env LD_PRELOAD=/tmp/shift.so omd")?;
    all_think(cluster, &ALL, ALL_THERE, SOON)?;
    let begun = cluster.log_lines("n1", &["it is gone"])?.len();
    for shift in [86_400, -86_400, 0] {
        node.must(&format!("echo {shift} > /tmp/shift.new && mv /tmp/shift.new /tmp/shift"))?;
        // The daemon is told this time: its log is dated by it.
        let year_day = node.must(&format!("date -u -d @$(( $(date +%s) + {shift} )) +%Y-%m-%dT%H"))?;
        moves(cluster, "n3")?;
        let log = node.must("om log --json | tail -n 1")?;
        let at = find(&log, "at_ms").and_then(|at| at.as_u64()).context(log)? / 1000;
        let noted = node.must(&format!("date -u -d @{at} +%Y-%m-%dT%H"))?;
        ensure!(noted == year_day || shift == 0, "the shift of {shift} s is not seen: {noted} {year_day}");
        std::thread::sleep(DEAD_AFTER);
        for node in ALL {
            ensure!(view(cluster, node)? == ALL_THERE, "after {shift} s {node}: {}", view(cluster, node)?);
        }
    }
    ensure!(cluster.log_lines("n1", &["it is gone"])?.len() == begun, "it was taken for dead");
    // A daemon that is started when its clock is a day behind is taken in, though its last life seems to be yet to come.
    cluster.kill_daemon("n3")?;
    node.must("echo -86400 > /tmp/shift; rm /var/lib/openmosix/incarnation")?;
    cluster.start_daemon("n3", "env LD_PRELOAD=/tmp/shift.so omd")?;
    all_think(cluster, &ALL, ALL_THERE, FOUND_AGAIN)?;
    moves(cluster, "n3")
}

fn full_disk(cluster: &Cluster) -> Result<()> {
    // Nothing can be written there, not even one byte.
    let fill = "mount -t tmpfs -o size=64k full /var/lib/openmosix && \
                { dd if=/dev/zero of=/var/lib/openmosix/full bs=4k 2> /dev/null; true; }";
    change(cluster, "n3", fill)?;
    one_line(cluster, "n3", &["cannot keep this life's number", "No space left"])?;
    all_think(cluster, &ALL, ALL_THERE, FOUND_AGAIN)?;
    moves(cluster, "n3")?;
    // The same once more: the next life follows from the clock.
    change(cluster, "n3", "true")?;
    all_think(cluster, &ALL, ALL_THERE, FOUND_AGAIN)?;
    moves(cluster, "n3")
}

/// A new key cannot be kept by who may not write, and is used all the same.
fn read_only(cluster: &Cluster) -> Result<()> {
    change(cluster, "n3", "mount -o remount,ro /etc/openmosix && ! touch /etc/openmosix/x 2> /dev/null")?;
    all_think(cluster, &ALL, ALL_THERE, FOUND_AGAIN)?;
    cluster.node("n1").must("om key rotate")?;
    one_line(cluster, "n3", &["cannot keep the new cluster key", "Read-only file system"])?;
    std::thread::sleep(DEAD_AFTER);
    all_think(cluster, &ALL, ALL_THERE, SOON)?;
    // Its next life has the old key, which is believed for a while, and fetches the new one again.
    change(cluster, "n3", "true")?;
    all_think(cluster, &ALL, ALL_THERE, FOUND_AGAIN).map(drop)
}

/// Even if `om nodes` is asked just before the node counts as dead.
fn death() -> Result<()> {
    let within = Duration::from_secs(6);
    let cluster = Cluster::up(&["--set", "cluster.dead_after_seconds=6"])?;
    cluster.kill_node("n3")?;
    let began = Instant::now();
    let shown = all_think(&cluster, &["n1", "n2"], "1 there, 2 there, 3 gone", SOON);
    let took = shown.with_context(|| cluster.logs())?;
    println!("the death of a node was shown by all after {took:?}");
    ensure!(began.elapsed() <= within, "it took {took:?}: {}", cluster.logs());
    let log = cluster.node("n1").must("om log")?;
    ensure!(log.contains("n3 is not reached by anybody"), "{log}");
    Ok(())
}
