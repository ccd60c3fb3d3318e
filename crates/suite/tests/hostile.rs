//! What a hostile guest tries against its host, and that none of it gets there.
//!
//! A victim sits on the host with everything that could be reached, and says afterwards whether it was. What a guest may
//! do at its home by the rights of its own user is no attempt: there the calls of this guest do run.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use suite::{Cluster, Input, Place, Run, SOON, Stop, main as run, trial};

/// What must come of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It fails.
    Refused,
    /// It runs, where it does no harm: only the victim could tell.
    Harmless,
    /// The process goes home first: nothing of it runs on the host. At home it may succeed.
    GoesHome,
    /// The guest is ended, and its process with it.
    Ended,
}
use Outcome::{Ended, GoesHome, Harmless, Refused};

/// Whose process it is at home. Of the attempts that a user may not make, root's would run at home, and succeed there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Root,
    Nobody,
}
use Owner::{Nobody, Root};

const ATTEMPTS: &[(&str, Owner, Outcome)] = &[
    // To see.
    ("sees-processes", Root, Refused),
    ("sees-its-host", Root, Refused),
    ("opens-a-file", Root, Refused),
    ("opens-by-the-root-of-init", Root, Refused),
    ("opens-by-its-own-root", Root, Refused),
    ("opens-by-handle", Nobody, Refused),
    ("opens-the-victims-memory", Nobody, Refused),
    ("reads-the-victim", Nobody, Refused),
    ("compares-with-the-victim", Nobody, Refused),
    ("asks-for-the-victims-robust-list", Nobody, Refused),
    ("asks-for-the-victims-io-priority", Nobody, Refused),
    ("sees-the-log", Nobody, Refused),
    // To signal, to trace, to change.
    ("signals-the-victim", Nobody, Refused),
    ("signals-the-warden", Nobody, Refused),
    ("signals-a-thread", Nobody, Refused),
    ("queues-a-signal", Nobody, Refused),
    ("signals-everybody", Nobody, Harmless),
    ("traces-the-victim", Nobody, Refused),
    ("traces-the-warden", Nobody, Refused),
    ("opens-the-victim", Nobody, Refused),
    ("opens-the-warden", Nobody, Refused),
    ("moves-the-victims-pages", Nobody, Refused),
    ("slows-the-victim", Nobody, Refused),
    ("limits-the-victim", Nobody, Refused),
    ("pins-the-victim", Nobody, Refused),
    ("schedules-the-victim", Nobody, Refused),
    // To connect.
    ("connects-by-name", Root, Refused),
    ("connects-by-port", Root, Refused),
    ("attaches-shared-memory", Root, Refused),
    ("opens-a-queue", Root, Refused),
    ("opens-a-raw-socket", Nobody, Refused),
    // To rule the machine.
    ("mounts", Nobody, Refused),
    ("enters-a-namespace", Nobody, Refused),
    ("becomes-root", Nobody, Refused),
    ("sets-the-clock", Nobody, Refused),
    ("reboots", Nobody, Refused),
    ("loads-a-module", Nobody, Refused),
    ("loads-a-kernel", Nobody, Refused),
    ("opens-ports", Nobody, Refused),
    ("opens-all-ports", Nobody, Refused),
    ("renames-its-host", Root, Harmless),
    // To use what the kernel has beside files and processes.
    ("uses-a-ring", Root, GoesHome),
    ("loads-a-program", Nobody, GoesHome),
    ("measures", Nobody, GoesHome),
    ("pages-by-itself", Nobody, GoesHome),
    ("asks-for-keys", Nobody, GoesHome),
    ("unshares", Nobody, GoesHome),
    ("filters-itself", Nobody, GoesHome),
    ("locks-memory", Root, GoesHome),
    ("runs-another-program", Root, Refused),
    // To get past the filter, or the CPU's own walls.
    ("is-32-bit", Root, Ended),
    ("is-x32", Root, Refused),
    ("is-of-the-future", Root, Refused),
    ("is-of-a-far-future", Root, Refused),
    ("is-no-number", Root, Refused),
    ("is-negative", Root, Refused),
    ("writes-to-a-port", Root, Refused),
    ("writes-to-kernel-memory", Root, Refused),
    ("writes-to-the-vdso", Root, Refused),
    ("writes-to-the-clock", Root, Refused),
    ("maps-the-first-page", Root, Refused),
    ("locks-what-the-warden-owns", Root, Refused),
    ("lies-about-its-locks", Root, Harmless),
    ("waits-on-everything", Root, Harmless),
    ("takes-all-descriptors", Root, Harmless),
];

