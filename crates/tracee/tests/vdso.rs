//! Threads that are stopped inside the vDSO and led out of it.
//!
//! The program that is stopped is this one, with another argument: it looks at the clock all the time.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use kernel::ptrace;
use libtest_mimic::{Arguments, Trial};
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tracee::stop::Stopped;
use tracee::vdso;

const LOOKS: &str = "--look-at-the-clock";
const PATIENCE: Duration = Duration::from_secs(5);
/// Of so many stops some are inside, on any machine.
const STOPS: usize = 400;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(LOOKS) {
        return look_at_the_clock();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("it_is_led_out_and_goes_on", || {
            it_is_led_out_and_goes_on();
            Ok(())
        }),
        Trial::test("a_trap_that_was_sent_meanwhile_is_delivered", || {
            a_trap_that_was_sent_meanwhile_is_delivered();
            Ok(())
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn look_at_the_clock() -> ExitCode {
    println!("ready");
    std::io::stdout().flush().unwrap();
    let mut last = Instant::now();
    loop {
        let now = Instant::now();
        if now < last {
            return ExitCode::from(3);
        }
        last = now;
    }
}

fn looker() -> (Child, Range<u64>) {
    let program = std::env::current_exe().unwrap();
    let mut looker = Command::new(program).arg(LOOKS).stdout(Stdio::piped()).spawn().unwrap();
    let mut word = [0; 6];
    looker.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
    let code = vdso::code(&procinfo::maps(looker.id().cast_signed()).unwrap());
    (looker, code)
}

fn is_inside(pid: i32, code: &Range<u64>) -> bool {
    let registers = ptrace::registers(pid).unwrap();
    code.contains(&registers.rip) && registers.orig_rax.cast_signed() < 0
}

fn it_is_led_out_and_goes_on() {
    let (mut looker, code) = looker();
    let pid = looker.id().cast_signed();
    let mut inside = 0;
    for _ in 0..STOPS {
        let stopped = Stopped::freeze(pid, PATIENCE).unwrap();
        let mask = ptrace::signal_mask(pid).unwrap();
        inside += usize::from(is_inside(pid, &code));
        stopped.leave_vdso(&code).unwrap();
        assert!(!is_inside(pid, &code));
        assert_eq!(ptrace::signal_mask(pid).unwrap(), mask);
        drop(stopped);
        std::thread::sleep(Duration::from_micros(100));
    }
    assert_eq!(looker.try_wait().unwrap(), None, "it goes on, and no clock went back");
    looker.kill().unwrap();
    looker.wait().unwrap();
    assert!(inside > 0, "it was never stopped there");
}

fn a_trap_that_was_sent_meanwhile_is_delivered() {
    let (mut looker, code) = looker();
    let pid = looker.id().cast_signed();
    for _ in 0..STOPS {
        let stopped = Stopped::freeze(pid, PATIENCE).unwrap();
        if !is_inside(pid, &code) {
            continue;
        }
        kernel::signal::send(pid, libc::SIGTRAP).unwrap();
        // Delivered there, it ends the process.
        let left = stopped.leave_vdso(&code);
        assert!(matches!(left, Err(tracee::Error::Gone(gone)) if gone == pid), "{left:?}");
        drop(stopped);
        break;
    }
    // If the tracer's wait has told of its end, its parent, the same process, hears nothing more.
    if let Ok(Some(status)) = looker.try_wait() {
        assert_eq!(status.signal(), Some(libc::SIGTRAP));
    }
    assert!(procinfo::stat(pid).is_err(), "it has ended");
}
