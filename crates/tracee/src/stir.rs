//! A stopped process that works for its tracer.
//!
//! A process that `SIGSTOP` or a terminal has stopped does nothing. A tracer may let its threads run all the same: for the
//! kernel, its parent and its shell it is stopped meanwhile, and it stands again where it is when it is let go, unless
//! `SIGCONT` came first. So a deputy finishes what it is doing for a remote that is to leave its host.

use crate::error::{Error, Result};
use crate::stop::{self, By};
use kernel::Errno;
use kernel::ptrace::{self, Wait};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread may take to stand again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at what the threads stand for.
const LOOK: Duration = Duration::from_micros(500);

/// A stopped process whose threads run; dropped, it stands again.
#[derive(Debug)]
pub struct Stirred {
    is_over: Arc<AtomicBool>,
    tracer: Option<JoinHandle<By>>,
}

impl Stirred {
    /// Lets the threads of a process run that is stopped.
    ///
    /// Fails if somebody else traces it.
    pub fn begin(pid: i32) -> Result<Stirred> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let (sender, begun) = std::sync::mpsc::sync_channel(1);
        // Who traces a thread is an OS thread, and has to stay.
        let trace = move || {
            let mut threads = Threads { pid, seized: BTreeSet::new() };
            let seized = threads.seize();
            let failed = seized.is_err();
            let _ = sender.send(seized);
            while !failed && !over.load(Ordering::Acquire) {
                threads.let_run();
                std::thread::sleep(LOOK);
                let _ = threads.seize();
            }
            threads.let_go()
        };
        let tracer = std::thread::Builder::new().name("stir".into()).spawn(trace);
        let tracer = tracer.map_err(Error::io("starting a thread", pid))?;
        let stirred = Stirred { is_over, tracer: Some(tracer) };
        begun.recv().map_err(|_| Error::Gone(pid))??;
        Ok(stirred)
    }

    /// The process stands again; tells whether it is stopped still.
    pub fn end(mut self) -> bool {
        self.finish() == Some(By::Signal)
    }

    fn finish(&mut self) -> Option<By> {
        self.is_over.store(true, Ordering::Release);
        self.tracer.take()?.join().ok()
    }
}

impl Drop for Stirred {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Threads {
    pid: i32,
    seized: BTreeSet<i32>,
}

impl Threads {
    /// Takes hold of threads that it does not have yet: a process may make some while it works.
    fn seize(&mut self) -> Result<()> {
        for tid in procinfo::threads(self.pid).map_err(|_| Error::Gone(self.pid))? {
            if self.seized.contains(&tid) {
                continue;
            }
            match ptrace::seize(tid, 0) {
                Ok(()) => {
                    self.seized.insert(tid);
                }
                Err(Errno::ESRCH) => {}
                Err(errno) => return Err(Error::Kernel { what: "seizing a thread", pid: tid, errno }),
            }
        }
        Ok(())
    }

    /// Whatever they stand for: they go on.
    fn let_run(&mut self) {
        self.seized.retain(|&tid| {
            while let Ok(Some((_, wait))) = ptrace::wait(tid, false) {
                let signal = match wait {
                    Wait::Exited(_) | Wait::Killed(..) => return false,
                    Wait::Signal(signal) => signal,
                    Wait::Event | Wait::GroupStop(_) | Wait::Other(_) => 0,
                };
                let _ = ptrace::resume(tid, signal);
            }
            true
        });
    }

    /// Lets go of them; tells what the first one stood by in the end.
    fn let_go(self) -> By {
        for &tid in &self.seized {
            let _ = ptrace::interrupt(tid);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut by = By::Tracer;
        for &tid in &self.seized {
            match stop::stop_one(tid, deadline) {
                Ok(stands) => {
                    if tid == self.pid {
                        by = stands;
                    }
                    let _ = ptrace::detach(tid, 0);
                }
                // The end of this OS thread lets go of it.
                Err(error) => tracing::debug!(tid, %error, "a thread does not stand again"),
            }
        }
        by
    }
}
