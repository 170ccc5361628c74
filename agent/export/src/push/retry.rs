//! Tries one request again until it is answered, may not be tried again, or its time is up.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep, timeout_at};

use super::{PushError, Refusal, Retry};

/// First delay, jitter aside.
const DELAY_MIN: Duration = Duration::from_millis(200);
/// Last delay, jitter aside.
const DELAY_MAX: Duration = Duration::from_secs(4);

/// Runs `attempt` until it succeeds, refuses for good, or `timeout` is over, delays included.
pub(super) async fn until<T, F>(
    timeout: Duration,
    retries: &mut u64,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let deadline = Instant::now() + timeout;
    let mut delays = delays();
    let mut earlier = None;
    loop {
        let Ok(result) = timeout_at(deadline, attempt()).await else {
            // What an attempt was told says more than that the last one had no time left.
            return Err(earlier.unwrap_or(Refusal {
                error: PushError::Timeout { timeout },
                retry: Retry::Backoff,
            }));
        };
        let refusal = match result {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        let backoff = delays.next().unwrap_or(DELAY_MAX);
        let delay = match refusal.retry {
            Retry::Never => return Err(refusal),
            Retry::Backoff => backoff,
            Retry::After(wish) => backoff.max(wish),
        };
        // A wish may be any number: nothing is added to the clock.
        if delay >= deadline.saturating_duration_since(Instant::now()) {
            return Err(refusal);
        }
        earlier = Some(refusal);
        sleep(delay).await;
        *retries += 1;
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(DELAY_MIN)
        .with_max_delay(DELAY_MAX)
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests;
