//! Starting, finding and asking the agents: keepers and wardens.
//!
//! An agent is a process of its own behind a unix socket that the daemon bound for it. Nothing else is known of it, so
//! that a daemon that was started again knows as much as the one before: whoever answers on a socket is alive.

use crate::config::Paths;
use crate::counts::Counts;
use crate::{Error, Setup};
use control::{AgentRequest, KeeperStatus, WardenStatus};
use model::limits::{AGENT_ANSWER_SECONDS, AGENT_SILENCE_SECONDS};
use model::{NodeId, ProcessId, Session};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::io::{self, BufReader, IoSlice, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Agents that are asked for their status at the same time.
const ASKED_AT_ONCE: usize = 16;

const ANSWER: Duration = Duration::from_secs(AGENT_ANSWER_SECONDS);

/// The agents of this node.
#[derive(Clone)]
pub struct Agents {
    paths: Paths,
    config_path: PathBuf,
    counts: Arc<Counts>,
    /// Held while sockets are bound and removed: a socket that does not answer is then really dead.
    sockets: Arc<Mutex<()>>,
}

/// A conversation with an agent.
pub type Conversation = BufReader<UnixStream>;

impl Agents {
    /// The agents of a node; makes the directories of their sockets.
    pub fn new(setup: &Setup, counts: Arc<Counts>) -> Result<Agents, Error> {
        let paths = setup.config.paths.clone();
        for directory in [paths.keepers(), paths.wardens()] {
            std::fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
            std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))
                .map_err(Error::file("protect", &directory))?;
        }
        Ok(Agents { paths, config_path: setup.config_path.clone(), counts, sockets: Arc::default() })
    }

    /// A conversation with the keeper of this process, started if there is none.
    pub fn keeper(&self, process: ProcessId) -> Result<Conversation, Error> {
        for _ in 0..2 {
            let path = match self.keeper_of(process) {
                Some((path, _)) => path,
                None => {
                    let path = self.vacant_socket(process);
                    self.start_keeper(process, &path)?;
                    path
                }
            };
            // Between the two steps it may have ended, its process being at home.
            match connect(&path) {
                Ok(stream) => return Ok(BufReader::new(stream)),
                Err(_) => continue,
            }
        }
        Err(Error::Answer("its keeper ended at once; the daemon's log says why"))
    }

    /// A socket for a new keeper of a process. One with its name may still serve those that it has forked while it was
    /// away.
    fn vacant_socket(&self, process: ProcessId) -> PathBuf {
        let named = |number: u32| {
            let suffix = if number == 0 { String::new() } else { format!("-{number}") };
            self.paths.keepers().join(format!("{}-{}{suffix}.sock", process.pid, process.start_ticks))
        };
        (0..).map(named).find(|path| self.reach(path).is_none()).unwrap_or_else(|| named(0))
    }

    /// What a keeper knows of this process, if it has one, and the keeper's socket. A process that was forked away has
    /// that of its family.
    pub fn keeper_of(&self, process: ProcessId) -> Option<(PathBuf, KeeperStatus)> {
        let own = self.paths.keepers().join(format!("{}-{}.sock", process.pid, process.start_ticks));
        let find =
            |statuses: Vec<KeeperStatus>| statuses.into_iter().find(|status| status.process == process);
        if let Some(status) = self.status(&own).and_then(find) {
            return Some((own, status));
        }
        self.statuses::<KeeperStatus>(&self.paths.keepers())
            .into_iter()
            .find(|(_, status)| status.process == process)
    }

    /// What the keepers know of their processes.
    pub fn keepers(&self) -> Vec<KeeperStatus> {
        self.statuses(&self.paths.keepers()).into_iter().map(|(_, status)| status).collect()
    }

    /// What the wardens know of their guests, each with its warden's socket.
    pub fn wardens(&self) -> Vec<(PathBuf, WardenStatus)> {
        self.statuses(&self.paths.wardens())
    }

    /// How many wardens there are, also those that are slow to answer.
    pub fn warden_count(&self) -> usize {
        sockets(&self.paths.wardens()).iter().filter(|path| self.reach(path).is_some()).count()
    }

    /// Removes the sockets of dead agents, without disturbing the others.
    pub fn sweep(&self) {
        // In this order: a socket that is bound meanwhile is not among the ones to be looked at.
        let directories = [self.paths.keepers(), self.paths.wardens()];
        let sockets: Vec<_> = directories.iter().flat_map(|directory| sockets(directory)).collect();
        // Whatever somebody listens on is in there, by the name that it was bound to.
        let Ok(bound) = std::fs::read_to_string("/proc/net/unix") else { return };
        for path in sockets {
            let name = path.to_string_lossy();
            if !bound.lines().any(|line| line.ends_with(&*name)) {
                self.reach(&path);
            }
        }
    }

    fn start_keeper(&self, process: ProcessId, path: &Path) -> Result<(), Error> {
        let arguments = [
            "keeper".into(),
            "--pid".into(),
            process.pid.to_string().into(),
            "--start-ticks".into(),
            process.start_ticks.to_string().into(),
        ];
        self.counts.keepers_started.add();
        self.start(path, &arguments)
    }

    /// Starts the warden of a guest that is to come.
    pub fn start_warden(&self, session: Session, home: NodeId, pid: i32, name: &str) -> Result<(), Error> {
        let arguments = [
            "warden".into(),
            "--session".into(),
            session.to_string().into(),
            "--home".into(),
            home.to_string().into(),
            "--pid".into(),
            pid.to_string().into(),
            // One word, since a name may begin with a hyphen.
            format!("--name={name}").into(),
        ];
        self.counts.wardens_started.add();
        self.start(&self.paths.wardens().join(format!("{session}.sock")), &arguments)
    }

    /// Binds a socket and starts an agent that has it as its standard input.
    ///
    /// The agent makes itself independent as its first act (`omd` does: a session of its own, no inherited descriptors).
    fn start(&self, path: &Path, arguments: &[OsString]) -> Result<(), Error> {
        let _guard = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        match connect(path) {
            // Somebody else was faster.
            Ok(_) => return Ok(()),
            Err(_) => remove(path)?,
        }
        let listener = UnixListener::bind(path)
            .map_err(|source| Error::Listen { address: path.display().to_string(), source })?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(Error::file("protect", path))?;
        let bound = std::fs::metadata(path).map_err(Error::file("look at", path))?.ino();
        // This very program, even if its file was replaced meanwhile: daemon and agent understand each other.
        let child = Command::new("/proc/self/exe")
            .arg0("omd")
            .arg("--config")
            .arg(&self.config_path)
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .current_dir("/")
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(source) => {
                remove(path)?;
                return Err(Error::System { action: "start an agent", source });
            }
        };
        tracing::info!(pid = child.id(), socket = %path.display(), "agent started");
        let (sockets, path, paths) = (self.sockets.clone(), path.to_owned(), self.paths.clone());
        std::thread::spawn(move || {
            let status = child.wait();
            forget(&path);
            crate::held::settle(&paths);
            let _guard = sockets.lock().unwrap_or_else(PoisonError::into_inner);
            tracing::info!(pid = child.id(), ?status, "agent ended");
            // Its successor may be there already.
            if std::fs::metadata(&path).is_ok_and(|data| data.ino() == bound) {
                let _ = remove(&path);
            }
        });
        Ok(())
    }

    fn statuses<Status: DeserializeOwned + Send>(&self, directory: &Path) -> Vec<(PathBuf, Status)> {
        let mut found = Vec::new();
        for chunk in sockets(directory).chunks(ASKED_AT_ONCE) {
            std::thread::scope(|scope| {
                let asked: Vec<_> =
                    chunk.iter().map(|path| (path, scope.spawn(|| self.status(path)))).collect();
                for (path, answer) in asked {
                    let statuses = answer.join().ok().flatten().unwrap_or_default();
                    found.extend(statuses.into_iter().map(|status| (path.clone(), status)));
                }
            });
        }
        found
    }

    /// What an agent says of its processes.
    fn status<Status: DeserializeOwned>(&self, path: &Path) -> Option<Vec<Status>> {
        let stream = self.reach(path)?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        let mut conversation = BufReader::new(stream);
        send(&mut conversation, &AgentRequest::Status).ok()?;
        let line = crate::daemon::lines::read(&mut conversation).ok()??;
        serde_json::from_slice(&line).ok()
    }

    /// A connection with an agent; the socket of a dead one is removed.
    fn reach(&self, path: &Path) -> Option<UnixStream> {
        let is_dead = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        match connect(path) {
            Ok(stream) => Some(stream),
            Err(error) if is_dead(&error) => {
                let _guard = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
                // Under the lock: a socket that is just being bound refuses, too.
                match connect(path) {
                    Ok(stream) => return Some(stream),
                    Err(error) if is_dead(&error) => {
                        // A guest ends with its warden; then there is nobody in its groups.
                        forget(path);
                        drop(remove(path));
                    }
                    Err(_) => {}
                }
                None
            }
            Err(_) => None,
        }
    }
}

