//! A program that counts on its output and into a file, and finds out itself whether the file is right.

use crate::{Cluster, Input, Place, Run, SOON};
use anyhow::{Context as _, Result, ensure};
use std::time::{Duration, Instant};

const PROGRAM: &str = "
import os, sys, time
path, pause = sys.argv[1], float(sys.argv[2])
print('ready', flush=True)
count = 0
with open(path, 'w') as file:
    while not os.path.exists(path + '.stop'):
        count += 1
        file.write('%d\\n' % count); file.flush()
        os.write(1, b'%d\\n' % count)
        time.sleep(pause)
numbers = [int(line) for line in open(path)]
assert numbers == list(range(1, count + 1)), 'the file has holes'
print('the end', count, flush=True)
";

/// A program that counts.
pub struct Counting<'a> {
    /// It.
    pub run: Run<'a>,
    cluster: &'a Cluster,
    file: String,
}

impl<'a> Counting<'a> {
    /// Starts one at home; it rests after each number.
    pub fn start(cluster: &'a Cluster, pause: Duration) -> Result<Counting<'a>> {
        let place = cluster.home();
        let file = format!("{}/count", place.scratch()?);
        let pause = pause.as_secs_f64().to_string();
        let words = ["/usr/bin/python3", "-c", PROGRAM, &file, &pause].map(str::to_owned);
        let run = Run::command(place, &words, Input::Pipes, String::new())?;
        run.expect("ready", 0)?;
        Ok(Counting { run, cluster, file })
    }

    fn home(&self) -> Place<'a> {
        self.cluster.home()
    }

    /// Waits until it has counted on from now.
    pub fn goes_on(&self, patience: Duration) -> Result<()> {
        let size = format!("stat -c %s {}", self.file);
        let (before, deadline) = (self.home().must(&size)?, Instant::now() + patience);
        while self.home().must(&size)? == before {
            ensure!(Instant::now() < deadline, "it does not count on: {}", self.cluster.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Tells it to stop and checks everything that it printed; gives how far it came.
    pub fn finish(mut self) -> Result<usize> {
        self.home().must(&format!("touch {}.stop", self.file))?;
        let (status, output) = self.run.end(SOON)?;
        let text = String::from_utf8_lossy(&output).into_owned();
        ensure!(status == 0, "it ended with {status}: {}", self.run.said());
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let (end, numbers) = lines.split_last().context("it printed nothing")?;
        in_order(numbers)?;
        ensure!(
            *end == format!("the end {}", numbers.len()),
            "it printed {} numbers and said '{end}'",
            numbers.len()
        );
        Ok(numbers.len())
    }

    /// Checks that it was ended by SIGKILL, that one line of the log tells why, and that it did nothing twice until then.
    pub fn was_ended(mut self, words: &[&str], patience: Duration) -> Result<()> {
        let pid = self.run.pid;
        let (status, output) = self.run.end(patience)?;
        ensure!(status == 128 + 9, "it ended with {status}: {}", self.run.said());
        let text = String::from_utf8_lossy(&output).into_owned();
        in_order(&text.lines().skip(1).collect::<Vec<_>>())?;
        let deadline = Instant::now() + SOON;
        let pid = format!("pid={pid} ");
        loop {
            let mut wanted = vec!["SIGKILL", "cause=", &pid, "name=\"python3\"", "node="];
            wanted.extend(words);
            let causes = self.cluster.log_lines("n1", &wanted)?;
            ensure!(causes.len() <= 1, "more than one cause: {causes:?}");
            if causes.len() == 1 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no line with {wanted:?}: {}", self.cluster.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn in_order(numbers: &[&str]) -> Result<()> {
    let wanted = (1..=numbers.len()).map(|number| number.to_string());
    let same = wanted.zip(numbers).position(|(wanted, line)| wanted != *line);
    ensure!(same.is_none(), "what it printed has holes or doubles at line {same:?}");
    Ok(())
}
