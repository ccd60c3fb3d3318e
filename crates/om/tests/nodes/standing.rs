//! What a node measures of itself, and what people say about automatic moves: real daemons.

use crate::world::{Node, bad, good, run, text, wait_until};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// A shell with a child of its own; both are gone when the test ends.
struct Pair {
    shell: Child,
    child: i32,
}

impl Pair {
    fn start(mut command: Command) -> Pair {
        let mut shell = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Pair { child: line.trim().parse().unwrap(), shell }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let child = nix::unistd::Pid::from_raw(self.child);
        let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

const SCRIPT: [&str; 3] = ["sh", "-c", "sleep 1000 & echo $!; wait"];

/// The codes of the reasons why a process is not moved automatically.
fn stays(node: &Node, pid: i32) -> Vec<String> {
    let output = run(&mut node.om(&["why", &pid.to_string(), "--json"]));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let stays = answer["stays"].as_array().unwrap_or_else(|| panic!("{}", text(&output)));
    stays.iter().map(|stay| stay["code"].as_str().unwrap().to_owned()).collect()
}

fn is_locked(node: &Node, pid: i32) -> bool {
    stays(node, pid).contains(&"locked".to_owned())
}

#[test]
fn a_lock_holds_for_children_and_for_the_next_daemon() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::found(base.path(), "alpha");
    let mut command = Command::new(SCRIPT[0]);
    command.args(&SCRIPT[1..]);
    let pair = Pair::start(command);
    let (parent, child) = (pair.shell.id() as i32, pair.child);
    assert!(!is_locked(&node, parent) && !is_locked(&node, child));
    assert!(good(&mut node.om(&["lock", &parent.to_string()])).contains("is locked"));
    assert!(is_locked(&node, parent) && is_locked(&node, child));
    node.stop();
    node.start();
    assert!(is_locked(&node, parent) && is_locked(&node, child));
    assert!(good(&mut node.om(&["unlock", &child.to_string()])).contains("is not locked"));
    assert!(is_locked(&node, parent) && !is_locked(&node, child));
    let said = text(&run(&mut node.om(&["why", &parent.to_string()])));
    assert!(said.contains("it is not moved automatically:") && said.contains("[locked]"), "{said}");
    // Others may not, and nobody is not there.
    let mut nobody = node.om(&["lock", &parent.to_string()]);
    if nix::unistd::geteuid().is_root() {
        // A stranger must reach the program; the test's directory is root's own.
        let directory = std::path::Path::new(env!("CARGO_BIN_EXE_om")).parent().unwrap();
        println!("as a stranger, by {}", directory.display());
        let copy = base.path().join("om");
        std::fs::copy(env!("CARGO_BIN_EXE_om"), &copy).unwrap();
        std::fs::set_permissions(base.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut stranger = Command::new(&copy);
        stranger.args(["lock", &parent.to_string()]).env("OM_SOCKET", node.socket()).uid(65_534).gid(65_534);
        std::mem::swap(&mut nobody, &mut stranger);
        assert!(bad(&mut nobody, 5).contains("not yours"));
    }
    bad(&mut node.om(&["lock", "999999999"]), 4);
}

#[test]
fn what_mosrun_says_outlives_it() {
    let base = tempfile::tempdir().unwrap();
    let node = Node::found(base.path(), "alpha");
    for (options, locked) in [(&["-L"][..], true), (&["-h"], true), (&["-k"], false), (&["-j", "1-3"], false)]
    {
        let mut command = node.om(&["run"]);
        command.args(options).args(SCRIPT);
        let mut pair = Pair::start(command);
        let child = pair.child;
        assert_eq!(is_locked(&node, child), locked, "{options:?}");
        let codes = stays(&node, child);
        assert!(!codes.contains(&"young".to_owned()), "a job is moved however young it is: {codes:?}");
        let note = node.directory.join(format!("run/standing/{child}.json"));
        wait_until("the daemon has seen the child", || note.exists());
        // Nobody is left of those that it inherits from.
        let own = nix::unistd::Pid::from_raw(pair.shell.id() as i32);
        nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL).unwrap();
        pair.shell.wait().unwrap();
        assert_eq!(is_locked(&node, child), locked, "{options:?}");
        let kept = std::fs::read_to_string(&note).unwrap();
        assert!(kept.contains("\"job\":true") && kept.contains("only") == (options[0] == "-j"), "{kept}");
    }
    assert!(bad(&mut node.om(&["run", "-j", "7-2", "true"]), 2).contains("names no nodes"));
    assert!(bad(&mut node.om(&["run", "9"]), 2).contains("no command"));
}

#[test]
fn a_node_measures_itself_and_its_speed_is_kept() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::found(base.path(), "alpha");
    let load = |node: &Node| -> serde_json::Value {
        let mut answer = serde_json::Value::Null;
        wait_until("the node has measured itself", || {
            answer = serde_json::from_slice(&run(&mut node.om(&["load", "--json"])).stdout).unwrap();
            answer["cpus"].is_number()
        });
        answer
    };
    let first = load(&node);
    let number = |key: &str| first[key].as_f64().unwrap_or_else(|| panic!("{key}: {first}"));
    assert!(number("cpus") > 0.0 && number("memory_total") >= number("memory_available"), "{first}");
    assert!(number("processes") > 1.0 && number("foreign") <= number("runnable"), "{first}");
    assert_eq!(first["speed_source"], "measured");
    assert!(good(&mut node.om(&["load"])).contains("CPUs"));
    let again = |node: &mut Node| {
        node.stop();
        node.start();
        load(node)["speed"].as_u64()
    };
    assert_eq!(again(&mut node), first["speed"].as_u64(), "it is measured once");
    if nix::unistd::geteuid().is_root() {
        assert!(good(&mut node.om(&["tune", "--speed", "4321"])).contains("4321 (set"));
        assert_eq!(again(&mut node), Some(4321));
        assert!(good(&mut node.om(&["tune"])).contains("(measured"));
        bad(&mut node.om(&["tune", "--speed", "1"]), 2);
    }
}
