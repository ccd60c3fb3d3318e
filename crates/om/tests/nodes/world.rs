//! Nodes on the loopback: real daemons, each with all its files in a directory of its own.

use control::{Answer, Event, Request};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn om() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_om"));
    command.env_remove("OM_SOCKET").stdin(Stdio::null());
    command
}

/// The daemon's program: another package's, so cargo does not build it for this test by itself.
pub(crate) fn omd() -> &'static Path {
    static OMD: OnceLock<PathBuf> = OnceLock::new();
    OMD.get_or_init(|| {
        let directory = Path::new(env!("CARGO_BIN_EXE_om")).parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "omd"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if directory.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "omd builds");
        directory.join("omd")
    })
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Runs a tool to its end, which has to come in time.
pub(crate) fn run(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match ended.recv_timeout(LIMIT) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            panic!("{command:?} does not end");
        }
    }
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a tool that is to succeed; gives its standard output.
pub(crate) fn good(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a tool that is to fail with this code, in one line; gives that line.
pub(crate) fn bad(command: &mut Command, code: i32) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {}", text(&output));
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

/// Waits for something that has to come in time.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A node's directory and its daemon, which ends with it.
pub(crate) struct Node {
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<String>>,
    daemon: Option<Child>,
}

impl Node {
    pub(crate) fn new(directory: PathBuf, address: SocketAddr) -> Node {
        Node { directory, address, log: Arc::default(), daemon: None }
    }

    /// The first node of a new cluster, its daemon running.
    pub(crate) fn found(base: &Path, name: &str) -> Node {
        let mut node = Node::new(base.join(name), free_address());
        good(
            om().args(["init", "--listen", &node.address.to_string(), "--name", name, "--directory"])
                .arg(&node.directory),
        );
        node.move_by_order_alone();
        node.start();
        node
    }

    /// The daemon shares a machine, and its processes, with whoever runs the test: none of them is moved unless a test asks.
    fn move_by_order_alone(&self) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let quiet = text.replace("# automatic = true\n", "automatic = false\n");
        assert_ne!(quiet, text, "a new configuration shows the setting");
        std::fs::write(self.config(), quiet).unwrap();
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("omd.toml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("run/omd.sock")
    }

    /// Starts the daemon and waits for its word that it is ready.
    pub(crate) fn start(&mut self) {
        let mut child = Command::new(omd())
            .arg("--config")
            .arg(self.config())
            .env("OMD_LOG", "info")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.lines().last().unwrap_or_default().contains("ready") {
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "{said}");
        }
        // The rest is read away, so that the daemon never waits for us.
        let kept = self.log.clone();
        *kept.lock().unwrap() = said;
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                println!("{line}");
                kept.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        self.daemon = Some(child);
    }

    /// Waits for a line of the daemon's log that has all these words; gives it.
    pub(crate) fn await_log(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let log = self.log.lock().unwrap().clone();
            if let Some(line) = log.lines().find(|line| words.iter().all(|word| line.contains(word))) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "{words:?} in {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the daemon to end by itself.
    pub(crate) fn await_end(&mut self) -> std::process::ExitStatus {
        self.daemon.take().unwrap().wait().unwrap()
    }

    /// Ends the daemon as a service manager would.
    pub(crate) fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(daemon.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(daemon.wait().unwrap().success());
    }

    pub(crate) fn om(&self, arguments: &[&str]) -> Command {
        let mut command = om();
        command.env("OM_SOCKET", self.socket()).args(arguments);
        command
    }

    /// Sends raw bytes to the daemon's socket; gives the lines of its answer.
    pub(crate) fn say(&self, bytes: &[u8]) -> Vec<String> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // It may hang up in the middle of nonsense.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        BufReader::new(stream).lines().map_while(Result::ok).collect()
    }

    pub(crate) fn ask(&self, request: &Request) -> Event {
        let line = serde_json::to_string(request).unwrap() + "\n";
        serde_json::from_str(self.say(line.as_bytes()).last().unwrap()).unwrap()
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        match self.ask(&Request::Counts) {
            Event::Done { answer: Answer::Counts { counts } } => counts,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a count has come to at least this number.
    pub(crate) fn await_count(&self, name: &str, number: u64) {
        let deadline = Instant::now() + LIMIT;
        while self.counts()[name] < number {
            assert!(Instant::now() < deadline, "{name}: {:?}", self.counts());
            std::thread::yield_now();
        }
    }

    /// Invites a new node, lets it join, and starts its daemon.
    pub(crate) fn joined_by(&self, name: &str) -> Node {
        let line = good(om().args(["invite", "--name", name, "--config"]).arg(self.config()));
        let token = line.trim().strip_prefix("om join ").unwrap().to_owned();
        let directory = self.directory.parent().unwrap().join(name);
        let mut node = Node::new(directory, free_address());
        good(
            om().args(["join", &token, "--listen", &node.address.to_string(), "--directory"])
                .arg(&node.directory),
        );
        node.move_by_order_alone();
        node.start();
        node
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
