//! A cluster that balances itself: programs are started on one node and nobody moves anything.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Input, Place, Run, SOON, main as run, trial};

/// How long programs may take to spread, on a machine that has other things to do.
const SPREADS: Duration = Duration::from_secs(30);
/// How long the computations may take, all in all.
const DONE: Duration = Duration::from_secs(240);

fn main() -> ExitCode {
    run(vec![
        trial("eight-on-two", &["cc"], || spread(&[1.0, 1.0])),
        trial("eight-on-three-unequal", &["cc"], || spread(&[0.5, 1.0, 0.5])),
        trial("eight-on-four", &["cc"], || spread(&[0.5, 0.5, 0.5, 0.5])),
        trial("a-node-that-comes-is-used", &["cc"], newcomer),
        trial("masks-and-locks-are-obeyed", &["cc"], bounds),
        trial("memory-is-ushered", &["cc"], ushering),
        trial("a-hog-is-ushered-before-the-limit", &["cc"], hog),
        trial("a-node-takes-leave", &["cc"], leave),
        trial("compilers-and-encoders-spread", &["cc", "make", "lame", "python3"], jobs),
    ])
}

fn lab(cpus: &[f64], options: &[&str]) -> Result<Cluster> {
    let list: Vec<String> = cpus.iter().map(f64::to_string).collect();
    let list = list.join(",");
    Cluster::balanced(cpus.len(), &[&["--cpus", &list], options].concat())
}

/// Programs that compute for about so many seconds of a CPU each, all started on one node.
struct Crowd<'a> {
    runs: Vec<Run<'a>>,
    millions: u32,
}

