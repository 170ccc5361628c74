//! Headings and times of long steps.

use std::time::{Duration, Instant};

/// A step whose beginning and end are printed.
#[derive(Debug)]
pub(crate) struct Step {
    name: String,
    started: Instant,
}

impl Step {
    /// Prints the heading and starts the clock.
    pub(crate) fn begin(name: impl Into<String>) -> Self {
        let name = name.into();
        println!("\n== {name}");
        Self {
            name,
            started: Instant::now(),
        }
    }

    /// Prints how long the step took.
    pub(crate) fn end(self, outcome: &str) -> Duration {
        let took = self.started.elapsed();
        println!("== {}: {outcome} in {}", self.name, seconds(took));
        took
    }
}

/// A duration as people read it.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole >= 60 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1_540)), "1.5 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }
}
