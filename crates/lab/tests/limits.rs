//! A node has the CPUs and the memory it was given.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod world;

use lab::{CpuShare, Error, Lab, Memory};
use nix::sys::resource::{UsageWho, getrusage};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};
use world::{ask, inside, plays, spec};

/// The lab, or `None` with the reason printed where the system cannot limit.
fn limited(spec: &lab::Spec) -> Option<Lab> {
    match Lab::up(spec) {
        Err(Error::NoController { controller, .. }) => {
            println!("skipped: no cgroup controller '{controller}'");
            None
        }
        lab => Some(lab.unwrap()),
    }
}

#[test]
fn nodes_are_pinned_to_their_cpus() {
    let Some(lab) = world::lab("pinned", 3) else { return };
    for node in &lab.state().nodes {
        assert_eq!(ask(&lab, &node.name, "nproc"), "1");
        let allowed = |pid: &str| {
            let script = format!("sed -n 's/^Cpus_allowed_list:\\t//p' /proc/{pid}/status");
            ask(&lab, &node.name, &script)
        };
        assert_eq!(allowed("self"), node.cpus[0].to_string());
        assert_eq!(allowed("1"), node.cpus[0].to_string());
    }
}

#[test]
fn burns() {
    if plays("burns") {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1500) {
            std::hint::spin_loop();
        }
        let used = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let micros = used.user_time().tv_sec() * 1_000_000 + used.user_time().tv_usec();
        println!("\nburnt {}", micros * 100 / start.elapsed().as_micros() as i64);
    }
}

#[test]
fn a_fraction_of_a_cpu_is_a_quota() {
    let Some(mut spec) = spec("quota", 1) else { return };
    spec.cpus = vec![CpuShare { percent: 30 }];
    let Some(lab) = limited(&spec) else { return };
    let output = inside(&lab, "n1", "burns").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let percent = text.lines().find_map(|line| line.strip_prefix("burnt ")).unwrap().parse::<i64>().unwrap();
    assert!((1..=40).contains(&percent), "{percent} % of a CPU instead of 30");
}

#[test]
fn swallows() {
    if plays("swallows") {
        let bytes = vec![1_u8; 300 << 20];
        println!("swallowed {}", std::hint::black_box(bytes).len());
    }
}

#[test]
fn memory_ends_where_it_was_limited() {
    let Some(mut spec) = spec("memory", 2) else { return };
    spec.memory = vec![Memory { bytes: 96 << 20 }, Memory { bytes: 1 << 30 }];
    let Some(lab) = limited(&spec) else { return };
    let output = inside(&lab, "n1", "swallows").output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    assert!(inside(&lab, "n2", "swallows").output().unwrap().status.success());
    // The node itself has survived.
    assert_eq!(ask(&lab, "n1", "hostname"), "n1");
}

#[test]
fn too_many_cpus_are_refused() {
    let Some(mut spec) = spec("many", 1) else { return };
    spec.cpus = vec![CpuShare { percent: 409_600 }];
    assert!(matches!(Lab::up(&spec), Err(Error::TooManyCpus { .. })));
}
