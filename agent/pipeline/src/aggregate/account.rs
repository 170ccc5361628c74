//! What each service has of the limits, and what it did to them lately.

/// Length of a step of [`Churn`], and their number: an hour together.
const STEP_NS: u64 = 5 * 60 * 1_000_000_000;
const STEPS: usize = 12;

/// Live series of one workload against its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Series that count against the limit.
    pub series: usize,
    /// Exchanges that went to an overflow series.
    pub overflowed: u64,
    /// Series that were created within the last hour.
    pub created: u64,
}

/// What is kept per workload.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) series: usize,
    pub(super) overflowed: u64,
    created: Churn,
}

impl Account {
    pub(super) fn on_created(&mut self, now_ns: u64) {
        self.series += 1;
        self.created.add(now_ns);
    }

    pub(super) fn usage(&self, now_ns: u64) -> Usage {
        Usage {
            series: self.series,
            overflowed: self.overflowed,
            created: self.created.within_hour(now_ns),
        }
    }
}

/// Events of the last hour, in steps of five minutes.
#[derive(Clone, Debug, Default)]
struct Churn {
    counts: [u32; STEPS],
    /// The last step that was counted in.
    step: u64,
}

impl Churn {
    fn add(&mut self, now_ns: u64) {
        let step = now_ns / STEP_NS;
        self.forget_before(step);
        let count = &mut self.counts[position(self.step)];
        *count = count.saturating_add(1);
    }

    fn within_hour(&self, now_ns: u64) -> u64 {
        let mut current = self.clone();
        current.forget_before(now_ns / STEP_NS);
        current.counts.iter().map(|count| u64::from(*count)).sum()
    }

    fn forget_before(&mut self, step: u64) {
        let passed = step.saturating_sub(self.step).min(STEPS as u64);
        for ago in 0..passed {
            self.counts[position(step - ago)] = 0;
        }
        self.step = self.step.max(step);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below 12")]
fn position(step: u64) -> usize {
    (step % STEPS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_remembered_and_no_more() {
        let mut churn = Churn::default();
        for minute in 0..60 {
            churn.add(minute * 60_000_000_000);
        }
        let at = |minute: u64| churn.within_hour(minute * 60_000_000_000);
        assert_eq!(at(59), 60);
        assert_eq!(at(60), 55);
        assert_eq!(at(89), 30);
        assert_eq!(at(114), 5);
        assert_eq!(at(115), 0);
        assert_eq!(at(100_000), 0);
    }
}
