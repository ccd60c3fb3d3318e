//! Two ways to make the same call: directly, or gathered, executed in an area as the stub does it, and landed.

use forward::{Fault, Gathered, GoOn, Landing, Memory, StringFault, gather_from};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use wire::{AREA_BYTES_MAX, Call};

/// How a world's calls are made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// By the kernel, on the program's own buffers.
    Directly,
    /// Through [`forward`].
    Forwarded,
}

/// One run of a scenario, and what it saw.
pub(crate) struct World {
    how: How,
    seen: String,
    /// A directory of its own.
    pub(crate) directory: tempfile::TempDir,
}

/// Runs a scenario both ways: it must see the same.
pub(crate) fn compare(scenario: fn(&mut World)) {
    // Scenarios use descriptors after closing them, which must not be another's by then.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let run = |how| {
        let directory = tempfile::tempdir().expect("a directory");
        let mut world = World { how, seen: String::new(), directory };
        scenario(&mut world);
        world.seen
    };
    assert_eq!(run(How::Forwarded), run(How::Directly));
}

impl World {
    /// Makes a call and notes its result.
    pub(crate) fn call(&mut self, name: &str, args: &[u64]) -> i64 {
        let ret = self.quiet(name, args);
        let _ = writeln!(self.seen, "{name}: {ret}");
        ret
    }

    /// Makes a call that answers a descriptor or id, of which only success is noted.
    pub(crate) fn open(&mut self, name: &str, args: &[u64]) -> u64 {
        let ret = self.quiet(name, args);
        let _ = writeln!(self.seen, "{name}: {}", ret.min(0));
        ret as u64
    }

    /// Makes a call and notes nothing.
    pub(crate) fn quiet(&mut self, name: &str, args: &[u64]) -> i64 {
        let row = syscalls::rows().find(|row| row.name == name).expect(name);
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        match self.how {
            How::Directly => execute(row.nr, all),
            How::Forwarded => forwarded(row, all),
        }
    }

    /// Notes what a call left in a buffer.
    pub(crate) fn note(&mut self, what: &str, value: impl std::fmt::Debug) {
        let _ = writeln!(self.seen, "  {what}: {value:?}");
    }

    /// A path in the world's directory, with its NUL.
    pub(crate) fn path(&self, name: &str) -> Vec<u8> {
        format!("{}/{name}\0", self.directory.path().display()).into_bytes()
    }
}

/// An address as an argument, for the kernel to read.
pub(crate) fn at<T>(buffer: &[T]) -> u64 {
    buffer.as_ptr() as u64
}

/// An address as an argument, for the kernel to write.
pub(crate) fn to<T>(buffer: &mut [T]) -> u64 {
    buffer.as_mut_ptr() as u64
}

/// Why a call with bad arguments may go home, where it runs as it is; all others travel.
const LEFT_TO_HOME: [&str; 2] =
    ["its memory ends within an argument", "a length of it is negative or very large"];

fn forwarded(row: &syscalls::Row, args: [u64; 6]) -> i64 {
    let mut done = 0;
    loop {
        let (call, landing) = match gather_from(row, args, &Own, done) {
            Gathered::Call { call, landing } => (call, landing),
            Gathered::GoHome(why) if LEFT_TO_HOME.contains(&why) => {
                return if done > 0 { done as i64 } else { execute(row.nr, args) };
            }
            Gathered::GoHome(why) => panic!("{} goes home: {why}", row.name),
        };
        call.validate().expect("a valid call");
        let ret = stub(&call, &landing);
        if ret < 0 {
            return if done > 0 { done as i64 } else { ret };
        }
        let Some(chunk) = landing.chunk() else { return done as i64 + ret };
        done += ret as u64;
        // A regular file, or something that takes all it is sent.
        assert!(chunk.go_on == GoOn::Always || execute(8, [args[0], 0, 1, 0, 0, 0]) >= 0);
        if (ret as u64) < chunk.asked {
            return done as i64;
        }
    }
}