fn main() -> ExitCode {
    let attempt = |&(name, owner, outcome): &(&'static str, Owner, Outcome)| {
        trial(name, &["cc", "setpriv"], move || try_it(name, owner, outcome))
    };
    let mut trials: Vec<_> = ATTEMPTS.iter().map(attempt).collect();
    trials.extend([
        trial("takes-all-memory", &["cc"], || within_limits("takes-all-memory", Ended)),
        trial("makes-threads", &["cc"], || within_limits("makes-threads", Harmless)),
        trial("makes-processes", &["cc"], || within_limits("makes-processes", Harmless)),
    ]);
    run(trials)
}

fn try_it(name: &str, owner: Owner, outcome: Outcome) -> Result<()> {
    let cluster = Cluster::shared()?;
    let host = cluster.node("n2");
    let victim = Victim::shared(cluster)?;
    let daemon = host.must("pgrep -o -x omd")?;
    make_attempt(cluster, name, owner, outcome, victim.pid()?)?;
    victim.is_untouched()?;
    ensure!(host.must("pgrep -o -x omd")? == daemon, "the host's daemon is another one now");
    ensure!(
        !host.must("cat /var/log/openmosix/*.log")?.contains("panicked"),
        "something panicked on the host"
    );
    Ok(())
}

/// Starts the guest at home, moves it to n2, lets it make its attempt there, and judges what came of it.
fn make_attempt(cluster: &Cluster, name: &str, owner: Owner, outcome: Outcome, victim: i32) -> Result<()> {
    let (home, host) = (cluster.home(), cluster.node("n2"));
    let mut words: Vec<String> = Vec::new();
    if owner == Nobody {
        let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
        words.extend(nobody.map(str::to_owned));
    }
    words.extend([format!("{}/hostile", home.guests()?), name.to_owned(), victim.to_string()]);
    let mut guest = Run::command(home, &words, Input::Pipes, String::new())?;
    let from = guest.expect("ready\n", 0)?;
    guest.go(Stop::N2)?;
    let warden = host.must(&format!("pgrep -f 'omd .*warden .*--pid {} '", guest.pid))?;
    guest.send(warden.lines().next().context("it has no warden")?.as_bytes())?;
    guest.send(b"\n")?;
    if outcome == Ended {
        let (status, output) = guest.end(SOON)?;
        let output = String::from_utf8_lossy(&output).into_owned();
        ensure!(status == 128 + 9, "it ended with {status}: {output}");
        return Ok(());
    }
    let end = guest.expect("\n", from)?;
    let verdict = guest.output().text()[from..end].trim_end().to_owned();
    match outcome {
        Refused => ensure!(verdict == "refused", "{}", guest.said()),
        Harmless => ensure!(["refused", "did"].contains(&verdict.as_str()), "{}", guest.said()),
        GoesHome => {
            ensure!(["refused", "did"].contains(&verdict.as_str()), "{}", guest.said());
            ensure!(
                home.whereabouts(guest.pid)? == cluster.number("n1")?,
                "it is still away: {}",
                guest.said()
            );
        }
        Ended => {}
    }
    guest.close_input();
    let (status, _) = guest.end(SOON)?;
    ensure!(status == 0, "it ended with {status}: {}", guest.said());
    Ok(())
}

