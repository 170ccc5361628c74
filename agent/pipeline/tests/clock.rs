//! The wall clock may be set at any moment: nothing that is counted or measured may depend on it.

mod support;

#[cfg(test)]
mod tests {
    use kerntally_model::{PointValue, Time};
    use kerntally_pipeline::Config;

    use crate::support::{Sample, at, pipeline, server_points};

    const HOUR_NS: u64 = 3_600_000_000_000;

    /// A moment at which the wall clock has been set forward or back, the other one going on.
    fn set(seconds: u64, by_ns: i64) -> Time {
        let right = at(seconds);
        Time {
            unix_ns: right.unix_ns.saturating_add_signed(by_ns),
            ..right
        }
    }

    #[test]
    fn a_clock_that_is_set_changes_no_count_and_no_duration() {
        let hour = i64::try_from(HOUR_NS).unwrap();
        for by in [hour, -hour] {
            let config = Config::default();
            let mut pipeline = pipeline(&config);
            let sample = Sample::server("/clock", 200);
            sample.send(&mut pipeline, at(1));
            pipeline.collect(at(2));
            sample.send(&mut pipeline, set(3, by));
            let collection = pipeline.collect(set(4, by));
            let snapshot = collection.snapshot();
            let points = server_points(snapshot);
            assert_eq!(points.len(), 1, "set by {by}");
            let PointValue::Exponential(histogram) = &points[0].1.value else {
                panic!("the series has ended, set by {by}");
            };
            assert_eq!(histogram.count, 2);
            assert_eq!(histogram.max, Some(0.005));
        }
    }

    #[test]
    fn no_point_ends_before_it_begins() {
        let config = Config::default();
        let mut pipeline = pipeline(&config);
        let back = -i64::try_from(HOUR_NS).unwrap();
        Sample::server("/before", 200).send(&mut pipeline, at(1));
        pipeline.collect(at(2));
        // A series from before the step, and one that begins after it.
        Sample::server("/after", 200).send(&mut pipeline, set(3, back));
        for second in [4, 5] {
            let collection = pipeline.collect(set(second, back));
            let snapshot = collection.snapshot();
            for (_, point) in server_points(snapshot) {
                assert!(
                    point.start_unix_ns <= point.time_unix_ns,
                    "from {} to {}",
                    point.start_unix_ns,
                    point.time_unix_ns
                );
            }
        }
    }
}
