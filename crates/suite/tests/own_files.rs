//! Files that a program maps and may change, while it is away: what it writes there is where everybody looks for it.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, ensure};
use model::ReasonCode;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use suite::{Cluster, Input, Place, Run, SOON, Stop, find, main as run, trial};

fn main() -> ExitCode {
    run(vec![
        trial("who-opens-it-sees-everything", &["cc"], who_opens_it_sees_everything),
        trial("msync-outlives-the-host", &["cc"], msync_outlives_the_host),
        trial("killed-at-home", &["cc"], || ends("kill -9 PID", 128 + 9)),
        trial("ends-by-itself", &["cc"], || ends("", 0)),
        trial("ends-by-a-signal-of-its-own", &["cc"], || ends("kill -TERM PID", 128 + 15)),
        trial("reads-by-its-descriptor", &["cc"], || by_descriptor("read", "read")),
        trial("writes-by-its-descriptor", &["cc"], || by_descriptor("write", "written")),
        trial("starts-a-program", &["cc"], || by_descriptor("pass", "passed")),
        trial("stays-away-otherwise", &["cc"], stays_away_otherwise),
        trial("msync-tells-of-a-full-disk", &["cc"], msync_tells_of_a_full_disk),
        trial("somebody-truncates-it", &["cc"], somebody_truncates_it),
        trial("with-somebody-who-has-it-open", &["cc"], || with_another("exec 9< FILE")),
        trial("with-somebody-who-maps-it", &["cc", "python3"], with_somebody_who_maps_it),
        trial("with-a-private-mapping-too", &["cc"], with_a_private_mapping_too),
    ])
}

/// A program that waits for orders, and the file that it maps.
struct Mapper<'a> {
    run: Run<'a>,
    file: String,
    at: usize,
    rounds: u32,
}

