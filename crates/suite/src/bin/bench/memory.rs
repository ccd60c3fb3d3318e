//! The memory that a process costs which is away.

use anyhow::Result;
use std::time::Duration;
use suite::{Cluster, Input, Run, Stop};

/// Proportional memory of our own processes, with one Python process away.
pub(super) fn measure(cluster: &Cluster) -> Result<()> {
    let home = cluster.home();
    let words = ["/usr/bin/python3".to_owned(), format!("{}/gaps.py", home.guests()?), "1".to_owned()];
    let mut run = Run::command(home, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let resident =
        |run: &Run<'_>| home.must(&format!("sed -n 's/^Pss: *//p' /proc/{}/smaps_rollup", run.pid));
    let before = resident(&run)?;
    run.go(Stop::N2)?;
    std::thread::sleep(Duration::from_millis(1500));
    println!("\n## Memory\n\nProportional set size with one Python program away.\n");
    println!("| process | memory |\n|---|---|");
    let script = "cd /proc; for p in [0-9]*; do c=$(tr '\\0' ' ' <$p/cmdline 2>/dev/null); case \"$c\" in *omd*) \
                  case \"$c\" in *'sh -c'*) ;; *) echo \"| $(echo $c | sed 's,.*/omd,omd,') | $(sed -n 's/^Pss: *//p' $p/smaps_rollup) |\";; esac;; esac; done";
    for (name, place) in [("n1", home), ("n2", cluster.node("n2"))] {
        for line in place.must(script)?.lines() {
            println!("| {name}: {}", line.trim_start_matches("| "));
        }
    }
    println!("| n1: the program before it left | {} |", before.trim());
    println!("| n1: its deputy | {} |", resident(&run)?.trim());
    run.send(b"finish\n")?;
    run.end(suite::SOON)?;
    Ok(())
}