impl<'a> Crowd<'a> {
    fn start(place: Place<'a>, count: usize, millions: u32, megabytes: u32) -> Result<Crowd<'a>> {
        let program = format!("{}/grind", place.guests()?);
        let words = [program, millions.to_string(), megabytes.to_string()];
        let start = |_| Run::command(place, &words, Input::Pipes, String::new());
        Ok(Crowd { runs: (0..count).map(start).collect::<Result<_>>()?, millions })
    }

    /// How many of those that run are on each node.
    fn places(&self, home: Place<'_>) -> Result<BTreeMap<u64, usize>> {
        let mut places = BTreeMap::new();
        for run in &self.runs {
            *places.entry(home.whereabouts(run.pid)?).or_default() += 1;
        }
        Ok(places)
    }

    /// Waits until a distribution is to somebody's liking.
    fn settles(
        &self,
        home: Place<'_>,
        patience: Duration,
        likes: impl Fn(&BTreeMap<u64, usize>) -> bool,
    ) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let places = self.places(home)?;
            if likes(&places) {
                return Ok(began.elapsed());
            }
            ensure!(began.elapsed() < patience, "after {patience:?} they are at {places:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Every one computes what the others compute.
    fn finish(self) -> Result<()> {
        let said = format!("ground {}: ", self.millions);
        let mut results = BTreeMap::new();
        for mut run in self.runs {
            let (status, output) = run.end(DONE)?;
            let text = String::from_utf8_lossy(&output).into_owned();
            ensure!(status == 0 && text.contains(&said), "it ended with {status}: {text}");
            *results.entry(text).or_insert(0) += 1;
        }
        ensure!(results.len() == 1, "they computed different things: {results:?}");
        Ok(())
    }
}

/// Jobs per CPU differ by one job of the smallest node at most.
fn is_even(places: &BTreeMap<u64, usize>, cpus: &[f64]) -> bool {
    let count: usize = places.values().sum();
    let fair = count as f64 / cpus.iter().sum::<f64>();
    (1..).zip(cpus).all(|(node, cpus)| {
        let here = places.get(&node).copied().unwrap_or(0) as f64;
        (here - fair * cpus).abs() <= 1.0
    })
}

fn spread(cpus: &[f64]) -> Result<()> {
    let cluster = lab(cpus, &[])?;
    let told = || cluster.logs();
    let crowd = Crowd::start(cluster.home(), 8, 5000, 1).with_context(told)?;
    let time = crowd.settles(cluster.home(), SPREADS, |places| is_even(places, cpus)).with_context(told)?;
    println!("eight programs on {cpus:?} CPUs were even after {time:?}");
    crowd.finish().with_context(told)?;
    cluster.nothing_remains(SOON)
}

fn newcomer() -> Result<()> {
    let cluster = lab(&[1.0, 1.0], &[])?;
    cluster.kill_daemon("n2")?;
    let crowd = Crowd::start(cluster.home(), 4, 3000, 1)?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(crowd.places(cluster.home())?.get(&1) == Some(&4), "there is nowhere to go yet");
    cluster.start_daemon("n2", "omd")?;
    let two = |places: &BTreeMap<u64, usize>| is_even(places, &[1.0, 1.0]);
    crowd.settles(cluster.home(), SPREADS, two).with_context(|| cluster.logs())?;
    crowd.finish().with_context(|| cluster.logs())
}

fn bounds() -> Result<()> {
    let cluster = lab(&[0.5, 0.5, 1.0], &[])?;
    let home = cluster.home();
    let program = format!("{}/grind", home.guests()?);
    // By its mask a program may use n1 and n2 only, though n3 is the fastest.
    let line = format!("exec mosrun -j1-2 {program} 3000 1");
    let start = |line: &str| {
        Run::command(home, &["sh".to_owned(), "-c".to_owned(), line.to_owned()], Input::Pipes, String::new())
    };
    let mut masked = [start(&line)?, start(&line)?, start(&line)?];
    let mut locked = start(&format!("exec mosrun -h {program} 3000 1"))?;
    // `mosrun` stays, and its child is the program.
    let child =
        |run: &Run<'_>| -> Result<i32> { Ok(home.must(&format!("pgrep -P {}", run.pid))?.trim().parse()?) };
    let jobs: Vec<i32> = masked.iter().map(child).collect::<Result<_>>()?;
    let stays = child(&locked)?;
    let began = Instant::now();
    let mut was_away = false;
    while began.elapsed() < Duration::from_secs(12) {
        for &pid in &jobs {
            let at = home.whereabouts(pid)?;
            ensure!(at != 3, "it is on n3");
            was_away |= at == 2;
        }
        ensure!(home.whereabouts(stays)? == 1, "a locked one has moved");
        std::thread::sleep(Duration::from_millis(300));
    }
    ensure!(was_away, "nobody has used n2: {}", cluster.logs());
    for run in masked.iter_mut().chain([&mut locked]) {
        let (status, _) = run.end(DONE)?;
        ensure!(status == 0, "it ended with {status}");
    }
    Ok(())
}

fn ushering() -> Result<()> {
    let cluster = lab(&[1.0, 1.0], &["--mem", "600M,1200M"])?;
    let home = cluster.home();
    // Two of them fill n1; together with the third nothing would be left.
    let crowd = Crowd::start(home, 3, 2000, 180).with_context(|| cluster.logs())?;
    let relieved = |places: &BTreeMap<u64, usize>| places.get(&2).is_some_and(|there| *there >= 1);
    crowd.settles(home, SPREADS, relieved).with_context(|| cluster.logs())?;
    crowd.finish().with_context(|| cluster.logs())
}

/// A process that grows beyond its node's memory is moved before it gets there: at the limit it would be killed.
fn hog() -> Result<()> {
    const MEGABYTES: u32 = 560;
    // Nobody goes to n2 for its CPU.
    let cluster = lab(&[1.0, 0.4], &["--mem", "400M,1200M"])?;
    let home = cluster.home();
    let program = format!("{}/grow", home.guests()?);
    // About 80 MB for each second of a CPU: from nearly full to too full within less than the second between two looks.
    let words = [program, MEGABYTES.to_string(), "6".to_owned()];
    let mut hog = Run::command(home, &words, Input::Pipes, String::new())?;
    let (status, output) = hog.end(DONE).with_context(|| cluster.logs())?;
    let said = String::from_utf8_lossy(&output).into_owned();
    ensure!(
        status == 0 && said.contains(&format!("grew to {MEGABYTES}: ")),
        "it ended with {status}: {said}\n{}",
        cluster.logs()
    );
    cluster.nothing_remains(SOON)
}

fn leave() -> Result<()> {
    let cluster = lab(&[1.0, 1.0], &[])?;
    let home = cluster.home();
    let crowd = Crowd::start(home, 4, 4000, 1)?;
    let even = |places: &BTreeMap<u64, usize>| is_even(places, &[1.0, 1.0]);
    crowd.settles(home, SPREADS, even).with_context(|| cluster.logs())?;
    cluster.node("n2").must("om leave").with_context(|| cluster.logs())?;
    ensure!(crowd.places(home)?.get(&1) == Some(&4), "not all are home: {}", cluster.logs());
    crowd.finish().with_context(|| cluster.logs())
}

/// The lines of shell that make many short jobs, and what they print in the end.
fn jobs() -> Result<()> {
    let cluster = lab(&[0.5, 0.5, 0.5, 0.5], &[])?;
    let home = cluster.home();
    let guests = home.guests()?;
    let line = format!(
        "cd $(mktemp -d) && python3 {guests}/song.py 15 song.wav && \
         for i in 0 1 2 3 4 5 6 7 8 9; do lame --quiet -q 0 song.wav $i.mp3 & done; wait; \
         md5sum ?.mp3 | cut -d' ' -f1 | sort | uniq -c"
    );
    let words = ["sh".to_owned(), "-c".to_owned(), line];
    let mut encoders = Run::command(home, &words, Input::Pipes, String::new())?;
    let mut used = BTreeMap::new();
    let began = Instant::now();
    while !encoders.has_ended() {
        ensure!(began.elapsed() < DONE, "it goes on for ever: {}", cluster.logs());
        for &node in cluster.nodes() {
            let guests = cluster.node(node).must("om ps --json")?;
            let there = guests.matches("\"local_pid\"").count();
            let most = used.entry(node).or_insert(0);
            *most = there.max(*most);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    let (status, output) = encoders.end(SOON)?;
    let said = String::from_utf8_lossy(&output).into_owned();
    ensure!(
        status == 0 && said.lines().last().is_some_and(|line| line.trim_start().starts_with("10 ")),
        "{said}"
    );
    for node in ["n2", "n3", "n4"] {
        if used.get(node).copied().unwrap_or(0) == 0 {
            bail!("{node} had nothing to do: {used:?}\n{}", cluster.logs());
        }
    }
    cluster.nothing_remains(SOON)
}
