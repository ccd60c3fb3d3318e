//! At home nobody can tell that a process is away: ps, kill, wait, job control.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use std::process::ExitCode;
use std::time::Duration;
use suite::{Cluster, Input, Place, Run, SOON, Stop, guest, main as run, trial, wait_until};

fn main() -> ExitCode {
    run(vec![
        trial("ps-shows-the-same", &["python3"], ps_shows_the_same),
        trial("term-ends-it", &["cc"], || killed_by("TERM", 15)),
        trial("kill-ends-it", &["cc"], || killed_by("KILL", 9)),
        trial("segv-ends-it", &["cc"], || killed_by("SEGV", 11)),
        trial("its-core-is-dumped-at-home", &["cc", "cores"], core_is_dumped_at_home),
        trial("kill-leaves-no-guest", &["cc"], kill_leaves_no_guest),
        trial("parent-waits-for-it", &["cc", "bash"], parent_waits_for_it),
        trial("job-control", &["cc", "bash"], job_control),
        trial("pipe-partner-sees-the-end", &["cc", "bash"], pipe_partner_sees_the_end),
        trial("under-the-classic-names", &["cc"], under_the_classic_names),
        trial("sent-home-by-its-host", &["cc"], sent_home_by_its_host),
        trial("strace-at-home", &["python3", "strace"], strace_at_home),
        trial("gdb-at-home", &["python3", "gdb"], gdb_at_home),
        trial("wanted-home-while-traced", &["cc", "strace"], wanted_home_while_traced),
        trial("its-moves-are-remembered", &["cc"], its_moves_are_remembered),
        trial("shared-memory-is-made-away", &["cc"], shared_memory_is_made_away),
        trial("forks-with-shared-memory-at-home", &["cc"], forks_with_shared_memory_at_home),
        trial("cpu-time-goes-on", &["python3"], cpu_time_goes_on),
        trial("maps-a-file-that-is-written-to", &["python3"], maps_a_file_that_is_written_to),
        trial("maps-a-file-for-which-there-is-no-room", &["python3"], maps_a_file_without_room),
    ])
}

fn ps_shows_the_same() -> Result<()> {
    let place = Cluster::shared()?.home();
    let mut run = Run::start(place, &guest("counter"))?;
    let pid = run.pid;
    let look = || {
        place.must(&format!(
            "ps -o pid=,ppid=,pgid=,sid=,tty=,user=,group=,nice=,cls=,comm=,args=,lstart= -p {pid}; \
             tr '\\0' '\\n' < /proc/{pid}/cmdline; tr '\\0' '\\n' < /proc/{pid}/environ; readlink /proc/{pid}/cwd; \
             ls /proc/{pid}/fd; kill -0 {pid}"
        ))
    };
    let before = look()?;
    run.go(Stop::N2)?;
    let away = look()?;
    ensure!(before == away, "at home\n{before}away\n{away}");
    run.finish(3)?;
    Ok(())
}

fn killed_by(signal: &str, number: i32) -> Result<()> {
    let place = Cluster::shared()?.home();
    let mut run = Run::start(place, &guest("loop"))?;
    run.go(Stop::N2)?;
    place.must(&format!("kill -{signal} {}", run.pid))?;
    let (status, _) = run.end(SOON)?;
    ensure!(status == 128 + number, "it ended with {status}");
    Ok(())
}

/// Rounds that make shared memory, use it and let it go do not bring a process home.
fn shared_memory_is_made_away() -> Result<()> {
    let cluster = Cluster::shared()?;
    let place = cluster.home();
    let mut run = Run::start(place, &guest("sharedmem"))?;
    let mut at = 0;
    for stop in [Stop::N2, Stop::N3] {
        run.go(stop)?;
        for _ in 0..3 {
            run.send(b"work\n")?;
            at = run.expect("worked", at)?;
        }
        ensure!(place.whereabouts(run.pid)? == cluster.number(stop.name())?, "it has come home");
    }
    run.go(Stop::Home)?;
    run.finish(0)?;
    Ok(())
}

