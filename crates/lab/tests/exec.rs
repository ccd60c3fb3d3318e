//! A command in a node behaves as if it had been started here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod world;

use lab::{Error, Lab, Terminal};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use world::{ask, await_ready, run, start, until};

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

fn with_terminal(lab: &Lab, script: &str) -> Command {
    let mut command = lab.enter("n1").unwrap().terminal(Terminal::Own).command("sh").unwrap();
    command.args(["-c", script]);
    command
}

#[test]
fn status_and_cause_of_death_come_through() {
    let Some(lab) = world::lab("status", 1) else { return };
    for status in [0, 1, 42, 255] {
        assert_eq!(run(&lab, "n1", &format!("exit {status}")).status.code(), Some(status));
    }
    for signal in [2, 9, 11, 15] {
        assert_eq!(run(&lab, "n1", &format!("kill -{signal} $$")).status.signal(), Some(signal));
    }
    let error = lab.exec("n1", ["nonesuch"]).unwrap().output().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    assert!(matches!(lab.exec("n9", ["true"]), Err(Error::NoSuchNode { .. })));
    assert!(matches!(lab.exec("n1", [""; 0]), Err(Error::NoCommand)));
}

#[test]
fn bytes_come_through_unchanged() {
    let Some(lab) = world::lab("bytes", 1) else { return };
    let sent: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let mut command = lab.exec("n1", ["sh", "-c", "cat; echo wrong >&2"]).unwrap();
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = sent.clone();
    let writer = thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.stdout == sent);
    assert_eq!(output.stderr, b"wrong\n");
}

#[test]
fn output_ends_when_the_command_closes_it() {
    let Some(lab) = world::lab("close", 1) else { return };
    let (mut child, mut out) = start(&lab, "n1", "echo ready; exec >&-; exec sleep 1000");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn signals_are_passed_on() {
    let Some(lab) = world::lab("signals", 1) else { return };
    for name in ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"] {
        let script = format!("trap 'echo got; exit 3' {name}; echo ready; while :; do sleep 0.02; done");
        let (mut child, mut out) = start(&lab, "n1", &script);
        signal(&child, format!("SIG{name}").parse().unwrap());
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!((text.trim(), child.wait().unwrap().code()), ("got", Some(3)), "{name}");
    }
}

#[test]
fn a_stop_stops_both_and_continues_both() {
    let Some(lab) = world::lab("stop", 1) else { return };
    let (mut child, _out) = start(&lab, "n1", "echo ready; while :; do :; done");
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let state = || ask(&lab, "n1", "grep -h '(sh) T' /proc/[0-9]*/stat || true");
    signal(&child, Signal::SIGTSTP);
    assert!(matches!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)), Ok(WaitStatus::Stopped(..))));
    until("the command is stopped", || !state().is_empty());
    signal(&child, Signal::SIGCONT);
    until("the command goes on", || state().is_empty());
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn a_killed_relay_leaves_the_command_running_not_stopped() {
    let Some(lab) = world::lab("stray", 1) else { return };
    let script = "echo $$ > /tmp/pid; echo ready; kill -STOP $$; echo on > /tmp/on; exec sleep 1000";
    let (mut child, _out) = start(&lab, "n1", script);
    until("the command has stopped", || ask(&lab, "n1", "cat /proc/$(cat /tmp/pid)/stat").contains(") T "));
    child.kill().unwrap();
    child.wait().unwrap();
    until("it goes on", || run(&lab, "n1", "test -e /tmp/on").status.success());
    assert_eq!(ask(&lab, "n1", "sed -n 's/^PPid:\\t//p' /proc/$(cat /tmp/pid)/status"), "1");
}

#[test]
fn a_stopped_relay_does_not_keep_a_lab_from_going_down() {
    let Some(lab) = world::lab("held", 1) else { return };
    let traces = world::Traces::of(lab.state());
    let (mut child, _out) = start(&lab, "n1", "echo ready; exec sleep 1000");
    signal(&child, Signal::SIGSTOP);
    lab.down().unwrap();
    traces.assert_gone();
    signal(&child, Signal::SIGCONT);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
}

