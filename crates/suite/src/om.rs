//! What `om` says with `--json`, as far as the trials need it.
//!
//! The shapes are those of the crate `control`; the search below tolerates an envelope around them.

use crate::place::{Place, Said};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A move that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// Time during which the guest did not run, microseconds.
    pub freeze_us: u64,
    /// Time of the whole move, microseconds.
    pub total_us: u64,
}

/// A move that did not take place.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The codes of the reasons.
    pub codes: Vec<String>,
    /// Everything that was said.
    pub text: String,
    /// The exit status of `om`.
    pub status: i32,
}

/// How long a guest may be busy with a home-coming of its own before it counts as stuck.
const BUSY_MAX: Duration = Duration::from_secs(15);

impl Place<'_> {
    /// Moves a process; the inner result is what `om` answered.
    pub fn migrate(&self, pid: i32, to: &str) -> Result<Result<Move, Refusal>> {
        let said = self.shell(&format!("om migrate {pid} {to} --json"))?;
        Ok(judge(&said))
    }

    /// Like [`Place::migrate`], and waits while the process is being moved already.
    pub fn migrate_patiently(&self, pid: i32, to: &str) -> Result<Result<Move, Refusal>> {
        let deadline = Instant::now() + BUSY_MAX;
        loop {
            match self.migrate(pid, to)? {
                Err(refusal) if refusal.codes == ["busy"] && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                answer => return Ok(answer),
            }
        }
    }

    /// The number of the node that runs a process.
    pub fn whereabouts(&self, pid: i32) -> Result<u64> {
        let said = self.shell(&format!("om where {pid} --json"))?;
        match find(&said.output, "node").and_then(|node| node.as_u64()) {
            Some(node) => Ok(node),
            None => bail!("om where {pid}: {}{}", said.output, said.errors),
        }
    }
}

fn judge(said: &Said) -> Result<Move, Refusal> {
    let number = |key| find(&said.output, key).and_then(|value| value.as_u64());
    if let (0, Some(freeze_us), Some(total_us)) = (said.status, number("freeze_us"), number("total_us")) {
        return Ok(Move { freeze_us, total_us });
    }
    let both = format!("{}{}", said.output, said.errors);
    let reasons = find(&both, "reasons");
    let codes = reasons.as_ref().and_then(Value::as_array).into_iter().flatten();
    let codes = codes.filter_map(|reason| reason["code"].as_str().map(str::to_owned)).collect();
    Err(Refusal { codes, text: both, status: said.status })
}

/// The value of a key, wherever it is in the lines of JSON; the last one counts.
pub fn find(lines: &str, key: &str) -> Option<Value> {
    // Either one document over many lines, or one on each line.
    let whole = serde_json::from_str::<Value>(lines).ok().into_iter();
    let each = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    whole.chain(each).filter_map(|value| within(&value, key)).next_back()
}

fn within(value: &Value, key: &str) -> Option<Value> {
    match value {
        Value::Object(map) => match map.get(key) {
            Some(found) => Some(found.clone()),
            None => map.values().find_map(|inner| within(inner, key)),
        },
        Value::Array(list) => list.iter().find_map(|inner| within(inner, key)),
        _ => None,
    }
}

/// Fails with a refusal's own words.
pub(crate) fn moved(answer: Result<Move, Refusal>, to: &str) -> Result<Move> {
    answer
        .map_err(|refusal| anyhow::anyhow!("{}", refusal.text.trim()))
        .with_context(|| format!("failed to move to {to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: i32, output: &str) -> Said {
        Said { status, output: output.to_owned(), errors: String::new() }
    }

    #[test]
    fn answers_are_understood_with_and_without_envelope() {
        let plain = r#"{"pid":5,"node":2,"freeze_us":1500,"total_us":9000,"bytes":1}"#;
        assert_eq!(judge(&said(0, plain)).map(|moved| moved.freeze_us).ok(), Some(1500));
        let lines = format!(
            "{}\n{}",
            r#"{"event":"progress"}"#,
            format_args!(r#"{{"event":"done","answer":{plain}}}"#)
        );
        assert_eq!(judge(&said(0, &lines)).map(|moved| moved.total_us).ok(), Some(9000));
        let refused =
            r#"{"event":"failed","reasons":[{"code":"busy","detail":""},{"code":"aio","detail":"x"}]}"#;
        assert_eq!(judge(&said(1, refused)).unwrap_err().codes, ["busy", "aio"]);
        assert!(judge(&said(1, plain)).is_err());
    }
}
