//! From a record with trace headers to the exemplars of its series.

mod support;

#[cfg(test)]
mod tests {
    use kerntally_model::{Exemplar, Instrument};
    use kerntally_pipeline::aggregate::AttributeSet;
    use kerntally_pipeline::config::{AllowLists, ServiceRule};
    use kerntally_pipeline::exemplar::{
        ExemplarBudget, ExemplarConfig, ExemplarFilter, ExemplarPolicy,
    };
    use kerntally_pipeline::{Config, Pipeline};
    use kerntally_wire::{TraceFormat, TraceFormats};

    use crate::support::{Sample, at, client_points, pipeline, points, server_points};

    const SECOND: u64 = 1_000_000_000;

    fn head(number: u64, flags: u8) -> String {
        format!(
            "GET /a HTTP/1.1\r\nHost: shop.example\r\ntraceparent: 00-{number:032x}-00000000000000bb-0{flags}\r\n\r\n"
        )
    }

    /// A sampled request whose trace is this number.
    fn sampled(number: u64, status: u16) -> Sample {
        Sample::server("/a", status).with_head(&head(number, 1))
    }

    fn number(exemplar: &Exemplar) -> u128 {
        u128::from_be_bytes(exemplar.trace_id)
    }

    fn configured(change: impl FnOnce(&mut ExemplarConfig)) -> Config {
        let mut config = Config::default();
        change(&mut config.exemplars);
        config
    }

    /// A budget with room for all that it takes, and this share of what is healthy.
    fn budgeted(healthy: f64) -> Config {
        configured(|exemplars| {
            exemplars.policy = ExemplarPolicy::Budget;
            exemplars.per_series = 100_000;
            exemplars.budget = ExemplarBudget {
                healthy,
                max_error_rate: 0.05,
            };
        })
    }

    /// Traces that a collection hands over, over all servers' series.
    fn collected(pipeline: &mut Pipeline, seconds: u64) -> Vec<u128> {
        let collection = pipeline.collect(at(seconds));
        server_points(collection.snapshot())
            .iter()
            .flat_map(|(_, point)| point.exemplars.iter().map(number))
            .collect()
    }

    #[test]
    fn carries_value_time_and_trace_and_is_handed_over_once() {
        let mut pipeline = pipeline(&Config::default());
        sampled(0xaa, 200).send(&mut pipeline, at(1));
        let before = server_points(&pipeline.peek(at(2)));
        assert_eq!(before[0].1.exemplars.len(), 1, "a look takes nothing away");
        let found = server_points(pipeline.collect(at(2)).snapshot())[0]
            .1
            .clone();
        let exemplar = found.exemplars[0];
        assert_eq!(number(&exemplar), 0xaa);
        assert_eq!(
            exemplar.span_id, None,
            "a server's own span is not in its headers"
        );
        assert!((exemplar.value - 0.005).abs() < f64::EPSILON);
        assert!((found.start_unix_ns..=found.time_unix_ns).contains(&exemplar.time_unix_ns));
        assert!(collected(&mut pipeline, 3).is_empty());
        sampled(0xcc, 200).send(&mut pipeline, at(4));
        assert_eq!(collected(&mut pipeline, 5), [0xcc]);
    }

    #[test]
    fn clients_have_the_span_of_their_headers() {
        let mut pipeline = pipeline(&Config::default());
        Sample::client("/a", 200)
            .with_head(&head(1, 1))
            .send(&mut pipeline, at(1));
        let found = client_points(pipeline.collect(at(2)).snapshot())[0]
            .1
            .exemplars[0];
        assert_eq!(found.span_id.map(u64::from_be_bytes), Some(0xbb));
    }

