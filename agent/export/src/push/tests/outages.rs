//! Collectors that are gone for minutes, on a clock that is moved by hand.

use std::{
    collections::BTreeSet,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use kerntally_model::{
    ExponentialHistogram, Instrument, InstrumentSnapshot, PointValue, Snapshot, Temporality,
    WorkloadSnapshot,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use tokio::time::{Instant, sleep};

use super::super::{Accepted, Exporter, Flight, PushError, Refusal, Retry, Transport};
use crate::{
    ExportMetricsServiceRequest,
    encode::{Encoder, MAX_REQUEST_BYTES, Payload},
    endpoint::OtlpSettings,
    fixture::{histogram, point, template, text, workload},
};

const INTERVAL: Duration = Duration::from_secs(15);
const HOLD: Duration = Duration::from_mins(10);

type Answer = Pin<Box<dyn Future<Output = Result<Accepted, Refusal>> + Send>>;

/// A transport that answers what it is told.
pub(in super::super) struct Script(Box<dyn Fn(&Payload) -> Answer + Send + Sync>);

impl Script {
    pub(in super::super) fn send(&self, payload: &Payload) -> Answer {
        self.0(payload)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

/// What a collector does while it is not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Illness {
    Gone,
    Hangs,
    /// Takes the request and never says so.
    Mute,
    Overloaded,
}

/// A collector that is ill for some time.
#[derive(Clone, Debug)]
struct Patient {
    illness: Illness,
    from: Instant,
    until: Instant,
    attempts: Arc<Mutex<Vec<(Instant, Bytes)>>>,
    received: Arc<Mutex<Vec<Bytes>>>,
}

impl Patient {
    fn new(illness: Illness, from: Duration, lasts: Duration) -> Self {
        let from = Instant::now() + from;
        Self {
            illness,
            from,
            until: from + lasts,
            attempts: Arc::default(),
            received: Arc::default(),
        }
    }

    fn exporter(&self) -> Exporter {
        let patient = self.clone();
        let script = Script(Box::new(move |payload| patient.answer(payload)));
        Exporter {
            settings: OtlpSettings::default(),
            transport: Transport::Scripted(script),
            flight: tokio::sync::Mutex::new(Flight::default()),
            stats: Mutex::default(),
        }
    }

    fn answer(&self, payload: &Payload) -> Answer {
        let now = Instant::now();
        let bytes = payload.bytes.clone();
        self.attempts.lock().unwrap().push((now, bytes.clone()));
        let ill = (self.from..self.until).contains(&now);
        if !ill || self.illness == Illness::Mute {
            self.received.lock().unwrap().push(bytes);
        }
        let refused = |retry| {
            let error = PushError::Connection {
                reason: "refused".to_owned(),
            };
            Box::pin(async move { Err(Refusal { error, retry }) })
        };
        match self.illness {
            _ if !ill => Box::pin(async { Ok(Accepted::default()) }),
            Illness::Gone => refused(Retry::Backoff),
            Illness::Overloaded => refused(Retry::After(Duration::from_mins(2))),
            Illness::Hangs | Illness::Mute => Box::pin(std::future::pending()),
        }
    }

    /// Counts of what arrived, in order; what arrived twice with the same bytes is one.
    fn counts(&self) -> Vec<u64> {
        let mut known = BTreeSet::new();
        let received = self.received.lock().unwrap();
        let new = received.iter().filter(|bytes| known.insert(bytes.to_vec()));
        new.flat_map(counts).collect()
    }
}

fn counts(bytes: &Bytes) -> Vec<u64> {
    let request = ExportMetricsServiceRequest::decode(bytes.clone()).unwrap();
    let metrics = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics);
    let points = metrics.flat_map(|metric| match &metric.data {
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.clone(),
        other => panic!("unexpected data {other:?}"),
    });
    points.map(|point| point.count).collect()
}

/// A service that answers one exchange a second, and what a collection finds of it.
struct Service {
    started: Instant,
    temporality: Temporality,
    handed_over: u64,
}

impl Service {
    fn start(temporality: Temporality) -> Self {
        Self {
            started: Instant::now(),
            temporality,
            handed_over: 0,
        }
    }

    fn total(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn collect(&mut self) -> Snapshot {
        let count = match self.temporality {
            Temporality::Cumulative => self.total(),
            Temporality::Delta => self.total() - self.handed_over,
        };
        self.handed_over = self.total();
        let value = PointValue::Exponential(ExponentialHistogram {
            count,
            buckets: vec![count],
            zero_count: 0,
            ..histogram()
        });
        let mut point = point(vec![text("http.route", "/a")], value);
        point.time_unix_ns += self.total() * 1_000_000_000;
        let instruments = vec![InstrumentSnapshot {
            instrument: Instrument::HttpServerRequestDuration,
            renamed: None,
            temporality: self.temporality,
            points: vec![point],
        }];
        Snapshot {
            workloads: vec![WorkloadSnapshot {
                workload: Arc::new(workload("api")),
                process: None,
                instruments,
            }],
        }
    }
}

/// Collects and pushes for twenty minutes, as the agent does.
async fn run(patient: &Patient, temporality: Temporality) -> (Exporter, Service) {
    let (encoder, exporter) = (
        Encoder::new(template(), MAX_REQUEST_BYTES),
        patient.exporter(),
    );
    let mut service = Service::start(temporality);
    let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
    for _ in 0..80 {
        ticks.tick().await;
        let outcome = match temporality {
            Temporality::Cumulative => {
                exporter
                    .push(encoder.payloads(&service.collect()).into())
                    .await
            }
            Temporality::Delta if exporter.is_holding() => exporter.push_again().await,
            Temporality::Delta => {
                let payloads = encoder.payloads(&service.collect());
                exporter.push_once(payloads.into(), HOLD).await
            }
        };
        assert_eq!(
            outcome.points_held > 0,
            exporter.is_holding(),
            "{outcome:?}"
        );
    }
    (exporter, service)
}

#[tokio::test(start_paused = true)]
async fn cumulative_totals_are_right_after_ten_minutes_without_a_collector() {
    for illness in [Illness::Gone, Illness::Hangs, Illness::Overloaded] {
        let patient = Patient::new(illness, Duration::from_mins(3), Duration::from_mins(10));
        let (exporter, service) = run(&patient, Temporality::Cumulative).await;
        assert_eq!(
            patient.counts().last(),
            Some(&service.handed_over),
            "{illness:?}"
        );
        let stats = exporter.stats();
        assert!(stats.pushes_failed >= 38, "{illness:?}: {stats:?}");
        assert_eq!(stats.points_sent + stats.points_dropped, 80);
        assert!(!stats.failing && !exporter.is_holding());
    }
}

#[tokio::test(start_paused = true)]
async fn a_delta_batch_outlives_an_outage_and_is_sent_again_byte_for_byte() {
    for illness in [
        Illness::Gone,
        Illness::Hangs,
        Illness::Mute,
        Illness::Overloaded,
    ] {
        let patient = Patient::new(illness, Duration::from_mins(3), Duration::from_mins(9));
        let (exporter, service) = run(&patient, Temporality::Delta).await;
        assert_eq!(
            patient.counts().iter().sum::<u64>(),
            service.handed_over,
            "{illness:?}"
        );
        let attempts = patient.attempts.lock().unwrap();
        let ill = attempts
            .iter()
            .filter(|(at, _)| (patient.from..patient.until).contains(at));
        let tried: BTreeSet<_> = ill.map(|(_, bytes)| bytes.to_vec()).collect();
        assert_eq!(tried.len(), 1, "{illness:?}: one window, whatever happens");
        assert_eq!(exporter.stats().points_dropped, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delta_batch_past_its_time_is_dropped_and_counted_and_nothing_else_is() {
    for illness in [Illness::Gone, Illness::Hangs, Illness::Overloaded] {
        let patient = Patient::new(illness, Duration::from_mins(3), Duration::from_mins(12));
        let (exporter, service) = run(&patient, Temporality::Delta).await;
        let stats = exporter.stats();
        assert_eq!(stats.points_dropped, 1, "{illness:?}");
        let arrived: u64 = patient.counts().iter().sum();
        assert_eq!(service.handed_over - arrived, 15, "one window: {illness:?}");
        let windows = patient.counts();
        let longest = windows.iter().max().unwrap();
        assert!(
            *longest >= 600,
            "what was measured meanwhile is one window: {windows:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_split_batch_only_what_is_not_answered_is_sent_again() {
    let patient = Patient::new(Illness::Gone, Duration::ZERO, Duration::ZERO);
    let answers = Arc::new(Mutex::new(vec![true, false]));
    let left = Arc::clone(&answers);
    let inner = patient.clone();
    let script = Script(Box::new(move |payload| match left.lock().unwrap().pop() {
        Some(true) => Box::pin(async {
            Err(Refusal {
                error: PushError::ResponseTooLarge,
                retry: Retry::After(Duration::from_mins(1)),
            })
        }),
        _ => inner.answer(payload),
    }));
    let exporter = Exporter {
        transport: Transport::Scripted(script),
        ..patient.exporter()
    };
    let payloads = Encoder::new(template(), 800).payloads(&crate::fixture::snapshot());
    assert!(payloads.len() > 2);
    let outcome = exporter.push_once(payloads.clone().into(), HOLD).await;
    assert_eq!(outcome.points_sent, payloads[0].points);
    assert_eq!(outcome.points_sent + outcome.points_held, 4);
    sleep(Duration::from_mins(1)).await;
    let outcome = exporter.push_again().await;
    assert!(outcome.accepted(), "{outcome:?}");
    let received = patient.received.lock().unwrap().clone();
    let sent: Vec<_> = payloads.into_iter().map(|payload| payload.bytes).collect();
    assert_eq!(received, sent);
    assert_eq!(exporter.stats().points_sent, 4);
}

#[tokio::test(start_paused = true)]
async fn a_delta_batch_refused_for_good_is_counted_and_makes_room() {
    let patient = Patient::new(Illness::Gone, Duration::ZERO, Duration::ZERO);
    let script = Script(Box::new(|_| {
        Box::pin(async {
            Err(Refusal {
                error: PushError::Http {
                    status: 400,
                    message: String::new(),
                },
                retry: Retry::Never,
            })
        })
    }));
    let exporter = Exporter {
        transport: Transport::Scripted(script),
        ..patient.exporter()
    };
    let payloads =
        Encoder::new(template(), MAX_REQUEST_BYTES).payloads(&crate::fixture::snapshot());
    let outcome = exporter.push_once(payloads.into(), HOLD).await;
    assert_eq!((outcome.points_dropped, outcome.points_held), (4, 0));
    assert!(!exporter.is_holding());
}

#[tokio::test(start_paused = true)]
async fn a_push_that_is_given_up_keeps_its_batch() {
    let patient = Patient::new(Illness::Hangs, Duration::ZERO, Duration::from_mins(1));
    let exporter = patient.exporter();
    let payloads =
        Encoder::new(template(), MAX_REQUEST_BYTES).payloads(&crate::fixture::snapshot());
    let push = exporter.push_once(payloads.into(), HOLD);
    assert!(
        tokio::time::timeout(Duration::from_secs(1), push)
            .await
            .is_err()
    );
    assert!(exporter.is_holding());
    let stats = exporter.stats();
    assert_eq!((stats.points_held, stats.points_dropped), (4, 0));
    sleep(Duration::from_mins(1)).await;
    assert!(exporter.push_again().await.accepted());
    assert_eq!(exporter.stats().points_sent, 4);
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoint_takes_over_what_is_kept_and_what_was_counted() {
    for keeps in [true, false] {
        let patient = Patient::new(Illness::Gone, Duration::ZERO, Duration::from_mins(1));
        let before = patient.exporter();
        let payloads =
            Encoder::new(template(), MAX_REQUEST_BYTES).payloads(&crate::fixture::snapshot());
        assert!(
            !before
                .push_once(payloads.clone().into(), HOLD)
                .await
                .accepted()
        );
        sleep(Duration::from_mins(1)).await;
        let next = patient.exporter();
        next.take_over(&before, keeps).await;
        assert_eq!((before.is_holding(), next.is_holding()), (false, keeps));
        assert_eq!(next.stats().pushes_failed, 1);
        if keeps {
            assert!(next.push_again().await.accepted());
            assert_eq!(patient.received.lock().unwrap()[0], payloads[0].bytes);
        }
        assert_eq!(next.stats().points_dropped, if keeps { 0 } else { 4 });
    }
}
