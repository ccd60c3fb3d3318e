//! `mosmon`: the nodes as bars, with openMosix's own keys.

use crate::screen::{Flow, Screen, write};
use crate::tables::size;
use control::{Answer, NodeFound, NodeRow, Request};
use crossterm::event::KeyCode;
use model::limits::{LOAD_PER_CPU, SPEED_STANDARD};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use std::time::Instant;

/// Columns of the scale at the left.
const SCALE: u16 = 9;
/// Columns of a node: its number across, or upright.
const ACROSS: u16 = 6;
const UPRIGHT: u16 = 2;
/// Digits of the highest node number.
const DIGITS: u16 = 5;

/// What the bars show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shown {
    #[default]
    Load,
    Speed,
    Memory,
    Utilisation,
}

/// How the numbers of the nodes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Numbers {
    /// Upright where there are more nodes than fit otherwise.
    #[default]
    Automatic,
    Upright,
    Across,
}

/// The view.
#[derive(Debug, Default)]
pub(crate) struct Mosmon {
    rows: Vec<NodeRow>,
    shown: Shown,
    numbers: Numbers,
    with_dead: bool,
    with_totals: bool,
    help: bool,
    first: usize,
}

const KEYS: &[(&str, &str)] = &[
    ("l", "load: 100 is one standard CPU fully busy"),
    ("s", "speed: 10000 is a standard CPU"),
    ("m", "memory: used, of all there is"),
    ("u", "utilisation of the CPUs, percent"),
    ("d", "show dead nodes, or hide them"),
    ("t", "show totals, or hide them"),
    ("v w a", "numbers of nodes upright, across, as they fit"),
    ("\u{2190} \u{2192}", "scroll; Home and End go to the ends"),
    ("h", "this help"),
    ("q", "quit"),
];

impl Screen for Mosmon {
    fn request(&self) -> Request {
        Request::Nodes
    }

    fn take(&mut self, answer: Answer, _now: Instant) -> bool {
        let Answer::Nodes { nodes } = answer else { return false };
        self.rows = nodes;
        true
    }

    fn key(&mut self, key: KeyCode) -> Flow {
        match key {
            KeyCode::Char('l' | 'L') => self.shown = Shown::Load,
            KeyCode::Char('s') => self.shown = Shown::Speed,
            KeyCode::Char('m' | 'r') => self.shown = Shown::Memory,
            KeyCode::Char('u') => self.shown = Shown::Utilisation,
            KeyCode::Char('d') => self.with_dead = !self.with_dead,
            KeyCode::Char('t') => self.with_totals = !self.with_totals,
            KeyCode::Char('v' | 'V') => self.numbers = Numbers::Upright,
            KeyCode::Char('w') => self.numbers = Numbers::Across,
            KeyCode::Char('a') => self.numbers = Numbers::Automatic,
            KeyCode::Char('h' | '?') => self.help = !self.help,
            KeyCode::Left => self.first = self.first.saturating_sub(1),
            KeyCode::Right => self.first += 1,
            KeyCode::Home => self.first = 0,
            KeyCode::End => self.first = usize::MAX,
            KeyCode::Char('q') => return Flow::Quit,
            KeyCode::Esc if self.help => self.help = false,
            _ => {}
        }
        // What is left of the last node would be nothing.
        self.first = self.first.min(self.nodes().count().saturating_sub(1));
        Flow::On
    }

    fn draw(&self, area: Rect, buffer: &mut Buffer) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.help {
            write(buffer, area, 0, 0, "mosmon", bold);
            for ((keys, text), y) in KEYS.iter().zip(2..) {
                write(buffer, area, 2, y, keys, bold);
                write(buffer, area, 9, y, text, Style::new());
            }
            return;
        }
        write(buffer, area, 0, 0, self.shown.title(), bold);
        let mut top = 1;
        if self.with_totals {
            write(buffer, area, 0, top, &totals(&self.rows), Style::new());
            top += 1;
        }
        self.draw_bars(area, top, buffer);
    }
}

impl Mosmon {
    fn nodes(&self) -> impl Iterator<Item = &NodeRow> {
        self.rows.iter().filter(|row| row.alive || self.with_dead)
    }

    fn draw_bars(&self, area: Rect, top: u16, buffer: &mut Buffer) {
        let room = area.width.saturating_sub(SCALE);
        let upright = match self.numbers {
            Numbers::Upright => true,
            Numbers::Across => false,
            Numbers::Automatic => self.nodes().count() > usize::from(room / ACROSS),
        };
        let (width, foot) = if upright { (UPRIGHT, DIGITS) } else { (ACROSS, 1) };
        // The line under the bars, and the numbers under it.
        let Some(height) = area.height.checked_sub(top + 1 + foot).filter(|height| *height > 0) else {
            return;
        };
        let base = top + height;
        let most =
            self.nodes().filter_map(|row| self.shown.value(row)).map(|bar| bar.whole).fold(0.0, f64::max);
        let scale = self.shown.scale(most);
        for (share, y) in [(1.0, top), (0.5, top + height / 2), (0.0, base)] {
            let text = format!("{:>7} ", self.shown.written(scale * share));
            write(buffer, area, 0, y, &text, Style::new());
        }
        for y in top..base {
            write(buffer, area, SCALE - 1, y, "\u{2502}", Style::new());
        }
        write(buffer, area, SCALE - 1, base, "\u{2514}", Style::new());
        for x in SCALE..area.width {
            write(buffer, area, x, base, "\u{2500}", Style::new());
        }
        let fitting = usize::from(room / width);
        for (row, x) in self.nodes().skip(self.first).take(fitting).zip((SCALE..).step_by(usize::from(width)))
        {
            let place = Rect { x: area.x + x, y: area.y + top, width: width - 1, height };
            match self.shown.value(row) {
                _ if !row.alive => label(buffer, place, "DEAD", Style::new().fg(Color::Red)),
                Some(bar) => bar.draw(scale, place, buffer),
                None => label(buffer, place, "?", Style::new().fg(Color::DarkGray)),
            }
            number(row, upright, area, x, base + 1, buffer);
        }
    }
}