#[test]
fn users_and_their_surroundings_are_the_nodes() {
    let Some(lab) = world::lab("user", 1) else { return };
    ask(
        &lab,
        "n1",
        "echo 'ann:x:4321:4322::/home/ann:/bin/sh' >> /etc/passwd; echo 'extra:x:4444:ann' >> /etc/group",
    );
    ask(&lab, "n1", "mkdir /home/ann && chown 4321 /home/ann");
    for user in ["ann", "4321"] {
        let mut command = lab.enter("n1").unwrap().user(user).command("sh").unwrap();
        let output =
            command.args(["-c", "id -u; id -g; id -G; pwd; echo $USER $HOME; env | wc -l"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..5], ["4321", "4322", "4322 4444", "/home/ann", "ann /home/ann"]);
    }
    let root = ask(&lab, "n1", "id -u; pwd; echo $USER; echo ${LAB_TEST_SECRET-clean}");
    assert_eq!(root, "0\n/root\nroot\nclean");
    let refused = lab.enter("n1").unwrap().user("nobody-at-all").command("true");
    assert!(matches!(refused, Err(Error::NoSuchUser { .. })));
}

#[test]
fn nothing_of_ours_leaks_into_a_command() {
    let Some(lab) = world::lab("leak", 1) else { return };
    let _open = File::open("/dev/null").unwrap();
    assert_eq!(ask(&lab, "n1", "ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3");
    let masks = ask(&lab, "n1", "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t\\n'");
    assert_eq!(masks, "SigBlk:0000000000000000SigIgn:0000000000000000");
}

#[test]
fn without_a_terminal_there_is_none() {
    let Some(lab) = world::lab("notty", 1) else { return };
    let output = lab.exec("n1", ["tty"]).unwrap().stdin(Stdio::null()).output().unwrap();
    assert_eq!((output.stdout, output.status.code()), (b"not a tty\n".to_vec(), Some(1)));
}

#[test]
fn a_terminal_has_the_users_size_and_follows_it() {
    let Some(lab) = world::lab("tty", 1) else { return };
    let size = |rows, columns| Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let screen = openpty(Some(&size(33, 77)), None).unwrap();
    let script = "tty; stty size; trap 'stty size; exit 6' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut command = with_terminal(&lab, script);
    command.stdin(screen.slave.try_clone().unwrap());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(command);
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = || {
        let mut text = String::new();
        out.read_line(&mut text).unwrap();
        text.trim_end().to_owned()
    };
    assert_eq!([line(), line(), line()], ["/dev/pts/0", "33 77", "ready"]);
    let smaller = size(20, 40);
    rustix::termios::tcsetwinsize(
        &screen.master,
        rustix::termios::Winsize {
            ws_row: smaller.ws_row,
            ws_col: smaller.ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .unwrap();
    // The terminal would tell its own session; the relay of a test is not part of that.
    signal(&child, Signal::SIGWINCH);
    assert_eq!(line(), "20 40");
    assert_eq!(child.wait().unwrap().code(), Some(6));
}

#[test]
fn keys_reach_the_command_through_its_terminal() {
    let Some(lab) = world::lab("keys", 1) else { return };
    let mut command = with_terminal(&lab, "echo ready; exec sleep 1000");
    command.stdin(Stdio::piped());
    let (mut child, _out) = await_ready(command);
    child.stdin.take().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(2));
}

#[test]
fn the_end_of_input_reaches_the_command_through_its_terminal() {
    let Some(lab) = world::lab("eof", 1) else { return };
    let mut command = with_terminal(&lab, "stty -echo; echo ready; cat; echo end");
    command.stdin(Stdio::piped());
    let (mut child, mut out) = await_ready(command);
    child.stdin.take().unwrap().write_all(b"a line\n").unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a line\r\nend\r\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_terminals_last_words_are_not_lost() {
    let Some(lab) = world::lab("last", 1) else { return };
    for _ in 0..10 {
        let output = with_terminal(&lab, "seq 1 5000").stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.ends_with("5000\r\n") && text.lines().count() >= 5000, "{}", text.len());
    }
}