/// Whatever tells of CPU time goes on where it stood, and tells of what is used away; asking does not bring it home.
fn cpu_time_goes_on() -> Result<()> {
    let cluster = Cluster::shared()?;
    let place = cluster.home();
    let words = ["/usr/bin/python3".to_owned(), format!("{}/used.py", place.guests()?)];
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    let mut at = run.expect("ready", 0)?;
    for _ in 0..2 {
        for stop in [Stop::N2, Stop::N3, Stop::N2] {
            for _ in 0..2 {
                run.send(b"work\n")?;
                at = run.expect("worked", at)?;
            }
            run.go(stop)?;
            run.send(b"work\n")?;
            at = run.expect("worked", at)?;
            ensure!(place.whereabouts(run.pid)? == cluster.number(stop.name())?, "it has come home");
        }
        run.go(Stop::Home)?;
        run.send(b"forget\n")?;
        at = run.expect("forgotten", at)?;
    }
    // Two works at home and seven away in each round; what is used at home is not told as used away.
    let (home_ms, away_ms) = (2 * 2 * 250, 2 * 7 * 250);
    let rows = place.must("om ps --json")?;
    let own = suite::find(&rows, "own").with_context(|| rows.clone())?;
    let row = own.as_array().and_then(|own| own.iter().find(|row| row["pid"] == run.pid));
    let shown = row.and_then(|row| row["cpu_ms"].as_u64()).with_context(|| rows.clone())?;
    ensure!(shown >= home_ms + away_ms - SLACK_MS, "om ps: {rows}");
    // Its end is away, after another work.
    run.go(Stop::N2)?;
    run.send(b"work\n")?;
    run.expect("worked", at)?;
    let pid = run.pid;
    ends_well(run)?;
    let mut ended = String::new();
    suite::wait_until("the log tells of its end", || {
        ended = place.must(&format!("om log --ended --pid {pid} --json"))?;
        Ok(!ended.is_empty())
    })?;
    let told = |key| suite::find(&ended, key).and_then(|value| value.as_u64()).with_context(|| ended.clone());
    let expected = away_ms + 250 - SLACK_MS..away_ms + 250 + home_ms;
    ensure!(expected.contains(&told("cpu_ms")?) && told("moves")? == 9, "om log: {ended}");
    Ok(())
}

/// What rounding to ticks and looks in between may take from a dozen works, milliseconds.
const SLACK_MS: u64 = 300;

/// A child would share the memory: so it is made at home, and as long as it lives both stay there.
fn forks_with_shared_memory_at_home() -> Result<()> {
    let cluster = Cluster::shared()?;
    let (place, home) = (cluster.home(), cluster.number("n1")?);
    let words = [format!("{}/sharedmem", place.guests()?), "rest".to_owned()];
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    let mut at = run.expect("ready", 0)?;
    for stop in [Stop::N2, Stop::N3, Stop::N2] {
        run.go(stop)?;
        run.send(b"fork\n")?;
        at = run.expect("changed", at)?;
        ensure!(place.whereabouts(run.pid)? == home, "it has forked away");
    }
    run.go(Stop::N2)?;
    run.go(Stop::Home)?;
    run.finish(0)?;
    Ok(())
}

/// The file lies where its home puts it, and holds what the program has computed away.
fn core_is_dumped_at_home() -> Result<()> {
    let place = Cluster::shared()?.home();
    let scratch = place.scratch()?;
    let line = format!("cd {scratch} && exec {}/dumps", place.guests()?);
    let mut run = Run::command(place, &["sh".to_owned(), "-c".to_owned(), line], Input::Pipes, scratch)?;
    run.expect("ready", 0)?;
    run.go(Stop::N2)?;
    run.send(b"finish\n")?;
    let (status, _) = run.end(SOON)?;
    ensure!(status == 128 + 6, "it ended with {status}");
    let found = place.must(&format!("grep -a -c 'the sum is 499999500000' {}/core*", run.scratch))?;
    ensure!(found.trim() != "0", "its core has not what it computed");
    Ok(())
}

fn kill_leaves_no_guest() -> Result<()> {
    let cluster = Cluster::shared()?;
    let guests = || cluster.node("n2").must("om ps --json");
    let mut run = Run::start(cluster.home(), &guest("loop"))?;
    run.go(Stop::N2)?;
    let entry = format!("\"pid\":{},", run.pid);
    ensure!(guests()?.replace(' ', "").contains(&entry), "om ps on n2 does not show it: {}", guests()?);
    cluster.home().must(&format!("kill -KILL {}", run.pid))?;
    run.end(SOON)?;
    wait_until("the guest is gone from n2", || Ok(!guests()?.replace(' ', "").contains(&entry)))
}