/// Removes what a warden would have removed, had it not been killed: the control groups of its guest.
fn forget(socket: &Path) {
    let name = socket.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    if let Ok(session) = name.parse::<Session>() {
        crate::cgroup::remove(session);
    }
}

/// The sockets in a directory.
fn sockets(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "sock")).collect()
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Connects to a unix socket, and waits neither for a full queue nor for a silent agent for ever.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(ANSWER))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(AGENT_SILENCE_SECONDS)))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// Sends a request to an agent.
pub fn send(conversation: &mut Conversation, request: &AgentRequest) -> Result<(), Error> {
    let line = line_of(request)?;
    conversation.get_mut().write_all(&line).map_err(Error::system("ask an agent"))
}

/// Hands a connection to the warden behind a socket.
pub fn hand_over(path: &Path, connection: &TcpStream) -> Result<(), Error> {
    let broken = Error::system("reach the warden");
    let stream = connect(path).map_err(broken)?;
    let line = line_of(&AgentRequest::Connection)?;
    let fds = [connection.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = rustix::net::sendmsg(&stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)
        .map_err(Error::system("hand over a connection"))?;
    (&stream).write_all(line.get(sent..).unwrap_or_default()).map_err(Error::system("hand over a connection"))
}

fn line_of(request: &AgentRequest) -> Result<Vec<u8>, Error> {
    let mut line = serde_json::to_vec(request).map_err(|error| Error::Line(error.to_string()))?;
    line.push(b'\n');
    Ok(line)
}
