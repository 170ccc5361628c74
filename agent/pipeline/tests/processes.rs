//! Each process told by itself: `resource.identity: process`.

mod support;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use kerntally_model::{Point, PointValue, ProcessKey, Role, Snapshot};
    use kerntally_pipeline::attribute::ExcludeReason;
    use kerntally_pipeline::config::TemporalityPreference;
    use kerntally_pipeline::{Config, Outcome, Pipeline, ProcessNews, Whom};
    use proptest::prelude::*;

    use crate::support::{Sample, Table, at, count, text};

    const OVERFLOW: &str = "otel.metric.overflow=true";

    fn configured() -> Config {
        Config {
            per_process: true,
            ..Config::default()
        }
    }

    /// A pipeline that watches many processes of `shop`.
    fn pipeline(config: &Config) -> Pipeline {
        let table = (1..=64).fold(Table::default(), |table, tgid| {
            table.with(tgid, "/usr/bin/shop")
        });
        Pipeline::new(config, Box::new(table), at(0))
    }

    fn send(pipeline: &mut Pipeline, tgid: u32, status: u16, second: u64) {
        let sample = Sample {
            tgid,
            ..Sample::server("/", status)
        };
        assert_eq!(sample.send(pipeline, at(second)), Outcome::Tallied);
    }

    /// Points with the process that they are of.
    fn points(snapshot: &Snapshot) -> Vec<(Option<u32>, &Point)> {
        let of_resource = |found: &'_ kerntally_model::WorkloadSnapshot| found.process;
        snapshot
            .workloads
            .iter()
            .flat_map(|found| {
                let process = of_resource(found).map(|process| process.tgid);
                let instruments = found.instruments.iter();
                instruments
                    .flat_map(|instrument| &instrument.points)
                    .map(move |point| (process, point))
            })
            .collect()
    }

    fn counts(snapshot: &Snapshot) -> Vec<(Option<u32>, u64)> {
        let points = points(snapshot).into_iter();
        points
            .map(|(process, point)| (process, count(point)))
            .collect()
    }

    #[test]
    fn processes_of_a_service_are_told_apart() {
        let mut pipeline = pipeline(&configured());
        for (tgid, requests) in [(7, 2), (3, 1)] {
            (0..requests).for_each(|_| send(&mut pipeline, tgid, 200, 1));
        }
        let snapshot = pipeline.peek(at(2));
        assert_eq!(counts(&snapshot), [(Some(3), 1), (Some(7), 2)]);
        let names: BTreeSet<_> = snapshot
            .workloads
            .iter()
            .map(|found| &found.workload.name)
            .collect();
        assert_eq!(names.len(), 1, "one service");
        assert_eq!(pipeline.services().len(), 1);
        assert_eq!(pipeline.services()[0].usage.series, 2);
    }

    #[test]
    fn without_it_they_are_one() {
        let mut pipeline = pipeline(&Config::default());
        send(&mut pipeline, 1, 200, 1);
        send(&mut pipeline, 2, 200, 1);
        assert_eq!(counts(&pipeline.peek(at(2))), [(None, 2)]);
    }

    #[test]
    fn the_limit_is_the_services_and_so_is_the_one_overflow() {
        let mut config = configured();
        config.cardinality.per_service = 3;
        let mut pipeline = pipeline(&config);
        for tgid in 1..=20 {
            send(&mut pipeline, tgid, 200, 1);
        }
        // One that has series overflows into the same.
        send(&mut pipeline, 1, 503, 1);
        let snapshot = pipeline.peek(at(2));
        assert_eq!(
            counts(&snapshot),
            [(None, 18), (Some(1), 1), (Some(2), 1), (Some(3), 1)]
        );
        assert_eq!(text(&points(&snapshot)[0].1.attributes), OVERFLOW);
        let usage = pipeline.services()[0].usage;
        assert_eq!((usage.series, usage.overflowed), (3, 18));
        let rows = pipeline.series(at(2));
        assert_eq!(
            rows[0].overflowed,
            [("http.server.request.duration".to_owned(), 18)]
        );
    }

    #[test]
    fn series_of_a_process_that_ended_go_idle_and_make_room() {
        let mut config = configured();
        config.cardinality.per_service = 1;
        let mut pipeline = pipeline(&config);
        let process = ProcessKey {
            tgid: 1,
            start_ns: 7,
        };
        send(&mut pipeline, 1, 200, 1);
        pipeline.on_process(process, ProcessNews::Exit, "shop");
        let mut told = Vec::new();
        for second in [10, 20, 700, 710] {
            let collection = pipeline.collect(at(second));
            let ended = points(collection.snapshot())
                .iter()
                .map(|(process, point)| (*process, point.value == PointValue::NoRecordedValue))
                .collect::<Vec<_>>();
            told.extend(ended);
            pipeline.accepted(collection.generation);
        }
        let first = Some(1);
        assert_eq!(told, [(first, false), (first, false), (first, true)]);
        assert_eq!(pipeline.series_len(), 0);
        send(&mut pipeline, 2, 200, 720);
        assert_eq!(counts(&pipeline.peek(at(721))), [(Some(2), 1)]);
    }

    #[test]
    fn a_reload_moves_what_follows() {
        let mut pipeline = pipeline(&configured());
        send(&mut pipeline, 1, 200, 1);
        pipeline.reload(&Config::default());
        send(&mut pipeline, 1, 200, 2);
        send(&mut pipeline, 2, 200, 2);
        let collection = pipeline.collect(at(10));
        assert_eq!(
            counts(collection.snapshot()),
            [(None, 2), (Some(1), 1)],
            "what was recorded before keeps its resource"
        );
        pipeline.accepted(collection.generation);
        assert_eq!(counts(&pipeline.peek(at(11))), [(None, 2)]);
        pipeline.reload(&configured());
        send(&mut pipeline, 2, 200, 12);
        let collection = pipeline.collect(at(20));
        assert_eq!(counts(collection.snapshot()), [(None, 2), (Some(2), 1)]);
    }

    #[test]
    fn what_has_no_service_has_no_process() {
        let mut config = configured();
        config.cardinality.services = 1;
        let table = Table::default()
            .with(1, "/usr/bin/shop")
            .with(2, "/usr/bin/cart");
        let mut pipeline = Pipeline::new(&config, Box::new(table), at(0));
        send(&mut pipeline, 1, 200, 1);
        let late = Sample {
            tgid: 2,
            ..Sample::server("/", 200)
        };
        assert_eq!(
            late.send(&mut pipeline, at(1)),
            Outcome::TalliedWithoutService
        );
        let snapshot = pipeline.peek(at(2));
        assert_eq!(counts(&snapshot), [(None, 1), (Some(1), 1)]);
    }

    #[test]
    fn services_and_processes_are_switched_off_and_on() {
        let mut pipeline = pipeline(&Config::default());
        let outcome = |pipeline: &mut Pipeline, tgid| {
            Sample {
                tgid,
                ..Sample::server("/", 200)
            }
            .send(pipeline, at(1))
        };
        assert_eq!(outcome(&mut pipeline, 1), Outcome::Tallied);
        assert!(pipeline.switch(Whom::Process(1), false));
        assert_eq!(outcome(&mut pipeline, 1), Outcome::Excluded);
        assert_eq!(outcome(&mut pipeline, 2), Outcome::Tallied);
        let reasons: Vec<_> = pipeline.excluded().iter().map(|row| row.reason).collect();
        assert_eq!(reasons, [ExcludeReason::SwitchedOff]);
        assert!(pipeline.switch(Whom::Service("shop".to_owned()), false));
        assert!(pipeline.switch(Whom::Process(1), true));
        for tgid in [1, 2] {
            assert_eq!(outcome(&mut pipeline, tgid), Outcome::Excluded);
        }
        assert!(pipeline.switch(Whom::Service("shop".to_owned()), true));
        assert_eq!(outcome(&mut pipeline, 2), Outcome::Tallied);
        // Another process may get the number of one that ended.
        let process = ProcessKey {
            tgid: 1,
            start_ns: 7,
        };
        assert!(pipeline.switch(Whom::Process(1), false));
        pipeline.on_process(process, ProcessNews::Exit, "shop");
        assert_eq!(pipeline.switched_off().count(), 0);
        for pid in 0..256 {
            assert!(pipeline.switch(Whom::Process(pid), false));
        }
        assert!(!pipeline.switch(Whom::Process(256), false));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send { tgid: u32, status: u16 },
        Collect { seconds: u64, accepted: bool },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u32..8, 200u16..204).prop_map(|(tgid, status)| Step::Send { tgid, status }),
            1 => (prop_oneof![1u64..20, 500u64..1500], any::<bool>())
                .prop_map(|(seconds, accepted)| Step::Collect { seconds, accepted }),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_limit_passed(
            steps in proptest::collection::vec(step(), 1..150),
            is_delta in any::<bool>(),
        ) {
            let mut config = configured();
            config.cardinality.per_service = 5;
            config.cardinality.services = 2;
            config.cardinality.total = 6;
            if is_delta {
                config.temporality = TemporalityPreference::Delta;
            }
            let mut pipeline = pipeline(&config);
            let (mut now, mut sent) = (1, 0);
            let mut cumulative = BTreeMap::new();
            let mut delta = 0;
            for step in steps.into_iter().chain([Step::Collect { seconds: 1, accepted: true }]) {
                match step {
                    Step::Send { tgid, status } => {
                        send(&mut pipeline, tgid, status, now);
                        sent += 1;
                    }
                    Step::Collect { seconds, accepted } => {
                        now += seconds;
                        let collection = pipeline.collect(at(now));
                        let mut streams = BTreeSet::new();
                        for (process, point) in points(collection.snapshot()) {
                            let stream = (process, text(&point.attributes));
                            prop_assert!(streams.insert(stream.clone()), "two points of {stream:?}");
                            prop_assert_eq!(process.is_none(), stream.1 == OVERFLOW);
                            delta += count(point);
                            if point.value != PointValue::NoRecordedValue {
                                let before = cumulative
                                    .insert((stream, point.start_unix_ns), count(point))
                                    .unwrap_or(0);
                                prop_assert!(is_delta || before <= count(point));
                            }
                        }
                        if accepted {
                            pipeline.accepted(collection.generation);
                        }
                    }
                }
                prop_assert!(pipeline.series_len() <= 5 + 1, "and one overflow series");
            }
            let counted = if is_delta { delta } else { cumulative.values().sum() };
            prop_assert_eq!(counted, sent);
            prop_assert_eq!(pipeline.ledger().total(Role::Server), sent);
        }
    }
}
