//! Views, kinds of histograms, settings of one service, and open requests.

mod support;

#[cfg(test)]
mod tests {
    use kerntally_model::{
        Instrument, InstrumentSnapshot, PointValue, ProcessKey, Scheme, Snapshot,
    };
    use kerntally_pipeline::aggregate::{ADVISED_BOUNDARIES, AttributeSet};
    use kerntally_pipeline::attribute::Selector;
    use kerntally_pipeline::config::{
        AllowLists, HistogramKind, ServiceRule, StatusMode, TemporalityPreference,
    };
    use kerntally_pipeline::view::{View, ViewAggregation, ViewError, ViewText};
    use kerntally_pipeline::{ActiveRequests, Config, Outcome};

    use crate::support::{Sample, at, count, pipeline, points, server_points, text};

    fn with_view(text: &ViewText<'_>) -> Config {
        Config {
            views: vec![View::parse(text).unwrap()],
            ..Config::default()
        }
    }

    fn instrument(snapshot: &Snapshot) -> &InstrumentSnapshot {
        assert_eq!(snapshot.workloads[0].instruments.len(), 1);
        &snapshot.workloads[0].instruments[0]
    }

    #[test]
    fn a_view_renames_and_measures_in_its_unit() {
        let mut pipeline = pipeline(&with_view(&ViewText {
            instrument: Some("http.server.*.duration"),
            service: Some("sh*"),
            name: Some("http_request_ms"),
            unit: Some("ms"),
            rename: vec![
                ("http.response.status_code", "code"),
                ("http.route", "a.route"),
            ],
            ..ViewText::default()
        }));
        Sample::server("/a", 200).send(&mut pipeline, at(1));
        let other = Sample {
            tgid: 2,
            ..Sample::server("/a", 200)
        };
        other.send(&mut pipeline, at(1));
        let snapshot = pipeline.peek(at(2));
        let shop = instrument(&snapshot);
        let renamed = shop.renamed.as_ref().unwrap();
        assert_eq!((&*renamed.name, &*renamed.unit), ("http_request_ms", "ms"));
        assert_eq!(
            text(&shop.points[0].attributes),
            "a.route=/a code=200i http.request.method=GET network.protocol.version=1.1 url.scheme=http"
        );
        let PointValue::Exponential(histogram) = &shop.points[0].value else {
            panic!("no histogram")
        };
        assert_eq!((histogram.sum, histogram.min), (5.0, Some(5.0)));
        // 5 is between 2^(594/256) and 2^(595/256).
        assert_eq!((histogram.scale, histogram.offset), (8, 594));
        let cart = &snapshot.workloads[1].instruments[0];
        assert!(cart.renamed.is_none());
    }

    #[test]
    fn dropping_an_attribute_merges_series_while_they_are_recorded() {
        let mut config = with_view(&ViewText {
            drop: vec!["http.response.status_code", "url.scheme", "error.type"],
            ..ViewText::default()
        });
        config.cardinality.per_service = 1;
        let mut pipeline = pipeline(&config);
        for status in 200..210 {
            Sample::server("/a", status).send(&mut pipeline, at(1));
        }
        let found = server_points(&pipeline.peek(at(2)));
        assert_eq!(found.len(), 1);
        assert_eq!(count(&found[0].1), 10);
        assert_eq!(
            text(&found[0].1.attributes),
            "http.request.method=GET http.route=/a network.protocol.version=1.1"
        );
        assert_eq!(pipeline.services()[0].usage.overflowed, 0);
    }

    #[test]
    fn a_dropped_instrument_is_in_the_ledger_only() {
        let mut pipeline = pipeline(&with_view(&ViewText {
            instrument: Some("*.server.*"),
            service: Some("shop"),
            aggregation: Some(ViewAggregation::Drop),
            ..ViewText::default()
        }));
        let outcome = Sample::server("/a", 200).send(&mut pipeline, at(1));
        assert_eq!(outcome, Outcome::DroppedByView);
        assert_eq!(
            Sample::client("/a", 200).send(&mut pipeline, at(1)),
            Outcome::Tallied
        );
        assert_eq!(pipeline.series_len(), 1);
    }

    #[test]
    fn the_first_view_that_matches_counts() {
        let named = |name| {
            View::parse(&ViewText {
                instrument: Some("http.server.request.duration"),
                name: Some(name),
                ..ViewText::default()
            })
        };
        let config = Config {
            views: vec![named("first").unwrap(), named("second").unwrap()],
            ..Config::default()
        };
        let mut pipeline = pipeline(&config);
        Sample::server("/a", 200).send(&mut pipeline, at(1));
        let snapshot = pipeline.peek(at(2));
        assert_eq!(
            &*instrument(&snapshot).renamed.as_ref().unwrap().name,
            "first"
        );
    }

