//! A node is emptied by its switches, keeps them, and what happened is in the log of both nodes.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use suite::{Cluster, Run, SOON, Stop, guest, main as run, trial};

fn main() -> ExitCode {
    run(vec![trial("a-node-is-emptied-and-says-why", &["cc"], || {
        let cluster = Cluster::up(&[])?;
        emptied(&cluster).with_context(|| cluster.logs())
    })])
}

fn emptied(cluster: &Cluster) -> Result<()> {
    let (home, host) = (cluster.home(), cluster.node("n2"));
    let runs: Vec<Run<'_>> = (0..3).map(|_| Run::start(home, &guest("loop"))).collect::<Result<_>>()?;
    let at_home = |what: &str| -> Result<()> {
        for run in &runs {
            ensure!(home.whereabouts(run.pid)? == cluster.number("n1")?, "{what} left {} away", run.pid);
        }
        Ok(())
    };
    for run in &runs {
        run.go(Stop::N2)?;
    }
    let said = host.must("om expel --all")?;
    ensure!(said.starts_with("3 guests went home"), "{said}");
    at_home("expel")?;

    let pid = runs.first().context("no guest")?.pid;
    let refused = home.shell(&format!("migrate {pid} 2"))?;
    ensure!(refused.status == 3, "a blocked node took a guest: {}", refused.output);
    ensure!(host.must("om nodes")?.contains("up, block"), "{}", host.must("om nodes")?);
    host.must("mosctl noblock")?;

    for run in &runs {
        run.go(Stop::N2)?;
    }
    let said = home.must("mosctl bring")?;
    ensure!(said.starts_with("3 processes came home"), "{said}");
    at_home("bring")?;
    ensure!(home.must("mosctl status")? == "up, lstay\n", "{}", home.must("mosctl status")?);
    // By hand it leaves all the same. It is told where to: the best node at this moment may be its own.
    home.must(&format!("migrate {pid} 3"))?;

    let log = home.must(&format!("om log --pid {pid}"))?;
    for word in ["moved", "its host sent it away", "not moved", "node 2"] {
        ensure!(log.contains(word), "no '{word}' in {log}");
    }
    let log = host.must(&format!("om log --pid {pid}"))?;
    for word in ["guest arrived", "guest gone"] {
        ensure!(log.contains(word), "no '{word}' in {log}");
    }
    home.must(&format!("om migrate {pid} home"))?;
    for mut run in runs {
        run.send(b"finish\n")?;
        let (status, _) = run.end(SOON)?;
        ensure!(status == 0, "it ended with {status}: {}", run.said());
    }
    cluster.nothing_remains(SOON)
}
