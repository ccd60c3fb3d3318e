//! Tells at once when memory runs short: who waits for the next second finds the node without memory.
//!
//! ```text
//! the kernel's trigger (PSI) ─────────┐
//! headroom: five looks each second ───┴──► Warning
//! ```
//! The trigger tells that processes already wait. With a limit and nothing to swap to they hardly ever do: a process grows
//! within a moment from enough to nothing. So the node also looks how much is left and how fast that goes.

use super::headroom::Headroom;
use super::memory::MemoryLimits;
use super::pressure::PressureSource;
use super::view::View;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two looks. One takes some tens of microseconds: about 0.03 % of a CPU, all in all.
const EVERY: Duration = Duration::from_millis(200);
/// Looks after which limits and sources are looked for again: administrators change them.
const PROBED_FOR: u32 = 150;
/// What the kernel tells of: 150 ms within a second in which everybody waited for memory. The second form is for kernels
/// that grant others than root whole windows of two seconds only (`Documentation/accounting/psi.rst`).
const TRIGGERS: [&str; 2] = ["full 150000 1000000\0", "full 300000 2000000\0"];
/// The share of time that these stand for, thousandths.
pub(crate) const STALLED: u16 = 150;

/// What there is to be warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warning {
    /// Everybody waits for memory, for [`STALLED`] of the time at least.
    Stalled,
    /// Less is left than should be.
    Short,
}

/// Watches the memory of the node that this process is in.
#[derive(Debug)]
pub(crate) struct Alarm {
    view: View,
    limits: MemoryLimits,
    trigger: Option<Trigger>,
    headroom: Headroom,
    looks: u32,
}

impl Alarm {
    /// Finds what there is to watch.
    pub(crate) fn probe() -> io::Result<Alarm> {
        let (view, limits) = (View::own(), MemoryLimits::probe());
        let trigger = trigger(view, &limits)?;
        Ok(Alarm { view, limits, trigger, headroom: Headroom::default(), looks: 0 })
    }

    /// Waits for a fifth of a second, or until there is something to be warned of.
    pub(crate) fn wait(&mut self) -> io::Result<Option<Warning>> {
        match &self.trigger {
            None => std::thread::sleep(EVERY),
            Some(trigger) => match trigger.wait(EVERY) {
                Ok(false) => {}
                Ok(true) => {
                    self.look()?;
                    return Ok(Some(Warning::Stalled));
                }
                // Its group is gone.
                Err(_) => self.trigger = None,
            },
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(PROBED_FOR) {
            self.limits = MemoryLimits::probe();
            // One that is there goes on: to ask for it again makes the kernel count anew.
            if self.trigger.is_none() {
                self.trigger = trigger(self.view, &self.limits)?;
            }
        }
        Ok(self.look()?.then_some(Warning::Short))
    }

    /// What should be free now, bytes.
    pub(crate) fn reserve(&self) -> u64 {
        self.headroom.reserve()
    }

    fn look(&mut self) -> io::Result<bool> {
        let machine = procinfo::memory_info()?;
        Ok(self.headroom.look(Instant::now(), self.limits.measure(&machine)))
    }
}

/// The trigger of what tells the pressure, where the kernel gives one.
fn trigger(view: View, limits: &MemoryLimits) -> io::Result<Option<Trigger>> {
    Ok(match PressureSource::probe(view, limits, &procinfo::memory_info()?) {
        PressureSource::Told(file) => {
            TRIGGERS.iter().find_map(|condition| Trigger::set(&file, condition).ok())
        }
        PressureSource::SwapActivity { .. } | PressureSource::Waiting => None,
    })
}

/// A condition that the kernel watches, until this is dropped.
#[derive(Debug)]
struct Trigger(File);

impl Trigger {
    fn set(file: &Path, condition: &str) -> io::Result<Trigger> {
        let mut file = OpenOptions::new().read(true).write(true).open(file)?;
        file.write_all(condition.as_bytes())?;
        Ok(Trigger(file))
    }

    /// Waits until it holds, or for so long. An error: it will never hold again.
    fn wait(&self, patience: Duration) -> io::Result<bool> {
        let mut files = [PollFd::new(&self.0, PollFlags::PRI)];
        let patience = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        match poll(&mut files, Some(&patience)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let found = files[0].revents();
        if found.contains(PollFlags::ERR) {
            return Err(io::Error::other("its control group is gone"));
        }
        Ok(found.contains(PollFlags::PRI))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// With the kernel's pressure on CPUs, which everybody can make; that on memory is told in the same way.
    #[test]
    fn a_trigger_tells_when_it_holds() {
        let file = Path::new("/proc/pressure/cpu");
        let conditions = TRIGGERS.map(|condition| condition.replace("full", "some"));
        let Some(trigger) = conditions.iter().find_map(|condition| Trigger::set(file, condition).ok()) else {
            return println!("skipped: {} takes no trigger", file.display());
        };
        let done = Arc::new(AtomicBool::new(false));
        let count = 2 * std::thread::available_parallelism().unwrap().get();
        let busy = |_| {
            let done = done.clone();
            std::thread::spawn(move || while !done.load(Ordering::Relaxed) {})
        };
        let threads: Vec<_> = (0..count).map(busy).collect();
        let began = Instant::now();
        let mut told = false;
        while !told && began.elapsed() < Duration::from_secs(20) {
            told = trigger.wait(EVERY).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(told, "twice as many threads as CPUs, and nobody waits");
    }

    #[test]
    fn what_is_no_trigger_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Trigger::set(&directory.path().join("memory.pressure"), TRIGGERS[0]).is_err());
        // An ordinary file has nothing to tell.
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let trigger = Trigger::set(&file, TRIGGERS[0]).unwrap();
        assert!(!trigger.wait(Duration::from_millis(1)).unwrap());
    }

    /// A group whose use approaches its limit, by files like the kernel's.
    #[test]
    fn a_group_near_its_limit_is_short() {
        let directory = tempfile::tempdir().unwrap();
        let level = directory.path();
        let write = |name: &str, number: u64| std::fs::write(level.join(name), number.to_string()).unwrap();
        for (limit, used) in
            [("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")]
        {
            write(limit, 4 << 20);
            write(used, 1 << 20);
            let mut alarm = Alarm {
                view: View::Part,
                limits: MemoryLimits::at(level),
                trigger: None,
                headroom: Headroom::default(),
                looks: 0,
            };
            assert_eq!(alarm.wait().unwrap(), None, "{used}");
            write(used, (4 << 20) - 1000);
            assert_eq!(alarm.wait().unwrap(), Some(Warning::Short), "{used}");
            assert!(alarm.reserve() >= (4 << 20) / 20);
            std::fs::remove_file(level.join(limit)).unwrap();
        }
    }

    /// Five looks each second must cost far less than half a hundredth of a CPU.
    #[test]
    fn looks_are_cheap() {
        let mut alarm = Alarm::probe().unwrap();
        let spent = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        };
        let before = spent();
        (0..200).for_each(|_| _ = alarm.look().unwrap());
        let each = (spent() - before) / 200;
        println!("a look takes {each:?}");
        assert!(each < EVERY / 1000, "a look takes {each:?}");
    }
}
