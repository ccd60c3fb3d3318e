//! A fresh body on a host: an empty process in namespaces of its own, with the pid that its process has at home.
//!
//! It can see no file, no process but itself and its init, no network, no IPC object of the host, and it has the
//! privileges of nobody; Landlock denies it all that again, and control groups limit what it uses. Until its own filter
//! is in place it runs nothing of the guest.
//!
//! ```text
//! warden ── helper: unshares everything, waits for its maps, empties the mount namespace
//!             ├─ init   (pid 1 of the guest's namespace; child of the warden)
//!             └─ body   (pid as at home; child of the warden), stopped by the warden's ptrace
//! ```

use crate::error::{Error, Result};
use kernel::Errno;
use kernel::process::{Side, clone_with_tid, exit_now, unregister_rseq};
use kernel::ptrace;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a body is to be.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Its pid at home.
    pub pid: i32,
    /// The ids it believes to have: user, group.
    pub ids: (u32, u32),
    /// The ids it really has on this host.
    pub host_ids: (u32, u32),
    /// Offsets of its monotonic and boot clock against the machine's own, nanoseconds.
    pub clock_offsets: (i64, i64),
    /// Its control groups: the files by which a process with one thread joins them, open for writing.
    pub groups: &'a [BorrowedFd<'a>],
    /// The version of Landlock to use, where the kernel has one ([`kernel::landlock::version`]).
    pub landlock: Option<u32>,
    /// An empty directory that becomes its root's mount point.
    pub void: &'a Path,
    /// Files that it will map, which appear in it as descriptors from [`FIRST_FILE`] on, in this order.
    pub files: &'a [BorrowedFd<'a>],
}

/// Number of the first mapped file in a fresh body.
pub const FIRST_FILE: i32 = 512;

/// A fresh body, seized and stopped.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// Its pid on this host.
    pub pid: i32,
    /// Pid of its namespace's init on this host.
    pub init: i32,
}

/// Makes a body. The calling process must have one thread only. On failure nothing is left behind.
pub fn create(plan: &Plan<'_>) -> Result<Body> {
    let (to_helper, from_warden) = pipe()?;
    let (to_warden, from_helper) = pipe()?;
    // SAFETY: this process has one thread, so the child may go on like after a fork.
    let side =
        unsafe { clone_with_tid(0, libc::SIGCHLD, None) }.map_err(Error::kernel("cloning the helper", 0))?;
    let helper = match side {
        Side::Child => {
            drop((from_warden, to_warden));
            let outcome = help(plan, &to_helper, &from_helper);
            exit_now(if outcome.is_ok() { 0 } else { 1 });
        }
        Side::Parent(pid) => pid,
    };
    drop((to_helper, from_helper));
    let made = guide(plan, helper, from_warden, &to_warden);
    let status = ptrace::wait(helper, true);
    let (init, body) = made.inspect_err(|_| tracing::debug!(?status, "the helper failed"))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    let seized = ptrace::seize(body, ptrace::OPTION_EXITKILL)
        .and_then(|()| ptrace::interrupt(body))
        .map_err(Error::kernel("seizing the body", body))
        .and_then(|()| crate::stop::stop_one(body, deadline).map(drop));
    match seized {
        Ok(()) => Ok(Body { pid: body, init }),
        Err(error) => {
            kill(init);
            Err(error)
        }
    }
}

/// Kills a namespace's init, and with it everything in the namespace; reaps all of it.
///
/// The kernel lets the init end only when every process of its namespace has been reaped, and those are our children:
/// so it is not the init alone that is waited for.
pub fn kill(init: i32) {
    let pid = nix::unistd::Pid::from_raw(init);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    while let Ok(Some((tid, wait))) = ptrace::wait(-1, true) {
        let over = matches!(wait, ptrace::Wait::Exited(_) | ptrace::Wait::Killed(..));
        if tid == init && over {
            return;
        }
    }
}