    #[test]
    fn the_end_of_the_request_is_its_time() {
        let mut pipeline = pipeline(&Config::default());
        // Records end 1000 ns and their duration after second 0.
        for (trace, duration_ns) in [(1, 30 * SECOND), (2, 5 * SECOND), (3, 90 * SECOND)] {
            Sample {
                duration_ns,
                ..sampled(trace, 200)
            }
            .send(&mut pipeline, at(40));
        }
        let point = server_points(pipeline.collect(at(40)).snapshot())[0]
            .1
            .clone();
        let found: Vec<_> = point
            .exemplars
            .iter()
            .map(|found| (number(found), found.time_unix_ns))
            .collect();
        let end = |seconds: u64| at(seconds).unix_ns + 1000;
        assert_eq!(found, [(2, end(5)), (1, end(30)), (3, point.time_unix_ns)]);
    }

    #[test]
    fn filters_by_what_the_headers_say() {
        let plain = Sample::server("/a", 200);
        let offered = [
            (1, sampled(1, 200)),
            (2, Sample::server("/a", 200).with_head(&head(2, 0))),
            (3, plain.clone().with_head("GET /a HTTP/1.1\r\nb3: 00000000000000000000000000000003-00000000000000bb\r\n\r\n")),
            (0, plain.clone().with_head("GET /a HTTP/1.1\r\nb3: 1\r\n\r\n")),
            (0, plain.clone().with_head("GET /a HTTP/1.1\r\ntraceparent: 00-0-0-01\r\n\r\n")),
            (0, plain),
        ];
        for (filter, expected) in [
            (ExemplarFilter::TraceBased, &[1][..]),
            (ExemplarFilter::AlwaysOn, &[1, 2, 3]),
            (ExemplarFilter::AlwaysOff, &[]),
        ] {
            let mut pipeline = pipeline(&configured(|exemplars| exemplars.filter = filter));
            for (_, sample) in &offered {
                sample.send(&mut pipeline, at(1));
            }
            let mut found = collected(&mut pipeline, 2);
            found.sort_unstable();
            assert_eq!(found, expected, "{filter:?}");
        }
    }

    #[test]
    fn looks_only_at_configured_headers() {
        let none = configured(|exemplars| exemplars.formats = TraceFormats::default());
        let jaeger =
            configured(|exemplars| exemplars.formats = TraceFormats::new([TraceFormat::Jaeger]));
        for config in [none, jaeger] {
            let mut pipeline = pipeline(&config);
            sampled(1, 200).send(&mut pipeline, at(1));
            assert!(collected(&mut pipeline, 2).is_empty());
        }
    }

    #[test]
    fn a_head_that_was_not_kept_leaves_none() {
        let mut pipeline = pipeline(&Config::default());
        let flags = kerntally_abi::flag::HEAD_NOT_KEPT | kerntally_abi::flag::RESPONSE_COMPLETE;
        Sample {
            flags,
            ..sampled(1, 200)
        }
        .send(&mut pipeline, at(1));
        assert!(collected(&mut pipeline, 2).is_empty());
    }

    #[test]
    fn a_series_keeps_no_more_than_it_may() {
        for (policy, per_series) in [(ExemplarPolicy::Uniform, 4), (ExemplarPolicy::Tail, 7)] {
            let config = configured(|exemplars| {
                exemplars.policy = policy;
                exemplars.per_series = per_series;
            });
            let mut pipeline = pipeline(&config);
            for trace in 1..=100 {
                sampled(trace, 200).send(&mut pipeline, at(1));
                sampled(1000 + trace, 500).send(&mut pipeline, at(1));
            }
            let found = server_points(pipeline.collect(at(2)).snapshot());
            assert_eq!(found.len(), 2);
            assert!(
                found
                    .iter()
                    .all(|(_, point)| point.exemplars.len() == per_series)
            );
        }
    }

