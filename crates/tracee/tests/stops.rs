//! A thread that is stopped in its call has taken a signal or has it still: none is on its way.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use kernel::ptrace::Wait;
use kernel::{memory, ptrace, signal};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tracee::stop;

const PATIENCE: Duration = Duration::from_secs(20);
/// Names the test that is the program, in its own environment.
const PROGRAM: &str = "OM_TEST_COUNTS";
const ROUNDS: u64 = 500;
static TAKEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn take(_: i32) {
    TAKEN.fetch_add(1, Ordering::SeqCst);
}

/// Counts signals for ever.
#[test]
fn the_program() {
    if std::env::var_os(PROGRAM).is_none() {
        return;
    }
    // SAFETY: zeros are a valid action, which is filled in; the handler only adds to a number.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (action.sa_sigaction, action.sa_flags) = (take as *const () as usize, libc::SA_RESTART);
        libc::sigfillset(&raw mut action.sa_mask);
        assert_eq!(libc::sigaction(libc::SIGRTMIN(), &raw const action, std::ptr::null_mut()), 0);
        println!(
            "\nat {} {} {}",
            libc::syscall(libc::SYS_gettid),
            take as *const () as usize,
            TAKEN.as_ptr() as usize
        );
        loop {
            libc::pause();
        }
    }
}

#[test]
fn no_signal_is_on_its_way_to_the_handler() {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "the_program", "--nocapture"]).env(PROGRAM, "1").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line =
        lines.map(Result::unwrap).find_map(|line| line.strip_prefix("at ").map(str::to_owned)).unwrap();
    let words: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    let [tid, handler, counter] = words[..] else { panic!("{line}") };
    let (pid, tid) = (child.id().cast_signed(), i32::try_from(tid).unwrap());
    ptrace::seize(tid, ptrace::OPTION_EXITKILL).unwrap();
    for sent in 1..=ROUNDS {
        signal::send_thread(pid, tid, libc::SIGRTMIN()).unwrap();
        ptrace::interrupt(tid).unwrap();
        stop::stop_in_call(tid, libc::SYS_pause, handler, Instant::now() + PATIENCE).unwrap();
        let mut taken = [0; 8];
        memory::read_exact(pid, counter, &mut taken).unwrap();
        let pending = ptrace::pending(tid, false).unwrap().len() as u64;
        assert_eq!(u64::from_le_bytes(taken) + pending, sent, "taken and pending, of those sent");
        ptrace::resume(tid, 0).unwrap();
    }
    child.kill().unwrap();
    // It is dead when its tracer has heard of it.
    assert!(matches!(stop::wait_until(tid, Instant::now() + PATIENCE).unwrap(), Wait::Killed(..)));
    child.wait().unwrap();
}
