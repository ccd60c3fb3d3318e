//! A cluster that balances itself: programs are started on one node and nobody moves anything.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Crowd, Input, Place, Run, SOON, is_even, main as run, trial};

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
        trial("a-hog-is-ushered-before-the-limit", &["cc"], grower),
        trial("a-node-takes-leave", &["cc"], leave),
        trial("a-hog-leaves-before-it-is-killed", &["cc"], hog),
        trial("encoders-spread", &["lame", "python3"], jobs),
        trial("make-j8-of-lua", &["cc", "make", "ar"], make_lua),
        trial("a-node-dies-under-encoders", &["lame", "python3"], death),
    ])
}

fn lab(cpus: &[f64], options: &[&str]) -> Result<Cluster> {
    let list: Vec<String> = cpus.iter().map(f64::to_string).collect();
    let list = list.join(",");
    Cluster::balanced(cpus.len(), &[&["--cpus", &list], options].concat())
}

fn spread(cpus: &[f64]) -> Result<()> {
    let cluster = lab(cpus, &[])?;
    let told = || cluster.logs();
    let crowd = Crowd::start(cluster.home(), 8, 3000, 1).with_context(told)?;
    let time = crowd.settles(SPREADS, |places| is_even(places, cpus)).with_context(told)?;
    println!("eight programs on {cpus:?} CPUs were even after {time:?}");
    crowd.finish(DONE).with_context(told)?;
    cluster.nothing_remains(SOON)
}

fn newcomer() -> Result<()> {
    let cluster = lab(&[1.0, 1.0], &[])?;
    cluster.kill_daemon("n2")?;
    let crowd = Crowd::start(cluster.home(), 4, 3000, 1)?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(crowd.places()?.get(&1) == Some(&4), "there is nowhere to go yet");
    cluster.start_daemon("n2", "omd")?;
    let two = |places: &BTreeMap<u64, usize>| is_even(places, &[1.0, 1.0]);
    crowd.settles(SPREADS, two).with_context(|| cluster.logs())?;
    crowd.finish(DONE).with_context(|| cluster.logs())
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
    crowd.settles(SPREADS, relieved).with_context(|| cluster.logs())?;
    crowd.finish(DONE).with_context(|| cluster.logs())
}

/// Bytes that a node may lack in a moment are not yet a killed program; a killed program is counted by the kernel.
fn killed_for_memory(place: Place<'_>) -> Result<u64> {
    let counters =
        "cat /sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events 2>/dev/null; true";
    let said = place.must(counters)?;
    let count = said.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    count.with_context(|| format!("this kernel does not count whom it kills: {said}"))
}

/// It wants more than its node has, bit by bit: it must be gone before the last bit. A node looks at itself once a second, and
/// has a twentieth of its memory left by then.
fn hog() -> Result<()> {
    let cluster = lab(&[1.0, 1.0], &["--mem", "600M,1600M"])?;
    let home = cluster.home();
    let words = [format!("{}/hog", home.guests()?), "700".to_owned(), "450".to_owned(), "6".to_owned()];
    let mut run = Run::command(home, &words, Input::Pipes, String::new())?;
    let (status, output) = run.end(DONE).with_context(|| cluster.logs())?;
    let said = String::from_utf8_lossy(&output).into_owned();
    ensure!(status == 0 && said.contains("held 700 megabytes"), "{status}: {said}{}", cluster.logs());
    for &node in cluster.nodes() {
        let killed = killed_for_memory(cluster.node(node))?;
        ensure!(killed == 0, "{node} has killed {killed} for want of memory: {}", cluster.logs());
    }
    let moved = moves(home, "hog")?;
    ensure!(moved.contains_key(&2), "it was somewhere else: {moved:?}");
    cluster.nothing_remains(SOON)
}

/// How often programs of this name, whose home this is, have moved to each node, by the log of causes.
fn moves(home: Place<'_>, name: &str) -> Result<BTreeMap<u64, usize>> {
    let mut moves = BTreeMap::new();
    for line in home.must("om log --json")?.lines() {
        let record: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if (record["what"] == "moved" || record["what"] == "balanced")
            && record["name"] == name
            && let Some(node) = record["node"].as_u64()
        {
            *moves.entry(node).or_insert(0) += 1;
        }
    }
    Ok(moves)
}