    #[test]
    fn views_that_cannot_be_are_refused() {
        let server = Some("http.server.request.duration");
        let of =
            |text: ViewText<'static>| View::parse(&text).map_err(|error| error.key().join("."));
        let refused: [(ViewText<'static>, &str); 12] = [
            (ViewText::default(), ""),
            (
                ViewText {
                    instrument: Some("db.*"),
                    name: Some("x"),
                    ..ViewText::default()
                },
                "match.instrument",
            ),
            (
                ViewText {
                    name: Some("9x"),
                    ..ViewText::default()
                },
                "name",
            ),
            (
                ViewText {
                    name: Some("a b"),
                    ..ViewText::default()
                },
                "name",
            ),
            (
                ViewText {
                    unit: Some("min"),
                    ..ViewText::default()
                },
                "unit",
            ),
            (
                ViewText {
                    instrument: Some("http.server.active_requests"),
                    unit: Some("ms"),
                    ..ViewText::default()
                },
                "unit",
            ),
            (
                ViewText {
                    instrument: server,
                    drop: vec!["server.port"],
                    ..ViewText::default()
                },
                "attributes.drop",
            ),
            (
                ViewText {
                    rename: vec![("http.rout", "x")],
                    ..ViewText::default()
                },
                "attributes.rename",
            ),
            (
                ViewText {
                    rename: vec![("http.route", "")],
                    ..ViewText::default()
                },
                "attributes.rename",
            ),
            (
                ViewText {
                    rename: vec![("http.route", "error.type")],
                    ..ViewText::default()
                },
                "attributes.rename",
            ),
            (
                ViewText {
                    rename: vec![("http.route", "x"), ("error.type", "x")],
                    ..ViewText::default()
                },
                "attributes.rename",
            ),
            (
                ViewText {
                    instrument: Some("http.server.active_requests"),
                    aggregation: Some(ViewAggregation::Explicit),
                    ..ViewText::default()
                },
                "aggregation",
            ),
        ];
        for (text, key) in refused {
            assert_eq!(of(text.clone()).unwrap_err(), key, "{text:?}");
        }
        // A name is free again where its attribute is dropped or renamed.
        let swap = vec![("http.route", "error.type"), ("error.type", "http.route")];
        assert!(
            of(ViewText {
                rename: swap,
                ..ViewText::default()
            })
            .is_ok()
        );
    }

    #[test]
    fn no_name_is_given_to_two_instruments() {
        let view = |instrument, name| {
            View::parse(&ViewText {
                instrument: Some(instrument),
                name: Some(name),
                ..ViewText::default()
            })
            .unwrap()
        };
        let (server, client) = (
            "http.server.request.duration",
            "http.client.request.duration",
        );
        let check = |views: &[View]| View::check_names(views).map_err(|(position, _)| position);
        assert_eq!(
            check(&[view(server, "a"), view(client, "b"), view(server, "a")]),
            Ok(())
        );
        assert_eq!(check(&[view(server, "a"), view(client, "a")]), Err(1));
        assert_eq!(check(&[view("http.*", "a")]), Err(0));
        assert_eq!(check(&[view(server, client)]), Err(0));
        let error = View::check_names(&[view(server, client)]).unwrap_err().1;
        assert!(matches!(error, ViewError::SharedName { .. }));
    }

    #[test]
    fn explicit_histograms_have_the_advised_boundaries_in_their_unit() {
        let mut config = with_view(&ViewText {
            instrument: Some("http.client.*"),
            unit: Some("ms"),
            ..ViewText::default()
        });
        config.histogram.is_explicit = true;
        let mut pipeline = pipeline(&config);
        Sample::server("/a", 200).send(&mut pipeline, at(1));
        Sample::client("/a", 200).send(&mut pipeline, at(1));
        let snapshot = pipeline.peek(at(2));
        let boundaries: Vec<Vec<f64>> = snapshot.workloads[0]
            .instruments
            .iter()
            .map(|found| {
                let PointValue::Explicit(histogram) = &found.points[0].value else {
                    panic!("no histogram")
                };
                assert_eq!(
                    histogram.buckets[0], 1,
                    "5 ms is not above the first boundary"
                );
                histogram.boundaries.to_vec()
            })
            .collect();
        assert_eq!(boundaries[0], ADVISED_BOUNDARIES);
        assert_eq!(boundaries[1][..4], [5.0, 10.0, 25.0, 50.0]);
    }

    #[test]
    fn a_service_has_settings_of_its_own() {
        let server = Instrument::HttpServerRequestDuration;
        let rule = ServiceRule {
            selectors: vec![Selector::parse([("exe", "*/shop")]).unwrap()],
            status: Some(StatusMode::Class),
            allow: Some(AllowLists {
                server: AttributeSet::parse(server, ["http.response.status_code"]).unwrap(),
                ..AllowLists::default()
            }),
            histogram: Some(HistogramKind {
                is_explicit: true,
                boundaries: [0.001, 1.0].into(),
            }),
            ..ServiceRule::default()
        };
        let mut pipeline = pipeline(&Config {
            services: vec![rule],
            ..Config::default()
        });
        for tgid in [1, 2] {
            Sample {
                tgid,
                ..Sample::server("/a", 503)
            }
            .send(&mut pipeline, at(1));
        }
        let found = server_points(&pipeline.peek(at(2)));
        assert_eq!(
            text(&found[0].1.attributes),
            "http.response.status_class=5xx"
        );
        let PointValue::Explicit(histogram) = &found[0].1.value else {
            panic!("no histogram")
        };
        assert_eq!(histogram.buckets, [0, 1, 0]);
        assert!(matches!(found[1].1.value, PointValue::Exponential(_)));
        assert!(text(&found[1].1.attributes).contains("http.response.status_code=503i"));
    }

    fn open(tgid: u32, method: &str, count: u64) -> ActiveRequests<'_> {
        ActiveRequests {
            process: ProcessKey { tgid, start_ns: 7 },
            port: 8080,
            method,
            scheme: Scheme::Http,
            count,
        }
    }

