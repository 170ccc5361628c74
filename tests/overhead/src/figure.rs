//! One measured figure: its value, its spread, what it is held against, and the verdict.

use serde::Serialize;

/// What a figure is held against: at least the floor, and better the aim.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Target {
    pub(crate) floor: f64,
    pub(crate) aim: f64,
    /// Whether more is better.
    pub(crate) more: bool,
    /// What a change of nothing would give: 1 for ratios, 0 for amounts. The margin is the floor's distance to it.
    pub(crate) nothing: f64,
}

/// The promises, each in the unit of its figure.
pub(crate) mod targets {
    use super::Target;

    const fn ratio(floor: f64, aim: f64, more: bool) -> Target {
        Target {
            floor,
            aim,
            more,
            nothing: 1.0,
        }
    }

    const fn most(floor: f64, aim: f64) -> Target {
        Target {
            floor,
            aim,
            more: false,
            nothing: 0.0,
        }
    }

    pub(crate) const THROUGHPUT: Target = ratio(0.955, 0.97, true);
    pub(crate) const P99: Target = ratio(1.02, 1.0, false);
    pub(crate) const SERVER_MICROS: Target = most(0.40, 0.27);
    pub(crate) const AGENT_MICROS: Target = most(0.7, 0.1);
    pub(crate) const RESIDENT_MIB: Target = most(24.0, 16.0);
    pub(crate) const RESIDENT_FULL_MIB: Target = most(80.0, 40.0);
    pub(crate) const MAPS_MIB: Target = most(16.0, 8.0);
    pub(crate) const LOST: Target = most(0.0, 0.0);
    pub(crate) const IDLE_PERCENT: Target = most(0.1, 0.1);
    pub(crate) const ATTACHED_MILLIS: Target = most(300.0, 150.0);
    pub(crate) const UNRELATED_HOOKS: Target = most(0.0, 0.0);
}

/// How a figure stands to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Aim,
    Floor,
    Missed,
    /// Repeats of the same thing lie further apart than what is asked for: neither pass nor fail.
    NotResolvable,
}

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) suite: &'static str,
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// Least and largest of the pairs behind the value.
    pub(crate) range: Option<(f64, f64)>,
    /// Of repeats of the same thing in the same run.
    pub(crate) spread: Option<f64>,
    pub(crate) target: Option<Target>,
    pub(crate) verdict: Option<Verdict>,
}

impl Figure {
    /// A figure that nothing is held against.
    pub(crate) fn new(
        suite: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        value: f64,
    ) -> Self {
        Self {
            suite,
            name: name.into(),
            unit,
            value,
            range: None,
            spread: None,
            target: None,
            verdict: None,
        }
    }

    /// With the spread of repeats.
    pub(crate) fn spread(mut self, spread: f64) -> Self {
        self.spread = Some(spread);
        self.judge()
    }

    /// With least and largest.
    pub(crate) fn range(mut self, range: (f64, f64)) -> Self {
        self.range = Some(range);
        self
    }

    /// Held against a target.
    pub(crate) fn against(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.judge()
    }

    fn judge(mut self) -> Self {
        self.verdict = self
            .target
            .map(|target| target.verdict(self.value, self.spread));
        self
    }
}

impl Target {
    fn verdict(self, value: f64, spread: Option<f64>) -> Verdict {
        let margin = (self.floor - self.nothing).abs();
        if spread.is_some_and(|spread| spread > margin) {
            return Verdict::NotResolvable;
        }
        let reaches = |bound: f64| {
            if self.more {
                value >= bound
            } else {
                value <= bound
            }
        };
        if reaches(self.aim) {
            Verdict::Aim
        } else if reaches(self.floor) {
            Verdict::Floor
        } else {
            Verdict::Missed
        }
    }
}

impl Verdict {
    /// As it is printed.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Aim => "aim reached",
            Self::Floor => "floor reached",
            Self::Missed => "missed",
            Self::NotResolvable => "not resolvable here",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(value: f64, spread: f64, target: Target) -> Option<Verdict> {
        Figure::new("s", "n", "u", value)
            .spread(spread)
            .against(target)
            .verdict
    }

    #[test]
    fn ratios_are_held_against_floor_and_aim() {
        assert_eq!(verdict(0.98, 0.01, targets::THROUGHPUT), Some(Verdict::Aim));
        assert_eq!(
            verdict(0.96, 0.01, targets::THROUGHPUT),
            Some(Verdict::Floor)
        );
        assert_eq!(
            verdict(0.90, 0.01, targets::THROUGHPUT),
            Some(Verdict::Missed)
        );
        assert_eq!(verdict(1.01, 0.01, targets::P99), Some(Verdict::Floor));
        assert_eq!(verdict(1.00, 0.01, targets::P99), Some(Verdict::Aim));
    }

    #[test]
    fn noise_wider_than_the_margin_gives_no_verdict_either_way() {
        for value in [0.5, 0.99] {
            assert_eq!(
                verdict(value, 0.05, targets::THROUGHPUT),
                Some(Verdict::NotResolvable)
            );
        }
        assert_eq!(
            verdict(0.2, 0.5, targets::SERVER_MICROS),
            Some(Verdict::NotResolvable)
        );
    }

    #[test]
    fn amounts_without_repeats_are_held_as_they_are() {
        let figure = Figure::new("s", "n", "u", 0.0).against(targets::LOST);
        assert_eq!(figure.verdict, Some(Verdict::Aim));
        let figure = Figure::new("s", "n", "u", 1.0).against(targets::LOST);
        assert_eq!(figure.verdict, Some(Verdict::Missed));
    }
}
