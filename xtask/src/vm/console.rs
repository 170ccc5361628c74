//! Reads a guest's console: when it started, how each case ended, its verdict, and what its kernel complained of.

/// Everything a console said that matters.
#[derive(Debug, Default)]
pub(crate) struct Console {
    started: bool,
    cases: Vec<Case>,
    verdict: Option<Verdict>,
    complaints: Vec<String>,
}

/// One case and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) result: CaseResult,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaseResult {
    Passed,
    Failed,
    Skipped,
}

/// The guest's own count, by which a run that was cut short is told from a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every case passed and the kernel stayed silent.
    Passed,
    /// A case failed, no case ran, or the counts disagree.
    Failed,
    /// The guest started, and was still running at its time limit.
    Hung,
    /// The kernel complained, or the guest ended without a verdict.
    Crashed,
    /// The guest never printed its first line.
    BootFailed,
}

impl Outcome {
    /// As it is printed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Hung => "hung",
            Self::Crashed => "crashed",
            Self::BootFailed => "boot-failed",
        }
    }
}

/// What kernels print when something is wrong with them.
const COMPLAINTS: [&str; 14] = [
    "Kernel panic",
    "Oops:",
    "BUG:",
    "kernel BUG at",
    "WARNING: CPU",
    "WARNING: at ",
    "WARNING: kernel",
    "general protection fault",
    "self-detected stall",
    "detected stalls",
    "blocked for more than",
    "soft lockup",
    "Call Trace:",
    "unregister_netdevice: waiting",
];

impl Console {
    /// Takes one line of the console.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if line.contains("guest: start") {
            self.started = true;
        } else if let Some(rest) = after(line, "guest: verdict ") {
            self.verdict = Verdict::parse(rest);
        } else if let Some(case) = Case::parse(line) {
            self.cases.push(case);
        } else if COMPLAINTS.iter().any(|complaint| line.contains(complaint)) {
            self.complaints.push(line.to_owned());
        }
    }

    /// Whether the guest's init printed its first line.
    pub(crate) fn started(&self) -> bool {
        self.started
    }

    /// Whether nothing more can be expected.
    pub(crate) fn finished(&self) -> bool {
        self.verdict.is_some()
            || self
                .complaints
                .iter()
                .any(|line| line.contains("Kernel panic"))
    }

    /// The cases that were reported.
    pub(crate) fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// What the kernel complained of.
    pub(crate) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// How the guest ended; `timed_out` if it had to be stopped.
    pub(crate) fn outcome(&self, timed_out: bool) -> Outcome {
        if !self.started {
            return Outcome::BootFailed;
        }
        if !self.complaints.is_empty() {
            return Outcome::Crashed;
        }
        match self.verdict {
            None if timed_out => Outcome::Hung,
            None => Outcome::Crashed,
            Some(verdict)
                if verdict.failed == 0 && verdict.passed > 0 && verdict == self.counted() =>
            {
                Outcome::Passed
            }
            Some(_) => Outcome::Failed,
        }
    }

    fn counted(&self) -> Verdict {
        let count = |result| {
            self.cases
                .iter()
                .filter(|case| case.result == result)
                .count()
        };
        Verdict {
            passed: count(CaseResult::Passed),
            failed: count(CaseResult::Failed),
            skipped: count(CaseResult::Skipped),
        }
    }
}

impl Case {
    /// `case NAME pass|fail|skip|blind ...`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("case ")?.split_whitespace();
        let name = words.next()?.to_owned();
        let result = match words.next()? {
            "pass" => CaseResult::Passed,
            "fail" => CaseResult::Failed,
            // What a back end is known not to see is no pass either.
            "skip" | "blind" => CaseResult::Skipped,
            _ => return None,
        };
        Some(Self { name, result })
    }
}

impl Verdict {
    /// `passed=N failed=N skipped=N`
    fn parse(text: &str) -> Option<Self> {
        let number = |name: &str| {
            let value = text
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse().ok())
        };
        Some(Self {
            passed: number("passed")?,
            failed: number("failed")?,
            skipped: number("skipped")?,
        })
    }
}

fn after<'line>(line: &'line str, mark: &str) -> Option<&'line str> {
    line.split_once(mark).map(|(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> Console {
        let mut console = Console::default();
        for line in lines {
            console.line(line);
        }
        console
    }

    const START: &str = "guest: start 6.12.0";

    #[test]
    fn a_whole_run_passes() {
        let console = console(&[
            START,
            "case one pass 0.1",
            "case two skip why",
            "guest: verdict passed=1 failed=0 skipped=1",
        ]);
        assert!(console.finished());
        assert_eq!(console.outcome(false), Outcome::Passed);
    }

    #[test]
    fn no_case_or_a_wrong_count_is_a_failure() {
        let none = console(&[START, "guest: verdict passed=0 failed=0 skipped=0"]);
        assert_eq!(none.outcome(false), Outcome::Failed);
        let lost = console(&[
            START,
            "case one pass",
            "guest: verdict passed=2 failed=0 skipped=0",
        ]);
        assert_eq!(lost.outcome(false), Outcome::Failed);
        let failed = console(&[
            START,
            "case one fail x",
            "guest: verdict passed=0 failed=1 skipped=0",
        ]);
        assert_eq!(failed.outcome(false), Outcome::Failed);
    }

    #[test]
    fn a_guest_that_did_not_start_did_not_boot() {
        let console = console(&["Oops: 0000", "Kernel panic - not syncing"]);
        assert_eq!(console.outcome(false), Outcome::BootFailed);
        assert!(console.finished());
    }

    #[test]
    fn silence_is_a_hang_and_an_early_end_a_crash() {
        assert_eq!(
            console(&[START, "case one pass"]).outcome(true),
            Outcome::Hung
        );
        assert_eq!(
            console(&[START, "case one pass"]).outcome(false),
            Outcome::Crashed
        );
    }

    #[test]
    fn a_complaint_of_the_kernel_spoils_a_pass() {
        let console = console(&[
            START,
            "case one pass",
            "[    3.1] WARNING: CPU: 0 PID: 1 at kernel/bpf/x.c:1",
            "guest: verdict passed=1 failed=0 skipped=0",
        ]);
        assert_eq!(console.outcome(false), Outcome::Crashed);
        assert_eq!(console.complaints().len(), 1);
    }

    #[test]
    fn cases_are_read_only_from_whole_lines() {
        assert_eq!(console(&["a case of pass"]).cases(), []);
        assert_eq!(console(&["case x perhaps"]).cases(), []);
    }
}
