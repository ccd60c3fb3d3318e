//! Labs come up, are found, and go without a trace, however they end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod world;

use lab::{CpuShare, Error, Lab, Memory, STATE_DIRECTORY};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use world::{Traces, ask, await_ready, plays, spec, start, until};

#[test]
fn a_lab_comes_up_is_found_and_goes_down() {
    let Some(spec) = spec("life", 3) else { return };
    let lab = Lab::up(&spec).unwrap();
    let traces = Traces::of(lab.state());
    let found = Lab::find(&spec.name).unwrap();
    assert_eq!(found.state(), lab.state());
    assert!(Lab::all().contains(lab.state()));
    assert!(matches!(Lab::up(&spec), Err(Error::AlreadyUp(_))));
    for (number, node) in (1..).zip(&lab.state().nodes) {
        assert_eq!((node.id.get(), node.name.as_str()), (number, format!("n{number}").as_str()));
        assert!(node.is_alive());
        assert_eq!(ask(&lab, &node.name, "hostname"), node.name);
    }
    drop(found);
    assert!(lab.state().nodes[0].is_alive(), "a lab that was only found must stay");
    lab.down().unwrap();
    traces.assert_gone();
    assert!(matches!(Lab::find(&spec.name), Err(Error::NoSuchLab(_))));
}

#[test]
fn a_dropped_lab_is_gone() {
    let Some(lab) = world::lab("drop", 1) else { return };
    let traces = Traces::of(lab.state());
    drop(lab);
    traces.assert_gone();
}

#[test]
fn labs_side_by_side_do_not_know_each_other() {
    let (Some(a), Some(b)) = (world::lab("side-a", 2), world::lab("side-b", 2)) else { return };
    assert_eq!(a.state().nodes[0].address, b.state().nodes[0].address);
    ask(&a, "n1", "echo a > /tmp/whose");
    ask(&b, "n1", "test ! -e /tmp/whose");
    let (traces, other) = (Traces::of(a.state()), b.state().clone());
    a.down().unwrap();
    traces.assert_gone();
    assert!(other.nodes.iter().all(lab::NodeState::is_alive));
    ask(&b, "n2", "true");
}

#[test]
fn one_of_many_at_once_gets_the_name() {
    let Some(spec) = spec("race", 1) else { return };
    let racers: Vec<_> =
        (0..4).map(|_| spec.clone()).map(|spec| thread::spawn(move || Lab::up(&spec))).collect();
    let outcomes: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for outcome in lost {
        assert!(matches!(outcome, Err(Error::AlreadyUp(_))), "{outcome:?}");
    }
}

#[test]
fn a_killed_supervisor_leaves_nothing() {
    let Some(mut spec) = spec("kill", 2) else { return };
    spec.cpus = vec![CpuShare { percent: 50 }];
    spec.memory = vec![Memory { bytes: 256 << 20 }];
    let lab = Lab::up(&spec).unwrap();
    let traces = Traces::of(lab.state());
    assert!(!world::groups(&spec.name).is_empty());
    let (mut command, _out) = start(&lab, "n1", "echo ready; exec sleep 1000");
    kill(Pid::from_raw(lab.state().supervisor.pid), Signal::SIGKILL).unwrap();
    until("the keeper has cleaned up", || traces.left().is_empty());
    let status = command.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[test]
fn a_killed_keeper_takes_the_lab_along_and_the_next_command_sweeps_up() {
    let Some(mut spec) = spec("sweep", 1) else { return };
    spec.memory = vec![Memory { bytes: 256 << 20 }];
    let lab = Lab::up(&spec).unwrap();
    let traces = Traces::of(lab.state());
    let supervisor = lab.state().supervisor.pid;
    let stat = fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap();
    let keeper = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    until("the supervisor is dead", || !lab.state().nodes[0].is_alive());
    until("the next command finds nothing", || {
        Lab::all().iter().all(|state| state.name != spec.name) && traces.left().is_empty()
    });
}

#[test]
fn makes_a_lab_and_waits() {
    if plays("makes_a_lab_and_waits") {
        let mut spec = spec("orphan", 2).unwrap();
        spec.memory = vec![Memory { bytes: 256 << 20 }];
        let _lab = Lab::up(&spec).unwrap();
        println!("ready");
        thread::park();
    }
}

#[test]
fn a_killed_creator_takes_the_lab_along() {
    if spec("orphan", 1).is_none() {
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "makes_a_lab_and_waits", "--nocapture"])
        .env("LAB_INSIDE", "makes_a_lab_and_waits");
    let (mut creator, _out) = await_ready(command);
    let lab = Lab::find(&format!("orphan-{}", creator.id())).unwrap();
    let traces = Traces::of(lab.state());
    creator.kill().unwrap();
    creator.wait().unwrap();
    until("the lab has followed its creator", || traces.left().is_empty());
}

#[test]
fn a_creator_killed_at_any_moment_leaves_nothing() {
    if spec("orphan", 1).is_none() {
        return;
    }
    for milliseconds in (0..60).step_by(4) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "makes_a_lab_and_waits", "--nocapture"]).stdout(std::process::Stdio::null());
        let mut creator = command.env("LAB_INSIDE", "makes_a_lab_and_waits").spawn().unwrap();
        // No event to wait for: the moment is what is being tried.
        thread::sleep(std::time::Duration::from_millis(milliseconds));
        creator.kill().unwrap();
        creator.wait().unwrap();
        let name = format!("orphan-{}", creator.id());
        until("it has gone, or the next command has swept up", || {
            assert!(Lab::all().iter().all(|state| state.name != name || state.nodes.len() == 2));
            !Path::new(STATE_DIRECTORY).join(&name).exists() && world::groups(&name).is_empty()
        });
    }
}

#[test]
fn a_failed_up_leaves_nothing() {
    let Some(mut spec) = spec("fail", 2) else { return };
    spec.memory = vec![Memory { bytes: 256 << 20 }];
    // An overlay cannot be laid over this name, which only a node's init finds out.
    let root = tempfile::Builder::new().prefix("a,b").tempdir().unwrap();
    spec.root = root.path().to_owned();
    let error = Lab::up(&spec).unwrap_err().to_string();
    assert!(error.contains("node n1") && error.contains("comma"), "{error}");
    assert!(!Path::new(STATE_DIRECTORY).join(&spec.name).exists());
    assert_eq!(world::groups(&spec.name), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_lab_let_go_stays() {
    let Some(spec) = spec("free", 1) else { return };
    let state = Lab::up(&spec).unwrap().let_go().unwrap();
    let lab = Lab::find(&spec.name).unwrap();
    assert_eq!(ask(&lab, "n1", "hostname"), "n1");
    lab.down().unwrap();
    assert!(!state.nodes[0].is_alive());
}

#[test]
fn a_dead_node_is_told_and_others_go_on() {
    let Some(lab) = world::lab("dead", 2) else { return };
    kill(Pid::from_raw(lab.state().nodes[0].init.pid), Signal::SIGKILL).unwrap();
    until("n1 is dead", || !lab.state().nodes[0].is_alive());
    assert!(matches!(lab.exec("n1", ["true"]), Err(Error::DeadNode { .. })));
    assert_eq!(ask(&lab, "n2", "hostname"), "n2");
}