/// Kills one process of a namespace, all of whose threads are seized, and reaps it. `tids` are its threads here.
pub fn end(pid: i32, tids: &[i32]) {
    if let Some(process) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
    }
    // The leader is reaped last, as the kernel tells of its end last.
    for &tid in tids.iter().filter(|&&tid| tid > 0 && tid != pid).chain([&pid]) {
        while let Ok(Some((_, wait))) = ptrace::wait(tid, true) {
            if matches!(wait, ptrace::Wait::Exited(_) | ptrace::Wait::Killed(..)) {
                break;
            }
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|errno| Error::Io {
        what: "making a pipe",
        pid: 0,
        source: errno.into(),
    })
}

/// The warden's part: waits until the helper has unshared, writes its maps and clocks, and learns the pids.
fn guide(plan: &Plan<'_>, helper: i32, from_warden: OwnedFd, to_warden: &OwnedFd) -> Result<(i32, i32)> {
    let mut word = [0; 4];
    receive(to_warden, &mut word)?;
    if let joined @ ..=0 = i32::from_le_bytes(word) {
        return Err(Error::Kernel {
            what: "joining its control groups",
            pid: plan.pid,
            errno: Errno::from_raw(-joined),
        });
    }
    let proc = |name: &str| format!("/proc/{helper}/{name}");
    let write =
        |name: &str, text: String| fs::write(proc(name), text).map_err(Error::io("writing its maps", helper));
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("{} {} 1\n", plan.ids.0, plan.host_ids.0))?;
    write("gid_map", format!("{} {} 1\n", plan.ids.1, plan.host_ids.1))?;
    let (monotonic, boottime) = plan.clock_offsets;
    let line = |clock: &str, offset: i64| {
        format!("{clock} {} {}\n", offset.div_euclid(1_000_000_000), offset.rem_euclid(1_000_000_000))
    };
    let offsets = line("monotonic", monotonic) + &line("boottime", boottime);
    if let Err(error) = fs::write(proc("timens_offsets"), offsets) {
        return Err(Error::Io { what: "setting its clocks", pid: helper, source: error });
    }
    rustix::io::write(&from_warden, &[1]).map_err(|errno| Error::Io {
        what: "guiding the helper",
        pid: helper,
        source: errno.into(),
    })?;
    let mut pid = || {
        receive(to_warden, &mut word)?;
        Ok::<i32, Error>(i32::from_le_bytes(word))
    };
    let init = pid()?;
    match pid() {
        Ok(body) if body > 0 => {
            wait_for_end(to_warden);
            Ok((init, body))
        }
        Ok(errno) => {
            kill(init);
            Err(Error::Kernel { what: "cloning the body", pid: plan.pid, errno: Errno::from_raw(-errno) })
        }
        Err(error) => {
            kill(init);
            Err(error)
        }
    }
}

fn receive(from: &OwnedFd, into: &mut [u8; 4]) -> Result<()> {
    let got = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut into[..]));
    match got {
        Ok(4) => Ok(()),
        Ok(_) => Err(Error::Kernel { what: "making its namespaces", pid: 0, errno: Errno::EPERM }),
        Err(errno) => Err(Error::Io { what: "making its namespaces", pid: 0, source: errno.into() }),
    }
}

/// Waits until helper, init and body have closed their ends: then the body has arranged its descriptors. Stopped any
/// earlier, it would lack some.
fn wait_for_end(from: &OwnedFd) {
    let mut byte = [0];
    while rustix::io::retry_on_intr(|| rustix::io::read(from, &mut byte)).is_ok_and(|got| got > 0) {}
}

