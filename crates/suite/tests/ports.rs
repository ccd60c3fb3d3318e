//! Bytes from strangers: dropped, never trusted, never a crash.
#![forbid(unsafe_code)]

use anyhow::{Result, ensure};
use model::limits::PORT_TCP;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Input, Place, Run, SOON, Stop, guest, main as run, trial};

fn main() -> ExitCode {
    run(vec![
        trial("tcp-port", &["python3", "cc"], || {
            stranger("n2", "n1", |_, _| Ok(format!("tcp n1 {PORT_TCP}")))
        }),
        trial("unix-socket", &["python3", "cc"], || {
            stranger("n1", "n1", |_, _| Ok("unix /run/openmosix/omd.sock".to_owned()))
        }),
        trial("keeper-socket", &["python3", "cc"], || {
            stranger("n1", "n1", |cluster, pid| {
                let found = cluster.home().must(&format!("ls -d /run/openmosix/keeper/{pid}-*.sock"))?;
                Ok(format!("unix {}", found.trim()))
            })
        }),
        trial("warden-socket", &["python3", "cc"], || {
            stranger("n2", "n2", |cluster, _| {
                Ok(format!("unix /run/openmosix/warden/{}.sock", session(cluster)?))
            })
        }),
        trial("session", &["python3", "cc"], || {
            stranger("n3", "n2", |cluster, _| Ok(format!("tcp n2 {PORT_TCP} {}", session(cluster)?)))
        }),
    ])
}

/// Somebody on node `from` molests what is on node `at` while a guest of n1 is on n2; only the stranger notices.
fn stranger(from: &'static str, at: &'static str, target: fn(&Cluster, i32) -> Result<String>) -> Result<()> {
    let cluster = Cluster::up(&[])?;
    let home = cluster.home();
    let mut traveller = Run::start(home, &guest("counter"))?;
    traveller.go(Stop::N2)?;
    let molested = cluster.node(at);
    let daemon = molested.must("pgrep -o -x omd")?;
    let place = cluster.node(from);
    let mut words = vec!["/usr/bin/python3".to_owned(), format!("{}/stranger.py", place.guests()?)];
    words.extend(target(&cluster, traveller.pid)?.split(' ').map(str::to_owned));
    let before = counted(molested)?;
    let mut stranger = Run::command(place, &words, Input::Pipes, String::new())?;
    let (status, output) = stranger.end(Duration::from_secs(120))?;
    ensure!(status == 0 && output.starts_with(b"said everything"), "{}", stranger.said());

    ensure!(molested.must("pgrep -o -x omd")? == daemon, "the daemon is another one now");
    // The crowd may have filled every seat for a moment.
    let deadline = Instant::now() + SOON;
    while molested.shell("om nodes --json")?.status != 0 {
        ensure!(Instant::now() < deadline, "the daemon does not answer any more");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Agents are no daemons: what they drop they only log.
    if words.iter().any(|word| word.ends_with("omd.sock") || word == "tcp") {
        let after = counted(molested)?;
        ensure!(after > before, "nothing was counted: {before} and {after}");
    }
    let logs = molested.shell("cat /var/log/openmosix/*.log")?.output;
    ensure!(!logs.contains("panicked"), "{logs}");
    traveller.go(Stop::N3)?;
    traveller.go(Stop::Home)?;
    traveller.finish(3)?;
    Ok(())
}

/// What a daemon has counted of garbage, of strangers, and of what it left to a warden.
fn counted(place: Place<'_>) -> Result<u64> {
    let said = place.must("om counts --json")?;
    let number = |name| suite::find(&said, name).and_then(|value| value.as_u64()).unwrap_or(0);
    let counts = ["tool_garbage", "peer_garbage", "peer_handshakes_failed", "sessions_routed"];
    Ok(counts.into_iter().map(number).sum())
}

/// The only session on n2: its warden's socket is named after it.
fn session(cluster: &Cluster) -> Result<String> {
    let listed = cluster.node("n2").must("ls /run/openmosix/warden")?;
    Ok(listed.trim().trim_end_matches(".sock").to_owned())
}
