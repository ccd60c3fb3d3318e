//! The process itself: names, limits, timers, children.

use crate::world::{World, at, compare, to};

#[test]
fn identity_and_limits() {
    compare(|world: &mut World| {
        let mut name = [0u8; 400];
        world.call("uname", &[to(&mut name)]);
        world.note("name", name);
        let mut ids = [7u32; 3];
        let [first, second, third] = &mut ids;
        let args = [&raw mut *first as u64, &raw mut *second as u64, &raw mut *third as u64];
        world.call("getresuid", &args);
        world.note("ids", ids);
        let mut groups = [7u32; 128];
        world.call("getgroups", &[0, 0]);
        world.call("getgroups", &[128, to(&mut groups)]);
        world.note("groups", groups);
        let mut limits = [0u64; 2];
        world.call("prlimit64", &[0, 7, 0, to(&mut limits)]);
        world.note("limits", limits);
        world.call("prlimit64", &[0, 7, at(&limits), 0]);
        world.call("getrlimit", &[999, to(&mut limits)]);
        let mut cpus = [0u64; 128];
        world.call("sched_getaffinity", &[0, 1024, to(&mut cpus)]);
        world.note("cpus", cpus);
        world.call("sched_getaffinity", &[0, 3, to(&mut cpus)]);
        let mut attributes = [0xeeu8; 64];
        world.call("sched_getattr", &[0, to(&mut attributes), 64, 0]);
        world.note("attributes", attributes);
        let mut setting = [0u32; 14];
        setting[0] = 20;
        world.call("sched_setattr", &[0, to(&mut setting), 0]);
        world.note("size wanted", setting[0]);
        let (mut head, mut data) = ([0u32; 2], [0xeeu32; 6]);
        world.call("capget", &[to(&mut head), to(&mut data)]);
        world.note("version", (head, data));
        world.call("capget", &[to(&mut head), to(&mut data)]);
        world.note("capabilities", data);
        let mut signal = [9u32];
        world.call("prctl", &[2, to(&mut signal), 0, 0, 0]);
        world.note("signal of death", signal);
        world.call("prctl", &[39, 0, 0, 0, 0]);
        world.call("getppid", &[]);
        world.call("getpriority", &[0, 0]);
        world.call("umask", &[0o22]);
        let mut usage = [0u64; 18];
        world.call("getrusage", &[0, to(&mut usage)]);
        world.note("memory was used", usage[4] > 0);
    });
}

#[test]
#[expect(clippy::zombie_processes, reason = "the scenario itself waits for them, which is what it is about")]
fn timers_and_children() {
    compare(|world: &mut World| {
        let event = [0u32, 0, 0, 1 /* SIGEV_NONE */, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut timer = [0u32];
        world.call("timer_create", &[1, at(&event), to(&mut timer)]);
        let timer = u64::from(timer[0]);
        world.call("timer_settime", &[timer, 0, at(&[0u64, 0, 1000, 0]), 0]);
        let mut left = [0u64; 4];
        world.call("timer_gettime", &[timer, to(&mut left)]);
        world.note("left", (left[0], left[2] / 100));
        world.call("timer_delete", &[timer]);
        let child = std::process::Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().expect("a shell");
        let pid = u64::from(child.id());
        let mut information = [0xeeu8; 128];
        world.call("waitid", &[1, pid, to(&mut information), 4 | 0x0100_0000, 0]);
        world.note("code and status", (&information[..12], &information[24..]));
        let (mut status, mut usage) = ([0xeeee_eeeeu32], [0u8; 144]);
        let waited = world.open("wait4", &[pid, to(&mut status), 0, to(&mut usage)]);
        world.note("status", (waited == pid, status));
        world.call("wait4", &[pid, to(&mut status), 1, 0]);
        let mut sleeper = std::process::Command::new("/bin/sleep").arg("100").spawn().expect("a sleeper");
        status = [0xeeee_eeee];
        world.call("wait4", &[u64::from(sleeper.id()), to(&mut status), 1, 0]);
        world.note("nothing", status);
        world.call("kill", &[u64::from(sleeper.id()), 9]);
        world.note("killed", sleeper.wait().expect("its end").code());
    });
}
