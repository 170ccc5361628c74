//! What was found: each broken rule once per service, instrument and attribute, with how often.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::rules::{Rule, Severity};

/// Findings that are kept apart; further ones are only counted.
const KEPT: usize = 2000;

/// Bytes of a found value that are shown.
const SHOWN_BYTES: usize = 120;

/// Where something was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Line of the input, or of the configuration.
    pub(crate) line: Option<u64>,
    /// `namespace/name`, or the name.
    pub(crate) service: Option<String>,
    /// Name of the instrument.
    pub(crate) instrument: Option<String>,
    /// Key of the attribute, or of the configuration.
    pub(crate) key: Option<String>,
    /// Attributes of the first series it was found on.
    pub(crate) series: Option<String>,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) rule: Rule,
    pub(crate) place: Place,
    pub(crate) found: String,
    /// What was expected, where the rule's own words are not enough.
    pub(crate) expected: Option<String>,
    pub(crate) count: u64,
}

type Key = (Rule, Option<String>, Option<String>, Option<String>);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    index: HashMap<Key, usize>,
    /// Errors and warnings past [`KEPT`].
    not_kept: [u64; 2],
}

impl Finding {
    /// A finding of one occurrence.
    pub(crate) fn new(rule: Rule, place: Place, found: impl Into<String>) -> Self {
        Self {
            rule,
            place,
            found: shortened(found.into()),
            expected: None,
            count: 1,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "rule": self.rule.id(),
            "severity": self.rule.severity().name(),
            "where": {
                "line": self.place.line,
                "service": self.place.service,
                "instrument": self.place.instrument,
                "key": self.place.key,
                "series": self.place.series,
            },
            "found": self.found,
            "expected": self.expected.as_deref().unwrap_or(self.rule.expected()),
            "count": self.count,
        })
    }

    fn to_text(&self) -> String {
        let place = &self.place;
        let subject: Vec<&str> = [&place.service, &place.instrument, &place.key]
            .into_iter()
            .filter_map(Option::as_deref)
            .collect();
        let line = place.line.map(|line| format!("line {line}: "));
        let times = if self.count > 1 {
            format!(" ({} times)", self.count)
        } else {
            String::new()
        };
        let series = match &place.series {
            Some(series) => format!("\n        on {series}"),
            None => String::new(),
        };
        format!(
            "{:<7} {} {}\n        {}found {}{times}; expected {}{series}",
            self.rule.severity().name(),
            self.rule.id(),
            subject.join(" "),
            line.unwrap_or_default(),
            self.found,
            self.expected.as_deref().unwrap_or(self.rule.expected()),
        )
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > SHOWN_BYTES {
        let end = (0..=SHOWN_BYTES)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    // What emitters wrote must not move the cursor of a terminal.
    text.chars()
        .map(|letter| {
            if letter.is_control() {
                '\u{fffd}'
            } else {
                letter
            }
        })
        .collect()
}

impl Findings {
    /// Adds one; one that was found before at the same place is counted.
    pub(crate) fn add(&mut self, finding: Finding) {
        let place = &finding.place;
        let key = (
            finding.rule,
            place.service.clone(),
            place.instrument.clone(),
            place.key.clone(),
        );
        if let Some(known) = self.index.get(&key) {
            self.list[*known].count += finding.count;
            return;
        }
        if self.list.len() >= KEPT {
            self.not_kept[usize::from(finding.rule.severity() == Severity::Warning)] +=
                finding.count;
            return;
        }
        self.index.insert(key, self.list.len());
        self.list.push(finding);
    }

    /// Errors, or warnings, each as often as it was found.
    pub(crate) fn count(&self, severity: Severity) -> u64 {
        let kept = self
            .list
            .iter()
            .filter(|finding| finding.rule.severity() == severity);
        kept.map(|finding| finding.count).sum::<u64>()
            + self.not_kept[usize::from(severity == Severity::Warning)]
    }

    /// By rule, then by place.
    pub(crate) fn sorted(&self) -> Vec<&Finding> {
        let mut list: Vec<&Finding> = self.list.iter().collect();
        let place = |finding: &Finding| {
            let place = &finding.place;
            (
                place.service.clone(),
                place.instrument.clone(),
                place.key.clone(),
                place.line,
            )
        };
        list.sort_by_cached_key(|finding| (finding.rule.severity(), finding.rule, place(finding)));
        list
    }

    /// As a list for programs.
    pub(crate) fn to_json(&self) -> Vec<Value> {
        self.sorted().into_iter().map(Finding::to_json).collect()
    }

    /// For people, two lines each or three.
    pub(crate) fn to_text(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.sorted().into_iter().map(Finding::to_text).collect();
        let not_kept: u64 = self.not_kept.iter().sum();
        if not_kept > 0 {
            lines.push(format!("and {not_kept} more that are not listed"));
        }
        lines
    }

    #[cfg(test)]
    pub(crate) fn rules(&self) -> Vec<&'static str> {
        let mut ids: Vec<_> = self.list.iter().map(|finding| finding.rule.id()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(service: &str) -> Place {
        Place {
            service: Some(service.to_owned()),
            ..Place::default()
        }
    }

    #[test]
    fn the_same_is_counted_and_the_list_is_bounded() {
        let mut findings = Findings::default();
        for number in 0..KEPT + 10 {
            findings.add(Finding::new(Rule::RouteRaw, at(&number.to_string()), "x"));
            findings.add(Finding::new(Rule::RouteRaw, at("0"), "x"));
        }
        assert_eq!(findings.list.len(), KEPT);
        assert_eq!(findings.count(Severity::Error), 2 * (KEPT as u64 + 10));
        assert_eq!(findings.count(Severity::Warning), 0);
        assert!(
            findings
                .to_text()
                .last()
                .unwrap()
                .starts_with("and 10 more")
        );
    }

    #[test]
    fn found_values_are_cut_and_cannot_steer_a_terminal() {
        let finding = Finding::new(
            Rule::RouteRaw,
            Place::default(),
            format!("\x1b[2J{}", "ö".repeat(200)),
        );
        assert!(finding.found.len() < SHOWN_BYTES + 10);
        assert!(!finding.found.contains('\x1b'));
    }
}
