//! Limits of real control groups, as a process in them measures itself.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use model::limits::SPEED_STANDARD;
use node::measure::{Meter, Party};
use procinfo::{GroupPath, GroupVersion, own_groups};
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Set in the process that is in the groups.
const INSIDE: &str = "OM_TEST_INSIDE";
const MEMORY: u64 = 256 << 20;

/// A group that is gone when the test ends.
struct Group(PathBuf);

impl Group {
    /// Makes one below this process's own where the controller is; none where that cannot be.
    fn make(
        controller: &str,
        settings: impl Fn(GroupVersion) -> Vec<(&'static str, String)>,
    ) -> Option<Group> {
        own_groups(controller).into_iter().find_map(|GroupPath { version, levels }| {
            let path = levels.first()?.join(format!("om-test-{controller}-{}", std::process::id()));
            std::fs::create_dir(&path).ok()?;
            let group = Group(path);
            // A hierarchy of version 2 may have the directory but not the controller.
            let set = |(name, value): (&str, String)| std::fs::write(group.0.join(name), value).is_ok();
            settings(version).into_iter().all(set).then_some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        // A dead process leaves a moment after its end is seen.
        while std::fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_quota_is_a_fraction_and_a_limit_is_all_memory() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let quota = |version| match version {
        GroupVersion::V1 => {
            vec![("cpu.cfs_period_us", "100000".to_owned()), ("cpu.cfs_quota_us", "25000".to_owned())]
        }
        GroupVersion::V2 => vec![("cpu.max", "25000 100000".to_owned())],
    };
    let limit = |version| match version {
        GroupVersion::V1 => vec![("memory.limit_in_bytes", MEMORY.to_string())],
        GroupVersion::V2 => vec![("memory.max", MEMORY.to_string())],
    };
    let (Some(cpu), Some(memory)) = (Group::make("cpu", quota), Group::make("memory", limit)) else {
        return println!("skipped: this needs root and control groups with the controllers cpu and memory");
    };
    let join: String = [&cpu, &memory]
        .iter()
        .map(|group| format!("echo $$ > {}/cgroup.procs && ", group.0.display()))
        .collect();
    let line =
        format!("{join} exec \"$0\" --exact a_quota_is_a_fraction_and_a_limit_is_all_memory --nocapture");
    let child = Command::new("sh")
        .args(["-c", &line])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output();
    let child = child.unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("measured inside"),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

/// What the process in the groups has to find.
fn inside() {
    let mut meter = Meter::new(SPEED_STANDARD).unwrap();
    let own = std::process::id() as i32;
    let until = Instant::now() + Duration::from_secs(2);
    let measure = |meter: &mut Meter| {
        let mut judge = |process: &node::measure::ProcessState| {
            if process.id.pid == own { Party::Job } else { Party::Own }
        };
        meter.measure(&HashSet::new(), &mut judge).unwrap()
    };
    measure(&mut meter);
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    let state = measure(&mut meter);
    println!("measured inside: {state:?}");
    assert!((state.cpus - 0.25).abs() < 1e-6, "{state:?}");
    assert_eq!(state.memory.total, MEMORY);
    assert!(state.memory.available <= MEMORY && state.memory.free <= state.memory.available, "{state:?}");
    assert!(state.memory.free > MEMORY / 4, "so little is used: {state:?}");
    assert!(state.runnable > 0.4, "it spins: {state:?}");
}
