//! What the tests of labs have in common: making one, asking inside, looking for traces.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use lab::{Daemons, Lab, STATE_DIRECTORY, Spec, State};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long an event may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A specification for a test, with a name of its own; `None`, with the reason printed, where labs are impossible.
pub(crate) fn spec(test: &str, nodes: u16) -> Option<Spec> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a lab needs root");
        return None;
    }
    let mut spec = Spec::new(format!("{test}-{}", std::process::id()), nodes);
    spec.daemons = Daemons::Bare;
    Some(spec)
}

/// A lab for a test.
pub(crate) fn lab(test: &str, nodes: u16) -> Option<Lab> {
    spec(test, nodes).map(|spec| Lab::up(&spec).unwrap())
}

/// Runs a shell script in a node.
pub(crate) fn run(lab: &Lab, node: &str, script: &str) -> Output {
    lab.exec(node, ["sh", "-c", script]).unwrap().output().unwrap()
}

/// What a shell script in a node prints, without the last line's end.
pub(crate) fn ask(lab: &Lab, node: &str, script: &str) -> String {
    let output = run(lab, node, script);
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A shell script that runs in a node and has printed "ready" (as its first line).
pub(crate) fn start(lab: &Lab, node: &str, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    await_ready(lab.exec(node, ["sh", "-c", script]).unwrap())
}

/// Starts a command and waits until it has printed "ready".
pub(crate) fn await_ready(mut command: Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "ended before it was ready");
    }
    (child, out)
}

/// Waits for what no event announces.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A command that runs one of this test program's own functions in a node: a "test" that does
/// nothing unless the variable names it.
pub(crate) fn inside(lab: &Lab, node: &str, function: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    let program = Path::new("/opt/openmosix/bin").join(own.file_name().unwrap());
    let mut command = lab.enter(node).unwrap().command(program).unwrap();
    command.args(["--exact", function, "--nocapture"]).env("LAB_INSIDE", function);
    command
}

/// Whether this process is to play the part of `function`.
pub(crate) fn plays(function: &str) -> bool {
    std::env::var("LAB_INSIDE").is_ok_and(|part| part == function)
}

/// What a lab consists of, to be looked for when it is gone.
pub(crate) struct Traces {
    name: String,
    namespaces: HashSet<PathBuf>,
    /// Keeps the kernel from giving their numbers to the namespaces of another test's lab.
    _held: Vec<File>,
}

const NAMESPACES: &[&str] = &["pid", "mnt", "net", "uts", "ipc", "cgroup", "time"];

impl Traces {
    pub(crate) fn of(state: &State) -> Traces {
        let own: HashSet<_> = namespaces("self").collect();
        let pids = state.nodes.iter().map(|node| node.init.pid).chain([state.supervisor.pid]);
        let held =
            pids.clone().flat_map(|pid| NAMESPACES.iter().map(move |name| format!("/proc/{pid}/ns/{name}")));
        let held = held.map(|path| File::open(path).unwrap()).collect();
        let all: HashSet<_> = pids.flat_map(|pid| namespaces(&pid.to_string()).collect::<Vec<_>>()).collect();
        let namespaces: HashSet<_> = all.difference(&own).cloned().collect();
        assert!(namespaces.len() > state.nodes.len() * 6, "{namespaces:?}");
        Traces { name: state.name.clone(), namespaces, _held: held }
    }

    /// Everything that is left.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let pid = entry.file_name().into_string().unwrap();
            if pid.parse::<u32>().is_ok() && namespaces(&pid).any(|space| self.namespaces.contains(&space)) {
                left.push(format!("process {pid}"));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(&self.name)).map(str::to_owned));
        let interfaces = fs::read_to_string("/proc/net/dev").unwrap();
        left.extend(interfaces.lines().filter(|line| line.trim().starts_with("om0:")).map(str::to_owned));
        left.extend(groups(&self.name).iter().map(|path| path.display().to_string()));
        let directory = Path::new(STATE_DIRECTORY).join(&self.name);
        left.extend(directory.exists().then(|| directory.display().to_string()));
        left
    }

    pub(crate) fn assert_gone(&self) {
        assert_eq!(self.left(), Vec::<String>::new());
    }
}

fn namespaces(pid: &str) -> impl Iterator<Item = PathBuf> {
    let directory = Path::new("/proc").join(pid).join("ns");
    NAMESPACES.iter().filter_map(move |name| fs::read_link(directory.join(name)).ok())
}

/// The cgroups of a lab, wherever hierarchies are mounted.
pub(crate) fn groups(lab: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let trees =
        mounts.lines().filter(|line| line.split(' ').nth(2).is_some_and(|kind| kind.starts_with("cgroup")));
    let groups = trees.map(|line| Path::new(line.split(' ').nth(1).unwrap()).join("openmosix-lab").join(lab));
    groups.filter(|path| path.exists()).collect()
}
