//! New processes and new programs, as they appear: who decides where a program is to run must hear of it at once.
//!
//! Where the kernel tells (`kernel::proc_events`), it is listened to. Elsewhere, as in a lab or a container, the node looks
//! itself, ten times a second while anything begins and twice while nothing does. Such a look reads one number, the pid
//! that was given away last; only when it has changed the processes are listed.

use kernel::proc_events::{ProcEvent, ProcEvents};
use model::limits::PROCESSES_MEASURED_MAX;
use procinfo::Walk;
use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

/// Between two looks while processes begin.
const BUSY: Duration = Duration::from_millis(100);
/// Between two looks while none does.
const IDLE: Duration = Duration::from_millis(500);
/// Looks at which it is asked whether a new process has become another program; after that it is one that forked only.
const LOOKS_AT_YOUNG: u32 = 20;
/// Young processes that are asked; the rest of a crowd is told of once.
const YOUNG_MAX: usize = 1024;
/// How long the kernel's silence is waited for, so that whoever listens can end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How somebody came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Birth {
    /// As a copy of its parent.
    Forked,
    /// By becoming another program: the moment in which it is smallest.
    Program,
}

/// A process that is new, or runs a new program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// How it came.
    pub birth: Birth,
    /// Its pid.
    pub pid: i32,
    /// Its start time: with the pid its name for ever.
    pub start_ticks: u64,
    /// The file that it runs; none where that is gone or a secret.
    pub executable: Option<String>,
    /// Its parent.
    pub parent: i32,
}

impl Newcomer {
    /// Who has this pid now; none where it is gone already, or is a thread of the kernel.
    fn look(walk: &Walk, pid: i32, birth: Birth) -> Option<Newcomer> {
        let glance =
            walk.glance(pid).ok().filter(|glance| !glance.is_kernel_thread() && glance.state != b'Z')?;
        Some(Newcomer {
            birth,
            pid,
            start_ticks: glance.start_ticks,
            executable: executable(pid),
            parent: glance.parent,
        })
    }
}

fn executable(pid: i32) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
}

/// Tells of everybody who comes until that is enough. One that lives very shortly may be missed.
pub fn watch(tell: &mut dyn FnMut(&Newcomer) -> ControlFlow<()>) -> io::Result<()> {
    match ProcEvents::listen() {
        Ok(events) => {
            tracing::debug!("the kernel tells of new processes");
            listen(&events, tell)
        }
        Err(error) => {
            tracing::debug!(%error, "the kernel does not tell of new processes: this node looks itself");
            look_again_and_again(tell)
        }
    }
}

fn listen(events: &ProcEvents, tell: &mut dyn FnMut(&Newcomer) -> ControlFlow<()>) -> io::Result<()> {
    events.set_patience(PATIENCE)?;
    let walk = Walk::open()?;
    // For what is lost when too much happens at once.
    let mut census = Census::new(&walk)?;
    loop {
        let newcomers = match events.next() {
            Ok(Some(ProcEvent::Forked { pid })) => Vec::from_iter(Newcomer::look(&walk, pid, Birth::Forked)),
            Ok(Some(ProcEvent::Executed { pid })) => {
                Vec::from_iter(Newcomer::look(&walk, pid, Birth::Program))
            }
            Ok(_) => Vec::new(),
            Err(kernel::Errno::ENOBUFS) => census.step(&walk)?,
            Err(error) => return Err(error.into()),
        };
        if newcomers.iter().try_for_each(&mut *tell).is_break() {
            return Ok(());
        }
    }
}

fn look_again_and_again(tell: &mut dyn FnMut(&Newcomer) -> ControlFlow<()>) -> io::Result<()> {
    let walk = Walk::open()?;
    let mut census = Census::new(&walk)?;
    loop {
        std::thread::sleep(if census.is_busy() { BUSY } else { IDLE });
        if census.step(&walk)?.iter().try_for_each(&mut *tell).is_break() {
            return Ok(());
        }
    }
}

/// Who is there, and who of them has just come.
#[derive(Debug)]
struct Census {
    last_pid: i32,
    there: HashSet<i32>,
    young: HashMap<i32, Young>,
}

/// A process that may become another program soon.
#[derive(Debug)]
struct Young {
    start_ticks: u64,
    executable: Option<String>,
    looks: u32,
}

