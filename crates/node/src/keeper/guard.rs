//! Who opens a file that is guarded is held up, by the kernel's word (fanotify(7)), until the process that has it away is at
//! home with all that it wrote.
//!
//! Nobody is held up for ever: the guard's end lets everybody go, also that of its program; and so does [`PATIENCE`].

use super::calls::{Calls, lock};
use super::slot::News;
use crate::journey::{Error, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long somebody waits for a file whose process does not come home.
const PATIENCE: Duration = Duration::from_secs(30);

/// Watches over some files until it is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    watch: Arc<Watch>,
    end: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Watch {
    pid: i32,
    /// Who opens one.
    events: Fanotify,
    /// Something was changed; of who changes a length by a file's name, fanotify tells nothing.
    changes: OwnedFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who is told that somebody wants a file.
    calls: Weak<Calls>,
    /// Somebody did before there was anybody to be told.
    wanted: bool,
    /// The files with the lengths that they had when the process left.
    lengths: Vec<(File, u64)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Guard {
    /// From now on nobody but programs like this one, and process `pid`, opens one of the files.
    pub(super) fn set(pid: i32, files: &[File]) -> Result<Guard> {
        let failed = |errno: nix::Error| Error::Io { what: "guarding its files", source: errno.into() };
        let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let events = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC).map_err(failed)?;
        for file in files {
            events
                .mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_PERM, file, None::<&str>)
                .map_err(failed)?;
        }
        let changes = watch_changes(files).map_err(Error::io("guarding its files"))?;
        let end = eventfd(0, EventfdFlags::CLOEXEC)
            .map_err(|errno| Error::Io { what: "making an event", source: errno.into() })?;
        let stop = end.try_clone().map_err(Error::io("making an event"))?;
        let watch = Arc::new(Watch { pid, events, changes, state: Mutex::default() });
        let own = Arc::clone(&watch);
        let thread = std::thread::Builder::new().name("guard".into()).spawn(move || own.stand(&stop));
        Ok(Guard { watch, end, thread: Some(thread.map_err(Error::io("starting a thread"))?) })
    }

    /// The process stands still, and will be away: who wants one of its files is told of from now on, and so is who changes
    /// the length of one.
    pub(super) fn report_to(&self, calls: &Arc<Calls>, files: &[File]) -> Result<()> {
        let with_length = |file: &File| Ok((file.try_clone()?, file.metadata()?.len()));
        let lengths: std::io::Result<Vec<_>> = files.iter().map(with_length).collect();
        let mut state = lock(&self.watch.state);
        state.lengths = lengths.map_err(Error::io("guarding its files"))?;
        state.calls = Arc::downgrade(calls);
        if state.wanted {
            calls.tell(News::Wanted { pid: self.watch.pid, nr: None });
        }
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.end, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An event for each change of the files.
fn watch_changes(files: &[File]) -> std::io::Result<OwnedFd> {
    let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    for file in files {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        inotify::add_watch(&changes, path, inotify::WatchFlags::MODIFY)?;
    }
    Ok(changes)
}

impl Watch {
    fn stand(&self, stop: &OwnedFd) {
        let mut waiting: Vec<(FanotifyEvent, Instant)> = Vec::new();
        loop {
            let left = waiting.first().map(|(_, since)| PATIENCE.saturating_sub(since.elapsed()));
            let timeout = left.and_then(|left| PollTimeout::try_from(left).ok()).unwrap_or(PollTimeout::NONE);
            let mut fds = [
                PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.changes.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                // The end of the watch lets everybody go.
                Err(errno) => return tracing::error!(%errno, "its files are guarded no more"),
            }
            if fds[2].any() == Some(true) {
                self.look_at_lengths();
            }
            if fds[1].any() == Some(true) {
                waiting.iter().for_each(|(event, _)| self.let_go(event));
                return;
            }
            while let Some((event, _)) = waiting.first().filter(|(_, since)| since.elapsed() >= PATIENCE) {
                let (pid, opener) = (self.pid, event.pid());
                tracing::error!(
                    pid,
                    opener,
                    "a file is opened without what its process, which is away, wrote there"
                );
                self.let_go(event);
                waiting.remove(0);
            }
            match self.events.read_events() {
                Ok(events) => events.into_iter().for_each(|event| self.take(event, &mut waiting)),
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
                Err(errno) => tracing::error!(pid = self.pid, %errno, "who opens its files cannot be told"),
            }
        }
    }

    fn take(&self, event: FanotifyEvent, waiting: &mut Vec<(FanotifyEvent, Instant)>) {
        let opener = event.pid();
        // The process's own uses of what it opens are looked at one by one; a program of ours opens files to look at them.
        if opener == self.pid || procinfo::runs_our_program(opener) {
            return self.let_go(&event);
        }
        tracing::debug!(pid = self.pid, opener, "somebody opens its file");
        self.tell();
        waiting.push((event, Instant::now()));
    }

    /// What is written back changes no length.
    fn look_at_lengths(&self) {
        let mut events = [0; 4096];
        while rustix::io::read(&self.changes, &mut events).is_ok_and(|length| length > 0) {}
        let differs = |(file, length): &(File, u64)| file.metadata().is_ok_and(|data| data.len() != *length);
        let changed = lock(&self.state).lengths.iter().any(differs);
        if changed {
            tracing::debug!(pid = self.pid, "somebody changes the length of its file");
            self.tell();
        }
    }

    fn tell(&self) {
        let mut state = lock(&self.state);
        state.wanted = true;
        if let Some(calls) = state.calls.upgrade() {
            calls.tell(News::Wanted { pid: self.pid, nr: None });
        }
    }

    fn let_go(&self, event: &FanotifyEvent) {
        let Some(fd) = event.fd() else { return };
        if let Err(errno) = self.events.write_response(FanotifyResponse::new(fd, Response::FAN_ALLOW)) {
            tracing::debug!(%errno, "whoever opened it waits no more");
        }
    }
}
