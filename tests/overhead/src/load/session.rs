//! Load in a process of its own, which runs on between the slices that are measured. The process is told `slice` on its
//! input, says `begun`, `ended` and the report, and at the end of its input what became of the whole load.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Plan, Report};

/// A load that runs; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Session {
    /// Starts the load on one core.
    pub(crate) fn start(plan: &Plan, core: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["load", &serde_json::to_string(plan)?, &core.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the load")?;
        let output = child.stdout.take().context("the output is piped")?;
        Ok(Self {
            orders: child.stdin.take(),
            lines: BufReader::new(output).lines(),
            child,
        })
    }

    /// Has a slice measured, with what `snapshot` says at its beginning and its end.
    pub(crate) fn slice<T>(
        &mut self,
        snapshot: &mut impl FnMut() -> Result<T>,
    ) -> Result<(Report, T, T)> {
        let orders = self.orders.as_mut().context("the input is piped")?;
        orders.write_all(b"slice\n").context("the load ended")?;
        self.expect("begun")?;
        let before = snapshot()?;
        self.expect("ended")?;
        let after = snapshot()?;
        let report = self.report()?;
        ensure!(report.requests > 0, "the load got no answer");
        Ok((report, before, after))
    }

    /// Ends the load: the report, with the requests and errors of the whole load.
    pub(crate) fn end(mut self, report: Report) -> Result<Report> {
        drop(self.orders.take());
        let whole = self.report()?;
        ensure!(self.child.wait()?.success(), "the load failed");
        Ok(Report {
            sent: whole.sent,
            errors: whole.errors,
            ..report
        })
    }

    fn expect(&mut self, what: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == what, "the load said {line}, not {what}");
        Ok(())
    }

    fn report(&mut self) -> Result<Report> {
        serde_json::from_str(&self.line()?).context("the load's report")
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.lines.next().context("the load ended early")??)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
