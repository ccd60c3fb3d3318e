//! One guest, running.

use crate::cluster::Reaped;
use crate::place::{Place, wait};
use crate::{Feed, Guest, SOON, Stream, needs, terminal};
use anyhow::{Context as _, Result, bail};
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Where a guest's input and output go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Pipes.
    Pipes,
    /// A terminal.
    Terminal,
}

/// A guest that was started, with what it prints.
///
/// Dropped while it runs it is killed, at home as well as here.
pub struct Run<'a> {
    place: Place<'a>,
    child: Reaped,
    input: Option<Box<dyn Write + Send>>,
    output: Arc<Stream>,
    errors: Option<Arc<Stream>>,
    /// Where the guest's own output begins: behind the line with its pid.
    begin: usize,
    /// Its pid in its place.
    pub pid: i32,
    /// Its scratch directory.
    pub scratch: String,
    ended: bool,
}

impl<'a> Run<'a> {
    /// Starts a guest, and waits until it is ready (if it says so).
    pub fn start(place: Place<'a>, guest: &Guest) -> Result<Run<'a>> {
        let (scratch, guests) = (place.scratch()?, place.guests()?);
        let word = |word: &&str| {
            word.replace("{guests}", &guests)
                .replace("{scratch}", &scratch)
                .replace("{python}", needs::python())
                .replace("{argument}", guest.argument)
        };
        let words: Vec<String> = guest.command.iter().map(word).collect();
        let input = if matches!(guest.feed, Feed::Terminal(_)) { Input::Terminal } else { Input::Pipes };
        let run = Run::command(place, &words, input, scratch)?;
        if !matches!(guest.feed, Feed::Data(_)) {
            run.expect("ready", 0)?;
        }
        Ok(run)
    }

    /// Starts a command line; the shell in front of it tells the pid and becomes the command.
    pub fn command(place: Place<'a>, words: &[String], input: Input, scratch: String) -> Result<Run<'a>> {
        let mut arguments = vec!["sh", "-c", "echo $$; exec \"$@\"", "sh"];
        arguments.extend(words.iter().map(String::as_str));
        let mut command = place.command(&arguments, input == Input::Terminal);
        let mut run = match input {
            Input::Pipes => Run::on_pipes(place, &mut command, scratch)?,
            Input::Terminal => Run::on_terminal(place, &command, scratch)?,
        };
        run.begin = run.output.wait_for("\n", 0, SOON).with_context(|| format!("no pid: {}", run.said()))?;
        let told = run.output.text();
        let line = told.lines().next().unwrap_or_default().trim();
        run.pid = line.parse().with_context(|| format!("'{line}' is no pid"))?;
        Ok(run)
    }

    fn on_pipes(place: Place<'a>, command: &mut Command, scratch: String) -> Result<Run<'a>> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        let input: ChildStdin = child.stdin.take().context("no pipe")?;
        let output = Stream::of(child.stdout.take().context("no pipe")?);
        let errors = Some(Stream::of(child.stderr.take().context("no pipe")?));
        let input: Option<Box<dyn Write + Send>> = Some(Box::new(input));
        Ok(Run {
            place,
            child: Reaped(child),
            input,
            output,
            errors,
            begin: 0,
            pid: 0,
            scratch,
            ended: false,
        })
    }

    fn on_terminal(place: Place<'a>, inner: &Command, scratch: String) -> Result<Run<'a>> {
        let (ours, theirs) = terminal::pair()?;
        // setsid makes it the controlling terminal of a new session.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(inner.get_program()).args(inner.get_args());
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
        let child = command.spawn().context("failed to start setsid")?;
        // The command still holds the program's end: as long as it does, the terminal does not end.
        drop(command);
        let output = Stream::of(ours.try_clone()?);
        let input: Option<Box<dyn Write + Send>> = Some(Box::new(ours));
        Ok(Run {
            place,
            child: Reaped(child),
            input,
            output,
            errors: None,
            begin: 0,
            pid: 0,
            scratch,
            ended: false,
        })
    }

    /// Where it was started.
    pub fn place(&self) -> Place<'a> {
        self.place
    }

    /// What it prints; the line with its pid comes first.
    pub fn output(&self) -> &Stream {
        &self.output
    }

    /// How much it has printed, pid line and all; for [`Run::expect`].
    pub fn position(&self) -> usize {
        self.output.length()
    }

    /// Waits until it has printed this behind the position.
    pub fn expect(&self, text: &str, from: usize) -> Result<usize> {
        self.output.wait_for(text, from.max(self.begin), SOON).with_context(|| self.said())
    }

    /// Gives it input.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let input = self.input.as_mut().context("its input was closed")?;
        let written = input.write_all(bytes).and_then(|()| input.flush());
        written.with_context(|| format!("failed to write to the guest\n{}", self.said()))
    }

    /// Ends its input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// The writing end of its input, to be filled by another thread.
    pub fn take_input(&mut self) -> Result<Box<dyn Write + Send>> {
        self.input.take().context("its input was closed")
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end: its exit status and everything it printed, without the line with its pid.
    pub fn end(&mut self, patience: Duration) -> Result<(i32, Vec<u8>)> {
        let Some(status) = wait(&mut self.child.0, patience)? else {
            bail!("it did not end in {patience:?}\n{}", self.said());
        };
        self.ended = true;
        if !self.output.wait_end(SOON) {
            bail!("somebody holds its output open after its end\n{}", self.said());
        }
        let mut bytes = self.output.bytes();
        Ok((status, bytes.split_off(self.begin)))
    }

    /// The number behind the last such text that it has said.
    pub fn number_after(&self, text: &str) -> Result<i32> {
        let said = self.output.text();
        let after = said.rsplit(text).next().unwrap_or_default();
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("no number after '{text}' in: {said}"))
    }

    /// What it said until now, for the reader of a failure.
    pub fn said(&self) -> String {
        let errors = self.errors.as_ref().map(|errors| errors.text()).unwrap_or_default();
        let output = self.output.text();
        let from = output.len().saturating_sub(2000);
        let from = (from..=output.len()).find(|at| output.is_char_boundary(*at)).unwrap_or(0);
        format!("pid {} printed:\n{}{errors}", self.pid, &output[from..])
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if !self.ended && self.pid > 0 && !self.has_ended() {
            drop(self.place.shell(&format!("kill -9 {}", self.pid)));
        }
    }
}
