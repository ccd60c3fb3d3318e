//! openMosix's old tools and the log, with real daemons.

use crate::world::{LIMIT, Node, bad, good, om, run, text, wait_until};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A tool by its old name.
fn tool(node: &Node, name: &str, arguments: &[&str]) -> Command {
    let mut command = om();
    command.arg0(name).env("OM_SOCKET", node.socket()).args(arguments);
    command
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn switches_outlive_the_daemon_and_a_blocked_node_takes_no_guests() {
    if !is_root() {
        return println!("skipped: only root may change switches");
    }
    let base = tempfile::tempdir().unwrap();
    let mut alpha = Node::found(base.path(), "alpha");
    let beta = alpha.joined_by("beta");
    assert!(good(&mut tool(&alpha, "mosctl", &["status"])).starts_with("up\n"));
    for verb in ["stay", "lstay", "block", "quiet", "nostay", "noquiet"] {
        good(&mut tool(&alpha, "mosctl", &[verb]));
    }
    good(&mut alpha.om(&["speed", "25000"]));
    alpha.stop();
    alpha.start();
    let shown = good(&mut alpha.om(&["node"]));
    for line in ["stay   off", "lstay  on", "block  on", "quiet  off", "speed  25000 (set)"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let json = good(&mut alpha.om(&["nodes", "--json"]));
    assert!(
        json.contains("\"switches\":[\"lstay\",\"block\"]") && json.contains("\"speed\":25000"),
        "{json}"
    );
    assert_eq!(good(&mut tool(&alpha, "mosctl", &["getspeed"])), "25000\n");
    assert!(good(&mut alpha.om(&["load"])).contains("25000 (set"));
    assert!(
        good(&mut tool(&alpha, "mosctl", &["setspeed", "auto"]))
            .contains("(measured; the standard CPU has 10000)")
    );
    assert!(good(&mut alpha.om(&["node"])).contains("as measured"));
    assert_eq!(good(&mut tool(&alpha, "mosctl", &["status"])), "up, lstay, block, takes no guests\n");
    // From afar the switches are seen as soon as alpha has told of them.
    let status = || good(&mut tool(&beta, "mosctl", &["status", "alpha"]));
    assert!(status().ends_with("takes no guests\n"), "{}", status());
    wait_until("beta is told", || status() == "up, lstay, block, takes no guests\n");

    // Beta has nowhere to go.
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = sleeper.id().to_string();
    let line = bad(&mut tool(&beta, "migrate", &[&pid, "alpha"]), 3);
    assert!(line.contains("guests"), "{line}");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(good(&mut beta.om(&["log", "--pid", &pid])).contains("not moved"));
    good(&mut alpha.om(&["node", "block", "off"]));
    assert_eq!(good(&mut tool(&alpha, "mosctl", &["status"])), "up, lstay\n");
    assert!(good(&mut alpha.om(&["expel", "--all"])).starts_with("0 guests went home"));
    assert!(good(&mut tool(&alpha, "mosctl", &["bring", "--json"])).contains("\"moved\":0"));
    assert_eq!(good(&mut tool(&alpha, "mosctl", &["status"])), "up, lstay, block, takes no guests\n");
}

#[test]
fn mosctl_tells_of_nodes_and_names_what_is_used_instead() {
    let base = tempfile::tempdir().unwrap();
    let alpha = Node::found(base.path(), "alpha");
    let mut beta = alpha.joined_by("beta");
    for who in ["2", "beta"] {
        assert!(good(&mut tool(&alpha, "mosctl", &["whois", who])).starts_with("2 beta 127.0.0.1:"), "{who}");
        assert_eq!(good(&mut tool(&alpha, "mosctl", &["isup", who])), "yes\n");
    }
    // A node measures itself first of all.
    let load = || run(&mut tool(&alpha, "mosctl", &["getload"])).status.success();
    wait_until("alpha has measured itself", load);
    for verb in ["getload", "getspeed", "getmem", "getfree", "getutil"] {
        assert!(!good(&mut tool(&alpha, "mosctl", &[verb])).is_empty(), "{verb}");
    }
    assert!(good(&mut tool(&alpha, "mosctl", &["getmem", "beta"])).contains("iB"));
    assert!(good(&mut tool(&alpha, "mosctl", &["setdecay", "2", "900", "800"])).contains("interval 2 s"));
    assert!(good(&mut tool(&alpha, "mosctl", &["getdecay"])).contains("fast     800 of 1000"));
    beta.stop();
    let down = run(&mut tool(&alpha, "mosctl", &["isup", "beta"]));
    assert_eq!((down.status.code(), text(&down).as_str()), (Some(1), "no\n"));
    for (words, code, part) in [
        (&["setdecay", "0"][..], 2, "'setdecay 1 975 926' is usual"),
        (&["setdecay", "1", "1001", "0"], 2, "'setdecay 1 975 926' is usual"),
        (&["gettune"], 2, "om nodes"),
        (&["dance"], 2, "none of its verbs: stay"),
        (&["setspeed"], 2, "speed"),
        (&["setspeed", "0"], 2, "'0' is no speed"),
        (&["whois", "nobody.invalid"], 4, "nobody.invalid"),
    ] {
        let line = bad(&mut tool(&alpha, "mosctl", words), code);
        assert!(line.starts_with("mosctl: ") && line.contains(part), "{line}");
    }
}

#[test]
fn a_user_changes_nothing() {
    if !is_root() {
        return println!("skipped: only root becomes another user");
    }
    let base = tempfile::tempdir().unwrap();
    let alpha = Node::found(base.path(), "alpha");
    std::os::unix::fs::chown(base.path(), Some(65_534), None).unwrap();
    for words in [&["node", "block"][..], &["speed", "70"], &["bring"], &["expel", "--all"]] {
        // Forked as root, since the program may lie where nobody else may look.
        let request = match words[0] {
            "node" => r#"{"op":"switch","switch":"block","on":true}"#,
            "speed" => r#"{"op":"tune","speed":70}"#,
            "bring" => r#"{"op":"bring-all"}"#,
            _ => r#"{"op":"expel-all"}"#,
        };
        let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                      s.sendall(sys.argv[2].encode() + b'\\n'); print(s.makefile().readline())";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(alpha.socket()).arg(request).uid(65_534).current_dir("/");
        let said = good(&mut python);
        assert!(said.contains("\"kind\":\"forbidden\""), "{words:?}: {said}");
    }
    assert!(good(&mut alpha.om(&["node"])).contains("block  off"));
}

#[test]
fn the_best_place_is_refused_where_nothing_is_known() {
    let base = tempfile::tempdir().unwrap();
    let alpha = Node::found(base.path(), "alpha");
    let own = std::process::id().to_string();
    let line = bad(&mut tool(&alpha, "migrate", &[&own, "best"]), 3);
    assert!(line.contains("no other node is known"), "{line}");
    // A wrapper's wish is no condition, and its command's end is its own.
    let output = run(&mut tool(&alpha, "cpujob", &["sh", "-c", "echo here; exit 9"]));
    assert_eq!(output.status.code(), Some(9), "{}", text(&output));
    assert!(text(&output).contains("here\n") && text(&output).contains("it runs here"), "{}", text(&output));
}

#[test]
fn wrappers_run_programs_as_they_are() {
    let base = tempfile::tempdir().unwrap();
    let alpha = Node::found(base.path(), "alpha");
    for name in ["nomig", "runhome", "iojob"] {
        assert_eq!(good(&mut tool(&alpha, name, &["echo", "-n", "--help"])), "--help", "{name}");
    }
    assert_eq!(good(&mut tool(&alpha, "mosrun", &["-h", "echo", "--rerun", "-j"])), "--rerun -j\n");
    assert_eq!(good(&mut tool(&alpha, "runon", &["home", "echo", "x"])), "x\n");
    let killed = run(&mut tool(&alpha, "mosrun", &["--rerun", "home", "sh", "-c", "kill -9 $$"]));
    assert_eq!(killed.status.signal(), Some(9), "{}", text(&killed));
    assert!(!text(&killed).contains("again"), "{}", text(&killed));
    for (words, code) in [
        (&["2"][..], 2),
        (&["-h"], 2),
        (&["-j1,x", "true"], 2),
        (&["--rerun=x", "1", "true"], 2),
        (&["nowhere", "true"], 4),
        (&["home", "/no/such/program"], 4),
        (&["-c", "-i", "true"], 2),
        (&["-t", "x", "true"], 2),
    ] {
        let output = run(&mut tool(&alpha, "mosrun", words));
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", text(&output));
    }
}

#[test]
fn the_letters_of_old_are_understood() {
    let base = tempfile::tempdir().unwrap();
    let alpha = Node::found(base.path(), "alpha");
    let show = ["sh", "-c", "echo $0", "x"];
    for option in ["-c", "-i", "-n", "-s", "-f", "-l", "-k"] {
        let words: Vec<&str> = [option].into_iter().chain(show).collect();
        assert_eq!(good(&mut tool(&alpha, "mosrun", &words)), "x\n", "{option}");
    }
    // Those that mean nothing say so in one line, and the program runs.
    let output = run(&mut tool(&alpha, "mosrun", &["-t5", "-d", "900", "-E", "-r", "echo", "x"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"x\n"[..]), "{said}");
    assert!(said.lines().count() == 1 && said.contains("-t, -d mean nothing here: use -s"), "{said}");
    // Its own name, and a node that is an option, or nowhere.
    assert_eq!(good(&mut tool(&alpha, "mosrun", &["-z", "-h", "sh", "me", "-c", "echo $0"])), "me\n");
    assert_eq!(good(&mut tool(&alpha, "mosrun", &["-1", "echo", "-1"])), "-1\n");
    let output = run(&mut tool(&alpha, "mosrun", &["-F", "nowhere", "echo", "x"]));
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"x\n"[..]), "{}", text(&output));
    assert!(text(&output).contains("it runs here"), "{}", text(&output));
    // What was said is known of the program and of what it starts.
    let standing = |word: &str| {
        let mut command = tool(&alpha, "mosrun", &[word, "sh", "-c", "cat \"$0/$PPID.json\""]);
        good(command.arg(alpha.directory.join("run/standing")))
    };
    for (word, decay) in [("-c", "cpu-job"), ("-i", "io-job"), ("-n", "none"), ("-f", "fast")] {
        let said = standing(word);
        assert!(said.contains(&format!("\"decay\":\"{decay}\"")), "{word}: {said}");
    }
}

#[test]
fn the_log_outlives_the_daemon_and_is_followed() {
    let base = tempfile::tempdir().unwrap();
    let mut alpha = Node::found(base.path(), "alpha");
    let mut follower = alpha.om(&["log", "--follow", "--json"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = move || lines.next().unwrap().unwrap();
    assert!(next().contains("\"what\":\"started\""));
    alpha.stop();
    alpha.start();
    assert!(next().contains("\"what\":\"stopped\""));
    assert!(next().contains("\"what\":\"started\""));
    let _beta = alpha.joined_by("beta");
    let mut joined = next();
    while !joined.contains("node-joined") {
        // Discovery may have seen it before its daemon told its home.
        assert!(joined.contains("\"what\":\"node-changed\""), "{joined}");
        joined = next();
    }
    assert!(joined.contains("\"what\":\"node-joined\"") && joined.contains("\"node\":2"), "{joined}");
    follower.kill().unwrap();
    follower.wait().unwrap();
    let all = good(&mut alpha.om(&["log"]));
    assert!(all.contains("node joined    node 2  beta at 127.0.0.1:"), "{all}");
    let discovered = || good(&mut alpha.om(&["log"])).contains("node changed   node 2  beta is there");
    wait_until("the nodes have found each other", discovered);
    assert_eq!(good(&mut alpha.om(&["log", "--since", "1h"])), good(&mut alpha.om(&["log"])));
    assert_eq!(good(&mut alpha.om(&["log", "--since", "@99999999999"])), "");
    assert_eq!(good(&mut alpha.om(&["log", "--pid", "1"])), "");
    assert!(text(&run(&mut alpha.om(&["log", "--since", "yesterday"]))).contains("is no time"));
}

#[test]
fn screens_are_text_where_nobody_looks_and_bars_on_a_terminal() {
    let base = tempfile::tempdir().unwrap();
    let mut alpha = Node::found(base.path(), "alpha");
    let bars = good(&mut tool(&alpha, "mosmon", &["--once"]));
    assert!(bars.starts_with("LOAD") && bars.contains('\u{2514}'), "{bars}");
    assert!(good(&mut tool(&alpha, "mosmon", &["--json"])).contains("\"answer\":\"nodes\""));
    assert!(good(&mut tool(&alpha, "mtop", &[])).starts_with("0 processes"));

    // On a terminal: it draws, keeps what it has while its daemon is replaced, and quits.
    let pty =
        nix::pty::openpty(&nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }, None)
            .unwrap();
    let mut command = tool(&alpha, "mosmon", &[]);
    command.env("TERM", "xterm");
    let theirs = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut mosmon = command.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn().unwrap();
    drop(command);
    let mut ours = std::fs::File::from(pty.master);
    let reader = ours.try_clone().unwrap();
    let screen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = screen.clone();
    std::thread::spawn(move || {
        for byte in std::io::Read::bytes(reader).map_while(Result::ok) {
            seen.lock().unwrap().push(byte);
        }
    });
    // Each of them behind the one before.
    let at = std::cell::Cell::new(0);
    let shows = |word: &str| {
        let deadline = Instant::now() + LIMIT;
        loop {
            let drawn = screen.lock().unwrap()[at.get()..].to_vec();
            if let Some(found) = drawn.windows(word.len()).position(|bytes| bytes == word.as_bytes()) {
                return at.set(at.get() + found + word.len());
            }
            assert!(Instant::now() < deadline, "{word} is not shown");
            std::thread::yield_now();
        }
    };
    shows("LOAD");
    alpha.stop();
    shows("broke off");
    shows("does");
    alpha.start();
    shows("q ");
    std::io::Write::write_all(&mut ours, b"m").unwrap();
    shows("MEM");
    std::io::Write::write_all(&mut ours, b"q").unwrap();
    assert!(mosmon.wait().unwrap().success());
}

#[test]
fn pages_and_completions_are_made() {
    let base = tempfile::tempdir().unwrap();
    let pages = base.path().join("man");
    assert!(good(om().arg("man").arg(&pages)).ends_with(" pages\n"));
    for name in
        ["om.1", "om-log.1", "om-lab-up.1", "mosrun.1", "mosctl.1", "mosmon.1", "mtop.1", "runon.1", "tune.1"]
    {
        assert!(pages.join(name).exists(), "{name}");
    }
    let script = good(om().args(["completions", "bash"]));
    assert!(script.contains("mosctl") && script.contains("--since"), "{script}");
    assert!(good(om().args(["completions", "zsh"])).starts_with("#compdef om"));
}
