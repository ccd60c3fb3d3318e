//! What is known to differ when an entry is moved about. Whatever else differs is a fault.

use super::Entry;
use std::collections::BTreeSet;
use torture::{Aspect, Report};

/// Tests that may end otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The names that the entry prints.
    pub tests: &'static [&'static str],
    /// Why they do.
    pub why: &'static str,
}

impl Entry {
    /// In words, everything that was not as in peace and is not known; nothing if all is as it should be.
    pub fn unknown_differences(&self, report: &Report) -> Vec<String> {
        let names: Vec<&str> = self.differs.iter().flat_map(|known| known.tests).copied().collect();
        let is_known = |aspect: &Aspect| {
            *aspect == Aspect::Output
                && without(&report.printed, &names) == without(&report.printed_when_moved, &names)
        };
        let unknown: BTreeSet<Aspect> =
            report.unlike.iter().copied().filter(|aspect| !is_known(aspect)).collect();
        unknown.iter().map(Aspect::to_string).collect()
    }

    /// Why it may differ, for the page; nothing if it must not.
    pub fn why_it_differs(&self) -> String {
        self.differs.iter().map(|known| known.why).collect::<Vec<_>>().join("; ")
    }
}

/// The lines of an output that are not about one of these tests. A line is the test's end, a word, and its name.
fn without<'a>(printed: &'a [u8], names: &[&str]) -> Vec<&'a [u8]> {
    let is_named = |line: &[u8]| {
        let name = line.splitn(2, |byte| *byte == b' ').nth(1);
        name.is_some_and(|name| names.iter().any(|known| known.as_bytes() == name))
    };
    printed.split(|byte| *byte == b'\n').filter(|line| !is_named(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::entries;
    use super::*;

    const TESTS: Known = Known { tests: &["a: one", "b"], why: "chance" };

    fn check(differs: &'static [Known], report: &Report, unknown: &[&str]) {
        let entry = Entry { differs, ..*entries().next().unwrap() };
        assert_eq!(entry.unknown_differences(report), unknown, "{differs:?} {report:?}");
    }

    fn printed(peace: &str, moved: &str) -> Report {
        let unlike = (peace != moved).then_some(Aspect::Output).into_iter().collect();
        let (printed, printed_when_moved) = (peace.as_bytes().to_vec(), moved.as_bytes().to_vec());
        Report { same: peace == moved, printed, printed_when_moved, unlike, ..Report::default() }
    }

    #[test]
    fn only_the_tests_that_are_named_may_end_otherwise() {
        let peace = "ok a: one\nok a: two\nskip b\n";
        for (moved, unknown) in [
            (peace, &[][..]),
            ("FAIL a: one\nok a: two\nskip b\n", &[]),
            ("FAIL a: one\nok a: two\nok b\n", &[]),
            ("ok a: two\n", &[]),
            ("ok a: one\nFAIL a: two\nskip b\n", &["its output"]),
            ("FAIL a: one\nFAIL a: two\nskip b\n", &["its output"]),
            ("ok a: one\nok a: two\nskip b\nok b: more\n", &["its output"]),
            ("ok a: one\nskip b\n", &["its output"]),
            ("", &["its output"]),
        ] {
            check(&[TESTS], &printed(peace, moved), unknown);
        }
        check(&[], &printed(peace, "FAIL a: one\n"), &["its output"]);
    }

    /// The canary: what is known of one side of a run excuses no other.
    #[test]
    fn nothing_else_is_excused() {
        let others = [
            Aspect::Ending,
            Aspect::Complaints,
            Aspect::Files,
            Aspect::Faults,
            Aspect::Remains,
            Aspect::DaemonMemory,
        ];
        for aspect in others {
            let report = Report { unlike: BTreeSet::from([aspect]), ..printed("ok b\n", "FAIL b\n") };
            check(&[TESTS], &report, &[&aspect.to_string()]);
        }
    }
}
