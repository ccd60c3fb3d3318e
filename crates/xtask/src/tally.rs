//! Counting what test programs say about themselves.

/// How many lines of what a failed test has said are repeated at the end.
const LINES_OF_ONE: usize = 12;

/// How many tests ended how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// What the failed ones have said, each from its beginning.
    pub(crate) failures: Vec<String>,
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
        let mut tally = Tally { failures: failures(&lines), ..Tally::default() };
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
            failures: [self.failures, other.failures].concat(),
        }
    }
}

/// The beginning of what each failed test has said, as the standard harness shows it: after a line `---- NAME ----`. (nextest
/// shows it, too: it runs the standard harness.)
fn failures(lines: &[&str]) -> Vec<String> {
    let is_title = |line: &str| line.starts_with("---- ");
    let ends = |line: &&&str| !is_title(line) && **line != "failures:" && !line.starts_with("test result: ");
    let titles = lines.iter().enumerate().filter(|(_, line)| is_title(line));
    let told = titles.map(|(at, title)| {
        let said = lines[at + 1..].iter().take_while(ends).filter(|line| !line.is_empty()).take(LINES_OF_ONE);
        std::iter::once(title).chain(said).copied().collect::<Vec<_>>().join("\n")
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], passed: u64, failed: u64, skipped: u64) {
        let Tally { passed: ok, failed: bad, skipped: left_out, .. } = Tally::read(lines.iter().copied());
        assert_eq!((ok, bad, left_out), (passed, failed, skipped));
    }

    #[test]
    fn what_failed_tests_said_is_kept_from_its_beginning() {
        let long: Vec<String> = (0..50).map(|number| format!("line {number}")).collect();
        let mut lines = vec![
            "test a ... FAILED",
            "",
            "failures:",
            "",
            "---- tour/a ----",
            "it ended with 9",
            "",
            "---- b ----",
        ];
        lines.extend(long.iter().map(String::as_str));
        lines.extend(["failures:", "    tour/a", "    b", "test result: FAILED. 1 passed; 2 failed"]);
        let failures = Tally::read(lines).failures;
        assert_eq!(failures[0], "---- tour/a ----\nit ended with 9");
        assert_eq!(failures[1].lines().count(), 1 + LINES_OF_ONE);
        assert_eq!(failures.len(), 2);
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
