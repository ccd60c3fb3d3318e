//! A process as its line in `/proc` shows it.

use model::ProcessId;
use std::fs;

/// Kernel threads have this bit in their flags (`include/linux/sched.h`, `PF_KTHREAD`).
const PF_KTHREAD: u64 = 0x0020_0000;

/// What `/proc/PID/stat` and `/proc/PID/status` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name for ever.
    pub id: ProcessId,
    /// Its command name.
    pub name: String,
    /// `R`, `S`, `D`, `T`, `t`, `Z`, `X`, ...
    pub state: char,
    /// It is a thread of the kernel.
    pub kernel_thread: bool,
    /// Real, effective, saved and file-system user id.
    pub uids: [u32; 4],
    /// Threads.
    pub threads: u32,
    /// Resident memory, bytes.
    pub memory_bytes: u64,
    /// CPU time used, milliseconds.
    pub cpu_ms: u64,
}

/// Whether this very process is there, and be it for its parent to collect.
pub(crate) fn lives(process: ProcessId) -> bool {
    procinfo::stat(process.pid).is_ok_and(|stat| stat.start_ticks == process.start_ticks)
}

impl Process {
    /// Reads a process; `None` where no process (or only a thread of one) has this pid.
    pub fn read(pid: i32) -> Option<Process> {
        if pid <= 0 {
            return None;
        }
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read(format!("/proc/{pid}/status")).ok()?;
        let process = parse(&String::from_utf8_lossy(&stat), &String::from_utf8_lossy(&status))?;
        // Every thread has a directory, but only a leader is a process.
        (process.id.pid == pid).then_some(process)
    }

    /// Whether a user may do with it what he likes: root, or the one whose ids it has in every respect.
    pub fn belongs_to(&self, uid: u32) -> bool {
        uid == 0 || self.uids.iter().take(3).all(|own| *own == uid)
    }

    /// It is no more, or no more than something for its parent to collect; a process that got its pid is another one.
    pub fn has_ended(&self) -> bool {
        !Process::read(self.id.pid).is_some_and(|now| now.id == self.id && !matches!(now.state, 'Z' | 'X'))
    }

    /// It runs the program that this process runs, whatever its path is now.
    pub fn is_our_program(&self) -> bool {
        procinfo::runs_our_program(self.id.pid)
    }
}

fn parse(stat: &str, status: &str) -> Option<Process> {
    // The name may hold anything, also spaces and parentheses: it ends at the last one.
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    // `fields[0]` is field 3 of proc_pid_stat(5).
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    let mut uids = line("Uid:")?.split_whitespace().map(str::parse::<u32>);
    let mut uid = || uids.next()?.ok();
    let kilobytes = line("VmRSS:").and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .map_or(100, |ticks| ticks.max(1) as u64);
    Some(Process {
        id: ProcessId { pid: line("Tgid:")?.trim().parse().ok()?, start_ticks: number(22)? },
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        kernel_thread: number(9)? & PF_KTHREAD != 0,
        uids: [uid()?, uid()?, uid()?, uid()?],
        threads: number(20)? as u32,
        memory_bytes: kilobytes.unwrap_or(0) * 1024,
        cpu_ms: (number(14)? + number(15)?) * 1000 / ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_do_not_confuse() {
        let stat = "42 (a) b (c) R 1 42 42 0 -1 4194304 1 2 3 4 250 50 0 0 20 0 7 0 9876 1 2";
        let status = "Name:\ta) b (c\nTgid:\t42\nUid:\t1000\t1000\t0\t1000\nVmRSS:\t    12 kB\n";
        let process = parse(stat, status).unwrap();
        assert_eq!(process.name, "a) b (c");
        assert_eq!((process.id.pid, process.id.start_ticks, process.threads), (42, 9876, 7));
        assert_eq!((process.memory_bytes, process.state), (12 << 10, 'R'));
        assert!(!process.belongs_to(1000), "its saved id is root's");
        assert!(process.belongs_to(0));
    }

    #[test]
    fn this_process_reads_itself() {
        let own = Process::read(std::process::id() as i32).unwrap();
        assert!(!own.has_ended() && own.is_our_program() && !own.kernel_thread);
        assert_eq!(own.uids[1], rustix::process::geteuid().as_raw());
        assert_eq!(Process::read(0), None);
        assert_eq!(Process::read(-1), None);
        assert_eq!(Process::read(i32::MAX), None);
    }
}
