//! The stages from a record to its series.

use kerntally_abi::{EndReason, ExchangeRecord, RecordHeader, flag, kind, role};
use kerntally_model::{AttributeValue, Point, ProcessKey, Role, Time};
use kerntally_pipeline::attribute::{ProcessFacts, ProcessSource};
use kerntally_pipeline::route::PatternSet;
use kerntally_pipeline::{Config, Pipeline, stitch};

/// So few templates that levels fold and services fill up.
const TEMPLATES: usize = 12;

/// Statuses to choose from; 0 is none.
const STATUSES: [u16; 8] = [200, 204, 302, 404, 500, 0, 999, 65535];

const NOW: Time = Time {
    monotonic_ns: 1_000_000_000,
    unix_ns: 1_700_000_000_000_000_000,
};

#[derive(Debug)]
struct OneProgram;

impl ProcessSource for OneProgram {
    fn facts(&mut self, _process: ProcessKey) -> Option<ProcessFacts> {
        Some(ProcessFacts {
            exe: Some("/usr/bin/shop".to_owned()),
            ..ProcessFacts::default()
        })
    }
}

/// Records with kept heads, each behind a byte for role, status and end and one for its length: every one is
/// accounted for, nothing of a query is exported, and what is suggested or remembered can be taken back.
pub fn exchange(data: &[u8]) {
    let mut config = Config::default();
    config.routes.max_per_service = TEMPLATES;
    let mut pipeline = Pipeline::new(&config, Box::new(OneProgram), NOW);
    let (mut rest, mut sent) = (data, 0);
    while let [kind, len, tail @ ..] = rest {
        let (head, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = tail;
        sent += 1;
        let record = record(*kind, head);
        let input = stitch::Input {
            record: &record,
            end: end(*kind),
            local: None,
            remote: None,
            head,
            peer_name: head.get(..len.rotate_left(4).into()).unwrap_or_default(),
        };
        pipeline.on_exchange(&stitch::exchange(&input), NOW);
    }
    let ledger = pipeline.ledger();
    assert_eq!(
        ledger.total(Role::Server) + ledger.total(Role::Client),
        sent
    );
    judge_learnt(&pipeline);
    let collection = pipeline.collect(NOW);
    let workloads = collection.snapshot().workloads.iter();
    let instruments = workloads.flat_map(|of_workload| &of_workload.instruments);
    for point in instruments.flat_map(|of_instrument| &of_instrument.points) {
        judge(point, config.exemplars.per_series);
    }
}

fn record(kind_byte: u8, head: &[u8]) -> ExchangeRecord {
    ExchangeRecord {
        header: RecordHeader {
            kind: kind::EXCHANGE,
            tail_len: head.len() as u32,
        },
        start_ns: 1000,
        end_ns: 1000 + u64::from(kind_byte) * 1000,
        process_start_ns: 7,
        socket: 1,
        inode: 9,
        request_bytes: head.len() as u64,
        response_bytes: 200,
        tgid: 1,
        sequence: 0,
        status: STATUSES[usize::from(kind_byte >> 1 & 7)],
        flags: flag::RESPONSE_COMPLETE,
        local_port: 0,
        remote_port: 0,
        role: if kind_byte & 1 == 0 {
            role::SERVER
        } else {
            role::CLIENT
        },
        family: kerntally_abi::family::UNIX,
        end: end(kind_byte) as u8,
        version_minor: 1,
        method_len: 0,
        method: 0,
        peer_name_len: 0,
        reserved: 0,
        local_addr: [0; 16],
        remote_addr: [0; 16],
    }
}

fn end(kind_byte: u8) -> EndReason {
    EndReason::from_byte(1 + (kind_byte >> 4 & 7)).unwrap_or(EndReason::Framing)
}

fn judge(point: &Point, per_series: usize) {
    for (name, value) in point.attributes.iter() {
        let AttributeValue::Text(text) = value else {
            continue;
        };
        assert!(text.len() <= 1024, "{name} is unbounded");
        if matches!(&**name, "http.route" | "url.template") {
            assert!(text.starts_with('/') || &**text == "*", "{text}");
            assert!(!text.contains(['?', '#', '%', ';']), "{text}");
        }
    }
    assert!(point.exemplars.len() <= per_series);
    assert!(
        point
            .exemplars
            .is_sorted_by_key(|exemplar| exemplar.time_unix_ns)
    );
    let window = point.start_unix_ns..=point.time_unix_ns;
    assert!(
        point
            .exemplars
            .iter()
            .all(|exemplar| window.contains(&exemplar.time_unix_ns))
    );
}

fn judge_learnt(pipeline: &Pipeline) {
    for row in pipeline.suggested_routes() {
        let patterns = row.patterns.iter().map(|suggested| &*suggested.pattern);
        assert!(PatternSet::parse(patterns).is_ok());
    }
    let learnt = pipeline.learnt_routes();
    let mut next = Pipeline::new(&Config::default(), Box::new(OneProgram), NOW);
    assert_eq!(next.restore_routes(learnt.clone()), 0);
    assert_eq!(next.learnt_routes(), learnt);
}
