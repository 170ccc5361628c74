//! Temporalities and reloads: each measurement is handed out exactly once, and no metric has two kinds of points.

mod support;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kerntally_model::{Instrument, Point, PointValue, Snapshot, Temporality};
    use kerntally_pipeline::aggregate::AttributeSet;
    use kerntally_pipeline::config::{AllowLists, HistogramKind, TemporalityPreference};
    use kerntally_pipeline::traffic::Traffic;
    use kerntally_pipeline::{Config, Pipeline};
    use proptest::prelude::*;

    use crate::support::{Sample, at, count, pipeline, server_points, text};

    fn delta() -> Config {
        Config {
            temporality: TemporalityPreference::Delta,
            ..Config::default()
        }
    }

    fn explicit() -> HistogramKind {
        HistogramKind {
            is_explicit: true,
            ..HistogramKind::default()
        }
    }

    fn only_point(snapshot: &Snapshot) -> Point {
        let mut points = server_points(snapshot);
        assert_eq!(points.len(), 1);
        points.remove(0).1
    }

    #[test]
    fn a_delta_collection_takes_the_values_out() {
        for temporality in [
            TemporalityPreference::Delta,
            TemporalityPreference::LowMemory,
        ] {
            let mut pipeline = pipeline(&Config {
                temporality,
                ..Config::default()
            });
            let sample = Sample::server("/a", 200);
            sample.send(&mut pipeline, at(1));
            sample.send(&mut pipeline, at(2));
            let first = pipeline.collect(at(10));
            assert!(server_points(pipeline.collect(at(20)).snapshot()).is_empty());
            sample.send(&mut pipeline, at(21));
            let third = pipeline.collect(at(30));
            let point = only_point(first.snapshot());
            assert_eq!((count(&point), point.start_unix_ns), (2, at(0).unix_ns));
            let point = only_point(third.snapshot());
            assert_eq!(
                (count(&point), point.start_unix_ns),
                (1, at(20).unix_ns),
                "the window begins at the collection before"
            );
            assert_eq!(point.time_unix_ns, at(30).unix_ns);
            let instrument = &third.snapshot().workloads[0].instruments[0];
            assert_eq!(instrument.temporality, Temporality::Delta);
        }
    }

    #[test]
    fn a_collection_is_what_it_was_whatever_follows() {
        for config in [Config::default(), delta()] {
            let mut pipeline = pipeline(&config);
            let sample = Sample::server("/a", 200);
            sample.send(&mut pipeline, at(1));
            let first = pipeline.collect(at(10));
            sample.send(&mut pipeline, at(11));
            let second = pipeline.collect(at(20));
            // Written out late, in any order.
            let totals =
                [&second, &first].map(|collection| count(&only_point(collection.snapshot())));
            assert_eq!(totals[1], 1);
            assert_eq!(
                totals[0],
                if config.temporality == TemporalityPreference::Delta {
                    1
                } else {
                    2
                }
            );
        }
    }

    #[test]
    fn an_idle_delta_series_is_forgotten_without_a_mark() {
        let mut pipeline = pipeline(&delta());
        Sample::server("/a", 200).send(&mut pipeline, at(1));
        pipeline.collect(at(10));
        assert_eq!(pipeline.series_len(), 1);
        assert!(server_points(pipeline.collect(at(1000)).snapshot()).is_empty());
        assert_eq!(pipeline.series_len(), 0);
    }

    #[test]
    fn the_table_of_traffic_knows_what_collections_took_out() {
        let mut pipeline = pipeline(&delta());
        let mut traffic = Traffic::new(at(0));
        let sample = Sample::server("/a", 200);
        sample.send(&mut pipeline, at(1));
        assert_eq!(traffic.rows(&pipeline.peek(at(2)), at(2))[0].exchanges, 1);
        sample.send(&mut pipeline, at(3));
        traffic.on_collection(pipeline.collect(at(4)).snapshot());
        sample.send(&mut pipeline, at(5));
        assert_eq!(traffic.rows(&pipeline.peek(at(6)), at(6))[0].exchanges, 2);
        assert!(traffic.rows(&pipeline.peek(at(7)), at(7)).is_empty());
    }

    #[test]
    fn another_kind_of_histogram_waits_for_the_last_values_of_the_first() {
        let mut pipeline = pipeline(&Config::default());
        let sample = Sample::server("/a", 200);
        sample.send(&mut pipeline, at(1));
        let changed = Config {
            histogram: explicit(),
            ..Config::default()
        };
        pipeline.reload(&changed);
        sample.send(&mut pipeline, at(2));
        // Not accepted: said again.
        for second in [10, 20] {
            let point = only_point(pipeline.collect(at(second)).snapshot());
            assert!(matches!(point.value, PointValue::Exponential(_)));
            assert_eq!(count(&point), 1);
        }
        let last = pipeline.collect(at(30));
        pipeline.accepted(last.generation);
        let collection = pipeline.collect(at(40));
        let point = only_point(collection.snapshot());
        assert!(matches!(point.value, PointValue::Explicit(_)));
        assert_eq!((count(&point), pipeline.series_len()), (1, 1));
    }

    #[test]
    fn a_reload_that_changes_nothing_opens_nothing() {
        let mut pipeline = pipeline(&Config::default());
        let sample = Sample::server("/a", 200);
        sample.send(&mut pipeline, at(1));
        pipeline.reload(&Config::default());
        sample.send(&mut pipeline, at(2));
        assert_eq!(count(&only_point(&pipeline.peek(at(3)))), 2);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send {
            path: u8,
            status: u16,
        },
        Collect {
            seconds: u64,
            accepted: bool,
        },
        Reload {
            explicit: bool,
            delta: bool,
            method: bool,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let status = prop_oneof![Just(200u16), Just(404), Just(500)];
        prop_oneof![
            8 => (0u8..6, status).prop_map(|(path, status)| Step::Send { path, status }),
            2 => (1u64..900, any::<bool>())
                .prop_map(|(seconds, accepted)| Step::Collect { seconds, accepted }),
            1 => (any::<bool>(), any::<bool>(), any::<bool>())
                .prop_map(|(explicit, delta, method)| Step::Reload { explicit, delta, method }),
        ]
    }

    /// What a backend adds up.
    #[derive(Default)]
    struct Backend {
        delta: u64,
        cumulative: BTreeMap<(String, String, u64), u64>,
    }

    impl Backend {
        fn take_in(&mut self, snapshot: &Snapshot) -> Result<(), TestCaseError> {
            for of_workload in &snapshot.workloads {
                let mut names = BTreeSet::new();
                for found in &of_workload.instruments {
                    prop_assert!(
                        names.insert(found.instrument),
                        "one metric, one kind of points"
                    );
                    let mut attributes = BTreeSet::new();
                    for point in &found.points {
                        let text = text(&point.attributes);
                        prop_assert!(attributes.insert(text.clone()), "one stream, one point");
                        prop_assert!(point.start_unix_ns <= point.time_unix_ns);
                        if found.temporality == Temporality::Delta {
                            prop_assert!(count(point) > 0);
                            self.delta += count(point);
                        } else if point.value != PointValue::NoRecordedValue {
                            let key =
                                (of_workload.workload.name.clone(), text, point.start_unix_ns);
                            let before = self.cumulative.insert(key, count(point)).unwrap_or(0);
                            prop_assert!(before <= count(point));
                        }
                    }
                }
            }
            Ok(())
        }

        fn total(&self) -> u64 {
            self.delta + self.cumulative.values().sum::<u64>()
        }
    }

    fn settle(
        pipeline: &mut Pipeline,
        backend: &mut Backend,
        mut now: u64,
    ) -> Result<(), TestCaseError> {
        for _ in 0..12 {
            now += 1;
            let collection = pipeline.collect(at(now));
            backend.take_in(collection.snapshot())?;
            pipeline.accepted(collection.generation);
        }
        Ok(())
    }

    proptest! {
        /// Whatever the temporality, and however often it and the rest change: the sum is what was sent.
        #[test]
        fn each_measurement_is_told_once(steps in proptest::collection::vec(step(), 1..120)) {
            let mut config = Config::default();
            config.cardinality.per_service = 8;
            let mut pipeline = pipeline(&config);
            let mut backend = Backend::default();
            let (mut now, mut sent) = (1, 0);
            for step in steps {
                match step {
                    Step::Send { path, status } => {
                        let target = format!("/{}", char::from(b'g' + path));
                        Sample::server(&target, status).send(&mut pipeline, at(now));
                        sent += 1;
                    }
                    Step::Collect { seconds, accepted } => {
                        now += seconds;
                        let collection = pipeline.collect(at(now));
                        backend.take_in(collection.snapshot())?;
                        if accepted {
                            pipeline.accepted(collection.generation);
                        }
                    }
                    Step::Reload { explicit: is_explicit, delta, method } => {
                        config.histogram.is_explicit = is_explicit;
                        config.temporality = if delta {
                            TemporalityPreference::Delta
                        } else {
                            TemporalityPreference::Cumulative
                        };
                        let names = if method { &["http.request.method", "http.route"][..] } else { &["http.route"] };
                        let server = Instrument::HttpServerRequestDuration;
                        config.attributes = AllowLists {
                            server: AttributeSet::parse(server, names.iter().copied()).unwrap(),
                            ..AllowLists::default()
                        };
                        pipeline.reload(&config);
                    }
                }
            }
            settle(&mut pipeline, &mut backend, now)?;
            prop_assert_eq!(backend.total(), sent);
        }
    }
}
