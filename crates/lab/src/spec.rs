//! What a lab shall be like.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Nodes in one lab, at most: the last byte of a node's address is its id.
pub const NODES_MAX: u16 = 200;

/// What a lab shall be like.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name, by which other commands find it.
    pub name: String,
    /// How many nodes; they are called n1, n2, ...
    pub nodes: u16,
    /// CPUs of the nodes: none (one each), one for all, or one per node.
    pub cpus: Vec<CpuShare>,
    /// Memory of the nodes: none (no limit), one for all, or one per node.
    pub memory: Vec<Memory>,
    /// Speed of every node's network connection; `None` is as fast as the machine.
    pub rate: Option<Rate>,
    /// The file system every node sees (read-only below, with writes of its own on top).
    pub root: PathBuf,
    /// Directory of our programs, seen in every node as `/opt/openmosix/bin`;
    /// `None` is the directory of the running program.
    pub programs: Option<PathBuf>,
    /// Whether the nodes run daemons.
    pub daemons: Daemons,
    /// Settings for every daemon's `omd.toml`, like `balance.automatic = false`.
    pub settings: Vec<String>,
}

/// Whether the nodes of a lab run daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemons {
    /// `omd` in every node, and [`crate::Lab::up`] waits until each answers.
    Started,
    /// Nodes with nothing in them.
    Bare,
}

/// One line with a dotted key and a value; what they mean is the daemon's to judge.
fn is_setting(text: &str) -> bool {
    let key = |key: &str| {
        let key = key.trim();
        key.contains('.')
            && key.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
    };
    !text.contains(['\n', '\r'])
        && text.split_once('=').is_some_and(|(name, value)| key(name) && !value.trim().is_empty())
}

impl Spec {
    /// A lab of `nodes` nodes with one CPU each, this machine's file system and daemons.
    pub fn new(name: impl Into<String>, nodes: u16) -> Spec {
        Spec {
            name: name.into(),
            nodes,
            cpus: Vec::new(),
            memory: Vec::new(),
            rate: None,
            root: PathBuf::from("/"),
            programs: None,
            daemons: Daemons::Started,
            settings: Vec::new(),
        }
    }

    /// Checks everything that can be checked without touching the machine.
    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.nodes == 0 || self.nodes > NODES_MAX {
            return Err(Error::BadNodeCount(self.nodes));
        }
        if let Some(bad) = self.settings.iter().find(|setting| !is_setting(setting)) {
            return Err(Error::BadSetting(bad.clone()));
        }
        for (what, given) in [("--cpus", self.cpus.len()), ("--mem", self.memory.len())] {
            if given > 1 && given != usize::from(self.nodes) {
                return Err(Error::BadList { what, given, nodes: self.nodes });
            }
        }
        Ok(())
    }

    /// The share of the node at `index`, counted from 0.
    pub(crate) fn cpus_of(&self, index: usize) -> CpuShare {
        self.cpus.get(index).or(self.cpus.first()).copied().unwrap_or(CpuShare { percent: 100 })
    }

    /// The memory of the node at `index`, counted from 0.
    pub(crate) fn memory_of(&self, index: usize) -> Option<Memory> {
        self.memory.get(index).or(self.memory.first()).copied()
    }
}

/// Refuses names that could not be a directory's and a cluster's, which both it becomes.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
        return Err(Error::BadName(name.to_owned()));
    }
    Ok(())
}

/// How much CPU a node has: whole CPUs by affinity, the fraction of the last by quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuShare {
    /// Hundredths of a CPU.
    pub percent: u32,
}

impl CpuShare {
    /// CPUs the node is pinned to.
    pub fn count(self) -> usize {
        self.percent.div_ceil(100) as usize
    }

    /// The quota in hundredths of a CPU; whole CPUs need none.
    pub fn quota(self) -> Option<u32> {
        (!self.percent.is_multiple_of(100)).then_some(self.percent)
    }
}

