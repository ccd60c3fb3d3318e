//! `mtop`: the processes that were moved and the guests, with what they use just now.

use crate::screen::{Flow, Screen, write};
use crate::tables::size;
use control::{Answer, GuestRow, ProcessRow, ProcessState, Request};
use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Instant;

/// Which process a line is of: the pid at home, and of a guest its home.
type Key = (i32, Option<model::NodeId>);

/// One line.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    key: Key,
    name: String,
    home: model::NodeId,
    node: Option<model::NodeId>,
    state: &'static str,
    moves: Option<u64>,
    memory_bytes: u64,
    cpu_ms: u64,
    /// Of one CPU, since the last answer.
    percent: f64,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Cpu,
    Memory,
    Pid,
}

/// The view.
#[derive(Debug, Default)]
pub(crate) struct Mtop {
    lines: Vec<Line>,
    before: Option<Instant>,
    order: Order,
    first: usize,
    help: bool,
}

const KEYS: &[(&str, &str)] = &[
    ("P", "those first that compute most"),
    ("M", "those first that have most memory"),
    ("N", "by pid"),
    ("\u{2191} \u{2193}", "scroll"),
    ("h", "this help"),
    ("q", "quit"),
];

/// Columns: where each begins, and what stands over it.
const COLUMNS: [(u16, &str); 9] = [
    (0, "    PID"),
    (8, "HOME"),
    (13, "NODE"),
    (18, "STATE"),
    (25, "MOVES"),
    (31, "  MEMORY"),
    (41, "   CPU"),
    (48, "   %CPU"),
    (57, "NAME"),
];

impl Screen for Mtop {
    fn request(&self) -> Request {
        Request::Ps
    }

    fn take(&mut self, answer: Answer, now: Instant) -> bool {
        let Answer::Processes { own, guests } = answer else { return false };
        let seconds = self.before.map_or(0.0, |before| (now - before).as_secs_f64());
        let before: HashMap<Key, u64> = self.lines.iter().map(|line| (line.key, line.cpu_ms)).collect();
        self.lines = own.iter().map(of_own).chain(guests.iter().map(of_guest)).collect();
        for line in &mut self.lines {
            if let Some(cpu_ms) = before.get(&line.key).filter(|_| seconds > 0.0) {
                line.percent = line.cpu_ms.saturating_sub(*cpu_ms) as f64 / seconds / 10.0;
            }
        }
        self.before = Some(now);
        self.sort();
        true
    }

    fn key(&mut self, key: KeyCode) -> Flow {
        match key {
            KeyCode::Char('P') => self.order = Order::Cpu,
            KeyCode::Char('M') => self.order = Order::Memory,
            KeyCode::Char('N') => self.order = Order::Pid,
            KeyCode::Char('h' | '?') => self.help = !self.help,
            KeyCode::Esc => self.help = false,
            KeyCode::Up => self.first = self.first.saturating_sub(1),
            KeyCode::Down => self.first += 1,
            KeyCode::Home => self.first = 0,
            KeyCode::Char('q') => return Flow::Quit,
            _ => {}
        }
        self.sort();
        Flow::On
    }

    fn draw(&self, area: Rect, buffer: &mut Buffer) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.help {
            write(buffer, area, 0, 0, "mtop", bold);
            for ((keys, text), y) in KEYS.iter().zip(2..) {
                write(buffer, area, 2, y, keys, bold);
                write(buffer, area, 9, y, text, Style::new());
            }
            return;
        }
        let count = |state: &str| self.lines.iter().filter(|line| line.state == state).count();
        let (away, guests) = (count("away"), count("guest"));
        let sum = format!("{} processes: {away} away, {guests} guests", self.lines.len());
        write(buffer, area, 0, 0, &sum, Style::new());
        for (x, title) in COLUMNS {
            write(buffer, area, x, 1, title, bold);
        }
        for (line, y) in self.lines.iter().skip(self.first).zip(2..area.height) {
            for ((x, _), text) in COLUMNS.iter().zip(line.cells()) {
                write(buffer, area, *x, y, &text, Style::new());
            }
        }
    }
}

