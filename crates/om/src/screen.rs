//! A full-screen view of something that the daemon knows: asked for each second, drawn at once when a key is pressed or
//! the terminal changes its size.
//!
//! What is drawn is a pure function of the last answer, the view and the size; everything that is not pure is here. Asking
//! has a thread of its own, so that keys are never slow; a daemon that is gone is asked again until it is back, and the
//! last answer stays on the screen meanwhile. What signals do to the terminal is in [`crate::terminal`].

use crate::arguments::Screen as Arguments;
use crate::client::Client;
use crate::exit::Failure;
use crate::terminal::{Terminal, end_by};
use anyhow::Context as _;
use control::{Answer, Request};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use nix::sys::signal::Signal;
use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::{Modifier, Style};
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

/// How often the daemon is asked.
const REFRESH: Duration = Duration::from_secs(1);
/// How long an answer may wait to be drawn.
const TURN: Duration = Duration::from_millis(100);
/// The size of what is printed where there is no terminal.
const PAPER: Size = Size { width: 80, height: 24 };

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    On,
    Quit,
}

/// A view.
pub(crate) trait Screen {
    /// What it asks.
    fn request(&self) -> Request;
    /// Takes in an answer; `false` where it is one to another question.
    fn take(&mut self, answer: Answer, now: Instant) -> bool;
    /// A key was pressed.
    fn key(&mut self, key: KeyCode) -> Flow;
    /// Draws itself; the last line is the caller's.
    fn draw(&self, area: Rect, buffer: &mut Buffer);
}

/// Shows a view until somebody quits it, or once.
pub(crate) fn run(arguments: &Arguments, mut screen: impl Screen) -> Result<(), Failure> {
    let socket = &arguments.common.socket;
    let mut client = Client::connect(socket)?;
    let first = client.ask(&screen.request())?;
    if arguments.common.json {
        return crate::commands::show(true, &first, String::new);
    }
    let known = screen.take(first, Instant::now());
    if !known {
        return Err(crate::client::unexpected());
    }
    if arguments.once || !std::io::stdout().is_terminal() {
        let size = crossterm::terminal::size().map_or(PAPER, |(width, height)| Size { width, height });
        return crate::commands::print(text(&screen, size).as_bytes());
    }
    let mut terminal = Terminal::take().context("failed to set up the terminal")?;
    let (sender, answers) = mpsc::sync_channel(1);
    let (request, socket) = (screen.request(), socket.clone());
    std::thread::spawn(move || ask(&socket, &request, client, &sender));
    let outcome = turn(&mut terminal, &mut screen, &answers);
    terminal.give_back();
    if let Some(signal) = outcome.context("failed to draw on the terminal")? {
        end_by(signal);
    }
    Ok(())
}

/// Shows it until somebody quits it, or the signal comes that it answers.
fn turn(
    terminal: &mut Terminal,
    screen: &mut impl Screen,
    answers: &Receiver<Result<Answer, Failure>>,
) -> std::io::Result<Option<Signal>> {
    let mut trouble = None;
    loop {
        if let Some(signal) = terminal.heed()? {
            return Ok(Some(signal));
        }
        while let Ok(answer) = answers.try_recv() {
            trouble = match answer {
                Ok(answer) => {
                    (!screen.take(answer, Instant::now())).then(|| crate::client::unexpected().to_string())
                }
                Err(failure) => Some(failure.to_string()),
            };
        }
        terminal.screen.draw(|frame| {
            let (body, foot) = split(frame.area());
            screen.draw(body, frame.buffer_mut());
            let line = trouble.as_deref().unwrap_or("q quits, h helps");
            let style = Style::new().add_modifier(Modifier::REVERSED);
            frame.buffer_mut().set_stringn(foot.x, foot.y, line, usize::from(foot.width), style);
        })?;
        if event::poll(TURN)?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            if with_control(key, 'z') {
                terminal.stop()?;
            } else if with_control(key, 'c') || screen.key(key.code) == Flow::Quit {
                return Ok(None);
            }
        }
    }
}

fn with_control(key: KeyEvent, letter: char) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char(letter)
}

fn split(area: Rect) -> (Rect, Rect) {
    let foot = u16::from(area.height > 1);
    let body = Rect { height: area.height - foot, ..area };
    (body, Rect { y: area.y + body.height, height: foot, ..area })
}

/// Asks again and again, over one connection for as long as it lasts.
fn ask(socket: &Path, request: &Request, client: Client, answers: &SyncSender<Result<Answer, Failure>>) {
    let mut connection = Some(client);
    loop {
        let client = connection.take().map_or_else(|| Client::connect(socket), Ok);
        let answer = client.and_then(|mut client| {
            let answer = client.ask(request)?;
            connection = Some(client);
            Ok(answer)
        });
        if answers.send(answer).is_err() {
            return;
        }
        std::thread::sleep(REFRESH);
    }
}

/// What a view looks like, as lines of text.
pub(crate) fn text(screen: &impl Screen, size: Size) -> String {
    let area = Rect { x: 0, y: 0, width: size.width, height: size.height };
    let mut buffer = Buffer::empty(area);
    screen.draw(area, &mut buffer);
    let mut text = String::new();
    for row in buffer.content.chunks(usize::from(size.width.max(1))) {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    format!("{}\n", text.trim_end())
}

/// Writes a text, which is cut off where the area ends.
pub(crate) fn write(buffer: &mut Buffer, area: Rect, x: u16, y: u16, text: &str, style: Style) {
    if y < area.height && x < area.width {
        let room = usize::from(area.width - x);
        let text: String =
            text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
        buffer.set_stringn(area.x + x, area.y + y, text, room, style);
    }
}
