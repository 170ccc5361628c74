//! Which exchanges are offered to the reservoirs.

use kerntally_model::{Exchange, Role, Time};
use kerntally_wire::{Sampled, TraceContext};

use super::{Candidate, ExemplarConfig, ExemplarFilter, ExemplarPolicy, Interest, Random};
use crate::aggregate::{ErrorKey, Measured};
use crate::config::StatusMode;
use crate::ledger::row;
use crate::services::Service;

/// Time after which the exchanges of an error rate count half.
const HALF_LIFE_NS: u64 = 30_000_000_000;

/// Share of a service's exchanges that fail, lately: old ones weigh less and less.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ErrorRate {
    exchanges: u64,
    errors: u64,
    halved_ns: u64,
}

impl ErrorRate {
    /// Takes one exchange in.
    pub(crate) fn add(&mut self, is_error: bool, now_ns: u64) {
        let age = now_ns.saturating_sub(self.halved_ns) / HALF_LIFE_NS;
        if age > 0 {
            let halvings = u32::try_from(age).unwrap_or(u32::MAX);
            self.exchanges = self.exchanges.checked_shr(halvings).unwrap_or(0);
            self.errors = self.errors.checked_shr(halvings).unwrap_or(0);
            self.halved_ns = now_ns;
        }
        self.exchanges += 1;
        self.errors += u64::from(is_error);
    }

    /// Whether it is above a share.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 53 bits"
    )]
    fn exceeds(&self, share: f64) -> bool {
        self.errors as f64 > share * self.exchanges as f64
    }
}

/// Applies filter and policy.
#[derive(Debug)]
pub(crate) struct Chooser {
    random: Random,
}

impl Chooser {
    pub(crate) fn new(random: Random) -> Self {
        Self { random }
    }

    /// What an exchange adds to its series, with the exemplar that it may leave behind.
    pub(crate) fn measurement(
        &mut self,
        service: &mut Service,
        exchange: &Exchange<'_>,
        now: Time,
    ) -> Measured<'static> {
        let config = &service.settings.exemplars;
        let is_error = ErrorKey::of(exchange, StatusMode::Code) != ErrorKey::Absent;
        let rate = &mut service.error_rates[row(exchange.role)];
        let candidate = self.candidate(config, rate, exchange, is_error, now);
        Measured::Exchange {
            duration_ns: exchange.duration_ns(),
            exemplar: candidate.map(|candidate| (candidate, config.per_series)),
        }
    }

    /// The candidate that an exchange makes, if it makes one. `rate` is of its service and side.
    fn candidate(
        &mut self,
        config: &ExemplarConfig,
        rate: &mut ErrorRate,
        exchange: &Exchange<'_>,
        is_error: bool,
        now: Time,
    ) -> Option<Candidate> {
        if config.filter == ExemplarFilter::AlwaysOff || config.formats.is_empty() {
            return None;
        }
        if config.policy == ExemplarPolicy::Budget {
            rate.add(is_error, now.monotonic_ns);
        }
        let trace = trace(config, exchange)?;
        let interest = match (config.policy, is_error) {
            (ExemplarPolicy::Uniform, _) => Interest::Any,
            (_, true) => Interest::Error,
            (ExemplarPolicy::Tail, false) => Interest::ByDuration,
            (ExemplarPolicy::Budget, false) => {
                let budget = config.budget;
                let passes =
                    rate.exceeds(budget.max_error_rate) || self.random.chance(budget.healthy);
                passes.then_some(Interest::Any)?
            }
        };
        let age_ns = now.monotonic_ns.saturating_sub(exchange.end_ns);
        Some(Candidate {
            trace_id: trace.trace_id,
            // What a server's headers name is the caller's span, not its own.
            span_id: trace.span_id.filter(|_| exchange.role == Role::Client),
            time_unix_ns: now.unix_ns.saturating_sub(age_ns),
            interest,
        })
    }
}

fn trace(config: &ExemplarConfig, exchange: &Exchange<'_>) -> Option<TraceContext> {
    if exchange.degraded {
        return None;
    }
    let trace = config.formats.find(exchange.head)?;
    let eligible = config.filter == ExemplarFilter::AlwaysOn || trace.sampled == Sampled::Yes;
    eligible.then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_rates_forget() {
        let mut rate = ErrorRate::default();
        assert!(!rate.exceeds(0.0));
        rate.add(true, 0);
        assert!(rate.exceeds(0.05));
        for _ in 0..19 {
            rate.add(false, 1);
        }
        assert!(!rate.exceeds(0.05) && rate.exceeds(0.04));
        rate.add(false, 2 * HALF_LIFE_NS);
        assert!(
            !rate.exceeds(0.0),
            "one error in twenty is nothing after two halvings"
        );
        rate.add(true, u64::MAX);
        assert!(rate.exceeds(0.9));
    }
}