/// A shell that started it ordinarily gets its status, and is not told of anything before.
fn parent_waits_for_it() -> Result<()> {
    let place = Cluster::shared()?.home();
    let script = format!("exec 3<&0; {}/quiet <&3 & echo child $!; wait $!; echo status $?", place.guests()?);
    let words = ["bash".to_owned(), "-c".to_owned(), script];
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    let child = run.number_after("child ")?;
    let moved = place.migrate_patiently(child, "n2")?;
    ensure!(moved.is_ok(), "{moved:?}");
    run.send(b"finish\n")?;
    run.expect("unharmed", 0)?;
    run.expect("status 0", 0)?;
    run.end(SOON)?;
    Ok(())
}

/// An interactive shell on a terminal: ^Z, jobs, bg, fg, ^C.
fn job_control() -> Result<()> {
    let place = Cluster::shared()?.home();
    let words: Vec<String> = ["bash", "--norc", "--noprofile", "-i"].map(str::to_owned).to_vec();
    let mut run = Run::command(place, &words, Input::Terminal, String::new())?;
    run.send(b"PS1='$ '; stty -echo\n")?;
    let mut at = run.expect("$ ", 0)?;
    run.send(format!("sh -c 'echo job $$; exec {}/loop'\n", place.guests()?).as_bytes())?;
    at = run.expect("ready", at)?;
    let job = run.number_after("job ")?;
    let moved = place.migrate_patiently(job, "n2")?;
    ensure!(moved.is_ok(), "{moved:?}");
    run.send(b"\x1a")?;
    at = run.expect("Stopped", at)?;
    run.send(b"jobs\n")?;
    at = run.expect("Stopped", at)?;
    wait_until("ps sees it stopped", || Ok(place.state(job)?.starts_with('T')))?;
    run.send(b"bg; jobs\n")?;
    at = run.expect("Running", at)?;
    run.send(b"fg\n")?;
    at = run.expect("loop", at)?;
    wait_until("it runs again", || Ok(!place.state(job)?.starts_with('T')))?;
    run.send(b"\x03")?;
    run.send(b"echo status=$?\n")?;
    run.expect("status=130", at)?;
    run.send(b"exit 0\n")?;
    run.end(SOON)?;
    Ok(())
}

/// The reader of its pipe gets everything and then the end, when it ends away.
fn pipe_partner_sees_the_end() -> Result<()> {
    let place = Cluster::shared()?.home();
    let line = format!("(sh -c 'echo first $$ >&2; exec {}/pump' ) | (wc -c; echo end)", place.guests()?);
    let words = ["bash".to_owned(), "-c".to_owned(), format!("exec 2>&1; {line}")];
    let mut run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("first ", 0)?;
    std::thread::sleep(Duration::from_millis(200));
    let pid = run.number_after("first ")?;
    run.send(&[b'x'; 1000])?;
    let moved = place.migrate_patiently(pid, "n3")?;
    ensure!(moved.is_ok(), "{moved:?}");
    run.send(&[b'y'; 234])?;
    run.close_input();
    run.expect("1234\nend", 0)?;
    run.end(SOON)?;
    Ok(())
}

fn sent_home_by_its_host() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut run = Run::start(cluster.home(), &guest("loop"))?;
    run.go(Stop::N2)?;
    let home = cluster.number("n1")?;
    cluster.node("n2").must(&format!("om expel {} {home}", run.pid))?;
    let at = cluster.home().whereabouts(run.pid)?;
    ensure!(at == home, "it is on node {at}");
    run.finish(0)?;
    Ok(())
}

/// Attaches strace to a process, and waits until it is attached.
fn strace<'a>(place: Place<'a>, pid: i32, file: &str) -> Result<Run<'a>> {
    let words = ["strace", "-f", "-o", file, "-p", &pid.to_string()].map(str::to_owned);
    let tracer = Run::command(place, &words, Input::Pipes, String::new())?;
    wait_until("strace is attached", || {
        Ok(!place.must(&format!("grep TracerPid /proc/{pid}/status"))?.trim().ends_with("\t0"))
    })?;
    Ok(tracer)
}

