//! Patterns for the configuration, from what was learnt.

use std::collections::BTreeMap;

use super::tree::DEEPER;
use super::{RouteSource, RouteUse};

/// A pattern that an operator may take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuggestedPattern {
    /// As `routes.patterns` takes it.
    pub pattern: String,
    /// Exchanges of the templates that it stands for.
    pub exchanges: u64,
}

/// Templates that differ in the names of their parameters alone are one pattern, named as the busiest of them. A key
/// within a segment cannot be said by a pattern: such templates are left out.
pub(super) fn suggest(uses: &[RouteUse]) -> Vec<SuggestedPattern> {
    let mut by_shape: BTreeMap<String, (u64, SuggestedPattern)> = BTreeMap::new();
    for used in uses
        .iter()
        .filter(|used| used.source == RouteSource::Learnt)
    {
        let Some((shape, pattern)) = pattern(&used.template) else {
            continue;
        };
        let new = SuggestedPattern {
            pattern,
            exchanges: 0,
        };
        let (busiest, merged) = by_shape
            .entry(shape)
            .or_insert((used.exchanges, new.clone()));
        if (used.exchanges, &merged.pattern) > (*busiest, &new.pattern) {
            (*busiest, merged.pattern) = (used.exchanges, new.pattern);
        }
        merged.exchanges += used.exchanges;
    }
    let mut suggested: Vec<SuggestedPattern> =
        by_shape.into_values().map(|(_, merged)| merged).collect();
    suggested.sort_by(|a, b| (b.exchanges, &a.pattern).cmp(&(a.exchanges, &b.pattern)));
    suggested
}

/// Shape and text of a template's pattern.
fn pattern(template: &str) -> Option<(String, String)> {
    let path = template.strip_prefix('/')?;
    let (mut shape, mut pattern) = (String::new(), String::new());
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for segment in path.split('/') {
        shape.push('/');
        pattern.push('/');
        let name = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'));
        if segment == DEEPER {
            shape.push_str("{...}");
            pattern.push_str("{rest...}");
        } else if let Some(name) = name {
            let count = names.entry(name).or_default();
            *count += 1;
            shape.push_str("{}");
            pattern.extend(["{", name]);
            if *count > 1 {
                pattern.push_str(&count.to_string());
            }
            pattern.push('}');
        } else if segment.contains(['{', '}']) {
            return None;
        } else {
            shape.push_str(segment);
            pattern.push_str(segment);
        }
    }
    Some((shape, pattern))
}
