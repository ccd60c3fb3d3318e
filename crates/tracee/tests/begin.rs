//! A wait that is begun anew for a thread ends in time, and its program finds nothing changed.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use kernel::{memory, ptrace};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tracee::begin::{self, Begun, Time};
use tracee::registers;
use tracee::restart::ERESTARTNOINTR;
use tracee::stop::Stopped;

const PATIENCE: Duration = Duration::from_secs(20);
/// Names the test that is the program, in its own environment.
const PROGRAM: &str = "OM_TEST_WAITS";
/// Seconds for which the program wants to wait: longer than anybody waits for the test.
const WHOLE: i64 = 3600;
/// In memory that cannot be written.
static TIME: libc::timespec = libc::timespec { tv_sec: WHOLE, tv_nsec: 0 };

/// Waits for a signal, where the tests want it to.
#[test]
fn the_program() {
    if std::env::var_os(PROGRAM).is_none() {
        return;
    }
    // SAFETY: takes nothing.
    println!("\ntid {}", unsafe { libc::syscall(libc::SYS_gettid) });
    let signals = 1u64 << (libc::SIGUSR1 - 1);
    // SAFETY: both pointers are valid for the call, and nothing is written.
    let ret = unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const signals, 0, &raw const TIME, 8) };
    let error = std::io::Error::last_os_error();
    println!("\nended {ret} {} {}", error.raw_os_error().unwrap(), TIME.tv_sec);
}

/// Begins the program's wait anew with so much time, and looks what became of it; what the program said in the end.
fn begun_with(left: Duration, expected: Begun) -> String {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "the_program", "--nocapture"]).env(PROGRAM, "1").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (pid, mut line) = (child.id().cast_signed(), String::new());
    while !line.starts_with("tid ") {
        line.clear();
        output.read_line(&mut line).unwrap();
    }
    let tid: i32 = line.trim_start_matches("tid ").trim().parse().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let call = || std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap();
    while !call().starts_with("128 ") {
        assert!(Instant::now() < deadline, "it does not wait");
        std::thread::yield_now();
    }
    let tracer = std::thread::spawn(move || {
        let mut stopped = Stopped::freeze(pid, PATIENCE).unwrap();
        let mut raw = ptrace::registers(tid).unwrap();
        raw.rax = ERESTARTNOINTR as u64;
        ptrace::set_registers(tid, &raw).unwrap();
        let time = begin::time(&registers::from_raw(&raw)).unwrap();
        assert_eq!(begin::begin(pid, tid, time, left.as_nanos() as u64).unwrap(), expected);
        assert_eq!(time, Time::Read(raw.rdx));
        let mut time = [0; 8];
        memory::read_exact(pid, raw.rdx, &mut time).unwrap();
        assert_eq!(i64::from_le_bytes(time), WHOLE, "its own time is back");
        stopped.give_up(tid);
        drop(stopped);
        begin::let_go(tid);
    });
    tracer.join().unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    said
}

#[test]
fn it_sleeps_on_and_ends_in_time() {
    assert!(begun_with(Duration::from_secs(1), Begun::Sleeps).contains("ended -1 11 3600"));
}

#[test]
fn one_whose_time_is_over_ends_at_once() {
    assert!(begun_with(Duration::ZERO, Begun::LetGo).contains("ended -1 11 3600"));
}