    fn active(snapshot: &Snapshot) -> Vec<(String, i64)> {
        let found = points(snapshot, Instrument::HttpServerActiveRequests);
        let value = |point: &PointValue| match point {
            PointValue::UpDown(value) => *value,
            _ => panic!("not a number that goes up and down"),
        };
        found
            .into_iter()
            .map(|(service, point)| {
                (
                    format!("{service} {}", text(&point.attributes)),
                    value(&point.value),
                )
            })
            .collect()
    }

    #[test]
    fn open_requests_are_emitted_only_when_listed() {
        let mut pipeline = pipeline(&Config::default());
        pipeline.set_active(&[open(1, "GET", 3)], at(1));
        assert_eq!(pipeline.series_len(), 0);
    }

    #[test]
    fn open_requests_are_what_they_are_at_each_collection() {
        for temporality in [
            TemporalityPreference::Cumulative,
            TemporalityPreference::Delta,
        ] {
            let instrument = Instrument::HttpServerActiveRequests;
            let mut config = Config {
                temporality,
                ..Config::default()
            };
            config.attributes.active =
                Some(AttributeSet::parse(instrument, ["http.request.method"]).unwrap());
            let mut pipeline = pipeline(&config);
            // Two processes of one service, and methods that are told alike.
            let now_open = [
                open(1, "GET", 3),
                open(1, "GET", 1),
                open(1, "FOO", 1),
                open(1, "", 1),
                open(3, "GET", 9),
            ];
            pipeline.set_active(&now_open, at(1));
            let expected = [
                ("shop http.request.method=GET".to_owned(), 4),
                ("shop http.request.method=_OTHER".to_owned(), 2),
            ];
            assert_eq!(active(pipeline.collect(at(1)).snapshot()), expected);
            pipeline.set_active(&[open(1, "GET", 2)], at(2));
            let second = pipeline.collect(at(2));
            let expected = [
                ("shop http.request.method=GET".to_owned(), 2),
                ("shop http.request.method=_OTHER".to_owned(), 0),
            ];
            assert_eq!(active(second.snapshot()), expected);
            pipeline.accepted(second.generation);
            // Zero for long: it ends.
            pipeline.set_active(&[open(1, "GET", 1)], at(1000));
            let third = pipeline.collect(at(1000));
            let found = points(third.snapshot(), instrument);
            let ended: Vec<bool> = found
                .iter()
                .map(|(_, point)| point.value == PointValue::NoRecordedValue)
                .collect();
            assert_eq!(ended, [false, true]);
        }
    }

    #[test]
    fn open_requests_count_against_the_limit_of_their_service() {
        let instrument = Instrument::HttpServerActiveRequests;
        let mut config = Config::default();
        config.cardinality.per_service = 2;
        config.attributes.active = Some(AttributeSet::default_of(instrument));
        let mut pipeline = pipeline(&config);
        Sample::server("/a", 200).send(&mut pipeline, at(1));
        pipeline.set_active(
            &[open(1, "GET", 1), open(1, "PUT", 2), open(1, "POST", 3)],
            at(1),
        );
        let found = active(&pipeline.peek(at(1)));
        assert_eq!(
            found[0],
            ("shop http.request.method=GET url.scheme=http".to_owned(), 1)
        );
        assert_eq!(found[1], ("shop otel.metric.overflow=true".to_owned(), 5));
        // The next time the overflow series holds what is open then, not what was.
        pipeline.set_active(&[open(1, "PUT", 1)], at(2));
        assert_eq!(
            active(&pipeline.peek(at(2)))
                .iter()
                .map(|(_, open)| open)
                .sum::<i64>(),
            1
        );
    }
}