/// The helper's life.
fn help(plan: &Plan<'_>, to_helper: &OwnedFd, from_helper: &OwnedFd) -> std::io::Result<()> {
    use nix::sched::{CloneFlags, unshare};
    let everything = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
    let tell = |number: i32| rustix::io::write(from_helper, &number.to_le_bytes()).map(drop);
    // Before the namespaces: its groups become the roots of what it could ever see of groups. 0 is the writer itself.
    for group in plan.groups {
        if let Err(errno) = rustix::io::write(group, b"0") {
            return Ok(tell(-errno.raw_os_error())?);
        }
    }
    // Where the whole machine runs out of memory, guests go first.
    fs::write("/proc/self/oom_score_adj", "1000")?;
    unshare(everything)?;
    tell(1)?;
    let mut go = [0];
    if rustix::io::read(to_helper, &mut go)? == 0 {
        // The warden could not do its part: whoever were made now would be nobody's.
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    empty_root(plan.void)?;
    let (uid, gid) = plan.ids;
    // Raw calls: libc's would tell all its threads, of which there are none here, and need nothing else.
    keep_capabilities()?;
    rustix::thread::set_thread_res_gid(
        rustix::process::Gid::from_raw(gid),
        rustix::process::Gid::from_raw(gid),
        rustix::process::Gid::from_raw(gid),
    )?;
    rustix::thread::set_thread_res_uid(
        rustix::process::Uid::from_raw(uid),
        rustix::process::Uid::from_raw(uid),
        rustix::process::Uid::from_raw(uid),
    )?;
    // The last thing before there is anybody to inherit it: from now on no mount could be made.
    if let Some(version) = plan.landlock {
        kernel::landlock::deny_everything(version)?;
    }
    // SAFETY: this process has one thread.
    match unsafe { clone_with_tid(libc::CLONE_PARENT as u64, 0, None) }? {
        Side::Child => live_as_init(),
        Side::Parent(init) => tell(init)?,
    }
    let numbers: Vec<RawFd> = plan.files.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: as above.
    match unsafe { clone_with_tid(libc::CLONE_PARENT as u64, 0, Some(plan.pid)) } {
        Ok(Side::Child) => live_as_body(&numbers),
        Ok(Side::Parent(body)) => tell(body)?,
        Err(errno) => tell(-(errno as i32))?,
    }
    Ok(())
}

/// Capabilities in the guest's own user namespace survive the change of ids; the body drops them before it runs.
fn keep_capabilities() -> std::io::Result<()> {
    use rustix::thread::{CapabilitiesSecureBits, set_capabilities_secure_bits};
    Ok(set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_SETUID_FIXUP | CapabilitiesSecureBits::KEEP_CAPS,
    )?)
}

/// Replaces everything the namespace's mounts showed by an empty read-only file system.
fn empty_root(void: &Path) -> std::io::Result<()> {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("void"), void, Some("tmpfs"), flags, Some("size=4k,mode=0555"))?;
    std::env::set_current_dir(void)?;
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")?;
    mount(none, "/", none, flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)?;
    Ok(())
}

/// The guest's init: holds the namespace, dies with the warden.
fn live_as_init() -> ! {
    let ready = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).is_ok();
    close_all_from(0);
    if !ready {
        exit_now(1);
    }
    loop {
        nix::unistd::pause();
    }
}

/// The body's only own steps: it keeps the files to map and waits to be taken over.
fn live_as_body(files: &[RawFd]) -> ! {
    // SAFETY: nothing below uses libc's per-CPU features.
    unsafe { unregister_rseq() };
    let _ = rustix::process::setsid();
    let mut placed = 0;
    for (number, &file) in (FIRST_FILE..).zip(files) {
        // SAFETY: the numbers from FIRST_FILE on are nobody's in this process; the result is leaked on purpose.
        let target = unsafe { OwnedFd::from_raw_fd(number) };
        // SAFETY: the warden keeps its files open.
        let source = unsafe { BorrowedFd::borrow_raw(file) };
        let mut target = std::mem::ManuallyDrop::new(target);
        if rustix::io::dup2(source, &mut target).is_ok() {
            placed += 1;
        }
    }
    if placed != files.len() {
        exit_now(1);
    }
    close_all_from(FIRST_FILE + placed as i32);
    // Last, as this tells the warden that all is arranged.
    close_between(0, FIRST_FILE - 1);
    loop {
        nix::unistd::pause();
    }
}

fn close_all_from(first: i32) {
    close_between(first, i32::MAX);
}

fn close_between(first: i32, last: i32) {
    // SAFETY: the caller uses none of these descriptors any more.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}