/// A process that grows beyond its node's memory is moved before it gets there: at the limit it would be killed.
fn grower() -> Result<()> {
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
    crowd.settles(SPREADS, even).with_context(|| cluster.logs())?;
    cluster.node("n2").must("om leave").with_context(|| cluster.logs())?;
    ensure!(crowd.places()?.get(&1) == Some(&4), "not all are home: {}", cluster.logs());
    crowd.finish(DONE).with_context(|| cluster.logs())
}

/// Ten encoders of one song.
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

/// The interpreter's library is Lua's own; this is our command around it.
const LUA_MAIN: &str = r#"
#include "lua.h"
#include "lauxlib.h"
#include "lualib.h"
#include <stdio.h>
int main(int argc, char **argv)
{
    lua_State *state = luaL_newstate();
    luaL_openlibs(state);
    if (argc != 2 || luaL_dofile(state, argv[1])) {
        fprintf(stderr, "%s\n", lua_tostring(state, -1));
        return 1;
    }
    lua_close(state);
    return 0;
}
"#;

const LUA_MAKEFILE: &str = "
CFLAGS = -O3 -DLUA_USE_POSIX
OBJECTS = $(sort $(patsubst %.c,%.o,$(wildcard l*.c)))
mylua: main.o liblua.a
\t$(CC) -o $@ main.o liblua.a -lm
liblua.a: $(OBJECTS)
\t$(AR) rcD $@ $(OBJECTS)
";

