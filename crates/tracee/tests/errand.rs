//! Signals that cannot be blocked, and reach a process while code that is not its own runs in it.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]
#![allow(clippy::zombie_processes, reason = "each is waited for by its pid, with flags that `Child` has not")]

use kernel::signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tracee::capture::Snapshot;
use tracee::inject::{self, Injector};
use tracee::stop::Stopped;

const PATIENCE: Duration = Duration::from_secs(5);

/// Freezes a sleeper, calls in it again and again, lets it rest in between, and gives it back. It meets `at_first` before
/// anything is injected, and `at_rest` when it rests for the last time.
fn visit(sleeper: &Child, at_first: impl FnOnce(i32), at_rest: impl FnOnce(i32)) {
    let pid = sleeper.id().cast_signed();
    let stopped = Stopped::freeze(pid, PATIENCE).unwrap();
    at_first(pid);
    let mappings = procinfo::maps(pid).unwrap();
    let instruction = inject::find_instruction(pid, &mappings).unwrap();
    let taken = mappings.iter().map(|mapping| (mapping.start, mapping.end));
    let base = inject::find_hole(inject::AREA_BYTES, 4096, taken).unwrap();
    let snapshot = Snapshot::take(pid).unwrap();
    let injector = Injector::enter(pid, snapshot.registers(), instruction, base).unwrap();
    for _ in 0..3 {
        let mut batch = injector.batch();
        let (own, parent) = (batch.call(libc::SYS_getpid, &[]), batch.call(libc::SYS_getppid, &[]));
        injector.run(pid, &mut batch).unwrap();
        assert_eq!((batch.ret(own), batch.ret(parent)), (i64::from(pid), i64::from(std::process::id())));
        injector.rest(&snapshot).unwrap();
    }
    at_rest(pid);
    injector.leave(pid, instruction).unwrap();
    snapshot.restore().unwrap();
    drop(stopped);
}

fn nothing(_: i32) {}

fn sleeper() -> Child {
    let sleeper = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    // Until it sleeps it may still be loading.
    let wchan = || procinfo::stat(sleeper.id().cast_signed()).unwrap().state;
    let name = || procinfo::name(sleeper.id().cast_signed(), sleeper.id().cast_signed()).unwrap();
    within("it sleeps", || name() == "sleep" && wchan() == b'S');
    sleeper
}

fn within(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

fn next_change(sleeper: &Child, flags: WaitPidFlag) -> WaitStatus {
    waitpid(Pid::from_raw(sleeper.id().cast_signed()), Some(flags)).unwrap()
}

fn send(sleeper: &Child, signal: i32) {
    signal::send(sleeper.id().cast_signed(), signal).unwrap();
}

#[test]
fn a_stop_waits_until_the_process_is_let_go() {
    let sleeper = sleeper();
    let pid = Pid::from_raw(sleeper.id().cast_signed());
    visit(&sleeper, |pid| signal::send(pid, libc::SIGSTOP).unwrap(), nothing);
    assert_eq!(
        next_change(&sleeper, WaitPidFlag::WUNTRACED),
        WaitStatus::Stopped(pid, nix::sys::signal::SIGSTOP)
    );
    send(&sleeper, libc::SIGCONT);
    assert_eq!(next_change(&sleeper, WaitPidFlag::WCONTINUED), WaitStatus::Continued(pid));
    send(&sleeper, libc::SIGKILL);
    assert!(matches!(next_change(&sleeper, WaitPidFlag::empty()), WaitStatus::Signaled(..)));
}

#[test]
fn a_stop_that_was_taken_back_stops_nothing() {
    let sleeper = sleeper();
    visit(
        &sleeper,
        |pid| {
            signal::send(pid, libc::SIGSTOP).unwrap();
            signal::send(pid, libc::SIGCONT).unwrap();
        },
        nothing,
    );
    within("it sleeps on", || procinfo::stat(sleeper.id().cast_signed()).unwrap().state == b'S');
    send(&sleeper, libc::SIGTERM);
    let end = next_change(&sleeper, WaitPidFlag::WUNTRACED);
    assert!(matches!(end, WaitStatus::Signaled(_, nix::sys::signal::SIGTERM, _)), "{end:?}");
}

#[test]
fn a_trap_that_was_sent_is_delivered_afterwards() {
    let sleeper = sleeper();
    visit(&sleeper, |pid| signal::send(pid, libc::SIGTRAP).unwrap(), nothing);
    let end = next_change(&sleeper, WaitPidFlag::empty());
    assert!(matches!(end, WaitStatus::Signaled(_, nix::sys::signal::SIGTRAP, _)), "{end:?}");
}

#[test]
fn a_signal_that_comes_while_it_rests_is_delivered_afterwards() {
    let sleeper = sleeper();
    visit(&sleeper, nothing, |pid| signal::send(pid, libc::SIGUSR1).unwrap());
    let end = next_change(&sleeper, WaitPidFlag::empty());
    assert!(matches!(end, WaitStatus::Signaled(_, nix::sys::signal::SIGUSR1, _)), "{end:?}");
}

#[test]
fn what_was_killed_while_frozen_is_known_to_be_gone() {
    let sleeper = sleeper();
    let pid = sleeper.id().cast_signed();
    let stopped = Stopped::freeze(pid, PATIENCE).unwrap();
    let snapshot = Snapshot::take(pid).unwrap();
    snapshot.restore().unwrap();
    send(&sleeper, libc::SIGKILL);
    let restored = snapshot.restore();
    assert!(matches!(restored, Err(tracee::Error::Gone(gone)) if gone == pid), "{restored:?}");
    drop(stopped);
    let end = next_change(&sleeper, WaitPidFlag::empty());
    assert!(matches!(end, WaitStatus::Signaled(_, nix::sys::signal::SIGKILL, _)), "{end:?}");
}
