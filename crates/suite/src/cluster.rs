//! A lab for the trials of one test program.

use crate::om::find;
use crate::place::{Place, finish, wait};
use crate::workshop::Workshop;
use crate::{SOON, Stream};
use anyhow::{Context as _, Result, bail};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Where the guests are on every node: a private directory, so that a file of n1 does not exist on n2.
pub(crate) const GUESTS_THERE: &str = "/tmp/guests";

/// The names of the nodes of the largest lab.
const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];
/// Nodes that a lab has where nothing else is asked for.
const USUAL: usize = 3;
/// Processes stay where a trial puts them.
const BY_HAND: [&str; 2] = ["--set", "balance.automatic=false"];

/// A running lab.
///
/// It dies with this process: `om lab up --foreground` goes down at the end of its input, and we hold the other end.
pub struct Cluster {
    name: String,
    nodes: &'static [&'static str],
    supervisor: Mutex<Reaped>,
    said: Arc<Stream>,
    errors: Arc<Stream>,
}

static CLUSTER: OnceLock<std::result::Result<Cluster, String>> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

impl Cluster {
    /// The lab of this process, started when it is first asked for.
    pub fn shared() -> Result<&'static Cluster> {
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = CLUSTER.get_or_init(|| Cluster::up(&[]).map_err(|error| format!("{error:#}")));
        cluster.as_ref().map_err(|error| anyhow::anyhow!("no lab: {error}"))
    }

    /// Ends the lab of this process, if there is one; called once, at the end of the test program.
    pub fn end_shared() -> Result<()> {
        match CLUSTER.get() {
            Some(Ok(cluster)) => cluster.end(),
            _ => Ok(()),
        }
    }

    /// The logs of the lab of this process, if there is one.
    pub(crate) fn logs_if_up() -> Option<String> {
        CLUSTER.get()?.as_ref().ok().map(Cluster::logs)
    }

    /// A lab of its own, with these options of `om lab up`, in which processes move by hand only; dropped, it is gone.
    pub fn up(options: &[&str]) -> Result<Cluster> {
        Cluster::up_from(&Workshop::open()?.programs, options)
    }

    /// The same, of other programs.
    pub fn up_from(programs: &Path, options: &[&str]) -> Result<Cluster> {
        Cluster::start(programs, USUAL, &[&BY_HAND, options].concat())
    }

    /// A lab of its own of so many nodes, four at most, that balances itself.
    pub fn balanced(nodes: usize, options: &[&str]) -> Result<Cluster> {
        Cluster::start(&Workshop::open()?.programs, nodes, options)
    }

    /// A lab of its own of so many nodes without daemons.
    pub fn bare(nodes: usize) -> Result<Cluster> {
        let cluster = Cluster::begin(&Workshop::open()?.programs, nodes, &["--bare"])?;
        let deadline = Instant::now() + SOON;
        while cluster.node(NODES[0]).shell("true").is_ok_and(|said| said.status != 0) {
            anyhow::ensure!(
                Instant::now() < deadline,
                "no lab: {}{}",
                cluster.said.text(),
                cluster.errors.text()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(cluster)
    }

    fn start(programs: &Path, nodes: usize, options: &[&str]) -> Result<Cluster> {
        let cluster = Cluster::begin(programs, nodes, options)?;
        if let Err(error) = cluster.settle() {
            let told = format!("{error:#}\n{}", cluster.logs());
            drop(cluster.end());
            bail!(told);
        }
        Ok(cluster)
    }

    fn begin(programs: &Path, nodes: usize, options: &[&str]) -> Result<Cluster> {
        let nodes = NODES.get(..nodes).context("no lab is that large")?;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("s{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(programs.join("om"));
        command
            .args(["lab", "--name", &name, "up", "--foreground", "--nodes", &nodes.len().to_string()])
            .args(options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("failed to start om lab up")?;
        let said = Stream::of(child.stdout.take().context("no pipe")?);
        let errors = Stream::of(child.stderr.take().context("no pipe")?);
        let supervisor = Mutex::new(Reaped(child));
        Ok(Cluster { name, nodes, supervisor, said, errors })
    }

    /// Waits until every node sees every other one, and brings the guests to the first.
    fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + SOON;
        for &node in self.nodes {
            while let Err(error) = self.sees_all(node) {
                if Instant::now() > deadline || self.said.wait_end(Duration::from_millis(200)) {
                    return Err(error.context(format!("{node} does not see all nodes alive")));
                }
            }
            self.bring_guests(node).with_context(|| format!("failed to bring the guests to {node}"))?;
        }
        Ok(())
    }

    fn sees_all(&self, node: &str) -> Result<()> {
        let said = finish(self.exec(node, &["om", "nodes", "--json"], false), SOON)?;
        let rows = find(&said.output, "nodes").with_context(|| format!("{}{}", said.output, said.errors))?;
        let rows = rows.as_array().context("nodes is no list")?;
        let alive = rows.iter().filter(|row| row["alive"].as_bool() == Some(true)).count();
        anyhow::ensure!(alive == self.nodes.len(), "{alive} alive: {}", said.output);
        Ok(())
    }

    /// Brings the guests to a node.
    pub fn bring_guests(&self, node: &'static str) -> Result<()> {
        self.node(node).bring(&Workshop::open()?.guests, GUESTS_THERE, &["--exclude=go-cache"])
    }

    /// A command on a node.
    pub(crate) fn exec(&self, node: &str, arguments: &[&str], on_terminal: bool) -> Command {
        self.exec_as(None, node, arguments, on_terminal)
    }

    /// A command on a node, as another user (a number: the machine may not know a name for it).
    pub fn exec_as(&self, user: Option<&str>, node: &str, arguments: &[&str], on_terminal: bool) -> Command {
        let om =
            Workshop::open().map(|workshop| workshop.programs.join("om")).unwrap_or_else(|_| "om".into());
        let mut command = Command::new(om);
        command.args(["lab", "--name", &self.name, "exec"]);
        if let Some(user) = user {
            command.args(["--user", user]);
        }
        if on_terminal {
            command.arg("--tty");
        }
        command.arg(node).arg("--").args(arguments);
        command
    }

    /// The name of the lab.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The first node, where guests are started.
    pub fn home(&self) -> Place<'_> {
        Place::Node(self, NODES[0])
    }

    /// The names of its nodes.
    pub fn nodes(&self) -> &'static [&'static str] {
        self.nodes
    }

    /// A node.
    pub fn node(&self, name: &'static str) -> Place<'_> {
        Place::Node(self, name)
    }

    /// The number of a node in the cluster, by its name.
    pub fn number(&self, node: &str) -> Result<u64> {
        self.row(node)?["id"].as_u64().with_context(|| format!("{node} has no number"))
    }

    /// The address of a node, without the port.
    pub fn address(&self, node: &str) -> Result<String> {
        let row = self.row(node)?;
        let address = row["address"].as_str().and_then(|address| address.rsplit_once(':'));
        Ok(address.with_context(|| format!("{node} has no address"))?.0.to_owned())
    }

    fn row(&self, node: &str) -> Result<serde_json::Value> {
        let said = finish(self.exec(NODES[0], &["om", "nodes", "--json"], false), SOON)?;
        let rows = find(&said.output, "nodes").context("om nodes says nothing")?;
        let mut rows = rows.as_array().into_iter().flatten();
        let row = rows.find(|row| row["name"].as_str() == Some(node));
        row.cloned().with_context(|| format!("no node {node}: {}", said.output))
    }

    /// What the daemons and the lab said, for the reader of a failure.
    pub fn logs(&self) -> String {
        let mut logs = format!("--- om lab up\n{}{}", self.said.text(), self.errors.text());
        for &node in self.nodes {
            let command = self.exec(node, &["sh", "-c", "tail -n 40 /var/log/openmosix/*.log"], false);
            match finish(command, Duration::from_secs(5)) {
                Ok(said) => logs += &format!("--- {node}\n{}{}", said.output, said.errors),
                Err(error) => logs += &format!("--- {node}: {error:#}\n"),
            }
        }
        logs
    }

    /// Ends the lab and waits until it is gone.
    pub fn end(&self) -> Result<()> {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        drop(supervisor.0.stdin.take());
        match wait(&mut supervisor.0, SOON)? {
            Some(0) => Ok(()),
            Some(status) => bail!("om lab up ended with {status}: {}", self.errors.text()),
            None => bail!("om lab up goes on after the end of its input"),
        }
    }
}

/// A child that is killed when it is dropped.
pub(crate) struct Reaped(pub(crate) Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
