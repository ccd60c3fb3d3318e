//! Full-screen views on a real terminal: whoever ends or stops them finds it as it was.

use crate::world::{Node, good, om};
use std::process::Command;

/// Runs the program that is its first argument on a terminal of its own, does what the second says, and tells in one line what
/// came of it: how the program ended, whether the modes of the terminal are as they were, and which screen is shown.
const ON_A_TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios, time
deed, argv = sys.argv[1], sys.argv[2:]
master, slave = pty.openpty()
size = lambda rows, columns: fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
size(24, 80)
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3): os.dup2(slave, fd)
    os.execv(argv[0], argv)
said = b""
deadline = time.monotonic() + 15
def until(what, seen):
    global said
    while not seen():
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            sys.exit("waited in vain until %s: %r" % (what, said[-2000:]))
        if select.select([master], [], [], 0.02)[0]: said += os.read(master, 65536)
def raw(): return not termios.tcgetattr(slave)[3] & termios.ICANON
def on(): return said.rfind(b"\x1b[?1049h") > said.rfind(b"\x1b[?1049l")
status = None
def waited(flags=0):
    global status
    who, how = os.waitpid(pid, os.WNOHANG | flags)
    if who: status = how
    return bool(who)
until("it draws", lambda: on() and raw() and b"q quits" in said)
if deed.startswith("SIG"):
    os.kill(pid, getattr(signal, deed))
elif deed == "resize":
    said = b""
    size(40, 132)
    os.kill(pid, signal.SIGWINCH)
    until("its last line is the new last line", lambda: b"\x1b[40;1H" in said)
    said = b"\x1b[?1049h"
    os.write(master, b"q")
elif deed in ("stop", "kill-stop"):
    if deed == "stop": os.write(master, b"\x1a")
    else: os.kill(pid, signal.SIGTSTP)
    until("it stops", lambda: waited(os.WUNTRACED))
    until("the screen is left", lambda: not on())
    if not os.WIFSTOPPED(status): sys.exit("it ended: %d" % status)
    if termios.tcgetattr(slave) != before: sys.exit("it stopped with other modes")
    said = b""
    os.kill(pid, signal.SIGCONT)
    until("it draws again", lambda: on() and raw() and b"q quits" in said)
    os.write(master, b"q")
until("it ends", waited)
until("the screen is left", lambda: not on())
same = termios.tcgetattr(slave) == before
how = "signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else "code %d" % os.WEXITSTATUS(status)
print(how, "same modes" if same else "other modes")
"#;

fn on_a_terminal(node: &Node, tool: &str, deed: &str) -> String {
    let program = om().get_program().to_owned();
    let mut python = Command::new("python3");
    python.args(["-c", ON_A_TERMINAL, deed]).arg(program).arg(tool).env("OM_SOCKET", node.socket());
    good(&mut python)
}

#[test]
fn a_view_gives_the_terminal_back_however_it_ends() {
    let base = tempfile::tempdir().unwrap();
    let alpha = Node::found(base.path(), "alpha");
    for (deed, how) in [
        ("SIGTERM", "signal 15"),
        ("SIGHUP", "signal 1"),
        ("SIGINT", "signal 2"),
        ("resize", "code 0"),
        ("stop", "code 0"),
        ("kill-stop", "code 0"),
    ] {
        for tool in ["mon", "top"] {
            let came = on_a_terminal(&alpha, tool, deed);
            assert_eq!(came, format!("{how} same modes\n"), "{tool} {deed}");
        }
    }
}
