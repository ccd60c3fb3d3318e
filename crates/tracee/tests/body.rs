//! A fresh body, before it has a filter: what Landlock alone denies it, and what its namespaces hold.
//!
//! Bodies are made by a process of one thread, and only the thread that made one may steer it. So these trials have a
//! `main` of their own.

use kernel::ptrace;
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;
use tracee::body::{self, Plan};
use tracee::inject::{self, Injector};

const EACCES: i64 = -(libc::EACCES as i64);
const ESRCH: i64 = -(libc::ESRCH as i64);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = vec![Trial::test("landlock_denies_what_the_namespaces_would_allow", || {
        reaches_nothing().map_err(|error| Failed::from(format!("{error:#?}")))
    })];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn reaches_nothing() -> Result<(), Box<dyn std::error::Error>> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: bodies are made by root");
        return Ok(());
    }
    let Ok(landlock) = kernel::landlock::version() else {
        println!("skipped: this kernel has no Landlock");
        return Ok(());
    };
    // Without it the same calls succeed: else this test would not show who denies them.
    let without = attempts(None)?;
    assert_eq!(without, [2, 0, 0, ESRCH], "opens its root, binds, signals its init, signals nobody else");
    let with = attempts(Some(landlock))?;
    let bind = if landlock >= 4 { EACCES } else { 0 };
    assert_eq!(with, [EACCES, bind, 0, ESRCH]);
    Ok(())
}

/// What a body gets for: opening its root, binding a port, signalling its init, signalling its maker.
fn attempts(landlock: Option<u32>) -> Result<[i64; 4], Box<dyn std::error::Error>> {
    let void = std::env::temp_dir().join(format!("om-body-{}", std::process::id()));
    std::fs::create_dir_all(&void)?;
    let plan = Plan {
        pid: 4242,
        ids: (0, 0),
        host_ids: (2_000_000_001, 2_000_000_001),
        clock_offsets: (0, 0),
        groups: &[],
        landlock,
        void: &void,
        files: &[],
    };
    let body = body::create(&plan)?;
    let steered = steer(body.pid);
    body::kill(body.init);
    std::fs::remove_dir(&void)?;
    steered
}

fn steer(pid: i32) -> Result<[i64; 4], Box<dyn std::error::Error>> {
    let mappings = procinfo::maps(pid)?;
    let taken = mappings.iter().map(|mapping| (mapping.start, mapping.end));
    let base = inject::find_hole(inject::AREA_BYTES, 4096, taken).ok_or("no hole")?;
    let instruction = inject::find_instruction(pid, &mappings)?;
    let injector = Injector::enter(pid, &ptrace::registers(pid)?, instruction, base)?;
    let mut batch = injector.batch();
    let root = batch.data(b"/\0");
    let mut address = [0u8; 16];
    address[..4].copy_from_slice(&[libc::AF_INET as u8, 0, 0x1f, 0x90]);
    let address = batch.data(&address);
    // Descriptors come in order: the body has none.
    batch.call(libc::SYS_socket, &[libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0]);
    batch.call(libc::SYS_dup, &[0]);
    let opened = batch.call(libc::SYS_openat, &[libc::AT_FDCWD as u64, root, libc::O_DIRECTORY as u64, 0]);
    let bound = batch.call(libc::SYS_bind, &[0, address, 16]);
    let init = batch.call(libc::SYS_kill, &[1, 0]);
    let maker = batch.call(libc::SYS_kill, &[u64::from(std::process::id()), 0]);
    injector.run(pid, &mut batch)?;
    Ok([opened, bound, init, maker].map(|call| batch.ret(call)))
}
