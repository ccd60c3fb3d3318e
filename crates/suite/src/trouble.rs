//! Trouble for a lab: cut cables, reset connections; and the search for what should be gone afterwards.

use crate::place::finish;
use crate::workshop::Workshop;
use crate::{Cluster, Place, SOON, find};
use anyhow::{Context as _, Result, ensure};
use std::process::Command;
use std::time::{Duration, Instant};

/// What an agent, a guest or a migrated process would leave on a node, one line each. A guest is known by its user.
const REMAINS: &str = "ls /run/openmosix/keeper/ /run/openmosix/warden/ 2>/dev/null | grep -E '[.](sock|held)$'; \
     ps -eo pid=,comm= | grep -E 'omd-(keeper|warden)'; \
     ps -eo pid=,uid=,comm= | awk '$2 >= 2000000000'; true";

impl Cluster {
    fn lab(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(Workshop::open()?.programs.join("om"));
        command.args(["lab", "--name", self.name()]).args(arguments);
        Ok(command)
    }

    fn trouble(&self, arguments: &[&str], patience: Duration) -> Result<String> {
        let said = finish(self.lab(arguments)?, patience)?;
        ensure!(said.status == 0, "om lab {arguments:?} ended with {}: {}", said.status, said.errors);
        Ok(said.output)
    }

    /// Cuts the cable of a node for a while. Nobody is told.
    pub fn cut(&self, node: &str, time: Duration) -> Result<()> {
        let seconds = format!("{:.3}", time.as_secs_f64());
        self.trouble(&["cut", node, "--for", &seconds], time + SOON).map(drop)
    }

    /// Cuts the cable of a node until it is mended.
    pub fn cut_for_good(&self, node: &str) -> Result<()> {
        self.trouble(&["cut", node], SOON).map(drop)
    }

    /// Mends the cable of a node.
    pub fn mend(&self, node: &str) -> Result<()> {
        self.trouble(&["mend", node], SOON).map(drop)
    }

    /// Ends every connection of a node; gives their number.
    pub fn reset(&self, node: &str) -> Result<u32> {
        let said = self.trouble(&["cut", node, "--reset"], SOON)?;
        let number = said.split_whitespace().next().and_then(|word| word.parse().ok());
        number.with_context(|| format!("no number in '{said}'"))
    }

    /// Kills the daemon of a node, and waits until it is gone; its agents go on.
    pub fn kill_daemon(&self, node: &str) -> Result<()> {
        let kill = "ps -eo pid=,comm= | awk '$2 == \"omd\" { print $1 }' | xargs -r kill -9";
        // The killed one holds its sockets until the kernel has taken it apart.
        let lives = "ps -eo stat=,comm= | awk '$1 !~ /^Z/ && $2 == \"omd\"' | grep -q .";
        self.place(node).must(&format!("{kill}; while {lives}; do sleep 0.01; done")).map(drop)
    }

    /// Starts the daemon of a node again, of this program, and waits until it answers.
    pub fn start_daemon(&self, node: &str, program: &str) -> Result<()> {
        let start = "--config /etc/openmosix/omd.toml </dev/null >>/var/log/openmosix/omd.log 2>&1 &";
        self.place(node).must(&format!("setsid {program} {start}"))?;
        let deadline = Instant::now() + SOON;
        while self.place(node).shell("om ps --json")?.status != 0 {
            ensure!(Instant::now() < deadline, "the daemon of {node} does not answer: {}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Kills the agents of a kind on a node; gives their number.
    pub fn kill_agents(&self, node: &str, kind: &str) -> Result<usize> {
        // The body and the init that a warden makes bear its name until they have their own; so does their parent.
        let list = format!(
            "ps -eo pid=,ppid=,comm= | awk '$3 == \"omd-{kind}\" {{ parent[$1] = $2 }} \
             END {{ for (pid in parent) if (!(parent[pid] in parent)) print pid }}'"
        );
        let pids = self
            .place(node)
            .must(&format!("{list} | tee /tmp/killed | xargs -r kill -9; cat /tmp/killed"))?;
        Ok(pids.lines().count())
    }

    /// Kills a whole node: the init of its processes, and everybody in it with it, and its network.
    pub fn kill_node(&self, node: &str) -> Result<()> {
        let said = self.trouble(&["ls", "--json"], SOON)?;
        let labs = find(&said, "labs").with_context(|| said.clone())?;
        let mut nodes = labs[0]["nodes"].as_array().into_iter().flatten();
        let init = nodes.find(|row| row["name"] == node).and_then(|row| row["init"]["pid"].as_i64());
        let init = init.with_context(|| format!("no init of {node}: {said}"))?;
        Place::Here.must(&format!("kill -9 {init}")).map(drop)
    }

    /// What agents and guests have left anywhere.
    pub fn remains(&self) -> Result<String> {
        self.remains_on(self.nodes())
    }

    fn remains_on(&self, nodes: &[&'static str]) -> Result<String> {
        let mut remains = String::new();
        for &node in nodes {
            for line in self.place(node).must(REMAINS)?.lines() {
                remains += &format!("{node}: {line}\n");
            }
        }
        Ok(remains)
    }

    /// Waits until nothing of any migrated process is left on any node.
    pub fn nothing_remains(&self, patience: Duration) -> Result<()> {
        self.nothing_remains_on(self.nodes(), patience)
    }

    /// The same, of some nodes: where others are dead.
    pub fn nothing_remains_on(&self, nodes: &[&'static str], patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let remains = self.remains_on(nodes)?;
            if remains.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left over after {patience:?}:\n{remains}{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The lines of a node's log that hold all these words.
    pub fn log_lines(&self, node: &str, words: &[&str]) -> Result<Vec<String>> {
        let log = self.place(node).must("cat /var/log/openmosix/*.log")?;
        let fits = |line: &&str| words.iter().all(|word| line.contains(word));
        Ok(log.lines().filter(fits).map(str::to_owned).collect())
    }

    fn place<'a>(&'a self, node: &str) -> Place<'a> {
        self.node(self.nodes().iter().find(|known| **known == node).unwrap_or(&"n1"))
    }
}
