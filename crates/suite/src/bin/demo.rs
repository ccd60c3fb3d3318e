//! The narrated demonstration: three nodes, one ordinary program, four moves, and the proof.
//!
//! It tells nothing that it has not looked at; its exit status is 0 only if everything was so.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::time::Duration;
use suite::{Cluster, Input, Place, Run, SOON, Stop, missing};

/// The way: away, on, home, and away once more, to end there.
const WAY: &[(Stop, &str)] = &[
    (Stop::N2, "to n2"),
    (Stop::N3, "from n2 to n3 directly"),
    (Stop::Home, "home"),
    (Stop::N2, "to n2 once more, where it will end"),
];

fn main() -> ExitCode {
    let shown = show();
    let ended = Cluster::end_shared();
    match shown.and(ended) {
        Ok(()) => {
            println!("\nAll of this was so. The lab is gone again.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nIt was not so: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result<()> {
    if let Some(reason) = missing(&["python3", "setsid"]) {
        anyhow::bail!("{reason}; try: cargo xtask setup");
    }
    println!("== Three nodes on this machine, each with its own processes, network and files.\n");
    let cluster = Cluster::shared()?;
    let home = cluster.home();
    tell(home, "om nodes")?;

    println!("\n== On n1 somebody starts an ordinary program, on a terminal, in the ordinary way.\n");
    let file = "/tmp/counted";
    let words = ["/usr/bin/python3".to_owned(), format!("{}/demo.py", home.guests()?), file.to_owned()];
    println!("   n1 $ python3 demo.py {file}");
    let mut run = Run::command(home, &words, Input::Terminal, String::new())?;
    let mut at = run.expect("count 3 ", 0)?;
    at = run.expect("\n", at)?;
    let pid = run.pid;
    print_lines(&run, 0);

    let shown = format!("ps -o pid,ppid,tty,stat,rss,args -p {pid}");
    tell(home, &shown)?;
    let before = home.must(&format!("ps -o pid=,ppid=,tty=,args= -p {pid}"))?;

    for (stop, words) in WAY {
        println!("\n== While it counts, it is moved {words}.\n");
        let from = run.position();
        println!("   n1 $ om migrate {pid} {}", stop.name());
        let moved = run.go(*stop)?;
        println!(
            "   It stood still for {:.1} ms; all in all the move took {:.1} ms.",
            moved.freeze_us as f64 / 1000.0,
            moved.total_us as f64 / 1000.0
        );
        // It counts on, on the terminal of n1.
        at = run.expect("\n", at.max(from))?;
        at = run.expect("count ", at)?;
        at = run.expect("\n", at)?;
        std::thread::sleep(Duration::from_millis(600));
        print_lines(&run, from);
        tell(home, &format!("om where {pid}"))?;
        if *stop != Stop::Home {
            tell(home, "om ps")?;
            println!("   At home it is still the same process, only that its memory is elsewhere:");
            tell(home, &shown)?;
        }
        let number = cluster.number(if *stop == Stop::Home { "n1" } else { stop.name() })?;
        ensure!(home.whereabouts(pid)? == number, "it is not on {}", stop.name());
        let now = home.must(&format!("ps -o pid=,ppid=,tty=,args= -p {pid}"))?;
        ensure!(now == before, "ps at home showed\n{before}and shows\n{now}");
    }

    println!("\n== It is told to end, by a file on n1.\n");
    home.must(&format!("touch {file}.stop"))?;
    let (status, output) = run.end(SOON)?;
    let output = String::from_utf8_lossy(&output).replace('\r', "");
    println!("   {}", output.lines().last().unwrap_or_default());
    prove(home, file, pid, status, &output)
}

/// Looks at everything that a move could have spoilt.
fn prove(home: Place<'_>, file: &str, pid: i32, status: i32, output: &str) -> Result<()> {
    println!("\n== The proof.\n");
    ensure!(status == 0, "it ended with status {status}");
    let counts: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("count ")).collect();
    for (line, number) in counts.iter().zip(1..) {
        ensure!(*line == format!("{number} pid {pid}"), "line {number} on the terminal is '{line}'");
    }
    good(&format!("{} lines on its terminal, each number once, in order", counts.len()));
    good(&format!("its pid was {pid} in every line"));
    let terminals: Vec<&str> = output.lines().filter_map(|line| line.split(" on ").nth(1)).collect();
    ensure!(terminals.len() == 2 && terminals[0] == terminals[1], "its terminals were {terminals:?}");
    good(&format!("its terminal was {} from the beginning to the end", terminals[0]));
    let written = home.must(&format!("cat {file}"))?;
    let wanted: String = (1..=counts.len()).map(|number| format!("{number}\n")).collect();
    ensure!(written == wanted, "the file holds: {written}");
    good(&format!("the file it held open, {file} on n1, holds the same {} numbers", counts.len()));
    for node in ["n2", "n3"] {
        let cluster = Cluster::shared()?;
        let there = cluster.node(if node == "n2" { "n2" } else { "n3" }).shell(&format!("ls {file}"))?;
        ensure!(there.status != 0, "{file} exists on {node}");
    }
    good("n2 and n3 never had such a file");
    Ok(())
}

fn good(fact: &str) {
    println!("   ok  {fact}");
}

fn tell(place: Place<'_>, line: &str) -> Result<()> {
    println!("   n1 $ {line}");
    let output = place.must(line).with_context(|| format!("failed to run '{line}' on n1"))?;
    output.lines().for_each(|line| println!("   {line}"));
    Ok(())
}

/// What the program has printed since, a few lines of it.
fn print_lines(run: &Run<'_>, from: usize) {
    const SHOWN_MAX: usize = 6;
    let bytes = run.output().bytes();
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).replace('\r', "");
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with("count") || line.starts_with("hello")).collect();
    if lines.len() > SHOWN_MAX {
        println!("   | ...");
    }
    lines.iter().skip(lines.len().saturating_sub(SHOWN_MAX)).for_each(|line| println!("   | {line}"));
}