/// The victim on n2, one for all attempts.
struct Victim(Mutex<Run<'static>>);

impl Victim {
    fn shared(cluster: &'static Cluster) -> Result<&'static Victim> {
        static VICTIM: OnceLock<std::result::Result<Victim, String>> = OnceLock::new();
        let start = || -> Result<Victim> {
            let host = cluster.node("n2");
            // Far from the pids of the guests' home: there these numbers are nobody's.
            host.must("echo 20000 > /proc/sys/kernel/ns_last_pid")?;
            let words = [format!("{}/victim", host.guests()?)];
            let victim = Run::command(host, &words, Input::Pipes, String::new())?;
            victim.expect("ready\n", 0)?;
            ensure!(victim.pid > 20_000, "its pid is {}", victim.pid);
            Ok(Victim(Mutex::new(victim)))
        };
        let victim = VICTIM.get_or_init(|| start().map_err(|error| format!("{error:#}")));
        victim.as_ref().map_err(|error| anyhow::anyhow!("no victim: {error}"))
    }

    fn pid(&self) -> Result<i32> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).pid)
    }

    fn is_untouched(&self) -> Result<()> {
        let mut victim = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let from = victim.position();
        victim.send(b"well?\n")?;
        let end = victim.expect("touched\n", from)?;
        let answer = victim.output().text()[from..end].to_owned();
        ensure!(answer == "untouched\n", "the victim says: {answer}");
        Ok(())
    }
}

/// Exhausts what its host limits: the guest ends or is held back, alone.
fn within_limits(name: &str, outcome: Outcome) -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let host = cluster.node("n2");
    // Each warden reads it when it starts.
    host.must("printf '[guests]\\nmemory_max_mb = 96\\ntasks_max = 64\\n' >> /etc/openmosix/omd.toml")?;
    let daemon = host.must("pgrep -o -x omd")?;
    if !limits_are_set(&cluster, host)? {
        println!("{name}: no control groups here, nothing limits guests");
        return Ok(());
    }
    let started = Instant::now();
    make_attempt(&cluster, name, Nobody, outcome, 30_000)?;
    ensure!(started.elapsed() < Duration::from_secs(60), "it took {:?}", started.elapsed());
    ensure!(host.must("pgrep -o -x omd")? == daemon, "the host's daemon is another one now");
    if outcome == Ended {
        let cause = "the kernel ended the guest";
        for node in [cluster.home(), host] {
            let logs = node.must("cat /var/log/openmosix/*.log")?;
            ensure!(logs.contains(cause), "no cause is logged: {logs}");
        }
    }
    await_no_groups(host)
}

/// Moves somebody harmless and looks at the limits of its groups on the host.
fn limits_are_set(cluster: &Cluster, host: Place<'_>) -> Result<bool> {
    let mut harmless = Run::start(cluster.home(), &suite::guest("loop"))?;
    harmless.go(Stop::N2)?;
    let found = host.must("find /sys/fs/cgroup -path '*/openmosix/*/pids.max' | xargs -r cat")?;
    let memory = "find /sys/fs/cgroup -path '*/openmosix/*/memory.max' -o \
                  -path '*/openmosix/*/memory.limit_in_bytes' | xargs -r cat";
    let memory = host.must(memory)?;
    let warden = host.must("grep -l openmosix/ /proc/$(pgrep -x omd-warden)/cgroup || true")?;
    harmless.finish(0)?;
    if found.is_empty() || memory.is_empty() {
        return Ok(false);
    }
    ensure!(found.trim() == "64", "pids.max is {found}");
    ensure!(memory.trim() == (96 << 20).to_string(), "its memory is {memory}");
    ensure!(warden.is_empty(), "the warden is in its guest's group");
    Ok(true)
}

/// Waits until the groups of guests that are gone are gone too.
fn await_no_groups(host: Place<'_>) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        let left = host.must("find /sys/fs/cgroup -path '*/openmosix/*' -type d")?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "groups stay behind: {left}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
