//! Tests that other projects wrote, as data: what a program may expect of a machine, in the words of those who know.
//!
//! An [`Entry`] is one command that runs some of them and prints one line for each, `ok`, `skip` or `FAIL` and its name. The
//! command is run in peace and under torture, and both must print the same; whether a test passes is its own affair.

mod cpython;
mod known;
mod runtimes;
mod stressors;

use crate::{Bring, needs};
use anyhow::Result;
use std::time::Duration;
use torture::Plan;

pub use known::Known;
pub use stressors::{LEFT_OUT as STRESSORS_LEFT_OUT, all as stressors};

/// How long each of the two runs may take: who has 128 MB and is moved without a pause computes for a tenth of the time.
const TIME_MAX: Duration = Duration::from_secs(1200);

/// Tests that are not run.
#[derive(Clone, Copy, Debug)]
pub struct LeftOut {
    /// Patterns of their names, as the shell has them.
    pub tests: &'static [&'static str],
    /// Why.
    pub why: &'static str,
}

/// One command that runs some tests.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Whose tests they are.
    pub group: &'static str,
    /// Which of them.
    pub name: &'static str,
    /// The package of Debian that they come from.
    pub package: &'static str,
    /// What it needs; see [`crate::missing`].
    pub needs: &'static [&'static str],
    /// What is there when it starts.
    pub brought: &'static [Bring],
    /// A line of shell; `{python}` is the interpreter, `{name}` the name above, `{tests}` what follows, `{without}` the patterns of what is left out,
    /// each behind [`Entry::without`].
    pub line: &'static str,
    /// `{tests}`.
    pub tests: &'static [&'static str],
    /// The option before each pattern of a test to leave out.
    pub without: &'static str,
    /// Tests that are not run.
    pub left_out: &'static [LeftOut],
    /// What is known to differ; nothing else may.
    pub differs: &'static [Known],
    /// Whether it is quick enough for every change.
    pub in_ci: bool,
}

/// All of them, in the order of the page.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    [cpython::ENTRIES, stressors::ENTRIES, runtimes::ENTRIES].into_iter().flatten()
}

/// How many tests of one entry ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Tests that passed.
    pub ok: u64,
    /// Tests that found something missing.
    pub skipped: u64,
    /// Tests that failed, in peace.
    pub failed: u64,
}

impl Ends {
    /// Counts the lines that the command printed.
    pub fn of(printed: &[u8]) -> Ends {
        let mut ends = Ends::default();
        for line in printed.split(|byte| *byte == b'\n') {
            match line.split(|byte| *byte == b' ').next() {
                Some(b"ok") => ends.ok += 1,
                Some(b"skip") => ends.skipped += 1,
                Some(b"FAIL") => ends.failed += 1,
                _ => {}
            }
        }
        ends
    }
}

impl Entry {
    /// The torture of this entry from this seed.
    pub fn plan(&self, seed: u64) -> Result<Plan> {
        let brought = self.brought.iter().map(|bring| bring.path()).collect::<Result<_>>()?;
        Ok(Plan { brought, time_limit: TIME_MAX, ..Plan::new(["sh", "-c", &self.shell()], seed) })
    }

    fn shell(&self) -> String {
        let patterns = self.left_out.iter().flat_map(|left_out| left_out.tests);
        let without: Vec<_> = patterns.map(|pattern| format!("{}'{pattern}'", self.without)).collect();
        self.line
            .replace("{python}", needs::python())
            .replace("{name}", self.name)
            .replace("{tests}", &self.tests.join(" "))
            .replace("{without}", &without.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ends_are_counted() {
        let printed = b"ok a\nok b: c\nskip d\nFAIL e\nokay\n\n";
        assert_eq!(Ends::of(printed), Ends { ok: 2, skipped: 1, failed: 1 });
        assert_eq!(Ends::of(b""), Ends::default());
    }

    #[test]
    fn every_entry_has_its_own_name_and_a_line_that_is_whole() {
        let mut names = BTreeSet::new();
        for entry in entries() {
            assert!(names.insert((entry.group, entry.name)), "{} {} is there twice", entry.group, entry.name);
            let shell = entry.shell();
            assert!(!shell.contains("{tests}") && !shell.contains("{without}"), "{shell}");
            let tells = entry.line.contains("{without}") || entry.left_out.is_empty();
            assert!(tells, "{} {} does not leave out what it should", entry.group, entry.name);
        }
    }

    #[test]
    fn no_stressor_is_both_run_and_left_out() {
        let run: BTreeSet<_> = stressors().collect();
        for left_out in STRESSORS_LEFT_OUT.iter().flat_map(|left_out| left_out.tests) {
            assert!(!run.contains(left_out), "{left_out}");
        }
    }
}