impl FromStr for CpuShare {
    type Err = Error;
    fn from_str(text: &str) -> Result<CpuShare> {
        let wrong = || Error::BadWord { text: text.to_owned(), wanted: "a number of CPUs (like 2 or 0.5)" };
        let number = text.parse::<f64>().map_err(|_| wrong())?;
        // 1 % is the least the kernel's quota can express with its usual period.
        if !(0.01..=4096.0).contains(&number) {
            return Err(wrong());
        }
        Ok(CpuShare { percent: (number * 100.0).round() as u32 })
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.percent) / 100.0)
    }
}

/// How much memory a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes.
    pub bytes: u64,
}

impl FromStr for Memory {
    type Err = Error;
    fn from_str(text: &str) -> Result<Memory> {
        let wrong =
            || Error::BadWord { text: text.to_owned(), wanted: "an amount of memory (like 512M or 2G)" };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift =
            match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
                "" => 0,
                "k" => 10,
                "m" => 20,
                "g" => 30,
                "t" => 40,
                _ => return Err(wrong()),
            };
        let number = digits.parse::<u64>().map_err(|_| wrong())?;
        let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes >= 1 << 20).ok_or_else(wrong)?;
        Ok(Memory { bytes })
    }
}

/// The speed of a network connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Bits per second.
    pub bits: u64,
}

impl FromStr for Rate {
    type Err = Error;
    fn from_str(text: &str) -> Result<Rate> {
        let wrong =
            || Error::BadWord { text: text.to_owned(), wanted: "a rate (like 100mbit, 1gbit or none)" };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "kbit" => 1_000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            _ => return Err(wrong()),
        };
        let number = digits.parse::<u64>().map_err(|_| wrong())?;
        // Above this the kernel's 32-bit rate field overflows, and no veth is faster.
        let bits = number.checked_mul(unit).filter(|bits| (1_000..=32_000_000_000).contains(bits));
        Ok(Rate { bits: bits.ok_or_else(wrong)? })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1_000_000_000, "gbit"), (1_000_000, "mbit")] {
            if self.bits.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.bits / unit);
            }
        }
        write!(f, "{}kbit", self.bits / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_or_refused() {
        let percent = |text: &str| text.parse::<CpuShare>().ok().map(|share| share.percent);
        assert_eq!(percent("2"), Some(200));
        assert_eq!(percent("0.5"), Some(50));
        for wrong in ["", "0", "-1", "x", "nan", "inf", "1e9"] {
            assert_eq!(percent(wrong), None, "{wrong}");
        }
        let bytes = |text: &str| text.parse::<Memory>().ok().map(|memory| memory.bytes);
        assert_eq!(bytes("512M"), Some(512 << 20));
        assert_eq!(bytes("2GiB"), Some(2 << 30));
        for wrong in ["", "M", "1", "12Q", "99999999999T"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
        let bits = |text: &str| text.parse::<Rate>().ok().map(|rate| rate.bits);
        assert_eq!(bits("1gbit"), Some(1_000_000_000));
        for wrong in ["", "none", "1", "0gbit", "99gbit", "1 gbit"] {
            assert_eq!(bits(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn settings_are_one_line_with_a_dotted_key() {
        for (text, good) in [
            ("guests.max=8", true),
            ("balance.policy = \"none\"", true),
            ("max=8", false),
            ("guests.max", false),
            ("guests.max=", false),
            ("guests.max=8\n[paths]", false),
            ("[guests].max=8", false),
        ] {
            assert_eq!(is_setting(text), good, "{text}");
        }
    }

    #[test]
    fn lists_are_for_all_or_for_each() {
        let share = |percent| CpuShare { percent };
        let mut spec = Spec::new("a", 3);
        assert_eq!(spec.cpus_of(2), share(100));
        spec.cpus = vec![share(50)];
        assert_eq!(spec.cpus_of(2), share(50));
        spec.cpus = vec![share(100), share(200)];
        assert!(spec.check().is_err());
        spec.cpus.push(share(300));
        assert!(spec.check().is_ok());
        assert_eq!(spec.cpus_of(2), share(300));
        for wrong in ["../x", "", "Lab", "a b", &"x".repeat(33)] {
            spec.name = wrong.to_owned();
            assert!(spec.check().is_err(), "{wrong}");
        }
    }
}