impl<'a> Mapper<'a> {
    fn start(place: Place<'a>, how: &str) -> Result<Mapper<'a>> {
        Mapper::start_in(place, place.scratch()?, how)
    }

    fn start_in(place: Place<'a>, scratch: String, how: &str) -> Result<Mapper<'a>> {
        let words = [format!("{}/ownfile", place.guests()?), scratch.clone(), how.to_owned()];
        let run = Run::command(place, &words, Input::Pipes, String::new())?;
        let at = run.expect("ready", 0)?;
        Ok(Mapper { run, file: format!("{scratch}/own"), at, rounds: 0 })
    }

    fn order(&mut self, order: &str, answer: &str) -> Result<()> {
        self.run.send(format!("{order}\n").as_bytes())?;
        self.at = self.run.expect(answer, self.at)?;
        Ok(())
    }

    fn work(&mut self) -> Result<()> {
        self.rounds += 1;
        self.order("work", "worked")
    }

    fn is_at(&self, node: &str) -> Result<bool> {
        Ok(self.run.place().whereabouts(self.run.pid)? == Cluster::shared()?.number(node)?)
    }

    /// Another program reads the file, and finds what was last written to it.
    fn is_in_the_file(&self) -> Result<()> {
        let place = self.run.place();
        let line = format!("{}/ownfile check {} {}", place.guests()?, self.file, self.rounds);
        let said = place.shell(&line)?;
        ensure!(said.status == 0 && said.output.contains("as it should be"), "{}", said.output);
        Ok(())
    }
}

fn who_opens_it_sees_everything() -> Result<()> {
    let mut mapper = Mapper::start(Cluster::shared()?.home(), "rest")?;
    mapper.work()?;
    for stop in [Stop::N2, Stop::N3, Stop::N2] {
        mapper.run.go(stop)?;
        mapper.work()?;
        ensure!(mapper.is_at(stop.name())?, "nobody has asked for it");
        mapper.is_in_the_file()?;
        ensure!(mapper.is_at("n1")?, "somebody has opened its file");
        // It writes where the file is, and everybody sees that at once.
        mapper.work()?;
        mapper.is_in_the_file()?;
    }
    let log = mapper.run.place().must("om log")?;
    ensure!(log.contains("somebody wanted a file that it maps"), "{log}");
    mapper.run.finish(0)?;
    Ok(())
}

/// What was synced is at home, whatever becomes of the host; what was not may be lost with it, and only that.
fn msync_outlives_the_host() -> Result<()> {
    let cluster = Cluster::shared()?;
    let mut mapper = Mapper::start(cluster.home(), "rest")?;
    mapper.run.go(Stop::N2)?;
    mapper.work()?;
    mapper.work()?;
    mapper.order("sync", "synced")?;
    ensure!(mapper.is_at("n2")?, "it need not come home for that");
    kill_warden_of(cluster, mapper.run.pid)?;
    let (status, _) = mapper.run.end(SOON)?;
    ensure!(status == 128 + 9, "it ended with {status}");
    mapper.is_in_the_file()
}

/// Ends whoever hosts a process on n2, as nothing but a failure does.
fn kill_warden_of(cluster: &Cluster, pid: i32) -> Result<()> {
    let place = cluster.node("n2");
    let said = place.must("om ps --json")?;
    let guests = find(&said, "guests").with_context(|| said.clone())?;
    let guest = guests.as_array().and_then(|guests| guests.iter().find(|guest| guest["pid"] == pid));
    let local = guest.and_then(|guest| guest["local_pid"].as_u64()).with_context(|| said.clone())?;
    let line = format!(
        "p={local}; until grep -q omd-warden /proc/$p/comm; do p=$(ps -o ppid= -p $p | tr -d ' '); done; kill -9 $p"
    );
    place.must(&line).map(drop)
}

/// However it ends, what it last wrote is in the file when its end is known.
fn ends(how: &str, wanted: i32) -> Result<()> {
    let place = Cluster::shared()?.home();
    let mut mapper = Mapper::start(place, "rest")?;
    mapper.run.go(Stop::N2)?;
    for _ in 0..3 {
        mapper.work()?;
    }
    if how.is_empty() {
        mapper.run.send(b"finish\n")?;
    } else {
        place.must(&how.replace("PID", &mapper.run.pid.to_string()))?;
    }
    let (status, _) = mapper.run.end(SOON)?;
    ensure!(status == wanted, "it ended with {status}");
    mapper.is_in_the_file()
}

/// Calls of its own that see or change the file, or give it to somebody, are made at home.
fn by_descriptor(order: &str, answer: &str) -> Result<()> {
    let mut mapper = Mapper::start(Cluster::shared()?.home(), "open")?;
    for stop in [Stop::N2, Stop::N3] {
        mapper.run.go(stop)?;
        mapper.work()?;
        mapper.order(order, answer)?;
        if order == "write" {
            mapper.rounds += 2;
        }
        ensure!(mapper.is_at("n1")?, "it did that away");
        mapper.is_in_the_file()?;
    }
    mapper.run.finish(0)?;
    Ok(())
}

fn stays_away_otherwise() -> Result<()> {
    let mut mapper = Mapper::start(Cluster::shared()?.home(), "open")?;
    mapper.run.go(Stop::N2)?;
    for _ in 0..5 {
        mapper.work()?;
        mapper.order("sync", "synced")?;
    }
    mapper.order("unmap", "unmapped")?;
    mapper.work()?;
    ensure!(mapper.is_at("n2")?, "it has come home");
    mapper.run.go(Stop::N3)?;
    mapper.work()?;
    ensure!(mapper.is_at("n3")?, "it has come home");
    mapper.run.go(Stop::Home)?;
    mapper.is_in_the_file()?;
    mapper.run.finish(0)?;
    Ok(())
}

/// At home a page for which there is no room ends the program; away it is noticed when it is written back.
fn msync_tells_of_a_full_disk() -> Result<()> {
    let place = Cluster::shared()?.home();
    let scratch = place.scratch()?;
    place.must(&format!("mkdir {scratch}/small && mount -t tmpfs -o size=16k small {scratch}/small"))?;
    let mut mapper = Mapper::start_in(place, format!("{scratch}/small"), "rest")?;
    mapper.run.go(Stop::N2)?;
    mapper.work()?;
    mapper.order("try", "no space")?;
    mapper.order("try", "all is there")?;
    ensure!(mapper.is_at("n2")?, "it has come home");
    mapper.run.finish(0)?;
    // Its keeper may hold the file for a moment longer.
    place.must(&format!("umount -l {scratch}/small")).map(drop)
}

/// That needs no open file: it is told of all the same.
fn somebody_truncates_it() -> Result<()> {
    let place = Cluster::shared()?.home();
    let mapper = Mapper::start(place, "rest")?;
    let mut run = mapper.run;
    run.go(Stop::N2)?;
    place.must(&format!("perl -e 'truncate(\"{}\", 4096) or die'", mapper.file))?;
    let began = Instant::now();
    while place.whereabouts(run.pid)? != Cluster::shared()?.number("n1")? {
        ensure!(began.elapsed() < SOON, "it has not come home");
        std::thread::sleep(Duration::from_millis(20));
    }
    let length = place.must(&format!("stat -c %s {}", mapper.file))?;
    ensure!(length.trim() == "4096", "the file has {length} bytes");
    run.finish(0)?;
    Ok(())
}

fn with_another(how: &str) -> Result<()> {
    let place = Cluster::shared()?.home();
    let mapper = Mapper::start(place, "rest")?;
    let line = format!("{}; echo ready; read x; echo unharmed", how.replace("FILE", &mapper.file));
    let mut other =
        Run::command(place, &["sh".to_owned(), "-c".to_owned(), line], Input::Pipes, String::new())?;
    other.expect("ready", 0)?;
    refused_for(mapper, &format!("with process {}", other.pid), || {
        other.finish(0)?;
        Ok(())
    })
}

fn with_somebody_who_maps_it() -> Result<()> {
    let place = Cluster::shared()?.home();
    let mapper = Mapper::start(place, "rest")?;
    let program = "import mmap,os,sys; f=os.open(sys.argv[1],os.O_RDONLY); m=mmap.mmap(f,4096,mmap.MAP_PRIVATE,\
                   mmap.PROT_READ); os.close(f); print('ready',flush=True); input(); print('unharmed')";
    let words = ["/usr/bin/python3", "-c", program, &mapper.file].map(str::to_owned);
    let mut other = Run::command(place, &words, Input::Pipes, String::new())?;
    other.expect("ready", 0)?;
    refused_for(mapper, &format!("with process {}", other.pid), || {
        other.finish(0)?;
        Ok(())
    })
}

fn with_a_private_mapping_too() -> Result<()> {
    let mapper = Mapper::start(Cluster::shared()?.home(), "twice")?;
    refused_for(mapper, "which it also maps privately", || Ok(())).map(drop)
}

/// It is refused in these words, until what `ends` ends has ended; then it moves.
fn refused_for(mut mapper: Mapper<'_>, words: &str, ends: impl FnOnce() -> Result<()>) -> Result<()> {
    let place = mapper.run.place();
    mapper.work()?;
    let why = place.shell(&format!("om why {}", mapper.run.pid))?;
    let code = ReasonCode::SharedMapping.code();
    ensure!(why.status == 3 && why.output.contains(code) && why.output.contains(words), "{}", why.output);
    let refused = place.shell(&format!("om migrate {} n2", mapper.run.pid))?;
    let said = refused.errors + &refused.output;
    ensure!(refused.status == 3 && said.contains(words), "{} {said}", refused.status);
    ends()?;
    if !words.contains("privately") {
        mapper.run.go(Stop::N2)?;
        mapper.work()?;
        mapper.run.go(Stop::Home)?;
    }
    mapper.is_in_the_file()?;
    mapper.run.finish(0)?;
    Ok(())
}
