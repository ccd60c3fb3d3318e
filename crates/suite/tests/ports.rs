//! Bytes from strangers: dropped, never trusted, never a crash.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Input, Run, SOON, Stop, guest, main as run, trial};

fn main() -> ExitCode {
    run(vec![
        trial("tcp-port", &["python3", "cc"], || {
            stranger("n2", |_, address| {
                let (host, port) = address.rsplit_once(':').unwrap_or((address, "4660"));
                format!("tcp {host} {port}")
            })
        }),
        trial("unix-socket", &["python3", "cc"], || {
            stranger("n1", |_, _| "unix /run/openmosix/omd.sock".to_owned())
        }),
    ])
}

/// A guest is away while somebody molests its home; nobody but the stranger sees anything of it.
fn stranger(from: &'static str, target: fn(&Cluster, &str) -> String) -> Result<()> {
    let cluster = Cluster::shared()?;
    let home = cluster.home();
    let mut traveller = Run::start(home, &guest("counter"))?;
    traveller.go(Stop::N2)?;
    let daemon = home.must("pgrep -o -x omd")?;
    let address = address(cluster)?;
    let place = cluster.node(from);
    let mut words = vec!["/usr/bin/python3".to_owned(), format!("{}/stranger.py", place.guests()?)];
    words.extend(target(cluster, &address).split(' ').map(str::to_owned));
    let mut stranger = Run::command(place, &words, Input::Pipes, String::new())?;
    let (status, output) = stranger.end(Duration::from_secs(120))?;
    ensure!(status == 0 && output.starts_with(b"said everything"), "{}", stranger.said());

    ensure!(home.must("pgrep -o -x omd")? == daemon, "the daemon is another one now");
    // The crowd may have filled every seat for a moment.
    let deadline = Instant::now() + SOON;
    while home.shell("om nodes --json")?.status != 0 {
        ensure!(Instant::now() < deadline, "the daemon does not answer any more");
        std::thread::sleep(Duration::from_millis(100));
    }
    let logs = home.shell("cat /var/log/openmosix/*.log")?.output;
    ensure!(!logs.contains("panicked"), "{logs}");
    traveller.go(Stop::N3)?;
    traveller.go(Stop::Home)?;
    traveller.finish(3)?;
    Ok(())
}

/// Where n1 listens for other nodes.
fn address(cluster: &Cluster) -> Result<String> {
    let number = cluster.number("n1")?;
    let said = cluster.home().must("om nodes --json")?;
    let rows = suite::find(&said, "nodes").context("om nodes says nothing")?;
    let mut rows = rows.as_array().into_iter().flatten();
    let row = rows.find(|row| row["id"].as_u64() == Some(number));
    let address = row.and_then(|row| row["address"].as_str()).context("n1 has no address")?;
    Ok(if address.contains(':') {
        address.to_owned()
    } else {
        format!("{address}:{}", model::limits::PORT_TCP)
    })
}