const LUA_SCRIPT: &str = r#"
local words = {}
for number = 1, 20000 do
    words[#words + 1] = string.format("%x", number * number % 7919)
end
table.sort(words)
local text = table.concat(words, " ")
local _, count = text:gsub("%f[%w]1e", "")
print(#text, count, select(2, pcall(error, "caught")), 7 // 2, 2 ^ 53)
"#;

/// A directory with Lua's sources, and how they are made.
fn lua_in(place: Place<'_>) -> Result<String> {
    let directory = place.scratch()?;
    place.bring(&suite::package_source("lua-src")?.join("lua-5.4.9"), &directory, &[])?;
    for (name, text) in [("main.c", LUA_MAIN), ("Makefile", LUA_MAKEFILE), ("words.lua", LUA_SCRIPT)] {
        place.must(&format!("cat > {directory}/{name} <<'THE END'\n{text}THE END\n"))?;
    }
    Ok(directory)
}

/// What was made, byte for byte, and what it does.
fn lua_made(place: Place<'_>, directory: &str) -> Result<(String, String)> {
    let sums = place.must(&format!("cd {directory} && sha256sum mylua *.a *.o"))?;
    Ok((sums, place.must(&format!("cd {directory} && ./mylua words.lua"))?))
}

/// All nodes compile for the one on which `make` runs, and nobody can tell by the product.
fn make_lua() -> Result<()> {
    let cpus = [0.5, 0.5, 0.5, 0.5];
    let cluster = lab(&cpus, &[])?;
    let home = cluster.home();
    let here = lua_in(Place::Here)?;
    let line = |directory: &str| ["sh", "-c", &format!("cd {directory} && make -s -j8")].map(str::to_owned);
    let (status, _) = Run::command(Place::Here, &line(&here), Input::Pipes, String::new())?.end(DONE)?;
    ensure!(status == 0, "make fails without any cluster: {status}");
    let native = lua_made(Place::Here, &here)?;
    Place::Here.must(&format!("rm -r {here}"))?;

    let there = lua_in(home)?;
    let began = Instant::now();
    let mut make = Run::command(home, &line(&there), Input::Pipes, String::new())?;
    let (status, _) = make.end(DONE).with_context(|| cluster.logs())?;
    ensure!(status == 0, "make ended with {status}: {}\n{}", make.said(), cluster.logs());
    let moved = moves(home, "cc1")?;
    println!("made after {:?}; the compiler went to {moved:?}", began.elapsed());
    ensure!(lua_made(home, &there)? == native, "it made something else");
    ensure!(
        (2..=4).all(|node| moved.contains_key(&node)),
        "not all nodes compile: {moved:?}\n{}",
        cluster.logs()
    );
    cluster.nothing_remains(SOON)
}

/// An encoder as its home sees it: its name among the ten, and where it runs.
fn encoders(home: Place<'_>) -> Result<Vec<(i32, String, u64)>> {
    let list = home.must("ps -eo pid=,comm=,args= | awk '$2 == \"lame\" { print $1, $NF }'")?;
    let mut found = Vec::new();
    for line in list.lines() {
        let (pid, name) = line.split_once(' ').with_context(|| line.to_owned())?;
        let pid = pid.parse()?;
        // It may have ended meanwhile.
        if let Ok(node) = home.whereabouts(pid) {
            found.push((pid, name.to_owned(), node));
        }
    }
    Ok(found)
}

/// A node away from home that has encoders of both kinds.
fn with_both_kinds(encoders: &[(i32, String, u64)]) -> Option<(&'static str, u64)> {
    let has =
        |node: u64, kind: &str| encoders.iter().any(|(_, name, at)| *at == node && name.starts_with(kind));
    [("n2", 2), ("n3", 3)].into_iter().find(|(_, node)| has(*node, "plain") && has(*node, "again"))
}

/// A whole node dies under ten encoders, of which four are to be started again. The others end as if nothing had been.
fn death() -> Result<()> {
    let cluster = lab(&[0.5, 0.5, 0.5], &[])?;
    let home = cluster.home();
    let guests = home.guests()?;
    let line = format!(
        "cd $(mktemp -d) && python3 {guests}/song.py 40 song.wav && lame --quiet -q 0 song.wav good && \
         encode() {{ name=$1; shift; \"$@\" lame --quiet -q 0 song.wav $name; \
                    echo end $name $? $(cmp good $name > /dev/null 2>&1 && echo same); }}; \
         for i in 1 2 3 4 5 6; do encode plain$i env & done; \
         for i in 1 2 3 4; do encode again$i mosrun --rerun=2 -j2-3 & done; wait"
    );
    let words = ["sh".to_owned(), "-c".to_owned(), line];
    let mut run = Run::command(home, &words, Input::Pipes, String::new())?;
    let began = Instant::now();
    let (victim, number) = loop {
        ensure!(!run.has_ended(), "they have ended: {}", run.said());
        ensure!(began.elapsed() < SPREADS * 3, "they do not spread: {:?}", encoders(home)?);
        if with_both_kinds(&encoders(home)?).is_some() {
            // None of them may leave before the blow; who is on the way arrives meanwhile.
            home.must("for pid in $(pgrep -x lame); do om lock $pid; done; sleep 1")?;
            if let Some(fit) = with_both_kinds(&encoders(home)?) {
                break fit;
            }
            home.must("for pid in $(pgrep -x lame); do om unlock $pid; done; true")?;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    cluster.kill_node(victim)?;
    let living: Vec<&'static str> = cluster.nodes().iter().copied().filter(|node| *node != victim).collect();
    let (status, output) = run.end(DONE).with_context(|| cluster.logs())?;
    let said = String::from_utf8_lossy(&output).into_owned();
    ensure!(status == 0, "{status}: {}", run.said());
    let ends: BTreeMap<&str, &str> =
        said.lines().filter_map(|line| line.strip_prefix("end ")?.split_once(' ')).collect();
    ensure!(ends.len() == 10, "{said}");
    let lost = home.must("om log --json")?;
    let lost = lost.lines().filter(|line| {
        line.contains("\"lost\"") && line.contains("\"lame\"") && line.contains(&format!("\"node\":{number}"))
    });
    let again = run.said().matches("was lost").count();
    let mut killed = 0;
    for (name, end) in &ends {
        match end.split_once(' ') {
            Some(("0", "same")) => {}
            _ if *end == "137" && name.starts_with("plain") => killed += 1,
            _ => bail!("{name} ended with {end}: {}\n{}", run.said(), cluster.logs()),
        }
    }
    println!("{victim} took {killed} with it, and {again} that were started again");
    ensure!(killed >= 1 && again >= 1, "nobody was on the dead node: {}", run.said());
    let causes = lost.count();
    ensure!(causes == killed + again, "{causes} causes for {killed} and {again}: {}", cluster.logs());
    cluster.nothing_remains_on(&living, SOON)
}
