//! How the agent's processor time and memory grow with connections, services and series.

use std::time::Duration;

use anyhow::Result;

use super::run::LOAD_CORE;
use super::{Curve, Extent, Found, MIB, Watcher, real};
use crate::clock::nanos_of;
use crate::figure::{Figure, targets};
use crate::load::{Asked, Plan, ROUTES, letters};
use crate::origin::Origin;
use crate::programs::Held;
use crate::spread::exponent;

const SUITE: &str = "scale";
/// Requests a second, the same at every size, far below what the machine can take.
const RATE: f64 = 2000.0;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Connections,
    Services,
    Series,
}

/// What an agent took at one size.
struct Point {
    size: u64,
    processor_percent: f64,
    resident_mib: f64,
    most_resident_mib: f64,
    maps_mib: f64,
    lost: f64,
}

/// One amount at one size.
type Amount = fn(&Point) -> f64;

/// Measures all three.
pub(crate) fn measure(extent: &Extent) -> Found {
    let mut found = Found::default();
    let sizes: [(Size, &[u64]); 3] = [
        (Size::Connections, &[10, 100, 1000, 10_000]),
        (Size::Services, &[1, 10, 100, 1000]),
        (
            Size::Series,
            &[10, 100, 1000, 2000, 10_000, 20_000, 100_000],
        ),
    ];
    for (size, numbers) in sizes {
        let numbers = if extent.quick { &numbers[..2] } else { numbers };
        println!("\n{}", size.name());
        let mut points = Vec::new();
        for number in numbers {
            match point(extent, size, *number) {
                Ok(point) => points.push(point),
                Err(error) => {
                    println!("  {number}: not measured: {error:#}");
                    found
                        .notes
                        .push(format!("{number} {}: {error:#}", size.name()));
                }
            }
        }
        curves(size, &points, &mut found);
    }
    found
}

impl Size {
    const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Services => "services",
            Self::Series => "series",
        }
    }

    fn plan(self, origins: &[Origin], number: u64, extent: &Extent) -> Plan {
        let connections = match self {
            Self::Connections => number,
            Self::Services => number.max(16),
            Self::Series => 16,
        };
        let series = if self == Self::Series { number } else { 20 };
        // Every series and every connection is asked once before anything is measured.
        let once = real(number) / self.rate() * 1300.0;
        Plan {
            addresses: origins.iter().map(|origin| origin.address).collect(),
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            rate: Some(self.rate()),
            warm_millis: whole(once) + 1000,
            // An export interval and what it needs.
            millis: if extent.quick { 1000 } else { 16_000 },
            asked: Asked::Variety { series },
            clocks: Vec::new(),
        }
    }

    const fn rate(self) -> f64 {
        match self {
            Self::Series => 5.0 * RATE,
            Self::Connections | Self::Services => RATE,
        }
    }
}

fn point(extent: &Extent, size: Size, number: u64) -> Result<Point> {
    let program = std::env::current_exe()?;
    let services = if size == Size::Services { number } else { 1 };
    let origins: Vec<Origin> = (0..services)
        .map(|service| Origin::start(&program, &format!("service-{}", letters(service))))
        .collect::<Result<_>>()?;
    let watcher = Watcher::start(extent, &sets(&origins), None)?;
    let agent = &watcher.agent;
    let before = agent.ledger()?;
    agent.forget_most_resident()?;
    let plan = size.plan(&origins, number, extent);
    let (report, begun, ended) = plan.play(LOAD_CORE, || nanos_of(agent.pid()))?;
    std::thread::sleep(Duration::from_millis(1500));
    let ledger = agent.ledger()?;
    let counted = ledger.counted_of("server") - before.counted_of("server");
    let point = Point {
        size: number,
        processor_percent: 100.0 * real(ended - begun) / real(report.elapsed),
        resident_mib: real(agent.resident_bytes()?) / MIB,
        most_resident_mib: real(agent.most_resident_bytes()?) / MIB,
        maps_mib: real(Held::by(agent.pid())?.map_bytes) / MIB,
        lost: real(counted.abs_diff(report.sent)),
    };
    println!(
        "  {number}: {:.2} % of a core, {:.1} MiB resident ({:.1} at most), {:.1} MiB of maps, {} lost",
        point.processor_percent,
        point.resident_mib,
        point.most_resident_mib,
        point.maps_mib,
        point.lost
    );
    Ok(point)
}

/// Limits that let everything be seen, and only these servers watched.
fn sets(origins: &[Origin]) -> Vec<String> {
    let patterns: Vec<String> = (0..ROUTES)
        .map(|route| format!("\"/{}\"", letters(route)))
        .collect();
    let pids: Vec<String> = origins
        .iter()
        .map(|origin| format!("{{pid: {}}}", origin.pid()))
        .collect();
    vec![
        format!("discovery.include=[{}]", pids.join(", ")),
        format!("routes.patterns=[{}]", patterns.join(", ")),
        "cardinality.services=2000".to_owned(),
        "cardinality.per_service=200000".to_owned(),
        "cardinality.total=200000".to_owned(),
    ]
}

fn curves(size: Size, points: &[Point], found: &mut Found) {
    let amounts: [(&str, &'static str, Amount); 4] = [
        ("processor of the agent", "% of a core", |point| {
            point.processor_percent
        }),
        ("resident memory", "MiB", |point| point.resident_mib),
        ("most resident memory", "MiB", |point| {
            point.most_resident_mib
        }),
        ("kernel memory of the maps", "MiB", |point| point.maps_mib),
    ];
    for (name, unit, amount) in amounts {
        let points: Vec<(f64, f64)> = points
            .iter()
            .map(|point| (real(point.size), amount(point)))
            .collect();
        found.curves.push(Curve {
            name: format!("{name} by {}", size.name()),
            size: size.name(),
            unit,
            exponent: exponent(&points),
            last_exponent: exponent(&points[points.len().saturating_sub(2)..]),
            points,
        });
    }
    for point in points {
        let name = |what: &str| format!("{} {}: {what}", point.size, size.name());
        let resident = Figure::new(SUITE, name("resident memory"), "MiB", point.resident_mib);
        match (size, point.size) {
            (Size::Series, 2000) => found.figures.push(resident.against(targets::RESIDENT_MIB)),
            (Size::Series, 20_000) => found
                .figures
                .push(resident.against(targets::RESIDENT_FULL_MIB)),
            _ => {}
        }
        let lost = Figure::new(SUITE, name("lost"), "exchanges", point.lost);
        found.figures.push(lost.against(targets::LOST));
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds of a short time"
)]
fn whole(millis: f64) -> u64 {
    millis.ceil() as u64
}
