//! Every reason why a process of this node cannot move now, as far as can be seen without stopping it.

use crate::own_files;
use crate::sharers::Look;
use model::limits::{THREADS_MAX, VMAS_MAX};
use model::{Reason, ReasonCode};
use procinfo::{Mapping, Status};
use std::collections::BTreeMap;
use std::fs::{self, File};

const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_DEADLINE: u32 = 6;

/// Mapping flags of the kernel that confine a process, with their reasons.
const CONFINING_FLAGS: [(&str, ReasonCode); 8] = [
    ("io", ReasonCode::DeviceMapping),
    ("pf", ReasonCode::DeviceMapping),
    ("mm", ReasonCode::DeviceMapping),
    ("ht", ReasonCode::HugePages),
    ("um", ReasonCode::Userfaultfd),
    ("uw", ReasonCode::Userfaultfd),
    ("sl", ReasonCode::SealedMemory),
    ("lo", ReasonCode::LockedMemory),
];

/// Descriptors that confine a process, by what their links in `/proc/PID/fd` begin with.
const CONFINING_LINKS: [(&str, ReasonCode); 6] = [
    ("anon_inode:[io_uring]", ReasonCode::IoUring),
    ("anon_inode:[userfaultfd]", ReasonCode::Userfaultfd),
    ("anon_inode:[signalfd]", ReasonCode::Signalfd),
    ("anon_inode:[perf_event]", ReasonCode::DeviceMapping),
    ("/dev/kvm", ReasonCode::DeviceMapping),
    // Shared memory that was opened by its link in `/proc/PID/map_files`.
    ("/dev/zero (deleted)", ReasonCode::SharedMemory),
];

/// Reasons of one kind that are told one by one; of more, only their number is.
const ALIKE_MAX: usize = 3;

/// The reasons found so far. A program may lock a hundred thousand mappings, and a refusal is one line.
#[derive(Debug, Default)]
struct Found {
    told: Vec<Reason>,
    more: BTreeMap<ReasonCode, usize>,
}

impl Found {
    fn push(&mut self, reason: impl Into<Reason>) {
        let reason = reason.into();
        if self.told.iter().filter(|other| other.code == reason.code).count() < ALIKE_MAX {
            self.told.push(reason);
        } else {
            *self.more.entry(reason.code).or_default() += 1;
        }
    }

    fn extend(&mut self, reasons: impl IntoIterator<Item = Reason>) {
        reasons.into_iter().for_each(|reason| self.push(reason));
    }

    fn all(mut self) -> Vec<Reason> {
        let counts =
            self.more.into_iter().map(|(code, count)| Reason::new(code, format!("and {count} more")));
        self.told.extend(counts);
        self.told
    }
}

/// All reasons against moving `pid`; empty if it can move.
pub fn constraints(pid: i32) -> Vec<Reason> {
    let mut reasons = Found::default();
    let (Ok(stat), Ok(status)) = (procinfo::stat(pid), procinfo::status(pid)) else {
        return vec![ReasonCode::NoSuchProcess.into()];
    };
    if stat.is_kernel_thread() {
        return vec![ReasonCode::KernelThread.into()];
    }
    if stat.state == b'Z' || stat.state == b'X' {
        return vec![ReasonCode::Zombie.into()];
    }
    if pid == 1 {
        reasons.push(ReasonCode::Init);
    }
    from_status(&status, &mut reasons);
    from_threads(pid, &mut reasons);
    from_executable(pid, &mut reasons);
    from_mappings(pid, &mut reasons);
    from_descriptors(pid, &mut reasons);
    from_timers(pid, &mut reasons);
    from_relatives(pid, stat.parent, &mut reasons);
    reasons.all()
}

fn from_status(status: &Status, reasons: &mut Found) {
    if status.tracer != 0 {
        reasons.push(Reason::new(ReasonCode::Traced, format!("by process {}", status.tracer)));
    }
    if status.seccomp != 0 {
        reasons.push(ReasonCode::Seccomp);
    }
    if status.ns_pids.len() > 1 {
        reasons.push(Reason::new(ReasonCode::Namespaces, "its pid namespace"));
    }
}

fn from_threads(pid: i32, reasons: &mut Found) {
    let tids = procinfo::threads(pid).unwrap_or_default();
    if tids.len() > THREADS_MAX {
        reasons.push(Reason::new(ReasonCode::TooLarge, format!("{} threads", tids.len())));
    }
    for tid in tids {
        let Ok(stat) = procinfo::thread_stat(pid, tid) else { continue };
        if [SCHED_FIFO, SCHED_RR, SCHED_DEADLINE].contains(&stat.policy) {
            reasons.push(Reason::new(ReasonCode::RealTime, format!("thread {tid}")));
        }
    }
}

