//! One process of a family.

use super::slot::Traffic;
use super::waiting::Parked;
use crate::config::Paths;
use crate::{Error, journal, journey};
use control::{KeeperStatus, What};
use model::{NodeId, ProcessId};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use wire::session::{Status, Wish};

/// One process of a family.
pub(super) struct Member {
    process: ProcessId,
    name: String,
    pidfd: OwnedFd,
    /// It has ended, or is past everything that it could do; its pidfd may tell a moment later.
    pub(super) ended: bool,
    moves: u64,
    home_comings: BTreeMap<String, u64>,
    /// Calls that were forwarded before it was last at home.
    traffic: Traffic,
    /// Its remote waits to come home, and could not yet.
    pub(super) wish: Option<Wish>,
    /// What it uses away; its CPU time since it left home.
    pub(super) usage: Status,
    /// CPU time that it had used away before it was last at home, milliseconds.
    earlier_ms: u64,
    /// It is at home again, and others of its family are not.
    pub(super) is_home: bool,
    /// Its threads whose waits were begun for them when it came home.
    pub(super) parked: Vec<Parked>,
    stopped: bool,
}

impl Member {
    /// A process that is at home; nothing when it has ended meanwhile.
    pub(super) fn open(process: ProcessId) -> Result<Option<Member>, Error> {
        let pidfd = match open_pid(process.pid) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            other => other.map_err(Error::system("open the process"))?,
        };
        // Only now is the pid this process's for good.
        let stat = procinfo::stat(process.pid);
        let same = stat.is_ok_and(|stat| stat.start_ticks == process.start_ticks);
        Ok(same.then(|| Member::new(process, pidfd)))
    }

    /// A process that was just forked. Its parent has not heard of it yet, so its pid is its own.
    pub(super) fn born(pid: i32) -> journey::Result<Member> {
        let io = journey::Error::io("looking at a newborn process");
        let pidfd = open_pid(pid).map_err(|errno| io(errno.into()))?;
        let stat = procinfo::stat(pid).map_err(journey::Error::io("looking at a newborn process"))?;
        Ok(Member::new(ProcessId { pid, start_ticks: stat.start_ticks }, pidfd))
    }

    fn new(process: ProcessId, pidfd: OwnedFd) -> Member {
        Member {
            name: procinfo::name(process.pid, process.pid).unwrap_or_default(),
            process,
            pidfd,
            ended: false,
            moves: 0,
            home_comings: BTreeMap::new(),
            traffic: Traffic::default(),
            wish: None,
            usage: Status::default(),
            earlier_ms: 0,
            is_home: false,
            parked: Vec::new(),
            stopped: false,
        }
    }

    /// What an earlier keeper knew.
    pub(super) fn remember(&mut self, before: KeeperStatus, parked: Vec<Parked>) {
        self.parked = parked;
        self.moves = before.moves;
        self.earlier_ms = before.away_cpu_ms;
        self.traffic = Traffic { calls: before.forwarded, bytes: before.carried_bytes };
        self.home_comings = before.home_comings.into_iter().collect();
    }

    /// Its command name when it moved last, or was born.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn process(&self) -> ProcessId {
        self.process
    }

    /// Becomes readable when the process has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO)
    }

    pub(super) fn ends_within(&self, patience: Duration) -> bool {
        let mut fds = [PollFd::new(self.pidfd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        self.ended || poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
    }

    /// What the daemon is told, if `node` runs it and so much has come from there.
    pub(super) fn status(&self, node: NodeId, traffic: Traffic) -> KeeperStatus {
        let mut all = self.traffic;
        all += traffic;
        let home_comings = self.home_comings.iter().map(|(call, &times)| (call.clone(), times)).collect();
        KeeperStatus {
            process: self.process,
            node,
            moving: false,
            moves: self.moves,
            memory_bytes: self.usage.memory_bytes,
            away_cpu_ms: self.earlier_ms.saturating_add(self.usage.cpu_ms),
            forwarded: all.calls,
            carried_bytes: all.bytes,
            home_comings,
        }
    }

    /// Counts a move.
    pub(super) fn moved(&mut self) {
        // Where it is now it asks anew.
        self.wish = None;
        self.moves += 1;
        if let Ok(name) = procinfo::name(self.process.pid, self.process.pid) {
            self.name = name;
        }
    }

    /// It is away: for the first time, or once more.
    pub(super) fn is_off(&mut self) {
        self.is_home = false;
    }

    /// Its host has been told whether it is stopped.
    pub(super) fn is_known_as(&mut self, stopped: bool) {
        self.stopped = stopped;
    }

    /// It is at home, and has forwarded so much and used so much CPU time, milliseconds, while it was away.
    pub(super) fn is_back(&mut self, traffic: Traffic, cpu_ms: u64, parked: Vec<Parked>) {
        self.earlier_ms = self.earlier_ms.saturating_add(cpu_ms);
        self.parked = parked;
        self.is_home = true;
        self.traffic += traffic;
        self.usage = Status::default();
    }

    /// Counts a call that brings it home.
    pub(super) fn count_home_coming(&mut self, call: &str) {
        *self.home_comings.entry(call.to_owned()).or_default() += 1;
    }

    /// Whether the process has been stopped or continued since the last look.
    pub(super) fn stop_or_go(&mut self) -> Option<bool> {
        let stopped = procinfo::stat(self.process.pid).ok()?.state == b'T';
        (std::mem::replace(&mut self.stopped, stopped) != stopped).then_some(stopped)
    }

    /// Ends the process, visibly: nobody could go on with it. Why is noted down before anybody can see the end.
    pub(super) fn end(&self, paths: &Paths, what: What, node: NodeId, cause: &str) {
        let pid = self.process.pid;
        let name = procinfo::name(pid, pid).unwrap_or_default();
        journal::note(paths, journal::now(what).process(self.process, &name).node(node).cause(cause));
        tracing::error!(pid, name, %node, cause, "ended with SIGKILL: nobody could tell how far it is");
        if let Err(errno) = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL) {
            tracing::debug!(pid = self.process.pid, %errno, "it had ended already");
        }
    }
}

pub(super) fn open_pid(pid: i32) -> rustix::io::Result<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    pidfd_open(Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?, PidfdFlags::empty())
}
