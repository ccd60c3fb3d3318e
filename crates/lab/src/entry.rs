//! The way into a node: an ordinary [`Command`] that runs over there.
//!
//! ```text
//! Command's process = relay          here, outside: signals, terminal, exit status
//! node's init
//!   └─ session                       in the node: the command's parent, so that it has one there
//!        └─ the command              in the node, in a session of its own
//! ```
//!
//! The command cannot be a child of the relay: the kernel keeps a pid namespace, and with it
//! everything that dies with the supervisor, until its last zombie is collected, and a relay that
//! is stopped, or was killed below an init that is slow to collect, would not do so. The session is
//! therefore the child of a midwife that ends at once, and so a foster child of the node's init.
//! Nothing in a node waits for anybody outside.
//!
//! All three come out of one hook that runs between fork and exec, possibly of a program with many
//! threads. From the fork on nothing here allocates: descriptors, paths and sets are made before.

use crate::accounts;
use crate::cgroup;
use crate::deal;
use crate::error::{Doing, Error, Result};
use crate::fork::exit_now;
use crate::house;
use crate::identity;
use crate::relay;
use crate::session::{self, Account, Place};
use crate::state::NodeState;
use crate::terminal::Screen;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;
use std::ffi::{CString, OsStr};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether a command in a node has a terminal of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// It has the descriptors it is given, whatever they are.
    Inherited,
    /// It has a new terminal of the node's, relayed to the descriptors it is given.
    Own,
}

/// A way into a node, to be adjusted before it is used.
#[derive(Debug)]
pub struct Entry {
    lab: String,
    node: NodeState,
    init: OwnedFd,
    user: String,
    terminal: Terminal,
}

impl Entry {
    pub(crate) fn new(lab: &str, node: &NodeState) -> Result<Entry> {
        let dead = || Error::DeadNode { lab: lab.to_owned(), node: node.name.clone() };
        let init = identity::hold(node.init).ok_or_else(dead)?;
        Ok(Entry {
            lab: lab.to_owned(),
            node: node.clone(),
            init: init.into(),
            user: "root".to_owned(),
            terminal: Terminal::Inherited,
        })
    }

    /// Enters as another user of the node, by name or by number.
    pub fn user(mut self, user: &str) -> Entry {
        user.clone_into(&mut self.user);
        self
    }

    /// Enters with or without a terminal.
    pub fn terminal(mut self, terminal: Terminal) -> Entry {
        self.terminal = terminal;
        self
    }

    /// A command that runs in the node, with its environment, in the user's home.
    ///
    /// Its descriptors, arguments and further variables can be set as with any command, but not its
    /// directory, user or process group. Signals sent to the started process are passed on, and
    /// it ends as the command ends: with its status, or by the signal that killed it.
    pub fn command<S: AsRef<OsStr>>(self, program: S) -> Result<Command> {
        let known = accounts::read(&self.node.seen_from_outside("/"));
        // A root file system without passwd still has its superuser.
        let user = if self.user == "root" && known.find("root").is_none() { "0" } else { &self.user };
        let account = known
            .find(user)
            .ok_or_else(|| Error::NoSuchUser { node: self.node.name.clone(), user: self.user.clone() })?;
        let home = if account.uid == 0 { Path::new("/root") } else { account.home.as_path() };
        let mut command = Command::new(program);
        command.env_clear();
        command.env("PATH", house::SEARCH_PATH).env("HOME", home);
        command.env("USER", &account.name).env("LOGNAME", &account.name).env("SHELL", &account.shell);
        if let Some(term) = std::env::var_os("TERM") {
            command.env("TERM", term);
        }
        let place = Place {
            init: self.init,
            groups: open_groups(&self.lab, &self.node)?,
            cpus: deal::cpu_set(&self.node.cpus),
            account: Account {
                uid: account.uid.into(),
                gid: account.gid.into(),
                groups: known.groups_of(&account).into_iter().map(Into::into).collect(),
                home: CString::new(home.as_os_str().as_bytes()).unwrap_or_default(),
            },
            terminal: self.terminal,
        };
        // SAFETY: `split` keeps to what may be done between fork and exec: system calls on what was prepared.
        unsafe { command.pre_exec(move || split(&place)) };
        Ok(command)
    }
}

fn open_groups(lab: &str, node: &NodeState) -> Result<Vec<OwnedFd>> {
    let open = |group: PathBuf| {
        let path = cgroup::door(&group);
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(libc::O_CLOEXEC).open(&path);
        file.map(OwnedFd::from).doing(|| format!("open {}", path.display()))
    };
    cgroup::existing(lab, &node.name)?.into_iter().map(open).collect()
}

/// Makes three processes of one. Returns in the command (`Ok`), or, if there will be no command,
/// in the process that was to be the relay (`Err`).
fn split(place: &Place) -> io::Result<()> {
    // Taken here, where the standard descriptors are already the command's.
    let screen = match place.terminal {
        Terminal::Own => Some(Screen::look()),
        Terminal::Inherited => None,
    };
    let signals = relay::Signals::hold_back(place.terminal)?;
    let (relay_end, session_end) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    setns(&place.init, CloneFlags::CLONE_NEWPID)?;
    // SAFETY: restoring a default runs no code.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    // SAFETY: both copies keep to system calls until they exec or exit.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child: midwife } => {
            drop(session_end);
            while waitpid(midwife, None) == Err(Errno::EINTR) {}
            // Returns only if the session never started the command.
            Err(relay::run(&relay_end, &signals, screen.as_ref()))
        }
        ForkResult::Child => {
            drop(relay_end);
            // SAFETY: as above.
            let outcome = match unsafe { nix::unistd::fork() } {
                Ok(ForkResult::Parent { .. }) => exit_now(0),
                Ok(ForkResult::Child) => session::start(place, &session_end, screen.as_ref()),
                Err(error) => Err(error),
            };
            outcome.or_else(|error| {
                session::tell_failure(&session_end, error);
                exit_now(1)
            })
        }
    }
}