fn interrupt(mut tracer: Run<'_>) -> Result<()> {
    tracer.place().must(&format!("kill -INT {}", tracer.pid))?;
    tracer.end(SOON)?;
    Ok(())
}

/// Nobody traces the deputy, so anybody may: its calls are those of the program. Only home it cannot come meanwhile.
fn strace_at_home() -> Result<()> {
    let place = Cluster::shared()?.home();
    let mut run = Run::start(place, &guest("counter"))?;
    run.go(Stop::N2)?;
    let file = format!("{}/trace", run.scratch);
    let tracer = strace(place, run.pid, &file)?;
    wait_until("strace sees it write", || Ok(place.must(&format!("cat {file}"))?.contains("write(")))?;
    let count = format!("stat -c %s {}/count", run.scratch);
    let first = place.must(&count)?;
    wait_until("it counts on", || Ok(place.must(&count)? != first))?;
    match place.migrate(run.pid, "home")? {
        Ok(moved) => anyhow::bail!("it was moved: {moved:?}"),
        Err(refusal) => ensure!(refusal.codes == ["traced"] && refusal.status == 3, "{refusal:?}"),
    }
    interrupt(tracer)?;
    run.go(Stop::Home)?;
    run.finish(3)?;
    Ok(())
}

fn gdb_at_home() -> Result<()> {
    let place = Cluster::shared()?.home();
    let mut run = Run::start(place, &guest("counter"))?;
    run.go(Stop::N2)?;
    let said = place.must(&format!("gdb -nx -batch -p {} -ex 'info threads' -ex detach 2>&1", run.pid))?;
    ensure!(said.contains("detached") || said.contains("Detaching"), "{said}");
    let count = format!("stat -c %s {}/count", run.scratch);
    let first = place.must(&count)?;
    wait_until("it counts on", || Ok(place.must(&count)? != first))?;
    run.go(Stop::N3)?;
    run.go(Stop::Home)?;
    run.finish(3)?;
    Ok(())
}

/// A call that needs home waits until its process may come home.
fn wanted_home_while_traced() -> Result<()> {
    let cluster = Cluster::shared()?;
    let place = cluster.home();
    let mut run = Run::start(place, &guest("loop"))?;
    run.go(Stop::N2)?;
    let tracer = strace(place, run.pid, "/dev/null")?;
    let home = cluster.number("n1")?;
    let said = cluster.node("n2").shell(&format!("om expel {} {home}", run.pid))?;
    ensure!(said.status == 1 && said.errors.contains("when it can"), "{} {}", said.status, said.errors);
    ensure!(place.whereabouts(run.pid)? != home, "it came home, although it is traced there");
    interrupt(tracer)?;
    wait_until("it is at home", || Ok(place.whereabouts(run.pid)? == home))?;
    run.finish(0)?;
    Ok(())
}

fn its_moves_are_remembered() -> Result<()> {
    let place = Cluster::shared()?.home();
    let mut run = Run::start(place, &guest("loop"))?;
    let pid = run.pid;
    let moves = || {
        let said = place.must(&format!("om where {pid} --json"))?;
        suite::find(&said, "moves").and_then(|moves| moves.as_u64()).context("no count")
    };
    ensure!(moves()? == 0, "it has not moved yet");
    for stop in [Stop::N2, Stop::Home, Stop::N3, Stop::N2, Stop::Home] {
        run.go(stop)?;
    }
    ensure!(moves()? == 5, "moved {} times instead of 5", moves()?);
    let listed = place.must("om ps --json")?.replace(' ', "");
    ensure!(listed.contains(&format!("\"pid\":{pid},")), "om ps does not list it: {listed}");
    run.finish(0)?;
    let listed = place.must("om ps --json")?.replace(' ', "");
    ensure!(!listed.contains(&format!("\"pid\":{pid},")), "om ps lists the dead: {listed}");
    Ok(())
}

