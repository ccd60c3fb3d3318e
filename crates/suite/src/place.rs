//! Where a guest runs: on this machine as it is, on a node of a cluster, or on a machine with another kernel.

use crate::machine::Machine;
use crate::workshop::Workshop;
use crate::{Cluster, SOON, Stream};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A place where commands run.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// This machine, natively.
    Here,
    /// A node of a cluster.
    Node(&'a Cluster, &'static str),
    /// A machine with a kernel of its own.
    Machine(&'a Machine<'a>),
}

/// What a command printed, and how it ended.
pub struct Said {
    /// Its exit status; 128 and more for signals.
    pub status: i32,
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub errors: String,
}

impl Place<'_> {
    /// A command that runs the arguments in this place.
    pub fn command(&self, arguments: &[&str], on_terminal: bool) -> Command {
        match self {
            Place::Here => {
                let mut command = Command::new(arguments[0]);
                command.args(&arguments[1..]);
                command
            }
            Place::Node(cluster, node) => cluster.exec(node, arguments, on_terminal),
            Place::Machine(machine) => machine.exec(arguments),
        }
    }

    /// Runs a line of shell to its end.
    pub fn shell(&self, line: &str) -> Result<Said> {
        finish(self.command(&["sh", "-c", line], false), SOON)
    }

    /// Like [`Place::shell`], and fails when it fails.
    pub fn must(&self, line: &str) -> Result<String> {
        let said = self.shell(line)?;
        if said.status != 0 {
            bail!("'{line}' ended with {}: {}{}", said.status, said.output, said.errors);
        }
        Ok(said.output)
    }

    /// The directory of the guests there.
    pub fn guests(&self) -> Result<String> {
        match self {
            Place::Here => Ok(Workshop::open()?.guests.to_string_lossy().into_owned()),
            Place::Node(..) => Ok(crate::cluster::GUESTS_THERE.to_owned()),
            Place::Machine(machine) => Ok(machine.guests()),
        }
    }

    /// The state of a process as `ps` shows it there.
    pub fn state(&self, pid: i32) -> Result<String> {
        Ok(self.must(&format!("ps -o stat= -p {pid}"))?.trim().to_owned())
    }

    /// An empty directory there, for one run.
    pub fn scratch(&self) -> Result<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = match self {
            Place::Here => Workshop::open()?.scratch.join(format!("{}-{number}", std::process::id())),
            Place::Node(..) | Place::Machine(_) => format!("/tmp/scratch-{number}").into(),
        };
        let path = path.to_string_lossy().into_owned();
        match self {
            Place::Here => fs::create_dir_all(&path).context("failed to make a scratch directory")?,
            Place::Node(..) | Place::Machine(_) => drop(self.must(&format!("mkdir -m 777 {path}"))?),
        }
        Ok(path)
    }

    /// Copies what is in a directory of this machine into one there, which is made if need be.
    ///
    /// It goes through a pipe: the nodes have no directory in common with us for certain.
    pub fn bring(&self, from: &Path, to: &str, options: &[&str]) -> Result<()> {
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(from).args(options).args(["-cf", "-", "."]);
        let mut packing = pack.stdout(Stdio::piped()).spawn().context("failed to start tar")?;
        let line = format!("mkdir -p {to} && tar -C {to} -xf -");
        let mut unpack = self.command(&["sh", "-c", &line], false);
        let mut unpacking = unpack
            .stdin(packing.stdout.take().context("no pipe")?)
            .spawn()
            .context("failed to start the other tar")?;
        let (packed, unpacked) = (wait(&mut packing, SOON)?, wait(&mut unpacking, SOON)?);
        anyhow::ensure!(
            packed == Some(0) && unpacked == Some(0),
            "tar ended with {packed:?} and {unpacked:?}"
        );
        Ok(())
    }

    /// Every file below a directory: kind, mode, size, contents. Then the directory is removed.
    pub fn take_files(&self, directory: &str) -> Result<String> {
        self.must(&format!(
            "cd '{directory}' && find . -mindepth 1 -printf '%p %y %m %s\\n' | sort && \
             find . -type f -print0 | sort -z | xargs -0r sha256sum && cd / && rm -rf '{directory}'"
        ))
    }
}

/// Runs a command to its end, or kills it when its time is over.
pub(crate) fn finish(mut command: Command, patience: Duration) -> Result<Said> {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("failed to start {shown}"))?;
    let output = Stream::of(child.stdout.take().context("no pipe")?);
    let errors = Stream::of(child.stderr.take().context("no pipe")?);
    let Some(status) = wait(&mut child, patience)? else {
        bail!("{shown} did not end in {patience:?}; it said: {}{}", output.text(), errors.text());
    };
    // A daemon that the command started may hold its pipes open: what came until now must do then.
    output.wait_end(Duration::from_secs(2));
    errors.wait_end(Duration::from_secs(2));
    Ok(Said { status, output: output.text(), errors: errors.text() })
}

/// Waits for a child; kills it and returns nothing when its time is over.
pub(crate) fn wait(child: &mut std::process::Child, patience: Duration) -> Result<Option<i32>> {
    use std::os::unix::process::ExitStatusExt as _;
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().context("failed to wait")? {
            return Ok(Some(status.code().unwrap_or(128 + status.signal().unwrap_or(0))));
        }
        if Instant::now() > deadline {
            child.kill().context("failed to kill")?;
            child.wait().context("failed to wait")?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
