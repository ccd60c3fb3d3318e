//! Counting what test programs say about themselves.

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    /// The sum over all summaries in the output of one or more test programs.
    ///
    /// Knows the last lines of the standard harness (`test result: ok. 3 passed; 0 failed; 1 ignored; ...`) and of
    /// nextest (`Summary [ 0.1s] 4 tests run: 3 passed, 1 failed, 2 skipped`).
    ///
    /// Where nextest sums up, it alone counts: it shows all that a failed test has printed, and that test was run by a standard
    /// harness, which has counted it already.
    pub(crate) fn read<'a>(lines: impl IntoIterator<Item = &'a str>) -> Tally {
        let lines: Vec<&str> = lines.into_iter().map(str::trim_start).collect();
        let summaries = lines.iter().filter_map(|line| line.strip_prefix("Summary [")?.split_once("run: "));
        let summaries: Vec<&str> = summaries.map(|(_, counts)| counts).collect();
        let results = lines.iter().filter_map(|line| line.strip_prefix("test result: "));
        let counted = if summaries.is_empty() { results.collect() } else { summaries };
        let mut tally = Tally::default();
        for counts in counted {
            for part in counts.split([';', ',', '.']) {
                let mut words = part.split_whitespace();
                let (Some(count), Some(kind)) = (words.next().and_then(|n| n.parse().ok()), words.next())
                else {
                    continue;
                };
                tally.count(kind, count);
            }
        }
        tally
    }

    fn count(&mut self, kind: &str, count: u64) {
        match kind {
            "passed" => self.passed += count,
            "failed" => self.failed += count,
            // nextest: `timed out` and `exec failed` are failures with their own names.
            "timed" | "exec" => self.failed += count,
            "skipped" | "ignored" => self.skipped += count,
            _ => {}
        }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Tally) -> Tally {
        Tally {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], passed: u64, failed: u64, skipped: u64) {
        assert_eq!(Tally::read(lines.iter().copied()), Tally { passed, failed, skipped });
    }

    #[test]
    fn both_harnesses_are_understood() {
        check(
            &["test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished"],
            3,
            0,
            1,
        );
        check(&["test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured"], 3, 2, 0);
        check(&["     Summary [   0.014s] 6 tests run: 5 passed (1 slow), 1 failed, 2 skipped"], 5, 1, 2);
        check(&["     Summary [   0.014s] 2 tests run: 1 passed, 1 timed out, 0 skipped"], 1, 1, 0);
        check(&["test a ... ok", "hello 3 passed"], 0, 0, 0);
        let two =
            ["test result: ok. 3 passed; 0 failed", "test result: FAILED. 1 passed; 1 failed; 2 ignored"];
        check(&two, 4, 1, 2);
    }

    #[test]
    fn a_failed_test_that_nextest_shows_is_counted_once() {
        let shown = [
            "        FAIL [   0.005s] (1/2) xtask tally::tests::it_fails",
            "  stdout ───",
            "    running 1 test",
            "    test tally::tests::it_fails ... FAILED",
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s",
            "     Summary [   0.006s] 2 tests run: 1 passed, 1 failed, 9 skipped",
            "        FAIL [   0.005s] (1/2) xtask tally::tests::it_fails",
        ];
        check(&shown, 1, 1, 9);
    }
}