/// The class byte of the executable tells 32-bit programs; a 64-bit one that switches modes is caught at the freeze.
fn from_executable(pid: i32, reasons: &mut Found) {
    use std::io::Read;
    let mut header = [0; 20];
    let read = File::open(format!("/proc/{pid}/exe")).and_then(|mut file| file.read_exact(&mut header));
    let (class, machine) = (header[4], u16::from_le_bytes([header[18], header[19]]));
    const CLASS_64: u8 = 2;
    const MACHINE_X86_64: u16 = 62;
    if read.is_ok() && (class != CLASS_64 || machine != MACHINE_X86_64) {
        reasons.push(ReasonCode::Architecture);
    }
}

fn from_mappings(pid: i32, reasons: &mut Found) {
    let Ok(mappings) = procinfo::mappings_with_flags(pid) else { return };
    let mut count = 0;
    // A process may have a hundred thousand of nothing but memory of its own: of those none is kept.
    let mut of_something = Vec::new();
    for mapping in mappings {
        let Ok(mapping) = mapping else { return };
        count += 1;
        reasons.extend(from_mapping(&mapping).filter(|_| !mapping.is_special()));
        if mapping.inode != 0 {
            of_something.push(mapping);
        }
    }
    if count > VMAS_MAX {
        reasons.push(Reason::new(ReasonCode::TooLarge, format!("{count} mappings")));
    }
    let own = own_files::find(pid, &of_something).unwrap_or_else(|refused| {
        reasons.extend(refused);
        Vec::new()
    });
    reasons.extend(Look::default().reasons(pid, &of_something, &own));
}

fn from_mapping(mapping: &Mapping) -> Option<Reason> {
    let place = || format!("{} {}", mapping.file_name(), mapping.path).trim_end().to_owned();
    if let Some((_, code)) = CONFINING_FLAGS.iter().find(|(flag, _)| mapping.has(flag)) {
        return Some(Reason::new(*code, place()));
    }
    if mapping.path.starts_with("/anon_hugepage") {
        return Some(Reason::new(ReasonCode::HugePages, place()));
    }
    if mapping.path.starts_with("/[aio]") {
        return Some(Reason::new(ReasonCode::Aio, place()));
    }
    if mapping.path.starts_with("anon_inode:[io_uring]") {
        return Some(Reason::new(ReasonCode::IoUring, place()));
    }
    if mapping.path.starts_with("/secretmem") {
        return Some(Reason::new(ReasonCode::SecretMemory, place()));
    }
    // What is shared, and with whom, is looked for once for all of them.
    None
}

fn from_descriptors(pid: i32, reasons: &mut Found) {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return };
    for entry in entries.flatten() {
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy();
        if let Some((_, code)) = CONFINING_LINKS.iter().find(|(start, _)| link.starts_with(start)) {
            let number = entry.file_name();
            reasons.push(Reason::new(*code, format!("descriptor {}", number.to_string_lossy())));
        }
    }
}

fn from_timers(pid: i32, reasons: &mut Found) {
    let Ok(timers) = fs::read_to_string(format!("/proc/{pid}/timers")) else { return };
    let mut id = "";
    for line in timers.lines() {
        if let Some(number) = line.strip_prefix("ID: ") {
            id = number;
        } else if line.strip_prefix("notify: ").is_some_and(|notify| notify.contains("tid")) {
            reasons.push(Reason::new(ReasonCode::PosixTimer, format!("timer {id}")));
        } else if line
            .strip_prefix("ClockID: ")
            .is_some_and(|clock| clock.starts_with('-') || clock == "2" || clock == "3")
        {
            reasons.push(Reason::new(ReasonCode::CpuTimer, format!("timer {id}")));
        }
    }
}

/// A child of vfork runs on its parent's memory, and the parent waits for it: neither can move alone.
fn from_relatives(pid: i32, parent: i32, reasons: &mut Found) {
    let shares = |other: i32| kernel::process::share_memory(pid, other).unwrap_or(false);
    if parent > 0 && shares(parent) {
        reasons.push(Reason::new(ReasonCode::SharesMemoryMap, format!("process {parent}")));
    }
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        if shares(child) {
            reasons.push(Reason::new(ReasonCode::SharesMemoryMap, format!("process {child}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_reasons_of_one_kind_are_counted() {
        let mut found = Found::default();
        found.extend((0..10_000).map(|number| Reason::new(ReasonCode::SharedMapping, number.to_string())));
        found.push(ReasonCode::Traced);
        let told = found.all();
        let words: Vec<&str> = told.iter().map(|reason| reason.detail.as_str()).collect();
        assert_eq!(words, ["0", "1", "2", "", "and 9997 more"]);
        assert_eq!(told[3].code, ReasonCode::Traced);
    }

    #[test]
    fn what_is_no_program_has_one_reason() {
        assert_eq!(constraints(i32::MAX), [ReasonCode::NoSuchProcess.into()]);
        let threads = |pid: &i32| procinfo::stat(*pid).is_ok_and(|stat| stat.is_kernel_thread());
        // In a pid namespace of its own a machine shows none.
        if let Some(pid) = (2..1000).find(threads) {
            assert_eq!(constraints(pid), [ReasonCode::KernelThread.into()]);
        }
    }
}
