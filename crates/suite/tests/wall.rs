//! What a guest has on its host: nothing.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Place, Run, SOON, Stop, find, guest, main as run, trial};

fn main() -> ExitCode {
    run(vec![
        trial("holds-nothing-of-its-host", &["cc"], || holds_nothing("loop")),
        trial("every-thread-is-behind-the-filter", &["cc"], || holds_nothing("threads64")),
        trial("others-cannot-touch-it", &["cc"], others_cannot_touch_it),
        trial("its-host-sees-whose-it-is", &["cc", "ps"], its_host_sees_whose_it_is),
        trial("a-host-that-cannot-limit-says-so", &["cc"], a_host_that_cannot_limit_says_so),
        trial("limits-go-with-a-killed-warden", &["cc"], || limits_go("kill -KILL $(pgrep -x omd-warden)")),
        trial("limits-go-when-the-daemon-comes-back", &["cc"], || {
            limits_go(
                "kill -KILL $(pgrep -o -x omd); kill -KILL $(pgrep -x omd-warden); \
                 setsid omd < /dev/null > /dev/null 2>> /var/log/openmosix/omd.log &",
            )
        }),
    ])
}

/// Moves a guest to n2 and gives its pid there.
fn away<'a>(home: Place<'a>, host: Place<'a>, name: &str) -> Result<(Run<'a>, String)> {
    let run = Run::start(home, &guest(name))?;
    run.go(Stop::N2)?;
    let listed = host.must("om ps --json")?;
    let guests = find(&listed, "guests").context("n2 lists no guests")?;
    let row = guests.as_array().into_iter().flatten().find(|row| row["pid"] == run.pid);
    let local = row.and_then(|row| row["local_pid"].as_i64()).context("n2 does not list it")?;
    Ok((run, local.to_string()))
}

/// The one capability is that of choosing the tids of newborns, in its own user namespace.
fn holds_nothing(name: &str) -> Result<()> {
    let cluster = Cluster::shared()?;
    let host = cluster.node("n2");
    let (mut run, pid) = away(cluster.home(), host, name)?;
    ensure!(host.must(&format!("ls /proc/{pid}/fd | wc -l"))?.trim() == "0", "it holds descriptors");
    ensure!(host.must(&format!("ls -A /proc/{pid}/root/ | wc -l"))?.trim() == "0", "it sees files");
    for (field, wanted) in [("Seccomp", "2"), ("NoNewPrivs", "1"), ("CapEff", "0000010000000000")] {
        let line =
            format!("cat /proc/{pid}/task/*/status | awk '$1 == \"{field}:\" {{ print $2 }}' | sort -u");
        ensure!(host.must(&line)?.trim() == wanted, "{field} is not {wanted} for every thread");
    }
    let uid = host.must(&format!("awk '$1 == \"Uid:\" {{ print $2, $3, $4, $5 }}' /proc/{pid}/status"))?;
    ensure!(
        uid.split_whitespace().all(|id| id.parse::<u64>().is_ok_and(|id| id >= 2_000_000_000)),
        "it is user {uid}"
    );
    for namespace in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup", "time"] {
        let line =
            format!("[ $(readlink /proc/{pid}/ns/{namespace}) != $(readlink /proc/self/ns/{namespace}) ]");
        host.must(&line).with_context(|| format!("it shares the {namespace} namespace of its host"))?;
    }
    run.finish(0).map(drop)
}

fn others_cannot_touch_it() -> Result<()> {
    let cluster = Cluster::shared()?;
    let host = cluster.node("n2");
    let (mut run, pid) = away(cluster.home(), host, "loop")?;
    for line in [
        format!("kill -TERM {pid}"),
        format!("cat /proc/{pid}/mem"),
        format!("cat /proc/{pid}/environ"),
        format!("ls /proc/{pid}/fd/"),
        format!("ls /proc/{pid}/root/"),
    ] {
        let tried =
            host.shell(&format!("setpriv --reuid 65534 --regid 65534 --clear-groups sh -c '{line}'"))?;
        ensure!(tried.status != 0, "another user of the host may: {line}");
    }
    run.finish(0).map(drop)
}

/// The administrator of a host finds a guest, and where it belongs, with the tools of every system and with ours.
fn its_host_sees_whose_it_is() -> Result<()> {
    let cluster = Cluster::shared()?;
    let host = cluster.node("n2");
    let (mut run, pid) = away(cluster.home(), host, "loop")?;
    let number = cluster.number("n1")?;
    let row = host.must("om ps")?;
    let columns = ["GUEST", "HOME", "NAME", "PID HERE"];
    ensure!(columns.iter().all(|column| row.contains(column)), "om ps says: {row}");
    let line = row.lines().find(|line| line.split_whitespace().next() == Some(&run.pid.to_string()));
    let words: Vec<&str> = line.context("om ps does not list it")?.split_whitespace().collect();
    ensure!(words[1..4] == [&number.to_string(), "loop", &pid], "om ps says: {row}");
    // In ps it goes by its own name, under a user that nobody has, and its parent says where it belongs.
    let seen = host.must(&format!("ps -o uid=,comm= -p {pid}"))?;
    ensure!(seen.trim().ends_with("loop"), "ps says: {seen}");
    let warden = host.must(&format!("ps -o comm=,args= -p $(ps -o ppid= -p {pid})"))?;
    for word in ["omd-warden", &format!("--home {number}"), &format!("--pid {}", run.pid), "--name=loop"] {
        ensure!(warden.contains(word), "ps says of its warden: {warden}");
    }
    run.finish(0).map(drop)
}

/// A warden that is killed takes its guest along, and nothing that limited the guest stays.
fn limits_go(kill: &str) -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let host = cluster.node("n2");
    let (mut run, _pid) = away(cluster.home(), host, "loop")?;
    let groups = "find /sys/fs/cgroup -path '*/openmosix/*' -type d";
    if host.must(groups)?.is_empty() {
        println!("no control groups here, nothing limits guests");
    }
    host.shell(kill)?;
    let (status, _) = run.end(SOON)?;
    ensure!(status == 128 + 9, "it ended with {status}: {}", run.said());
    let deadline = Instant::now() + SOON;
    while !host.must(groups)?.is_empty() || host.shell("om ps --json")?.status != 0 {
        ensure!(Instant::now() < deadline, "groups stay behind: {}", host.must(groups)?);
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(host.must("ls /run/openmosix/warden")?.is_empty(), "the warden's socket stays behind");
    Ok(())
}

/// Without control groups guests are taken all the same, unless the administrator wants none that are not limited.
fn a_host_that_cannot_limit_says_so() -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let host = cluster.node("n2");
    host.must("umount $(awk '$9 ~ /^cgroup2?$/ { print $5 }' /proc/self/mountinfo) || true")?;
    ensure!(host.must("grep -c ' - cgroup' /proc/self/mountinfo || true")?.trim() == "0", "groups are left");
    let (mut run, _) = away(cluster.home(), host, "loop")?;
    ensure!(host.must("cat /var/log/openmosix/*.log")?.contains("not limited"), "nothing is logged");
    run.go(Stop::Home)?;
    host.must("printf '[guests]\\nrequire_limits = true\\n' >> /etc/openmosix/omd.toml")?;
    match cluster.home().migrate(run.pid, "n2")? {
        Ok(_) => anyhow::bail!("it was taken without limits"),
        Err(refusal) => ensure!(refusal.text.contains("guests.require_limits"), "{}", refusal.text),
    }
    run.go(Stop::N3)?;
    run.finish(0).map(drop)
}
