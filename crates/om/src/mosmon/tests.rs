use super::*;
use crate::screen::text;
use control::{Figures, NodeState};
use model::NodeId;
use ratatui::layout::Size;

fn row(id: u16, alive: bool, load: Option<u32>) -> NodeRow {
    NodeRow {
        id: NodeId::new(id).unwrap(),
        name: format!("n{id}"),
        address: "10.0.0.1:4660".to_owned(),
        addresses: Vec::new(),
        state: NodeState::Unknown,
        since_seconds: None,
        found: if id == 1 { NodeFound::Own } else { NodeFound::Configured },
        alive,
        round_trip_us: 0,
        cpus: 2,
        memory_bytes: 2 << 30,
        guests: 1,
        kernel: String::new(),
        version: String::new(),
        figures: Figures {
            speed: Some(10_000),
            cpus: Some(2.0),
            load,
            memory_total: Some(2 << 30),
            memory_free: Some(1 << 30),
            utilisation: Some(50),
            accepts: Some(true),
            switches: None,
        },
    }
}

fn view() -> Mosmon {
    let rows = vec![row(1, true, Some(150)), row(2, true, Some(50)), row(3, false, None), row(4, true, None)];
    Mosmon { rows, ..Mosmon::default() }
}

fn keys(view: &mut Mosmon, keys: &str) {
    for key in keys.chars() {
        assert_eq!(view.key(KeyCode::Char(key)), Flow::On);
    }
}

#[test]
fn loads_as_bars() {
    let expected = "\
LOAD (100 is one standard CPU fully busy
    200 │
        │▆▆▆▆▆
    100 │█████
        │█████ ▂▂▂▂▂
        │█████ █████   ?
      0 └───────────────────────────────
           1     2     4
";
    assert_eq!(text(&view(), Size::new(40, 8)), expected);
}

#[test]
fn memory_dead_nodes_and_totals() {
    let mut view = view();
    keys(&mut view, "mdtv");
    let expected = "\
MEMORY (used, of all there is)
3 of 4 nodes up, 6.0 CPUs, mean load 100, memory 3.0 GiB of 6.0 GiB, 3 guests
2.0 GiB │░ ░   ░
        │░ ░ D ░
1.0 GiB │▄ ▄ E ▄
        │█ █ A █
        │█ █ D █
    0 B └───────────────────────────────────────────────────────────────────────
         1 2 3 4
";
    assert_eq!(text(&view, Size::new(80, 13)), expected);
}

#[test]
fn a_small_screen_shows_a_part_and_scrolls() {
    let mut view =
        Mosmon { rows: (1..=300).map(|id| row(id, true, Some(100))).collect(), ..Mosmon::default() };
    let numbers = |view: &Mosmon| text(view, Size::new(14, 9)).lines().skip(4).collect::<Vec<_>>().join("|");
    let first = numbers(&view);
    view.key(KeyCode::Right);
    assert_ne!(numbers(&view), first);
    view.key(KeyCode::Home);
    assert_eq!(numbers(&view), first);
    view.key(KeyCode::End);
    assert_eq!(numbers(&view), "         3|         0|         0");
}

#[test]
fn no_size_and_no_answer_is_too_small() {
    for rows in [Vec::new(), view().rows] {
        let mut view = Mosmon { rows, ..Mosmon::default() };
        for key in "lsmudtvwahhL".chars() {
            view.key(KeyCode::Char(key));
            for (width, height) in [(1, 1), (2, 3), (9, 9), (10, 10), (300, 2), (3, 300), (200, 60)] {
                text(&view, Size::new(width, height));
            }
        }
        view.key(KeyCode::End);
    }
}

#[test]
fn every_key_of_the_help_does_something() {
    let mut view = view();
    keys(&mut view, "h");
    let help = text(&view, Size::new(80, 24));
    assert!(KEYS.iter().all(|(keys, words)| help.contains(keys) && help.contains(words)), "{help}");
    assert_eq!(view.key(KeyCode::Char('q')), Flow::Quit);
}

#[test]
fn scales_are_round_and_not_below_any_bar() {
    for (shown, most, expected) in [
        (Shown::Load, 0.0, 100.0),
        (Shown::Load, 101.0, 200.0),
        (Shown::Load, 4_294_967_295.0, 6_710_886_400.0),
        (Shown::Speed, 1000.0, 10_000.0),
        (Shown::Utilisation, 3.0, 100.0),
        (Shown::Memory, 3e9, f64::from(1 << 30) * 4.0),
    ] {
        assert!((shown.scale(most) - expected).abs() < 1.0, "{shown:?} {most} {}", shown.scale(most));
    }
}
