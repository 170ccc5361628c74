use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

use super::until;
use crate::push::{PushError, Refusal, Retry};

const TIMEOUT: Duration = Duration::from_secs(10);

fn refusal(retry: Retry) -> Refusal {
    let error = PushError::Connection {
        reason: "refused".to_owned(),
    };
    Refusal { error, retry }
}

#[tokio::test(start_paused = true)]
async fn tries_again_with_growing_delays_until_it_is_answered() {
    let attempts = Cell::new(0);
    let started = Instant::now();
    let mut at = Vec::new();
    let mut retries = 0;
    let result = until(TIMEOUT, &mut retries, || {
        attempts.set(attempts.get() + 1);
        at.push(started.elapsed());
        let answer = if attempts.get() < 4 {
            Err(refusal(Retry::Backoff))
        } else {
            Ok("yes")
        };
        async { answer }
    });
    assert_eq!(result.await.unwrap(), "yes");
    assert_eq!(retries, 3);
    let millis: Vec<_> = at
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]).as_millis())
        .collect();
    for (delay, base) in millis.iter().zip([200, 400, 800]) {
        assert!((base..=2 * base + 1).contains(delay), "{millis:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn gives_up_before_the_time_is_over() {
    let started = Instant::now();
    let mut retries = 0;
    let result = until::<(), _>(TIMEOUT, &mut retries, || async {
        Err(refusal(Retry::Backoff))
    });
    assert_eq!(result.await.unwrap_err().retry, Retry::Backoff);
    assert!(started.elapsed() < TIMEOUT);
    assert!((3..=6).contains(&retries), "{retries}");
}

#[tokio::test(start_paused = true)]
async fn never_repeats_what_was_refused_for_good() {
    let mut retries = 0;
    let result = until::<(), _>(TIMEOUT, &mut retries, || async {
        Err(refusal(Retry::Never))
    });
    assert_eq!(result.await.unwrap_err().retry, Retry::Never);
    assert_eq!(retries, 0);
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_collector_wishes() {
    let started = Instant::now();
    let wish = Retry::After(Duration::from_secs(5));
    let mut retries = 0;
    let attempts = Cell::new(0);
    let result = until(TIMEOUT, &mut retries, || {
        attempts.set(attempts.get() + 1);
        let answer = if attempts.get() == 1 {
            Err(refusal(wish))
        } else {
            Ok(())
        };
        async { answer }
    });
    result.await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn hands_back_a_wish_that_does_not_fit() {
    for wish in [Duration::from_mins(1), TIMEOUT, Duration::MAX] {
        let started = Instant::now();
        let wish = Retry::After(wish);
        let mut retries = 0;
        let result = until::<(), _>(TIMEOUT, &mut retries, || async { Err(refusal(wish)) });
        assert_eq!(result.await.unwrap_err().retry, wish);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn leaves_a_collector_that_hangs_when_the_time_is_over() {
    let started = Instant::now();
    let mut retries = 0;
    let result = until::<(), _>(TIMEOUT, &mut retries, std::future::pending);
    assert_eq!(
        result.await.unwrap_err().error,
        PushError::Timeout { timeout: TIMEOUT }
    );
    assert_eq!(started.elapsed(), TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn tells_what_it_was_told_before_the_time_was_over() {
    let attempts = Cell::new(0);
    let mut retries = 0;
    let result = until::<(), _>(TIMEOUT, &mut retries, || {
        attempts.set(attempts.get() + 1);
        let first = attempts.get() == 1;
        async move {
            if !first {
                std::future::pending::<()>().await;
            }
            Err(refusal(Retry::Backoff))
        }
    });
    let error = result.await.unwrap_err().error;
    assert_eq!(error, refusal(Retry::Backoff).error);
}