/// `mosrun` starts a program in the ordinary way and has it moved; its status comes back. `mps` and `migrate` are `om`.
fn under_the_classic_names() -> Result<()> {
    let place = Cluster::shared()?.home();
    let line = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo counted $i; exit 7";
    let said = place.shell(&format!("mosrun 2 sh -c '{line}'"))?;
    ensure!(
        said.output == "counted 300000\n" && said.status == 7,
        "mosrun ended with {}: {}{}",
        said.status,
        said.output,
        said.errors
    );
    let mut run = Run::start(place, &guest("loop"))?;
    place.must(&format!("migrate {} 2", run.pid))?;
    ensure!(place.must("mps")?.contains(&run.pid.to_string()), "mps does not list it");
    run.finish(0).map(drop)
}

/// A program that maps a file privately whenever it is told to, and tells whether all of it is `x`.
fn mapper<'a>(place: Place<'a>, file: &str) -> Result<Run<'a>> {
    let program = "import mmap,os,sys\nf=os.open(sys.argv[1],os.O_RDONLY)\nprint('ready',flush=True)\n\
                   while sys.stdin.readline():\n m=mmap.mmap(f,0,mmap.MAP_PRIVATE,mmap.PROT_READ)\n \
                   print('mapped',m.find(b'x')==0 and m[-1:]==b'x',flush=True)";
    let words = ["/usr/bin/python3", "-c", program, file].map(str::to_owned);
    let run = Run::command(place, &words, Input::Pipes, String::new())?;
    run.expect("ready", 0)?;
    Ok(run)
}

fn map_once_more(run: &mut Run<'_>) -> Result<()> {
    let from = run.position();
    run.send(b"more\n")?;
    run.expect("mapped True", from)?;
    Ok(())
}

fn ends_well(mut run: Run<'_>) -> Result<()> {
    run.close_input();
    let (status, _) = run.end(SOON)?;
    ensure!(status == 0, "it ended with {status}");
    Ok(())
}

/// Its bytes are others when they are sent than when they were looked at.
fn maps_a_file_that_is_written_to() -> Result<()> {
    const TIMES: usize = 8;
    let place = Cluster::shared()?.home();
    let file = "/tmp/written-to";
    place.must(&format!("head -c 16M /dev/zero | tr '\\0' x > {file}"))?;
    let program = "import os,sys,time\nf=os.open(sys.argv[1],os.O_WRONLY)\nprint('ready',flush=True)\nn=0\n\
                   while os.pwrite(f,b'%d'%n,4096+n*8%(16<<20>>1))>0: n+=1; time.sleep(0.001)";
    let words = ["/usr/bin/python3", "-c", program, file].map(str::to_owned);
    let writer = Run::command(place, &words, Input::Pipes, String::new())?;
    writer.expect("ready", 0)?;
    place.must(&format!("om lock {}", writer.pid))?;
    let mut run = mapper(place, file)?;
    for _ in 0..TIMES {
        // What it has mapped before may change under way, too: then it stays, and tells why.
        if let Err(refusal) = place.migrate_patiently(run.pid, "n2")? {
            let known = ["unreadable", "same-node"].contains(&refusal.codes.join(" ").as_str());
            ensure!(known, "{}", refusal.text);
        }
        map_once_more(&mut run)?;
    }
    place.must(&format!("kill {}", writer.pid))?;
    drop(writer);
    run.go(Stop::N2)?;
    map_once_more(&mut run)?;
    ends_well(run)
}

/// The host's disk has room for the program, and not for a file that it maps there.
fn maps_a_file_without_room() -> Result<()> {
    let cluster = Cluster::up(&["--set", "balance.policy=\"none\""])?;
    let place = cluster.home();
    let file = "/tmp/large";
    place.must(&format!("head -c 96M /dev/zero | tr '\\0' x > {file}"))?;
    let mut run = mapper(place, file)?;
    let host = cluster.node("n2");
    host.must("mount -t tmpfs -o size=64m tmpfs /var/cache/openmosix")?;
    run.go(Stop::N2)?;
    map_once_more(&mut run)?;
    let said = place.must(&format!("om where {}", run.pid))?;
    ensure!(said.contains("at home"), "the mapping was not made at home: {said}");
    let left = host.must("find /var/cache/openmosix -type f -name '.*'")?;
    ensure!(left.is_empty(), "halves of files are left: {left}");
    ends_well(run)
}
