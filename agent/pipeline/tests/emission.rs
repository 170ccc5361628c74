//! What is emitted for what was seen: names, attributes, errors, outcomes.

mod support;

#[cfg(test)]
mod tests {
    use kerntally_abi::{EndReason, flag};
    use kerntally_model::{Instrument, PointValue, ProcessKey, Role};
    use kerntally_pipeline::aggregate::AttributeSet;
    use kerntally_pipeline::attribute::{ExcludeReason, Selector, Verdict};
    use kerntally_pipeline::config::{AllowLists, ServiceRule, StatusMode};
    use kerntally_pipeline::route::PatternSet;
    use kerntally_pipeline::{Config, Outcome, ProcessNews};

    use crate::support::{Sample, at, client_points, count, pipeline, server_points, text};

    fn server_attributes(sample: &Sample, config: &Config) -> String {
        let mut pipeline = pipeline(config);
        assert_eq!(sample.send(&mut pipeline, at(1)), Outcome::Tallied);
        text(
            &server_points(pipeline.collect(at(2)).snapshot())[0]
                .1
                .attributes,
        )
    }

    fn client_attributes(sample: &Sample, config: &Config) -> String {
        let mut pipeline = pipeline(config);
        assert_eq!(sample.send(&mut pipeline, at(1)), Outcome::Tallied);
        text(
            &client_points(pipeline.collect(at(2)).snapshot())[0]
                .1
                .attributes,
        )
    }

    #[test]
    fn a_server_point_is_complete_and_holds_no_secret() {
        let found = server_attributes(
            &Sample::server("/users/7?token=SECRET", 200),
            &Config::default(),
        );
        assert_eq!(
            found,
            "http.request.method=GET http.response.status_code=200i http.route=/users/{id} \
             network.protocol.version=1.1 url.scheme=http"
        );
    }

