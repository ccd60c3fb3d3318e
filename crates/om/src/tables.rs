//! Tables that people can read.

use comfy_table::{CellAlignment, Table, presets};
use control::{GuestRow, NodeFound, NodeRow, NodeState, ProcessRow, ProcessState};
use std::collections::BTreeMap;

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    table
}

fn finish(mut table: Table, right: &[usize]) -> String {
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.to_string();
    let lines: String = lines.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    lines
}

/// A text for a terminal. Anybody gives names to processes, and other nodes to themselves: what would move the cursor,
/// hide a line or worse is shown as a question mark.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\n' { '?' } else { letter }).collect()
}

/// The same for a name in a row, where a new line would make another row.
fn word(text: &str) -> String {
    harmless(text).replace('\n', "?")
}

/// Bytes as people say them.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

fn seconds(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

pub(crate) fn processes(own: &[ProcessRow], guests: &[GuestRow]) -> String {
    let mut text = String::new();
    if own.is_empty() {
        text.push_str("no process of this node was moved\n");
    } else {
        let mut table =
            table(&["PID", "NAME", "UID", "STATE", "NODE", "MOVES", "MEMORY", "CPU", "CALLS HOME"]);
        for row in own {
            let state = match row.state {
                ProcessState::Home => "home",
                ProcessState::Away => "away",
                ProcessState::Moving => "moving",
            };
            table.add_row([
                row.pid.to_string(),
                word(&row.name),
                row.uid.to_string(),
                state.to_owned(),
                row.node.to_string(),
                row.moves.to_string(),
                size(row.memory_bytes),
                seconds(row.cpu_ms),
                row.forwarded.to_string(),
            ]);
        }
        text.push_str(&finish(table, &[0, 2, 4, 5, 6, 7, 8]));
    }
    if !guests.is_empty() {
        let mut table = table(&["GUEST", "HOME", "NAME", "PID HERE", "MEMORY", "CPU HERE"]);
        for row in guests {
            table.add_row([
                row.pid.to_string(),
                row.home.to_string(),
                word(&row.name),
                row.local_pid.to_string(),
                size(row.memory_bytes),
                seconds(row.cpu_ms),
            ]);
        }
        text.push('\n');
        text.push_str(&finish(table, &[0, 1, 3, 4, 5]));
    }
    text
}

pub(crate) fn nodes(rows: &[NodeRow]) -> String {
    let mut table = table(&[
        "ID", "NAME", "ADDRESS", "STATE", "SINCE", "FOUND", "RTT", "CPUS", "MEMORY", "GUESTS", "KERNEL",
        "VERSION",
    ]);
    for row in rows {
        let known = |text: String| if row.alive { text } else { "-".to_owned() };
        table.add_row([
            row.id.to_string(),
            word(&row.name),
            if row.addresses.is_empty() { word(&row.address) } else { word(&row.addresses.join(" ")) },
            state(row),
            row.since_seconds.map_or_else(|| "-".to_owned(), ago),
            found(row.found).to_owned(),
            if row.round_trip_us == 0 { "-".to_owned() } else { format!("{} us", row.round_trip_us) },
            known(row.cpus.to_string()),
            known(size(row.memory_bytes)),
            known(row.guests.to_string()),
            known(word(&row.kernel)),
            known(word(&row.version)),
        ]);
    }
    finish(table, &[0, 4, 6, 7, 8, 9])
}

/// Whether a node is up, and the switches that are on, where they are known.
fn state(row: &NodeRow) -> String {
    let state = match (row.alive, row.state) {
        (_, NodeState::Left) => "left",
        (true, _) => "up",
        (false, _) => "down",
    };
    let switches = row.figures.switches.iter().flatten();
    switches.fold(state.to_owned(), |state, switch| format!("{state}, {switch}"))
}

fn found(found: NodeFound) -> &'static str {
    match found {
        NodeFound::Configured => "configured",
        NodeFound::Multicast => "multicast",
        NodeFound::Seed => "seed",
        NodeFound::Relay => "relay",
        NodeFound::Own => "this node",
    }
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

pub(crate) fn counts(counts: &BTreeMap<String, u64>) -> String {
    let mut table = table(&["COUNT", "NUMBER"]);
    for (name, number) in counts {
        table.add_row([name.clone(), number.to_string()]);
    }
    finish(table, &[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_play_no_tricks_on_a_terminal() {
        let name = "a\u{1b}[2Jb\u{9b}c\r\u{7f}d";
        let rows = |text: &str| text.lines().count();
        assert_eq!(harmless(name), "a?[2Jb?c??d");
        assert_eq!(harmless("two\nlines, \u{fc}"), "two\nlines, \u{fc}");
        let row = GuestRow {
            pid: 1,
            local_pid: 2,
            name: name.to_owned(),
            home: model::NodeId::try_from(1).unwrap(),
            memory_bytes: 0,
            cpu_ms: 0,
        };
        let plain = processes(&[], &[GuestRow { name: "a".to_owned(), ..row.clone() }]);
        let odd = GuestRow { name: "a\nb\nc".to_owned(), ..row.clone() };
        assert_eq!(rows(&processes(&[], &[odd])), rows(&plain));
        assert!(processes(&[], &[row]).chars().all(|letter| !letter.is_control() || letter == '\n'));
    }
}
