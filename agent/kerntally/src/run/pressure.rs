//! Limits of series that are nearly reached: logged once each, and shown for as long as they are.

use std::collections::BTreeSet;

use kerntally_pipeline::Pressure;

/// Limits that are remembered as logged: services may come and go without end.
const LOGGED: usize = 1000;

/// What was logged already.
#[derive(Debug, Default)]
pub(super) struct Pressed(BTreeSet<(&'static str, Option<String>)>);

impl Pressed {
    /// Logs what is new; returns the reasons for `kerntally.degraded`, each once.
    pub(super) fn update(&mut self, pressures: &[Pressure]) -> Vec<&'static str> {
        for pressure in pressures {
            if self.is_new(pressure) {
                log(pressure);
            }
        }
        let reasons = pressures.iter().map(|pressure| pressure.limit.reason());
        let reasons: BTreeSet<&'static str> = reasons.collect();
        reasons.into_iter().collect()
    }

    fn is_new(&mut self, pressure: &Pressure) -> bool {
        let service = pressure.limit.workload().map(|workload| &workload.name);
        let entry = (pressure.limit.key(), service.cloned());
        self.0.len() < LOGGED && self.0.insert(entry)
    }
}

fn log(pressure: &Pressure) {
    let Pressure {
        limit,
        used,
        allowed,
    } = pressure;
    let key = limit.key();
    if let Some(workload) = limit.workload() {
        let service = &workload.name;
        tracing::warn!(
            service,
            "{used} of {allowed}: {key} is nearly reached; what is beyond goes to one overflow series or `_OTHER`"
        );
    } else {
        tracing::warn!(
            "{used} of {allowed}: {key} is nearly reached; what is beyond loses detail, not counts"
        );
    }
}

#[cfg(test)]
mod tests {
    use kerntally_pipeline::Limit;

    use super::*;

    #[test]
    fn each_limit_is_logged_once_and_shown_while_it_lasts() {
        let total = || Pressure {
            limit: Limit::Total,
            used: 90,
            allowed: 100,
        };
        let mut pressed = Pressed::default();
        assert!(pressed.is_new(&total()));
        assert!(!pressed.is_new(&total()));
        assert_eq!(pressed.update(&[total(), total()]), ["series_near_limit"]);
        assert!(pressed.update(&[]).is_empty());
        assert_eq!(pressed.update(&[total()]), ["series_near_limit"]);
    }
}