    #[test]
    fn the_tail_is_found_within_a_series() {
        let config = Config {
            attributes: AllowLists {
                server: AttributeSet::parse(
                    Instrument::HttpServerRequestDuration,
                    ["http.request.method"],
                )
                .unwrap(),
                ..AllowLists::default()
            },
            ..Config::default()
        };
        let mut pipeline = pipeline(&config);
        for trace in 1..=1000 {
            let usual = 1_000_000 + trace * 37 % 100 * 1000;
            let duration_ns = if trace % 100 == 0 { 900_000_000 } else { usual };
            Sample {
                duration_ns,
                ..sampled(trace, 200)
            }
            .send(&mut pipeline, at(1));
        }
        sampled(5000, 503).send(&mut pipeline, at(1));
        let point = server_points(pipeline.collect(at(2)).snapshot())[0]
            .1
            .clone();
        assert_eq!(point.exemplars.len(), 4);
        let (errors, slow): (Vec<&Exemplar>, Vec<&Exemplar>) = point
            .exemplars
            .iter()
            .partition(|exemplar| number(exemplar) == 5000);
        assert_eq!(errors.len(), 1, "whatever its duration");
        assert!(
            slow.iter().all(|exemplar| exemplar.value > 0.001_09),
            "{slow:?}"
        );
    }

    #[test]
    fn a_budget_takes_errors_and_a_share_of_the_rest() {
        let mut pipeline = pipeline(&budgeted(0.1));
        for trace in 1..=10_000 {
            sampled(trace, 200).send(&mut pipeline, at(1));
        }
        for trace in 20_001..=20_010 {
            sampled(trace, 500).send(&mut pipeline, at(1));
        }
        let found = collected(&mut pipeline, 2);
        let errors = found.iter().filter(|trace| **trace > 20_000).count();
        assert_eq!(errors, 10);
        assert!(
            (850..1150).contains(&(found.len() - errors)),
            "{}",
            found.len()
        );
    }

    #[test]
    fn a_budget_takes_everything_while_too_much_fails() {
        let mut pipeline = pipeline(&budgeted(0.0));
        for trace in 1..=50 {
            sampled(trace, 200).send(&mut pipeline, at(1));
        }
        assert!(collected(&mut pipeline, 2).is_empty());
        // Errors count whether they are sampled or not.
        for _ in 0..10 {
            Sample::server("/a", 500).send(&mut pipeline, at(3));
        }
        for trace in 1..=50 {
            sampled(trace, 200).send(&mut pipeline, at(3));
        }
        assert_eq!(collected(&mut pipeline, 4).len(), 50);
        sampled(1, 200).send(&mut pipeline, at(4000));
        assert!(
            collected(&mut pipeline, 4001).is_empty(),
            "the failures are long past"
        );
    }

    #[test]
    fn a_service_may_have_its_own() {
        let selector = kerntally_pipeline::attribute::Selector::parse([("exe", "*/cart")]).unwrap();
        let off = ExemplarConfig {
            filter: ExemplarFilter::AlwaysOff,
            ..ExemplarConfig::default()
        };
        let config = Config {
            services: vec![ServiceRule {
                selectors: vec![selector],
                exemplars: Some(off),
                ..ServiceRule::default()
            }],
            ..Config::default()
        };
        let mut pipeline = pipeline(&config);
        sampled(1, 200).send(&mut pipeline, at(1));
        Sample {
            tgid: 2,
            ..sampled(2, 200)
        }
        .send(&mut pipeline, at(1));
        assert_eq!(collected(&mut pipeline, 2), [1]);
    }

    #[test]
    fn the_same_traffic_leaves_the_same_exemplars() {
        let run = || {
            let mut pipeline =
                pipeline(&configured(|found| found.policy = ExemplarPolicy::Uniform));
            for trace in 1..=200 {
                sampled(trace, 200).send(&mut pipeline, at(1));
            }
            collected(&mut pipeline, 2)
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn an_overflow_series_has_exemplars_too() {
        let mut config = Config::default();
        config.cardinality.per_service = 1;
        let mut pipeline = pipeline(&config);
        Sample::server("/a", 200).send(&mut pipeline, at(1));
        sampled(9, 500).send(&mut pipeline, at(1));
        let collection = pipeline.collect(at(2));
        let found = points(collection.snapshot(), Instrument::HttpServerRequestDuration);
        let traces: Vec<u128> = found
            .iter()
            .flat_map(|(_, point)| point.exemplars.iter().map(number))
            .collect();
        assert_eq!(traces, [9]);
    }
}
