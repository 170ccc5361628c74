//! What is bounded, what overflows, and what is forgotten.

mod support;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kerntally_model::{AttributeValue, PointValue, Role};
    use kerntally_pipeline::aggregate::Part;
    use kerntally_pipeline::config::{Cardinality, Unmatched};
    use kerntally_pipeline::traffic::Traffic;
    use kerntally_pipeline::{Config, Outcome, Pipeline, Pressure};
    use proptest::prelude::*;

    use crate::support::{Sample, Table, at, client_points, count, pipeline, server_points, text};

    fn with(change: impl FnOnce(&mut Cardinality)) -> Config {
        let mut config = Config::default();
        config.routes.max_per_service = 1000;
        change(&mut config.cardinality);
        config
    }

    const OVERFLOW: &str = "otel.metric.overflow=true";

    #[test]
    fn a_full_service_overflows_into_one_series() {
        let mut pipeline = pipeline(&with(|limits| limits.per_service = 3));
        for status in 200..210 {
            assert_eq!(
                Sample::server("/", status).send(&mut pipeline, at(1)),
                Outcome::Tallied
            );
        }
        let found = server_points(&pipeline.peek(at(1)));
        assert_eq!(found.len(), 4);
        assert_eq!(found.iter().map(|(_, point)| count(point)).sum::<u64>(), 10);
        let overflow = found
            .iter()
            .find(|(_, point)| text(&point.attributes) == OVERFLOW);
        assert_eq!(count(&overflow.unwrap().1), 7);
        assert_eq!(pipeline.services()[0].usage.overflowed, 7);
        assert_eq!(pipeline.services()[0].usage.series, 3);
    }

    #[test]
    fn a_late_service_has_what_it_is_guaranteed() {
        let config = with(|limits| (limits.total, limits.services) = (20, 10));
        let mut pipeline = pipeline(&config);
        for status in 200..300 {
            Sample::server("/", status).send(&mut pipeline, at(1));
        }
        for status in 200..203 {
            Sample {
                tgid: 2,
                ..Sample::server("/", status)
            }
            .send(&mut pipeline, at(1));
        }
        let services = pipeline.services();
        let usage: Vec<_> = services
            .iter()
            .map(|row| {
                (
                    row.workload.name.as_str(),
                    row.usage.series,
                    row.usage.overflowed,
                )
            })
            .collect();
        assert_eq!(usage, [("cart", 2, 1), ("shop", 18, 80)]);
    }

    /// With the defaults' proportions: whoever comes late finds its share, and the sum is never exceeded.
    #[test]
    fn the_total_is_a_cap_and_each_share_is_there() {
        let config = with(|limits| {
            (limits.total, limits.services, limits.per_service) = (100, 20, 50);
        });
        let table = (1..=20).fold(Table::default(), |table, tgid| {
            table.with(tgid, &format!("/usr/bin/service{tgid:02}"))
        });
        let mut pipeline = Pipeline::new(&config, Box::new(table), at(0));
        let mut sent = 0;
        let mut flood = |pipeline: &mut Pipeline, tgid: u32, series: u16| {
            for status in 200..200 + series {
                let sample = Sample {
                    tgid,
                    ..Sample::server("/", status)
                };
                assert_eq!(sample.send(pipeline, at(1)), Outcome::Tallied);
                sent += 1;
            }
        };
        let live = |pipeline: &Pipeline| -> Vec<usize> {
            let mut rows = pipeline.services();
            rows.sort_by(|a, b| a.workload.name.cmp(&b.workload.name));
            rows.iter().map(|row| row.usage.series).collect()
        };
        // Two take all there is, far more than their share of five; the third has to have its own.
        for tgid in 1..=3 {
            flood(&mut pipeline, tgid, 60);
        }
        assert_eq!(live(&pipeline), [48, 47, 5]);
        for tgid in 3..=20 {
            flood(&mut pipeline, tgid, 10);
            assert!(live(&pipeline).iter().sum::<usize>() <= 100);
        }
        assert_eq!(live(&pipeline), [5; 20]);
        // What was taken back is told to the end: nothing is lost, and it does not return meanwhile.
        flood(&mut pipeline, 1, 60);
        let mut counts = BTreeMap::new();
        for second in [10, 20, 30] {
            let collection = pipeline.collect(at(second));
            for (service, point) in server_points(collection.snapshot()) {
                if point.value != PointValue::NoRecordedValue {
                    counts.insert((service, text(&point.attributes)), count(&point));
                }
            }
            pipeline.accepted(collection.generation);
        }
        assert_eq!(counts.values().sum::<u64>(), sent);
        assert_eq!(pipeline.series_len(), 100 + 20, "one overflow series each");
        // 45 series of the first were taken back, those of the second alike.
        let marks = counts
            .keys()
            .filter(|(service, _)| service == "service01")
            .count();
        assert_eq!(marks, 51);
    }

    #[test]
    fn what_nears_a_limit_is_said() {
        let config = with(|limits| {
            (
                limits.per_service,
                limits.total,
                limits.services,
                limits.hosts_per_service,
            ) = (5, 100, 2, 5);
        });
        let mut pipeline = pipeline(&config);
        let reasons = |pipeline: &Pipeline| -> Vec<(&str, usize, usize)> {
            let pressures = pipeline.pressures(at(1));
            let row =
                |pressure: &Pressure| (pressure.limit.reason(), pressure.used, pressure.allowed);
            pressures.iter().map(row).collect()
        };
        for status in 200..203 {
            Sample::server("/", status).send(&mut pipeline, at(1));
        }
        assert_eq!(reasons(&pipeline), []);
        Sample::server("/", 203).send(&mut pipeline, at(1));
        assert_eq!(reasons(&pipeline), [("service_series_near_limit", 4, 5)]);
        Sample {
            tgid: 2,
            ..Sample::server("/", 200)
        }
        .send(&mut pipeline, at(1));
        assert_eq!(
            reasons(&pipeline),
            [
                ("services_near_limit", 2, 2),
                ("service_series_near_limit", 4, 5)
            ]
        );
        let pressure = &pipeline.pressures(at(1))[1];
        assert_eq!(pressure.limit.workload().unwrap().name, "shop");
        assert_eq!(pressure.limit.key(), "cardinality.per_service");
    }

    #[test]
    fn what_made_the_series_is_said() {
        let mut pipeline = pipeline(&with(|limits| limits.per_service = 6));
        for status in [200, 201, 202, 203] {
            Sample::server("/a", status).send(&mut pipeline, at(1));
        }
        for target in ["/b", "/c", "/d"] {
            Sample::server(target, 200).send(&mut pipeline, at(1));
        }
        let rows = pipeline.series(at(1));
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.usage.series, row.limit, row.usage.created), (6, 6, 6));
        assert_eq!(
            row.overflowed,
            [("http.server.request.duration".to_owned(), 1)]
        );
        let first = &row.attributes[0];
        assert_eq!(first.name, "http.response.status_code");
        assert_eq!((first.distinct, first.top_series), (4, 3));
        assert_eq!(first.top_value, AttributeValue::Integer(200));
        assert_eq!(row.attributes[1].name, "http.route");
        assert_eq!(pipeline.series(at(4000))[0].usage.created, 0);
    }

    #[test]
    fn what_was_counted_elsewhere_is_folded_in() {
        let mut pipeline = pipeline(&Config::default());
        let sample = Sample {
            head: Vec::new(),
            flags: kerntally_abi::flag::HEAD_NOT_KEPT,
            ..Sample::server("/", 200)
        };
        sample.send(&mut pipeline, at(1));
        let record = sample.record();
        let part = Part {
            scale: 3,
            offset: -62,
            counts: &[3, 4],
            count: 8,
            sum_ns: 35_000_000,
            min_ns: 0,
            max_ns: 6_000_000,
        };
        let outcome = pipeline.on_part(&sample.exchange(&record), &part, at(1));
        assert_eq!(outcome, Outcome::TalliedDegraded);
        let found = server_points(&pipeline.peek(at(1)));
        assert_eq!(found.len(), 1, "the same series");
        let PointValue::Exponential(histogram) = &found[0].1.value else {
            panic!("no histogram")
        };
        assert_eq!(
            (histogram.count, histogram.zero_count, histogram.scale),
            (9, 1, 3)
        );
        assert_eq!(histogram.buckets.iter().sum::<u64>(), 8);
        assert!((histogram.sum - 0.04).abs() < 1e-12);
        let services = pipeline.services();
        assert_eq!(services[0].server_exchanges, 9);
    }

    #[test]
    fn services_beyond_the_limit_share_one() {
        let mut pipeline = pipeline(&with(|limits| limits.services = 1));
        Sample::server("/", 200).send(&mut pipeline, at(1));
        let late = Sample {
            tgid: 2,
            ..Sample::server("/", 200)
        };
        assert_eq!(
            late.send(&mut pipeline, at(1)),
            Outcome::TalliedWithoutService
        );
        let names: Vec<_> = server_points(&pipeline.peek(at(1)))
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["_other", "shop"]);
        // The first is forgotten: the second gets its place.
        for second in [1000, 2000, 3000] {
            let collection = pipeline.collect(at(second));
            pipeline.accepted(collection.generation);
        }
        assert_eq!(late.send(&mut pipeline, at(3001)), Outcome::Tallied);
    }

    #[test]
    fn addresses_beyond_the_limit_are_other() {
        let mut pipeline = pipeline(&with(|limits| limits.hosts_per_service = 2));
        for host in ["a", "b", "c", "d"] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            Sample::client("/", 200)
                .with_head(&head)
                .send(&mut pipeline, at(1));
        }
        let found = client_points(&pipeline.peek(at(1)));
        assert_eq!(found.len(), 3);
        let other = found
            .iter()
            .find(|(_, point)| text(&point.attributes).contains("server.address=_OTHER"));
        assert_eq!(count(&other.unwrap().1), 2);
    }

    #[test]
    fn an_idle_series_ends_with_a_mark_until_it_is_accepted() {
        let mut pipeline = pipeline(&with(|_| {}));
        let sample = Sample::server("/a", 200);
        sample.send(&mut pipeline, at(5));
        let first = pipeline.collect(at(15));
        let (_, point) = &server_points(first.snapshot())[0];
        assert_eq!(
            point.start_unix_ns,
            at(0).unix_ns,
            "a series starts at the collection before"
        );
        assert_eq!(point.time_unix_ns, at(15).unix_ns);

        // Its last value was not accepted: it does not end.
        let late = pipeline.collect(at(1000));
        assert_eq!(count(&server_points(late.snapshot())[0].1), 1);
        pipeline.accepted(late.generation);

        for second in [1015, 1030] {
            let marked = pipeline.collect(at(second));
            assert_eq!(
                server_points(marked.snapshot())[0].1.value,
                PointValue::NoRecordedValue
            );
        }
        let last = pipeline.collect(at(1045));
        pipeline.accepted(last.generation);
        assert!(server_points(pipeline.collect(at(1060)).snapshot()).is_empty());
        assert_eq!(pipeline.series_len(), 0);
    }

    #[test]
    fn a_series_that_returns_starts_anew() {
        let mut pipeline = pipeline(&with(|_| {}));
        let sample = Sample::server("/a", 200);
        sample.send(&mut pipeline, at(5));
        let first = pipeline.collect(at(15));
        pipeline.accepted(first.generation);
        pipeline.collect(at(700));
        sample.send(&mut pipeline, at(701));
        let back = pipeline.collect(at(715));
        let found = server_points(back.snapshot());
        assert_eq!(found.len(), 1);
        assert_eq!(count(&found[0].1), 1);
        assert_eq!(found[0].1.start_unix_ns, at(700).unix_ns);
    }

    #[test]
    fn traffic_is_what_happened_since() {
        let mut pipeline = pipeline(&Config::default());
        let mut traffic = Traffic::new(at(0));
        for _ in 0..20 {
            Sample::server("/a", 200).send(&mut pipeline, at(1));
        }
        assert_eq!(traffic.rows(&pipeline.peek(at(10)), at(10)).len(), 1);
        for (status, duration_ns) in [(200, 1_000_000), (200, 2_000_000), (500, 900_000_000)] {
            Sample {
                duration_ns,
                ..Sample::server("/a", status)
            }
            .send(&mut pipeline, at(11));
        }
        let rows = traffic.rows(&pipeline.peek(at(11)), at(11));
        let row = &rows[0];
        assert_eq!((row.exchanges, row.errors, row.role), (3, 1, Role::Server));
        assert_eq!(row.label.as_deref(), Some("/a"));
        assert!((row.rate - 3.0).abs() < 1e-9);
        assert!((row.p50.unwrap() - 0.002).abs() < 0.0002, "{row:?}");
        assert!((row.p99.unwrap() - 0.9).abs() < 0.09, "{row:?}");
        assert!(traffic.rows(&pipeline.peek(at(12)), at(12)).is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send {
            tgid: u32,
            path: u8,
            status: u16,
            duration_ns: u64,
        },
        Collect {
            seconds: u64,
            accepted: bool,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (1u32..=2, 0u8..12, prop_oneof![Just(200u16), Just(404), Just(500)], 0u64..10_000_000_000)
                .prop_map(|(tgid, path, status, duration_ns)| Step::Send { tgid, path, status, duration_ns }),
            1 => (1u64..900, any::<bool>()).prop_map(|(seconds, accepted)| Step::Collect { seconds, accepted }),
        ]
    }

    proptest! {
        /// Whatever happens, values are in exactly one series, and what was delivered is never taken back.
        #[test]
        fn nothing_is_lost_or_counted_twice(steps in proptest::collection::vec(step(), 1..150)) {
            let mut config = with(|limits| {
                (limits.per_service, limits.total, limits.services) = (6, 10, 4);
            });
            config.routes.unmatched = Unmatched::Heuristic;
            config.routes.max_per_service = 5;
            let mut pipeline = pipeline(&config);
            let mut now = 1;
            let mut sent = 0u64;
            // Count of a series by service, attributes and start, as last seen.
            let mut seen: BTreeMap<(String, String, u64), u64> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Send { tgid, path, status, duration_ns } => {
                        let target = format!("/{}", char::from(b'g' + path));
                        let sample = Sample { tgid, duration_ns, ..Sample::server(&target, status) };
                        prop_assert_eq!(sample.send(&mut pipeline, at(now)), Outcome::Tallied);
                        sent += 1;
                    }
                    Step::Collect { seconds, accepted } => {
                        now += seconds;
                        let collection = pipeline.collect(at(now));
                        let found = server_points(collection.snapshot());
                        let distinct: BTreeSet<_> =
                            found.iter().map(|(service, point)| (service, text(&point.attributes))).collect();
                        prop_assert_eq!(distinct.len(), found.len(), "no stream has two points");
                        for (service, point) in found {
                            let PointValue::Exponential(histogram) = &point.value else { continue };
                            prop_assert!(point.start_unix_ns <= point.time_unix_ns);
                            let total = histogram.zero_count + histogram.buckets.iter().sum::<u64>();
                            prop_assert_eq!(histogram.count, total);
                            let key = (service, text(&point.attributes), point.start_unix_ns);
                            let before = seen.insert(key, histogram.count).unwrap_or(0);
                            prop_assert!(before <= histogram.count, "cumulative counts do not fall");
                        }
                        if accepted {
                            pipeline.accepted(collection.generation);
                        }
                        prop_assert!(pipeline.series_len() <= 6 + 6 + 2);
                    }
                }
            }
            for (service, point) in server_points(pipeline.collect(at(now)).snapshot()) {
                if let PointValue::Exponential(histogram) = &point.value {
                    seen.insert((service, text(&point.attributes), point.start_unix_ns), histogram.count);
                }
            }
            prop_assert_eq!(seen.values().sum::<u64>(), sent);
            prop_assert_eq!(pipeline.ledger().total(Role::Server), sent);
        }
    }
}
