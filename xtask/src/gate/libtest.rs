//! Reads the output of Rust's test harness: counts, names of failures, reasons of skips.

use crate::vm::Tally;

/// What a test program printed.
#[derive(Debug, Default)]
pub(crate) struct Suite {
    tally: Tally,
    /// Test programs that printed their closing line.
    closed: usize,
    /// Tests that returned at once because something is missing.
    found_out: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Suite {
    /// Takes one line of output.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.closed += 1;
            for part in rest.split([';', '.']) {
                self.count(part);
            }
        } else if let Some(rest) = line.strip_prefix("test ") {
            self.test(rest);
        } else if let Some(reason) = line.trim_start().strip_prefix("skipped: ") {
            // A test that finds out while running says so and returns, which the harness takes for a pass.
            self.skipped.push(reason.to_owned());
            self.tally.skipped += 1;
            self.found_out += 1;
        } else if let Some((name, reason)) = line
            .strip_prefix("case ")
            .and_then(|case| case.split_once(" fail "))
        {
            self.failed.push(format!("{name}: {reason}"));
        } else if let Some((name, reason)) = line
            .strip_prefix("case ")
            .and_then(|case| case.split_once(" blind "))
        {
            self.skipped.push(format!("{name}: {reason}"));
        }
    }

    fn count(&mut self, part: &str) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(what)) = (words.next(), words.next()) else {
            return;
        };
        let Ok(number) = number.parse::<usize>() else {
            return;
        };
        match what {
            "passed" => self.tally.passed += number,
            "failed" => self.tally.failed += number,
            "ignored" => self.tally.skipped += number,
            _ => {}
        }
    }

    fn test(&mut self, rest: &str) {
        let Some((name, result)) = rest.split_once(" ... ") else {
            return;
        };
        if result.starts_with("FAILED") {
            self.failed.push(name.to_owned());
        } else if let Some(reason) = result.strip_prefix("ignored") {
            self.skipped
                .push(format!("{name}{}", reason.replace(", ", ": ")));
        }
    }

    /// The counts.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            passed: self.tally.passed.saturating_sub(self.found_out),
            ..self.tally
        }
    }

    /// Test programs that ran to their end.
    pub(crate) fn closed(&self) -> usize {
        self.closed
    }

    /// Names of the tests that failed.
    pub(crate) fn failed(&self) -> &[String] {
        &self.failed
    }

    /// Tests that were not run, with their reasons.
    pub(crate) fn skipped(&self) -> &[String] {
        &self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_skips_itself_has_not_passed() {
        let mut suite = Suite::default();
        for line in [
            "test nginx ... ",
            "skipped: nginx: nginx is not installed",
            "ok",
            "test every_conversation ... ",
            "case connect/tcp4 fail [server] 1 sent, 0 exported",
            "case received-by-splice/unix blind not read by any back end",
            "FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            suite.line(line);
        }
        let tally = suite.tally();
        assert_eq!((tally.passed, tally.failed, tally.skipped), (0, 1, 1));
        let skipped = [
            "nginx: nginx is not installed",
            "received-by-splice/unix: not read by any back end",
        ];
        assert_eq!(suite.skipped(), skipped);
        assert_eq!(
            suite.failed(),
            ["connect/tcp4: [server] 1 sent, 0 exported"]
        );
    }

    #[test]
    fn counts_of_several_programs_add_up() {
        let mut suite = Suite::default();
        for line in [
            "running 3 tests",
            "test a::splits ... ok",
            "test b ... FAILED",
            "test c ... ignored, needs a second network",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.00s",
        ] {
            suite.line(line);
        }
        let tally = suite.tally();
        assert_eq!((tally.passed, tally.failed, tally.skipped), (8, 1, 1));
        assert_eq!(suite.closed(), 2);
        assert_eq!(suite.failed(), ["b"]);
        assert_eq!(suite.skipped(), ["c: needs a second network"]);
    }
}