impl Census {
    /// Everybody who is there now is no newcomer.
    fn new(walk: &Walk) -> io::Result<Census> {
        // In this order: who comes in between is listed again.
        let last_pid = walk.last_pid()?;
        let there = walk.pids(PROCESSES_MEASURED_MAX)?.into_iter().collect();
        Ok(Census { last_pid, there, young: HashMap::new() })
    }

    fn is_busy(&self) -> bool {
        !self.young.is_empty()
    }

    /// Who has come since the last look, and who has become another program.
    fn step(&mut self, walk: &Walk) -> io::Result<Vec<Newcomer>> {
        let mut newcomers = self.grown(walk);
        let last_pid = walk.last_pid()?;
        if last_pid == self.last_pid {
            return Ok(newcomers);
        }
        self.last_pid = last_pid;
        let now: HashSet<i32> = walk.pids(PROCESSES_MEASURED_MAX)?.into_iter().collect();
        for &pid in now.difference(&self.there) {
            let Some(mut newcomer) = Newcomer::look(walk, pid, Birth::Forked) else { continue };
            if newcomer.executable != executable(newcomer.parent) {
                newcomer.birth = Birth::Program;
            }
            if self.young.len() < YOUNG_MAX {
                let (start_ticks, executable) = (newcomer.start_ticks, newcomer.executable.clone());
                self.young.insert(pid, Young { start_ticks, executable, looks: 0 });
            }
            newcomers.push(newcomer);
        }
        self.there = now;
        Ok(newcomers)
    }

    /// Young processes that have become another program. Who is not young any more, or gone, is forgotten.
    fn grown(&mut self, walk: &Walk) -> Vec<Newcomer> {
        let mut grown = Vec::new();
        self.young.retain(|pid, young| {
            young.looks += 1;
            let now = Newcomer::look(walk, *pid, Birth::Program);
            let Some(now) = now.filter(|now| now.start_ticks == young.start_ticks) else { return false };
            if now.executable != young.executable {
                young.executable.clone_from(&now.executable);
                grown.push(now);
            }
            young.looks < LOOKS_AT_YOUNG
        });
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    fn start(line: &str) -> Child {
        Command::new("sh").args(["-c", line]).stdin(Stdio::piped()).spawn().unwrap()
    }

    fn end(mut child: Child) {
        let _ = child.kill();
        let _ = child.wait();
    }

    fn runs(newcomer: &Newcomer, program: &str) -> bool {
        let path = newcomer.executable.as_deref().unwrap_or_default();
        std::fs::canonicalize(path).is_ok_and(|path| path == std::fs::canonicalize(program).unwrap())
    }

    #[test]
    fn a_census_finds_programs_and_what_they_become() {
        let walk = Walk::open().unwrap();
        let mut census = Census::new(&walk).unwrap();
        let mut child = start("read line; exec sleep 1000");
        let pid = child.id() as i32;
        let found = |newcomers: Vec<Newcomer>| newcomers.into_iter().find(|newcomer| newcomer.pid == pid);
        let newcomer = found(census.step(&walk).unwrap()).unwrap();
        assert!(newcomer.birth == Birth::Program && runs(&newcomer, "/bin/sh"), "{newcomer:?}");
        assert_eq!(newcomer.parent, std::process::id() as i32);
        assert!(census.is_busy() && found(census.step(&walk).unwrap()).is_none());
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let sleeper = loop {
            assert!(Instant::now() < deadline);
            // Fewer looks than make it old.
            std::thread::sleep(Duration::from_millis(600));
            if let Some(newcomer) = found(census.step(&walk).unwrap()) {
                break newcomer;
            }
        };
        assert!(runs(&sleeper, "/bin/sleep") && sleeper.start_ticks == newcomer.start_ticks, "{sleeper:?}");
        (0..LOOKS_AT_YOUNG).for_each(|_| drop(census.step(&walk).unwrap()));
        assert!(!census.young.contains_key(&pid));
        end(child);
        assert!(found(census.step(&walk).unwrap()).is_none());
    }

    #[test]
    fn whoever_comes_is_told_of() {
        let child = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(700));
            start("exec sleep 1000")
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let own = std::process::id() as i32;
        let outcome = watch(&mut |newcomer| {
            assert!(Instant::now() < deadline);
            let ours = newcomer.parent == own && newcomer.birth == Birth::Program;
            if ours && runs(newcomer, "/bin/sleep") {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        outcome.unwrap();
        end(child.join().unwrap());
    }
}
