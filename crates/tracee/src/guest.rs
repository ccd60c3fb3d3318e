//! The body of a guest: its threads and its wall.

use crate::error::{Error, Result};
use crate::inject::{Injector, inside};
use kernel::notify::Listener;
use kernel::ptrace;
use std::time::{Duration, Instant};

const SECCOMP_SET_MODE_FILTER: u64 = 1;
const FLAG_TSYNC: u64 = 1;
const FLAG_NEW_LISTENER: u64 = 1 << 3;
const FLAG_TSYNC_ESRCH: u64 = 1 << 4;
const FLAG_WAIT_KILLABLE_RECV: u64 = 1 << 5;
const SECCOMP_FILTERED: u32 = 2;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// `CAP_CHECKPOINT_RESTORE` in the upper word: all that a guest keeps, and only in its own user namespace. There it lets
/// the warden choose the tids of newborns; the calls that ask for it do not pass the filter.
const CHECKPOINT_RESTORE: u32 = 1 << (40 - 32);

/// One instruction of a classic BPF program: code, jump if true, jump if false, operand.
pub type BpfInstruction = (u16, u8, u8, u32);

/// Makes the other threads of the body, with their tids as at home. They are seized, stopped, and have run nothing.
/// Returns all tids on this host, the leader's first.
pub fn make_threads(injector: &Injector, home_tids: &[i32]) -> Result<Vec<i32>> {
    let leader = injector.pid();
    let options = ptrace::OPTION_EXITKILL | ptrace::OPTION_TRACECLONE;
    ptrace::set_options(leader, options).map_err(Error::kernel("tracing clones", leader))?;
    let flags = (libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM) as u64;
    let mut tids = vec![leader];
    for chunk in home_tids.get(1..).unwrap_or_default().chunks(256) {
        let mut batch = injector.batch();
        for &tid in chunk {
            let set_tid = batch.data(&tid.to_le_bytes());
            let words: [u64; 11] = [flags, 0, 0, 0, 0, 0, 0, 0, set_tid, 1, 0];
            let arguments: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let arguments = batch.data(&arguments);
            batch.call(libc::SYS_clone3, &[arguments, size_of_val(&words) as u64]);
        }
        let born = injector.run(leader, &mut batch)?;
        if let Some(failed) = batch.results().find(|&ret| ret < 0) {
            return Err(inside("making a thread", leader, failed));
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        for &tid in &born {
            crate::stop::stop_one(tid, deadline)?;
        }
        tids.extend(born);
    }
    ptrace::set_options(leader, ptrace::OPTION_EXITKILL).map_err(Error::kernel("setting options", leader))?;
    for &tid in &tids {
        ptrace::set_options(tid, ptrace::OPTION_EXITKILL).map_err(Error::kernel("setting options", tid))?;
    }
    Ok(tids)
}

/// Takes every privilege from the body, puts all its threads under the filter, closes all its descriptors, and checks
/// that no thread is left outside. From here on each call of the guest is allowed by the filter or told to the listener.
pub fn wall_in(injector: &Injector, tids: &[i32], filter: &[BpfInstruction]) -> Result<Listener> {
    let leader = injector.pid();
    for &tid in tids {
        let mut batch = injector.batch();
        let header = batch.data(&[CAPABILITY_VERSION_3.to_le_bytes(), [0; 4]].concat());
        // Effective, permitted, inheritable of the first 32, then of the others.
        let few: Vec<u8> = [0, 0, 0, CHECKPOINT_RESTORE, CHECKPOINT_RESTORE, 0u32]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        let few = batch.data(&few);
        let dropped = batch.call(libc::SYS_capset, &[header, few]);
        let bound = batch.call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0]);
        injector.run(tid, &mut batch)?;
        for call in [dropped, bound] {
            if batch.ret(call) != 0 {
                return Err(inside("dropping its privileges", tid, batch.ret(call)));
            }
        }
    }
    let mut batch = injector.batch();
    let mut bytes = Vec::with_capacity(filter.len() * 8);
    for &(code, jump_true, jump_false, operand) in filter {
        bytes.extend_from_slice(&code.to_le_bytes());
        bytes.extend_from_slice(&[jump_true, jump_false]);
        bytes.extend_from_slice(&operand.to_le_bytes());
    }
    let program = batch.data(&bytes);
    let header: Vec<u8> = [filter.len() as u64, program].iter().flat_map(|word| word.to_le_bytes()).collect();
    let header = batch.data(&header);
    let flags = FLAG_TSYNC | FLAG_TSYNC_ESRCH | FLAG_NEW_LISTENER | FLAG_WAIT_KILLABLE_RECV;
    // Before the filter, so that closing needs no exception from it; the listener is then the only descriptor.
    batch.call(libc::SYS_close_range, &[0, u64::from(u32::MAX), 0]);
    let installed = batch.call(libc::SYS_seccomp, &[SECCOMP_SET_MODE_FILTER, flags, header]);
    injector.run(leader, &mut batch)?;
    let number = batch.ret(installed);
    if number < 0 {
        return Err(inside("installing the filter", leader, number));
    }
    let listener = crate::deputy::take_fd(leader, number as i32)?;
    close_listener(injector, number as u64)?;
    for &tid in tids {
        let status = procinfo::status(tid).map_err(Error::io("checking the filter", tid))?;
        if status.seccomp != SECCOMP_FILTERED {
            return Err(Error::Kernel { what: "checking the filter", pid: tid, errno: kernel::Errno::EPERM });
        }
    }
    Ok(Listener::new(listener))
}

/// Closes the guest's own copy of the listener, with the filter suspended for this one batch.
fn close_listener(injector: &Injector, number: u64) -> Result<()> {
    let leader = injector.pid();
    let suspended = ptrace::OPTION_EXITKILL | ptrace::OPTION_SUSPEND_SECCOMP;
    ptrace::set_options(leader, suspended).map_err(Error::kernel("suspending the filter", leader))?;
    let mut batch = injector.batch();
    let closed = batch.call(libc::SYS_close, &[number]);
    let ran = injector.run(leader, &mut batch);
    ptrace::set_options(leader, ptrace::OPTION_EXITKILL)
        .map_err(Error::kernel("resuming the filter", leader))?;
    ran?;
    if batch.ret(closed) != 0 {
        return Err(inside("closing the listener", leader, batch.ret(closed)));
    }
    Ok(())
}