    #[test]
    fn a_client_point_names_the_server() {
        let expected = |address: &str, port: u16| {
            format!(
                "http.request.method=GET http.response.status_code=200i network.protocol.version=1.1 \
                 server.address={address} server.port={port}i"
            )
        };
        let config = Config::default();
        let cases = [
            (
                "GET / HTTP/1.1\r\nHost: Shop.Example:81\r\n\r\n",
                "shop.example",
                81,
            ),
            ("GET / HTTP/1.1\r\nHost: shop\r\n\r\n", "shop", 80),
            ("GET / HTTP/1.1\r\nHost: [::1]:81\r\n\r\n", "::1", 81),
            (
                "GET http://other/ HTTP/1.1\r\nHost: shop\r\n\r\n",
                "other",
                80,
            ),
            ("GET / HTTP/1.1\r\n\r\n", "10.0.0.9", 8080),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "10.0.0.9", 8080),
        ];
        for (head, address, port) in cases {
            let sample = Sample::client("/", 200).with_head(head);
            assert_eq!(
                client_attributes(&sample, &config),
                expected(address, port),
                "{head}"
            );
        }
    }

    #[test]
    fn a_unix_client_names_the_socket_where_no_host_does() {
        let config = Config::default();
        let attributes = |head: &str, peer_name| {
            let sample = Sample {
                local: None,
                remote: None,
                peer_name,
                ..Sample::client("/", 200).with_head(head)
            };
            client_attributes(&sample, &config)
        };
        let expected = |rest: &str| {
            format!(
                "http.request.method=GET http.response.status_code=200i network.protocol.version=1.0{rest}"
            )
        };
        let bare = "GET / HTTP/1.0\r\n\r\n";
        assert_eq!(
            attributes(bare, b"/run/App.sock\0"),
            expected(" server.address=/run/App.sock")
        );
        assert_eq!(attributes(bare, b"\0app"), expected(" server.address=@app"));
        assert_eq!(attributes(bare, b""), expected(""));
        assert_eq!(
            attributes("GET / HTTP/1.0\r\nHost: App\r\n\r\n", b"/run/App.sock\0"),
            expected(" server.address=app server.port=80i")
        );
    }

    #[test]
    fn errors_follow_status_and_end() {
        use EndReason::{Exit, Framing, LocalClose, PeerClose, Reset};
        let cases = [
            (200, Framing, true, None, None),
            (404, Framing, true, None, Some("404")),
            (503, Framing, true, Some("503"), Some("503")),
            (
                200,
                PeerClose,
                false,
                Some("truncated_response"),
                Some("truncated_response"),
            ),
            (200, LocalClose, true, None, None),
            (
                0,
                PeerClose,
                false,
                Some("client_disconnected"),
                Some("no_response"),
            ),
            (
                0,
                Reset,
                false,
                Some("client_disconnected"),
                Some("connection_reset"),
            ),
            (0, LocalClose, false, Some("no_response"), None),
            (0, Exit, false, Some("process_exit"), Some("process_exit")),
        ];
        let error = |text: &str| {
            let found = text
                .split(' ')
                .find_map(|part| part.strip_prefix("error.type="));
            found.map(str::to_owned)
        };
        let config = Config::default();
        for (status, end, complete, server, client) in cases {
            let flags = if complete { flag::RESPONSE_COMPLETE } else { 0 };
            let sample = Sample {
                end,
                flags,
                ..Sample::server("/", status)
            };
            let found = server_attributes(&sample, &config);
            assert_eq!(error(&found).as_deref(), server, "server {status} {end:?}");
            assert_eq!(found.contains("status_code"), status != 0);
            let sample = Sample {
                end,
                flags,
                ..Sample::client("/", status)
            };
            assert_eq!(
                error(&client_attributes(&sample, &config)).as_deref(),
                client,
                "client {status} {end:?}"
            );
        }
    }

    #[test]
    fn unknown_methods_are_other_unless_listed() {
        let sample = Sample::server("/", 200).with_head("PURGE /x HTTP/1.0\r\n\r\n");
        let found = server_attributes(&sample, &Config::default());
        assert!(
            found.contains("http.request.method=_OTHER")
                && found.contains("network.protocol.version=1.0")
        );
        let config = Config {
            known_methods: vec!["PURGE".to_owned()],
            ..Config::default()
        };
        assert!(server_attributes(&sample, &config).contains("http.request.method=PURGE"));
    }

    #[test]
    fn class_mode_replaces_the_code() {
        let config = Config {
            status: StatusMode::Class,
            ..Config::default()
        };
        assert_eq!(
            server_attributes(&Sample::server("/a", 503), &config),
            "error.type=5xx http.request.method=GET http.response.status_class=5xx http.route=/a \
             network.protocol.version=1.1 url.scheme=http"
        );
    }

    #[test]
    fn only_listed_attributes_are_emitted() {
        let names = ["url.template", "server.port"];
        let config = Config {
            attributes: AllowLists {
                server: AttributeSet::parse(Instrument::HttpServerRequestDuration, []).unwrap(),
                client: AttributeSet::parse(Instrument::HttpClientRequestDuration, names).unwrap(),
                active: None,
            },
            ..Config::default()
        };
        assert_eq!(server_attributes(&Sample::server("/a/1", 500), &config), "");
        assert_eq!(
            client_attributes(&Sample::client("/a/1", 500), &config),
            "server.port=8080i url.template=/a/{id}"
        );
    }

    #[test]
    fn a_head_that_was_not_kept_is_degraded() {
        let mut pipeline = pipeline(&Config::default());
        let sample = Sample {
            head: Vec::new(),
            flags: flag::HEAD_NOT_KEPT,
            ..Sample::client("/", 200)
        };
        assert_eq!(sample.send(&mut pipeline, at(1)), Outcome::TalliedDegraded);
        let found = client_points(&pipeline.peek(at(1)));
        assert_eq!(
            text(&found[0].1.attributes),
            "http.request.method=_OTHER http.response.status_code=200i network.protocol.version=1.1"
        );
        assert_eq!(
            pipeline
                .ledger()
                .count(Role::Client, Outcome::TalliedDegraded),
            1
        );
    }

    #[test]
    fn a_process_that_was_gone_too_early_is_unidentified_and_not_excluded() {
        let mut config = Config::default();
        config.discovery.include = vec![Selector::parse([("exe", "*/cart")]).unwrap()];
        let mut pipeline = pipeline(&config);
        let gone = Sample {
            tgid: 99,
            ..Sample::server("/a", 200)
        };
        assert_eq!(gone.send(&mut pipeline, at(1)), Outcome::Unidentified);
        let included = Sample {
            tgid: 2,
            ..Sample::server("/a", 200)
        };
        assert_eq!(included.send(&mut pipeline, at(1)), Outcome::Tallied);
        let other = Sample::server("/a", 200);
        assert_eq!(other.send(&mut pipeline, at(1)), Outcome::Excluded);
        let ledger = pipeline.ledger();
        assert_eq!(ledger.count(Role::Server, Outcome::Unidentified), 1);
        assert_eq!(ledger.total(Role::Server), 3);
    }

    #[test]
    fn every_exchange_has_one_outcome() {
        let mut config = Config::default();
        config.routes.ignore = PatternSet::parse(["/healthz"]).unwrap();
        config.discovery.exclude = vec![Selector::parse([("exe", "*/cart")]).unwrap()];
        let mut pipeline = pipeline(&config);
        let samples = [
            (Sample::server("/a", 200), Outcome::Tallied),
            (Sample::server("/healthz?x", 200), Outcome::IgnoredRoute),
            (
                Sample {
                    tgid: 2,
                    ..Sample::server("/a", 200)
                },
                Outcome::Excluded,
            ),
            (
                Sample {
                    tgid: 3,
                    ..Sample::server("/a", 200)
                },
                Outcome::Excluded,
            ),
            (
                Sample {
                    tgid: 99,
                    ..Sample::server("/a", 200)
                },
                Outcome::TalliedWithoutService,
            ),
            (
                Sample {
                    end: EndReason::Detached,
                    ..Sample::server("/a", 0)
                },
                Outcome::ProbeWasOff,
            ),
            (
                Sample {
                    end: EndReason::Cut,
                    ..Sample::server("/a", 200)
                },
                Outcome::Tallied,
            ),
        ];
        for (sample, outcome) in &samples {
            assert_eq!(sample.send(&mut pipeline, at(1)), *outcome);
        }
        assert_eq!(pipeline.ledger().total(Role::Server), samples.len() as u64);
        assert_eq!(pipeline.cut(Role::Server), 1);
        let found = server_points(&pipeline.peek(at(1)));
        assert_eq!(found.iter().map(|(_, point)| count(point)).sum::<u64>(), 3);
        assert!(found.iter().any(|(name, _)| name == "_other"));
        let excluded: Vec<_> = pipeline
            .excluded()
            .into_iter()
            .map(|row| (row.pid, row.reason))
            .collect();
        assert_eq!(
            excluded,
            [
                (2, ExcludeReason::Rule { item: 0 }),
                (3, ExcludeReason::Default)
            ]
        );
    }

    #[test]
    fn rules_may_ask_for_the_port() {
        let rule = ServiceRule {
            selectors: vec![Selector::parse([("port", "8080")]).unwrap()],
            name: Some("by-port".to_owned()),
            ..ServiceRule::default()
        };
        let mut config = Config {
            services: vec![rule],
            ..Config::default()
        };
        config.discovery.include = vec![Selector::parse([("port", "80*")]).unwrap()];
        let mut pipeline = pipeline(&config);
        let on = |port: u16| Sample {
            local: Some(format!("127.0.0.1:{port}").parse().unwrap()),
            ..Sample::server("/", 200)
        };
        assert_eq!(on(8080).send(&mut pipeline, at(1)), Outcome::Tallied);
        assert_eq!(on(8081).send(&mut pipeline, at(1)), Outcome::Tallied);
        assert_eq!(on(9000).send(&mut pipeline, at(1)), Outcome::Excluded);
        let names: Vec<_> = pipeline
            .services()
            .into_iter()
            .map(|row| row.workload.name.clone())
            .collect();
        assert_eq!(names, ["by-port", "shop"]);
        let process = ProcessKey {
            tgid: 1,
            start_ns: 7,
        };
        let explained = pipeline.explain(process, 9000, Role::Server);
        assert_eq!(
            explained.verdict,
            Verdict::Exclude(ExcludeReason::NotIncluded)
        );
        assert_eq!(explained.facts.exe.as_deref(), Some("/usr/bin/shop"));
    }

    #[test]
    fn a_process_that_is_gone_keeps_the_name_it_was_announced_with() {
        let mut pipeline = pipeline(&Config::default());
        let process = ProcessKey {
            tgid: 50,
            start_ns: 7,
        };
        pipeline.on_process(process, ProcessNews::FirstSeen, "curl");
        pipeline.on_process(process, ProcessNews::Exit, "curl");
        let sample = Sample {
            tgid: 50,
            ..Sample::client("/", 200)
        };
        assert_eq!(sample.send(&mut pipeline, at(1)), Outcome::Tallied);
        pipeline.collect(at(2));
        assert_eq!(sample.send(&mut pipeline, at(3)), Outcome::Tallied);
        assert_eq!(client_points(&pipeline.peek(at(3)))[0].0, "curl");
        assert_eq!(pipeline.services()[0].pids, [50]);
        pipeline.collect(at(4));
        assert!(pipeline.services()[0].pids.is_empty());
    }

    #[test]
    fn a_reload_changes_who_is_watched_and_keeps_the_series() {
        let mut pipeline = pipeline(&Config::default());
        let sample = Sample::server("/a", 200);
        sample.send(&mut pipeline, at(1));
        let mut config = Config::default();
        config.discovery.include = vec![Selector::parse([("exe", "*/cart")]).unwrap()];
        pipeline.reload(&config);
        assert_eq!(sample.send(&mut pipeline, at(2)), Outcome::Excluded);
        config.discovery.include.clear();
        config.routes.patterns = PatternSet::parse(["/{anything}"]).unwrap();
        pipeline.reload(&config);
        sample.send(&mut pipeline, at(3));
        let found = server_points(&pipeline.peek(at(3)));
        let routes: Vec<_> = found
            .iter()
            .map(|(_, point)| text(&point.attributes))
            .collect();
        assert_eq!(routes.len(), 2);
        assert!(
            routes[0].contains("http.route=/a ") && routes[1].contains("http.route=/{anything} ")
        );
    }

    #[test]
    fn durations_arrive_in_seconds() {
        let mut pipeline = pipeline(&Config::default());
        for duration_ns in [5_000_000, 20_000_000] {
            Sample {
                duration_ns,
                ..Sample::server("/", 200)
            }
            .send(&mut pipeline, at(1));
        }
        let found = server_points(&pipeline.peek(at(1)));
        let PointValue::Exponential(histogram) = &found[0].1.value else {
            panic!("no histogram")
        };
        assert_eq!((histogram.min, histogram.max), (Some(0.005), Some(0.02)));
        assert!((histogram.sum - 0.025).abs() < 1e-12);
    }
}
