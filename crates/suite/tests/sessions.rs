//! Sessions, process groups and terminals of programs that are away: each scene is played twice, with the program at home
//! and while it moves about, and what the program notes must be the same.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use suite::{Cluster, Input, Place, Run, SOON, looked_for, main as run, trial};

fn main() -> ExitCode {
    run(vec![
        trial("reads-from-the-background", &["cc", "bash", "ps"], || twice(background_read)),
        trial("writes-from-the-background", &["cc", "bash", "ps"], || twice(background_write)),
        trial("sets-its-terminal-from-the-background", &["cc", "bash", "ps"], || twice(background_settings)),
        trial("its-group-is-orphaned", &["cc", "bash", "ps"], || twice(orphaned)),
        trial("survives-its-terminal", &["cc", "bash"], || twice(nohup)),
        trial("loses-its-terminal", &["cc", "bash"], || twice(hangup)),
        trial("in-script", &["cc", "script"], || twice(in_script)),
        trial("in-tmux", &["cc", "tmux"], || twice(in_tmux)),
    ])
}

/// The guest `session` and where it is told what to do.
struct Actor {
    place: Place<'static>,
    directory: String,
    pid: i32,
    travels: bool,
}

impl Actor {
    /// The guest's command line for a scene in this directory.
    fn line(place: Place<'_>, directory: &str) -> Result<String> {
        Ok(format!("{}/session {directory}/orders {directory}/results", place.guests()?))
    }

    /// The guest, once it has begun.
    fn enter(place: Place<'static>, directory: &str, travels: bool) -> Result<Actor> {
        let mut actor = Actor { place, directory: directory.to_owned(), pid: 0, travels };
        let said = actor.noted("pid ")?;
        let pid = said.lines().find_map(|line| line.strip_prefix("pid ")).context("no pid")?;
        actor.pid = pid.parse().with_context(|| said.clone())?;
        Ok(actor)
    }

    fn results(&self) -> Result<String> {
        self.place.must(&format!("cat {}/results 2>/dev/null || true", self.directory))
    }

    /// Waits until it has noted this.
    fn noted(&self, text: &str) -> Result<String> {
        looked_for(&format!("'{text}' in its notes"), || self.results(), |said| said.contains(text))
    }

    fn order(&self, order: &str) -> Result<()> {
        self.place.must(&format!("echo {order} > {}/orders", self.directory)).map(drop)
    }

    /// Moves, where this is the scene with moves.
    fn go(&self, to: &str) -> Result<()> {
        if self.travels {
            let moved = self.place.migrate_patiently(self.pid, to)?;
            ensure!(moved.is_ok(), "{moved:?}");
        }
        Ok(())
    }

    /// Waits until `ps` at home shows it stopped, or running.
    fn is_stopped(&self, wanted: bool) -> Result<()> {
        let is_so = |state: &str| state.starts_with('T') == wanted;
        let look = || self.place.state(self.pid);
        looked_for(&format!("a state of which stopped is {wanted}"), look, is_so).map(drop)
    }

    /// Ends it; everything that it noted, but for its pid.
    fn leave(self) -> Result<String> {
        self.order("quit")?;
        let said = self.noted("quit")?;
        Ok(said.lines().filter(|line| !line.starts_with("pid ")).map(|line| format!("{line}\n")).collect())
    }
}

/// Plays a scene at home and away, and compares.
fn twice(scene: fn(bool) -> Result<String>) -> Result<()> {
    let at_home = scene(false).context("at home")?;
    let away = scene(true).context("away")?;
    ensure!(at_home == away, "at home:\n{at_home}away:\n{away}");
    Ok(())
}

/// A shell with job control on a terminal, with the guest as its job in the background.
fn shell_with_job(travels: bool, before: &str) -> Result<(Run<'static>, Actor)> {
    let place = Cluster::shared()?.home();
    let directory = place.scratch()?;
    let words = ["bash", "--norc", "--noprofile", "-i"].map(str::to_owned);
    let mut run = Run::command(place, &words, Input::Terminal, directory.clone())?;
    run.send(b"PS1='$ '; stty -echo\n")?;
    run.expect("$ ", 0)?;
    run.send(format!("{before}{} &\n", Actor::line(place, &directory)?).as_bytes())?;
    let actor = Actor::enter(place, &directory, travels)?;
    Ok((run, actor))
}

fn background_read(travels: bool) -> Result<String> {
    let (mut run, actor) = shell_with_job(travels, "")?;
    actor.go("n2")?;
    actor.order("ids")?;
    actor.order("read")?;
    actor.is_stopped(true)?;
    for to in ["n3", "home", "n2"] {
        actor.go(to)?;
        actor.is_stopped(true)?;
    }
    run.send(b"fg\n")?;
    actor.noted("continued")?;
    // It is still in the middle of its read.
    actor.go("n3")?;
    run.send(b"typed\n")?;
    actor.noted("read: typed")?;
    actor.go("home")?;
    let noted = actor.leave()?;
    run.send(b"exit 0\n")?;
    run.end(SOON)?;
    Ok(noted)
}

fn background_write(travels: bool) -> Result<String> {
    let (mut run, actor) = shell_with_job(travels, "stty tostop; ")?;
    actor.go("n2")?;
    let at = run.position();
    actor.order("write")?;
    actor.is_stopped(true)?;
    actor.go("n3")?;
    actor.go("home")?;
    actor.is_stopped(true)?;
    run.send(b"fg\n")?;
    run.expect("written", at)?;
    actor.noted("write: done")?;
    let noted = actor.leave()?;
    run.send(b"exit 0\n")?;
    run.end(SOON)?;
    Ok(noted)
}