#[repr(align(4096))]
#[derive(Clone)]
struct Page(#[expect(dead_code, reason = "only its address matters")] [u8; 4096]);

/// What the deputy does.
fn stub(call: &Call, landing: &Landing) -> i64 {
    // Old bytes in it, as after many calls.
    let mut pages = vec![Page([0xa5; 4096]); AREA_BYTES_MAX as usize / 4096];
    // SAFETY: the vector lives until the end of this function, any byte is valid, and only this slice uses it.
    let area =
        unsafe { std::slice::from_raw_parts_mut(pages.as_mut_ptr().cast::<u8>(), AREA_BYTES_MAX as usize) };
    let base = area.as_ptr() as u64;
    area[..call.input.len()].copy_from_slice(&call.input);
    for &at in &call.relocations {
        let word = &mut area[at as usize..at as usize + 8];
        let offset = u64::from_le_bytes(word.try_into().expect("8 bytes"));
        word.copy_from_slice(&(base + offset).to_le_bytes());
    }
    let mut args = call.args;
    for (index, arg) in args.iter_mut().enumerate() {
        if call.pointers & (1 << index) != 0 {
            *arg += base;
        }
    }
    let ret = execute(call.nr, args);
    let used = call.area_len as usize;
    assert!(area[used..].iter().all(|&byte| byte == 0xa5), "call {} wrote behind its area", call.nr);
    landing.land(ret, &call.collect(ret, &area[..used]), &Own)
}

fn execute(nr: u32, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the scenarios pass buffers that live longer than the call and are as long as they say, or addresses that
    // are meant to be refused; none of their calls changes the memory map or the flow of control.
    let ret = unsafe { libc::syscall(i64::from(nr), a, b, c, d, e, f) };
    if ret == -1 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { ret }
}

/// This process's own memory, reached as that of another: bad addresses are errors.
struct Own;

/// `process_vm_readv` or `process_vm_writev`.
// SAFETY: whoever calls one gives arrays that hold as many elements as it says.
type Transfer = unsafe extern "C" fn(
    libc::pid_t,
    *const libc::iovec,
    libc::c_ulong,
    *const libc::iovec,
    libc::c_ulong,
    libc::c_ulong,
) -> libc::ssize_t;

impl Own {
    fn reach(transfer: Transfer, address: u64, bytes: *mut u8, len: usize) -> Result<(), Fault> {
        let mut done = 0;
        // Page by page: the kernel tells how far it got only by whole segments.
        while done < len {
            let from = address.checked_add(done as u64).ok_or(Fault { done })?;
            let now = (len - done).min(4096 - (from % 4096) as usize);
            let local = libc::iovec { iov_base: bytes.wrapping_add(done).cast(), iov_len: now };
            let remote = libc::iovec { iov_base: from as *mut _, iov_len: now };
            // SAFETY: `local` lies in the caller's buffer of `len` bytes; the kernel checks `remote`, which is a
            // buffer of a scenario that nobody holds a reference to during the call.
            let moved = unsafe { transfer(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
            if moved != now as isize {
                return Err(Fault { done });
            }
            done += now;
        }
        Ok(())
    }
}

impl Memory for Own {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Fault> {
        Own::reach(libc::process_vm_readv, address, into.as_mut_ptr(), into.len())
    }

    fn read_string(&self, address: u64, max: usize) -> Result<Vec<u8>, StringFault> {
        let mut text = Vec::new();
        while text.len() < max {
            let mut byte = [0];
            self.read(address + text.len() as u64, &mut byte).map_err(|_| StringFault::Fault)?;
            match byte {
                [0] => return Ok(text),
                [byte] => text.push(byte),
            }
        }
        Err(StringFault::TooLong)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        Own::reach(libc::process_vm_writev, address, bytes.as_ptr().cast_mut(), bytes.len())
    }
}
