//! Processes from a table, and records as the kernel side would send them.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test binary uses its part"
)]

use std::collections::HashMap;
use std::net::SocketAddr;

use kerntally_abi::{EndReason, ExchangeRecord, RecordHeader, flag, kind, role};
use kerntally_model::{
    Attribute, AttributeValue, Exchange, Instrument, Point, ProcessKey, Snapshot, Time,
};
use kerntally_pipeline::attribute::{ProcessFacts, ProcessSource};
use kerntally_pipeline::{Config, Outcome, Pipeline, stitch};

/// A process table that does not change.
#[derive(Debug, Default)]
pub struct Table(pub HashMap<u32, ProcessFacts>);

impl ProcessSource for Table {
    fn facts(&mut self, process: ProcessKey) -> Option<ProcessFacts> {
        self.0.get(&process.tgid).cloned()
    }
}

impl Table {
    /// A program by its executable.
    pub fn with(mut self, tgid: u32, exe: &str) -> Self {
        let facts = ProcessFacts {
            exe: Some(exe.to_owned()),
            ..ProcessFacts::default()
        };
        self.0.insert(tgid, facts);
        self
    }
}

/// A pipeline that watches `shop` (process 1) and `cart` (process 2) and starts at second 0.
pub fn pipeline(config: &Config) -> Pipeline {
    let table = Table::default()
        .with(1, "/usr/bin/shop")
        .with(2, "/usr/bin/cart")
        .with(3, "/usr/bin/prometheus");
    Pipeline::new(config, Box::new(table), at(0))
}

/// A number of seconds after the start.
pub fn at(seconds: u64) -> Time {
    Time {
        monotonic_ns: seconds * 1_000_000_000,
        unix_ns: (1_700_000_000 + seconds) * 1_000_000_000,
    }
}

/// A record to be filled in.
#[derive(Clone, Debug)]
pub struct Sample {
    pub role: u8,
    pub tgid: u32,
    pub head: Vec<u8>,
    pub status: u16,
    pub end: EndReason,
    pub flags: u16,
    pub duration_ns: u64,
    pub local: Option<SocketAddr>,
    pub remote: Option<SocketAddr>,
    pub peer_name: &'static [u8],
}

impl Sample {
    /// An answered request at the server of process 1.
    pub fn server(target: &str, status: u16) -> Self {
        Self {
            role: role::SERVER,
            tgid: 1,
            head: format!(
                "GET {target} HTTP/1.1\r\nHost: shop.example:8080\r\nCookie: SECRET\r\n\r\n"
            )
            .into_bytes(),
            status,
            end: EndReason::Framing,
            flags: flag::RESPONSE_COMPLETE,
            duration_ns: 5_000_000,
            local: Some(address([127, 0, 0, 1], 8080)),
            remote: Some(address([127, 0, 0, 1], 50000)),
            peer_name: b"",
        }
    }

    /// The same at a client.
    pub fn client(target: &str, status: u16) -> Self {
        Self {
            role: role::CLIENT,
            local: Some(address([127, 0, 0, 1], 50000)),
            remote: Some(address([10, 0, 0, 9], 8080)),
            ..Self::server(target, status)
        }
    }

    /// With another head.
    pub fn with_head(self, head: &str) -> Self {
        Self {
            head: head.as_bytes().to_vec(),
            ..self
        }
    }

    /// Sends it through stitcher and pipeline.
    pub fn send(&self, pipeline: &mut Pipeline, now: Time) -> Outcome {
        let record = self.record();
        pipeline.on_exchange(&self.exchange(&record), now)
    }

    /// What the stitcher makes of its record.
    pub fn exchange<'a>(&'a self, record: &'a ExchangeRecord) -> Exchange<'a> {
        stitch::exchange(&stitch::Input {
            record,
            end: self.end,
            local: self.local,
            remote: self.remote,
            head: &self.head,
            peer_name: self.peer_name,
        })
    }

    /// Its record, as the kernel side would send it.
    pub fn record(&self) -> ExchangeRecord {
        ExchangeRecord {
            header: RecordHeader {
                kind: kind::EXCHANGE,
                tail_len: u32::try_from(self.head.len()).unwrap_or(u32::MAX),
            },
            start_ns: 1000,
            end_ns: 1000 + self.duration_ns,
            process_start_ns: 7,
            socket: 0xffff_0000,
            inode: 9,
            request_bytes: 100,
            response_bytes: 200,
            tgid: self.tgid,
            sequence: 0,
            status: self.status,
            flags: self.flags,
            local_port: self.local.map_or(0, |local| local.port()),
            remote_port: self.remote.map_or(0, |remote| remote.port()),
            role: self.role,
            family: kerntally_abi::family::INET,
            end: self.end as u8,
            version_minor: 1,
            method_len: 3,
            method: 0,
            peer_name_len: 0,
            reserved: 0,
            local_addr: [0; 16],
            remote_addr: [0; 16],
        }
    }
}

/// An IPv4 address.
pub fn address(ip: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::from((ip, port))
}

/// All points of one instrument with their service.
pub fn points(snapshot: &Snapshot, instrument: Instrument) -> Vec<(String, Point)> {
    snapshot
        .workloads
        .iter()
        .flat_map(|of_workload| {
            let name = of_workload.workload.name.clone();
            let instruments = of_workload.instruments.iter();
            instruments
                .filter(move |found| found.instrument == instrument)
                .flat_map(|found| found.points.clone())
                .map(move |point| (name.clone(), point))
        })
        .collect()
}

/// Points of servers.
pub fn server_points(snapshot: &Snapshot) -> Vec<(String, Point)> {
    points(snapshot, Instrument::HttpServerRequestDuration)
}

/// Points of clients.
pub fn client_points(snapshot: &Snapshot) -> Vec<(String, Point)> {
    points(snapshot, Instrument::HttpClientRequestDuration)
}

/// `key=value` of each attribute, in order.
pub fn text(attributes: &[Attribute]) -> String {
    let parts: Vec<String> = attributes
        .iter()
        .map(|(key, value)| match value {
            AttributeValue::Text(text) => format!("{key}={text}"),
            AttributeValue::Integer(number) => format!("{key}={number}i"),
            AttributeValue::Boolean(boolean) => format!("{key}={boolean}"),
        })
        .collect();
    parts.join(" ")
}

/// Number of values of a point.
pub fn count(point: &Point) -> u64 {
    match &point.value {
        kerntally_model::PointValue::Exponential(histogram) => histogram.count,
        kerntally_model::PointValue::Explicit(histogram) => histogram.count,
        kerntally_model::PointValue::UpDown(_) | kerntally_model::PointValue::NoRecordedValue => 0,
    }
}