fn background_settings(travels: bool) -> Result<String> {
    let (mut run, actor) = shell_with_job(travels, "")?;
    actor.go("n2")?;
    actor.order("settings")?;
    actor.is_stopped(true)?;
    actor.go("home")?;
    actor.go("n3")?;
    actor.is_stopped(true)?;
    run.send(b"fg\n")?;
    actor.noted("settings: done")?;
    actor.go("n2")?;
    actor.order("ids")?;
    actor.noted("ids:")?;
    let noted = actor.leave()?;
    run.send(b"exit 0\n")?;
    run.end(SOON)?;
    Ok(noted)
}

/// Its parent ends while it is stopped: the kernel hangs it up and continues it, and from then on nobody can stop it by its
/// terminal.
fn orphaned(travels: bool) -> Result<String> {
    let (mut run, actor) = shell_with_job(travels, "")?;
    actor.go("n2")?;
    actor.place.must(&format!("kill -STOP {}", actor.pid))?;
    actor.is_stopped(true)?;
    actor.go("n3")?;
    actor.is_stopped(true)?;
    // Not by its `exit`: with stopped jobs it would ask, and then it would hang them up itself.
    actor.place.must(&format!("kill -KILL {}", run.pid))?;
    actor.noted("hung up")?;
    actor.noted("continued")?;
    actor.is_stopped(false)?;
    // Until its terminal is closed it would be told something else there.
    drop(run.end(SOON)?);
    actor.go("n2")?;
    actor.order("read")?;
    actor.noted("read: ")?;
    let mut noted = actor.leave()?.lines().map(str::to_owned).collect::<Vec<_>>();
    // Both signals come at once; which handler runs first is chance.
    noted.sort();
    Ok(noted.join("\n"))
}

/// Started with `nohup`, it goes on when its terminal is gone.
fn nohup(travels: bool) -> Result<String> {
    let (mut run, actor) = shell_with_job(travels, "nohup ")?;
    actor.go("n2")?;
    // The shell hangs its jobs up when it is hung up itself.
    actor.place.must(&format!("kill -HUP {}", run.pid))?;
    run.end(SOON)?;
    actor.order("terminal")?;
    actor.noted("terminal: ")?;
    actor.go("n3")?;
    actor.order("ids")?;
    actor.order("write")?;
    actor.noted("write: ")?;
    actor.leave()
}

/// Hung up with its terminal, it makes a session of its own.
fn hangup(travels: bool) -> Result<String> {
    let place = Cluster::shared()?.home();
    let directory = place.scratch()?;
    let line = format!("{}; exit", Actor::line(place, &directory)?);
    let words = ["sh".to_owned(), "-c".to_owned(), line];
    let mut run = Run::command(place, &words, Input::Terminal, directory.clone())?;
    let actor = Actor::enter(place, &directory, travels)?;
    actor.go("n2")?;
    actor.order("terminal")?;
    actor.noted("terminal: done")?;
    // The leader of its session ends, and with it the terminal.
    place.must(&format!("kill -KILL {}", run.pid))?;
    actor.noted("hung up")?;
    drop(run.end(SOON)?);
    actor.order("read")?;
    actor.noted("read: ")?;
    actor.go("n3")?;
    actor.order("terminal")?;
    actor.order("setsid")?;
    actor.noted("setsid: ")?;
    actor.order("terminal")?;
    actor.order("ids")?;
    actor.leave()
}

/// Within `script`, whose record must have everything.
fn in_script(travels: bool) -> Result<String> {
    let place = Cluster::shared()?.home();
    let directory = place.scratch()?;
    let line = Actor::line(place, &directory)?;
    let words = ["script", "-q", "-e", "-c", &line, &format!("{directory}/record")].map(str::to_owned);
    let mut run = Run::command(place, &words, Input::Terminal, directory.clone())?;
    let actor = Actor::enter(place, &directory, travels)?;
    actor.go("n2")?;
    actor.order("write")?;
    actor.noted("write: done")?;
    actor.order("read")?;
    run.send(b"typed\n")?;
    actor.noted("read: typed")?;
    actor.go("n3")?;
    actor.order("write")?;
    actor.order("ids")?;
    let mut noted = actor.leave()?;
    let (status, _) = run.end(SOON)?;
    let record = place.must(&format!("grep -v ^Script {directory}/record | tr -d '\\r'"))?;
    noted.push_str(&format!("status {status}\n{record}"));
    ensure!(record.matches("written").count() == 2 && record.contains("typed"), "the record has {record}");
    Ok(noted)
}

/// Within `tmux`, seen by what its pane shows.
fn in_tmux(travels: bool) -> Result<String> {
    let place = Cluster::shared()?.home();
    let directory = place.scratch()?;
    let tmux = |order: &str| place.must(&format!("tmux -S {directory}/tmux -f /dev/null {order}"));
    let line = Actor::line(place, &directory)?;
    tmux(&format!("new-session -d -x 80 -y 24 '{line}'"))?;
    let actor = Actor::enter(place, &directory, travels)?;
    let played = (|| {
        actor.go("n2")?;
        actor.order("write")?;
        actor.noted("write: done")?;
        tmux("send-keys typed Enter")?;
        actor.order("read")?;
        actor.noted("read: typed")?;
        actor.go("n3")?;
        actor.order("ids")?;
        actor.order("terminal")?;
        actor.noted("terminal: ")?;
        let shown = tmux("capture-pane -p")?;
        ensure!(shown.contains("written") && shown.contains("typed"), "its pane shows {shown}");
        Ok(shown)
    })();
    tmux("kill-server")?;
    let shown = played?;
    actor.noted("hung up")?;
    Ok(format!("{}{shown}", actor.leave()?))
}