impl Mtop {
    fn sort(&mut self) {
        match self.order {
            Order::Cpu => self.lines.sort_by(|a, b| b.percent.total_cmp(&a.percent).then(a.key.cmp(&b.key))),
            Order::Memory => self.lines.sort_by_key(|line| (Reverse(line.memory_bytes), line.key)),
            Order::Pid => self.lines.sort_by_key(|line| line.key),
        }
        self.first = self.first.min(self.lines.len().saturating_sub(1));
    }
}

impl Line {
    fn cells(&self) -> [String; COLUMNS.len()] {
        let seconds = self.cpu_ms / 1000;
        [
            format!("{:>7}", self.key.0),
            format!("{:>4}", self.home.get()),
            self.node.map_or("   -".to_owned(), |node| format!("{:>4}", node.get())),
            self.state.to_owned(),
            self.moves.map_or("    -".to_owned(), |moves| format!("{moves:>5}")),
            format!("{:>8}", size(self.memory_bytes)),
            format!("{:>3}:{:02}", seconds / 60, seconds % 60),
            format!("{:>7.1}", self.percent),
            self.name.clone(),
        ]
    }
}

fn of_own(row: &ProcessRow) -> Line {
    Line {
        key: (row.pid, None),
        name: row.name.clone(),
        home: row.home,
        node: Some(row.node),
        state: match row.state {
            ProcessState::Home => "home",
            ProcessState::Away => "away",
            ProcessState::Moving => "moving",
        },
        moves: Some(row.moves),
        memory_bytes: row.memory_bytes,
        cpu_ms: row.cpu_ms,
        percent: 0.0,
    }
}

/// It runs here, and how often it has moved only its home knows.
fn of_guest(row: &GuestRow) -> Line {
    Line {
        key: (row.pid, Some(row.home)),
        name: row.name.clone(),
        home: row.home,
        node: None,
        state: "guest",
        moves: None,
        memory_bytes: row.memory_bytes,
        cpu_ms: row.cpu_ms,
        percent: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::text;
    use model::NodeId;
    use ratatui::layout::Size;
    use std::time::Duration;

    fn node(id: u16) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn answer(cpu_ms: u64) -> Answer {
        let row = |pid, name: &str, cpu_ms| ProcessRow {
            pid,
            name: name.to_owned(),
            uid: 1000,
            home: node(1),
            node: node(2),
            state: ProcessState::Away,
            moves: 3,
            memory_bytes: 5 << 20,
            cpu_ms,
            forwarded: 9,
        };
        let guest = GuestRow {
            pid: 77,
            local_pid: 5,
            name: "gu\u{1b}est".to_owned(),
            home: node(3),
            memory_bytes: 1 << 30,
            cpu_ms: 61_000,
        };
        Answer::Processes { own: vec![row(4711, "idle", 0), row(4712, "busy", cpu_ms)], guests: vec![guest] }
    }

    #[test]
    fn a_table_with_the_busy_first() {
        let mut mtop = Mtop::default();
        let begin = Instant::now();
        assert!(mtop.take(answer(1000), begin));
        assert!(mtop.take(answer(1500), begin + Duration::from_secs(1)));
        let expected = "\
3 processes: 2 away, 1 guests
    PID HOME NODE STATE  MOVES   MEMORY     CPU    %CPU  NAME
   4712    1    2 away       3    5 MiB    0:01    50.0  busy
     77    3    - guest      -  1.0 GiB    1:01     0.0  gu?est
   4711    1    2 away       3    5 MiB    0:00     0.0  idle
";
        assert_eq!(text(&mtop, Size::new(80, 24)), expected);
        mtop.key(KeyCode::Char('M'));
        mtop.key(KeyCode::Down);
        assert_eq!(text(&mtop, Size::new(12, 4)).lines().nth(2), Some("   4711    1"));
        assert!(!mtop.take(Answer::Nodes { nodes: Vec::new() }, begin));
        assert_eq!(mtop.key(KeyCode::Char('q')), Flow::Quit);
    }

    #[test]
    fn no_size_is_too_small() {
        let mut mtop = Mtop::default();
        mtop.take(answer(1), Instant::now());
        for (width, height) in [(1, 1), (1, 3), (200, 1), (3, 100)] {
            text(&mtop, Size::new(width, height));
            mtop.key(KeyCode::Char('h'));
        }
    }
}
