//! Budgets by name, as the checked-in file has them: `[verifier.6-12.fexit.fexit_inet_sendmsg]`, `most`, `slack`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) value: u64,
}

/// The file.
#[derive(Debug)]
pub(crate) struct Budgets(Table);

/// One budget.
#[derive(Clone, Copy, Debug)]
struct Budget {
    most: u64,
    /// Share by which two runs of the same agent may differ.
    slack: f64,
}

impl Found {
    pub(crate) fn new(name: &str, value: u64) -> Self {
        Self {
            name: name.to_owned(),
            value,
        }
    }

    /// Of a figure that has parts.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most millions"
    )]
    pub(crate) fn rounded(name: &str, value: f64) -> Self {
        Self::new(name, value.max(0.0).round() as u64)
    }

    /// Shares by which figures of this kind differ between runs, compilers and point releases.
    fn slack(&self) -> f64 {
        match self.name.split('.').next() {
            Some("instructions") => 0.03,
            Some("verifier") => 0.10,
            Some("maps") => 0.02,
            _ => 0.05,
        }
    }
}

impl Budgets {
    /// Reads the file; every budget in it has to be whole.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let table: Table = text.parse().context("the budgets are no TOML")?;
        whole(&table, "")?;
        Ok(Self(table))
    }

    /// `within`, `over` or `unknown`, and the figures.
    pub(crate) fn judge(&self, found: &Found) -> (&'static str, String) {
        let value = found.value;
        let Some(Budget { most, slack }) = self.budget(&found.name) else {
            return ("unknown", format!("{value}, without a budget"));
        };
        let allowed = real(most) * (1.0 + slack);
        let words = format!("{value} of {most}, with {:.0} % of slack", slack * 100.0);
        if real(value) > allowed {
            ("over", words)
        } else if real(value) < real(most) * (1.0 - slack) {
            ("within", format!("{words}; the budget can be lowered"))
        } else {
            ("within", words)
        }
    }

    fn budget(&self, name: &str) -> Option<Budget> {
        let mut table = &self.0;
        for part in name.split('.') {
            table = table.get(part)?.as_table()?;
        }
        budget(table)
    }

    /// The file with its comments, and with what was found in the place of every budget.
    pub(crate) fn updated(&self, text: &str, found: &[Found]) -> String {
        let comments: Vec<&str> = text
            .lines()
            .take_while(|line| !line.starts_with('['))
            .collect();
        let mut updated = comments.join("\n").trim_end().to_owned();
        updated.push('\n');
        let mut all: Vec<(String, u64, f64)> = found
            .iter()
            .map(|found| (found.name.clone(), found.value, found.slack()))
            .collect();
        // What was not measured this time keeps its budget.
        for (name, Budget { most, slack }) in budgets(&self.0, "") {
            if !all.iter().any(|(known, _, _)| *known == name) {
                all.push((name, most, slack));
            }
        }
        all.sort_by(|left, right| left.0.cmp(&right.0));
        for (name, most, slack) in all {
            // Writing to a string cannot fail.
            write!(updated, "\n[{name}]\nmost = {most}\nslack = {slack}\n").ok();
        }
        updated
    }
}

fn budget(table: &Table) -> Option<Budget> {
    Some(Budget {
        most: u64::try_from(table.get("most")?.as_integer()?).ok()?,
        slack: table.get("slack")?.as_float()?,
    })
}

fn whole(table: &Table, name: &str) -> Result<()> {
    if table.contains_key("most") || table.contains_key("slack") {
        if budget(table).is_none() || table.len() != 2 {
            bail!("{name}: expected `most`, a number, and `slack`, a share such as 0.05");
        }
        return Ok(());
    }
    for (key, value) in table {
        match value {
            Value::Table(table) => whole(table, &format!("{name}.{key}"))?,
            other => bail!("{name}.{key}: expected a table, found {}", other.type_str()),
        }
    }
    Ok(())
}

fn budgets(table: &Table, prefix: &str) -> Vec<(String, Budget)> {
    if let Some(budget) = budget(table) {
        return vec![(prefix.to_owned(), budget)];
    }
    let below = table
        .iter()
        .filter_map(|(key, value)| Some((key, value.as_table()?)));
    let named = below.flat_map(|(key, table)| {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        budgets(table, &name)
    });
    named.collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and instructions, far below 2^53"
)]
fn real(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# why\n\n[maps.fexit.bytes]\nmost = 1000\nslack = 0.1\n";

    #[test]
    fn only_what_exceeds_the_slack_is_over() {
        let budgets = Budgets::parse(TEXT).unwrap();
        let word = |name, value| budgets.judge(&Found::new(name, value)).0;
        assert_eq!(word("maps.fexit.bytes", 1100), "within");
        assert_eq!(word("maps.fexit.bytes", 1101), "over");
        assert_eq!(word("maps.kprobe.bytes", 1), "unknown");
        let (_, words) = budgets.judge(&Found::new("maps.fexit.bytes", 800));
        assert!(words.contains("can be lowered"), "{words}");
    }

    #[test]
    fn half_a_budget_is_refused() {
        assert!(Budgets::parse("[a]\nmost = 1\n").is_err());
        assert!(Budgets::parse("[a]\nmost = -1\nslack = 0.1\n").is_err());
        assert!(Budgets::parse("a = 1\n").is_err());
    }

    #[test]
    fn an_update_keeps_comments_and_what_was_not_measured() {
        let budgets = Budgets::parse(TEXT).unwrap();
        let text = budgets.updated(TEXT, &[Found::new("binary.stripped-bytes", 5)]);
        assert!(text.starts_with("# why\n"));
        let again = Budgets::parse(&text).unwrap();
        assert_eq!(
            again.judge(&Found::new("maps.fexit.bytes", 1000)).0,
            "within"
        );
        assert_eq!(
            again.judge(&Found::new("binary.stripped-bytes", 6)).0,
            "over"
        );
    }
}