/// A word that stands on the ground, from top to bottom.
fn label(buffer: &mut Buffer, place: Rect, word: &str, style: Style) {
    let length = u16::try_from(word.len()).unwrap_or(0);
    for (letter, y) in word.chars().zip(place.height.saturating_sub(length)..place.height) {
        write(buffer, place, place.width.saturating_sub(1) / 2, y, &letter.to_string(), style);
    }
}

fn number(row: &NodeRow, upright: bool, area: Rect, x: u16, y: u16, buffer: &mut Buffer) {
    let text = row.id.to_string();
    let own = row.found == NodeFound::Own;
    let style = if own { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
    if upright {
        for (digit, y) in text.chars().zip(y..) {
            write(buffer, area, x, y, &digit.to_string(), style);
        }
    } else {
        write(buffer, area, x, y, &format!("{text:^width$}", width = usize::from(ACROSS - 1)), style);
    }
}

/// A bar: what is filled, and its whole.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bar {
    filled: f64,
    whole: f64,
}

impl Bar {
    fn full(value: impl Into<f64>) -> Bar {
        let value = value.into();
        Bar { filled: value, whole: value }
    }

    fn draw(self, scale: f64, place: Rect, buffer: &mut Buffer) {
        const PARTS: [&str; 9] = [
            " ", "\u{2581}", "\u{2582}", "\u{2583}", "\u{2584}", "\u{2585}", "\u{2586}", "\u{2587}",
            "\u{2588}",
        ];
        let eighths = |value: f64| (value / scale * f64::from(place.height) * 8.0).round().max(0.0) as usize;
        let (filled, whole) = (eighths(self.filled), eighths(self.whole));
        for level in 0..place.height {
            let below = usize::from(level) * 8;
            let symbol = match filled.saturating_sub(below).min(8) {
                0 if whole > below + 4 => "\u{2591}",
                part => PARTS[part],
            };
            let line = symbol.repeat(usize::from(place.width));
            write(buffer, place, 0, place.height - 1 - level, &line, Style::new().fg(Color::Cyan));
        }
    }
}

impl Shown {
    fn title(self) -> &'static str {
        match self {
            Shown::Load => "LOAD (100 is one standard CPU fully busy)",
            Shown::Speed => "SPEED (10000 is a standard CPU)",
            Shown::Memory => "MEMORY (used, of all there is)",
            Shown::Utilisation => "UTILISATION (percent of the CPUs)",
        }
    }

    /// What a node's bar shows, where that is known.
    fn value(self, row: &NodeRow) -> Option<Bar> {
        let figures = &row.figures;
        match self {
            Shown::Load => figures.load.map(Bar::full),
            Shown::Speed => figures.speed.map(Bar::full),
            Shown::Utilisation => figures.utilisation.map(Bar::full),
            Shown::Memory => {
                let (total, free) = (figures.memory_total?, figures.memory_free?);
                Some(Bar { filled: total.saturating_sub(free) as f64, whole: total as f64 })
            }
        }
    }

    /// The value at the top: a round one that is not below any bar.
    fn scale(self, most: f64) -> f64 {
        let least = match self {
            Shown::Load => f64::from(LOAD_PER_CPU),
            Shown::Speed => f64::from(SPEED_STANDARD),
            Shown::Utilisation => return 100.0,
            Shown::Memory => f64::from(1 << 30),
        };
        let mut scale = least;
        while scale < most {
            scale *= 2.0;
        }
        scale
    }

    fn written(self, value: f64) -> String {
        match self {
            // A saturating conversion.
            Shown::Memory => size(value as u64),
            _ => format!("{value:.0}"),
        }
    }
}

/// One line about all nodes; sums are of what is known.
fn totals(rows: &[NodeRow]) -> String {
    let up = rows.iter().filter(|row| row.alive);
    let cpus: f64 = up.clone().map(|row| row.figures.cpus.unwrap_or(f64::from(row.cpus))).sum();
    let guests: u32 = up.clone().map(|row| row.guests).sum();
    let loads: Vec<u32> = up.clone().filter_map(|row| row.figures.load).collect();
    let load = match loads.len() {
        0 => "?".to_owned(),
        known => (loads.iter().map(|load| u64::from(*load)).sum::<u64>() / known as u64).to_string(),
    };
    let memory = up.clone().filter_map(|row| Some((row.figures.memory_total?, row.figures.memory_free?)));
    let (total, free) = memory.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let (up, all) = (up.count(), rows.len());
    let used = size(total.saturating_sub(free));
    format!(
        "{up} of {all} nodes up, {cpus:.1} CPUs, mean load {load}, memory {used} of {}, {guests} guests",
        size(total)
    )
}

#[cfg(test)]
mod tests;
