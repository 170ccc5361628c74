//! The observable instruments, by name.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Meter},
};

use super::{Reading, SelfSource};
use crate::VERSION;

thread_local! {
    /// Reading of the collection that runs on this thread.
    static CURRENT: RefCell<Rc<Reading>> = RefCell::default();
}

type Emit<'a> = dyn Fn(u64, &[KeyValue]) + 'a;

/// Registers every instrument. A collection calls the callbacks in this order and on one thread: the first
/// takes the reading and the others use it, so that the ledger's equation holds in every collection.
pub(super) fn register(meter: &Meter, source: &Arc<dyn SelfSource>) {
    let source = Arc::clone(source);
    let seen = meter.u64_observable_counter(SEEN.name);
    seen.with_unit(SEEN.unit)
        .with_description(SEEN.description)
        .with_callback(move |observer| {
            let reading = Rc::new(source.read());
            CURRENT.set(Rc::clone(&reading));
            (SEEN.observe)(&reading, &|value, attributes| {
                observer.observe(value, attributes);
            });
        })
        .build();
    for counter in COUNTERS {
        let observe = counter.observe;
        let builder = meter.u64_observable_counter(counter.name);
        let builder = builder
            .with_unit(counter.unit)
            .with_description(counter.description);
        builder
            .with_callback(move |observer| emit(observer, observe))
            .build();
    }
    for gauge in GAUGES {
        let observe = gauge.observe;
        let builder = meter.u64_observable_gauge(gauge.name);
        let builder = builder
            .with_unit(gauge.unit)
            .with_description(gauge.description);
        builder
            .with_callback(move |observer| emit(observer, observe))
            .build();
    }
}

/// An instrument that is observed.
pub(crate) struct SelfInstrument {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) description: &'static str,
    pub(crate) attributes: &'static [&'static str],
    /// How a reading becomes values.
    observe: fn(&Reading, &Emit<'_>),
}

/// The first of all: its callback takes the reading.
pub(crate) const SEEN: SelfInstrument = SelfInstrument {
    name: "kerntally.exchanges.seen",
    unit: "{exchange}",
    description: "Exchanges seen.",
    attributes: &["role"],
    observe: exchanges_seen,
};

pub(crate) const COUNTERS: [SelfInstrument; 13] = [
    SelfInstrument {
        name: "kerntally.exchanges",
        unit: "{exchange}",
        description: "Exchanges by what became of them.",
        attributes: &["role", "outcome"],
        observe: exchanges,
    },
    SelfInstrument {
        name: "kerntally.exchanges.cut",
        unit: "{exchange}",
        description: "Exchanges tallied while still open.",
        attributes: &["role"],
        observe: exchanges_cut,
    },
    SelfInstrument {
        name: "kerntally.blind",
        unit: "{event}",
        description: "What was seen and cannot be counted in exchanges.",
        attributes: &["reason"],
        observe: blind,
    },
    SelfInstrument {
        name: "kerntally.export.pushes",
        unit: "{push}",
        description: "Pushes by result.",
        attributes: &["result"],
        observe: pushes,
    },
    SelfInstrument {
        name: "kerntally.export.retries",
        unit: "{attempt}",
        description: "Attempts of pushes after the first.",
        attributes: &[],
        observe: |reading, emit| {
            export_value(reading, emit, |export| export.retries);
        },
    },
    SelfInstrument {
        name: "kerntally.export.points_sent",
        unit: "{point}",
        description: "Points the collector took.",
        attributes: &[],
        observe: |reading, emit| {
            export_value(reading, emit, |export| export.points_sent);
        },
    },
    SelfInstrument {
        name: "kerntally.export.points_rejected",
        unit: "{point}",
        description: "Points the collector refused.",
        attributes: &[],
        observe: |reading, emit| {
            export_value(reading, emit, |export| export.points_rejected);
        },
    },
    SelfInstrument {
        name: "kerntally.export.points_dropped",
        unit: "{point}",
        description: "Points that never arrived.",
        attributes: &[],
        observe: |reading, emit| {
            export_value(reading, emit, |export| export.points_dropped);
        },
    },
    SelfInstrument {
        name: "kerntally.file.lines",
        unit: "{line}",
        description: "Lines written to the export file.",
        attributes: &[],
        observe: |reading, emit| {
            file_value(reading, emit, |file| file.lines);
        },
    },
    SelfInstrument {
        name: "kerntally.file.dropped",
        unit: "{line}",
        description: "Lines the export file did not take.",
        attributes: &[],
        observe: |reading, emit| {
            file_value(reading, emit, |file| file.dropped);
        },
    },
    SelfInstrument {
        name: "kerntally.file.rotations",
        unit: "{file}",
        description: "Export files put aside.",
        attributes: &[],
        observe: |reading, emit| {
            file_value(reading, emit, |file| file.rotations);
        },
    },
    SelfInstrument {
        name: "kerntally.config.reloads",
        unit: "{reload}",
        description: "Configurations put in force.",
        attributes: &[],
        observe: |reading, emit| {
            emit(reading.config_reloads, &[]);
        },
    },
    SelfInstrument {
        name: "kerntally.config.reload_errors",
        unit: "{reload}",
        description: "Configurations refused.",
        attributes: &[],
        observe: |reading, emit| {
            emit(reading.config_reload_errors, &[]);
        },
    },
];

pub(crate) const GAUGES: [SelfInstrument; 7] = [
    SelfInstrument {
        name: "kerntally.exchanges.open",
        unit: "{exchange}",
        description: "Exchanges seen that have no outcome yet.",
        attributes: &["role"],
        observe: open,
    },
    SelfInstrument {
        name: "kerntally.series",
        unit: "{series}",
        description: "Live series of a service.",
        attributes: &["service"],
        observe: |reading, emit| {
            for series in &reading.series {
                emit(
                    series.live,
                    &[KeyValue::new("service", series.service.clone())],
                );
            }
        },
    },
    SelfInstrument {
        name: "kerntally.series.limit",
        unit: "{series}",
        description: "Series a service may have.",
        attributes: &["service"],
        observe: |reading, emit| {
            for series in &reading.series {
                emit(
                    series.limit,
                    &[KeyValue::new("service", series.service.clone())],
                );
            }
        },
    },
    SelfInstrument {
        name: "kerntally.degraded",
        unit: "1",
        description: "What works less than fully.",
        attributes: &["reason"],
        observe: |reading, emit| {
            for reason in &reading.degraded {
                emit(1, &[KeyValue::new("reason", *reason)]);
            }
        },
    },
    SelfInstrument {
        name: "kerntally.build.info",
        unit: "1",
        description: "Version and back end.",
        attributes: &["version", "backend"],
        observe: build_info,
    },
    SelfInstrument {
        name: "kerntally.export.points_held",
        unit: "{point}",
        description: "Delta points that wait to be sent again.",
        attributes: &[],
        observe: |reading, emit| {
            export_value(reading, emit, |export| export.points_held);
        },
    },
    SelfInstrument {
        name: "kerntally.export.last_success",
        unit: "s",
        description: "Time of the last accepted push, Unix.",
        attributes: &[],
        observe: |reading, emit| {
            let last = reading
                .export
                .as_ref()
                .and_then(|export| export.last_success_unix_ns);
            if let Some(nanoseconds) = last {
                emit(nanoseconds / 1_000_000_000, &[]);
            }
        },
    },
];

fn emit(observer: &dyn AsyncInstrument<u64>, observe: fn(&Reading, &Emit<'_>)) {
    let reading = CURRENT.with_borrow(Rc::clone);
    observe(&reading, &|value, attributes| {
        observer.observe(value, attributes);
    });
}

fn exchanges_seen(reading: &Reading, emit: &Emit<'_>) {
    for role in &reading.roles {
        emit(role.seen, &[KeyValue::new("role", role.role)]);
    }
}

fn exchanges(reading: &Reading, emit: &Emit<'_>) {
    for role in &reading.roles {
        for (outcome, count) in &role.outcomes {
            let attributes = [
                KeyValue::new("role", role.role),
                KeyValue::new("outcome", *outcome),
            ];
            emit(*count, &attributes);
        }
    }
}

fn exchanges_cut(reading: &Reading, emit: &Emit<'_>) {
    for role in &reading.roles {
        emit(role.cut, &[KeyValue::new("role", role.role)]);
    }
}

fn open(reading: &Reading, emit: &Emit<'_>) {
    for role in &reading.roles {
        emit(role.open, &[KeyValue::new("role", role.role)]);
    }
}

fn blind(reading: &Reading, emit: &Emit<'_>) {
    for (reason, count) in &reading.blind {
        emit(*count, &[KeyValue::new("reason", *reason)]);
    }
}

fn pushes(reading: &Reading, emit: &Emit<'_>) {
    if let Some(export) = &reading.export {
        emit(export.pushes_ok, &[KeyValue::new("result", "ok")]);
        emit(export.pushes_failed, &[KeyValue::new("result", "failed")]);
    }
}

fn export_value(reading: &Reading, emit: &Emit<'_>, value: fn(&crate::push::ExportStats) -> u64) {
    if let Some(export) = &reading.export {
        emit(value(export), &[]);
    }
}

fn file_value(reading: &Reading, emit: &Emit<'_>, value: fn(&crate::file::FileStats) -> u64) {
    if let Some(file) = &reading.file {
        emit(value(file), &[]);
    }
}

fn build_info(reading: &Reading, emit: &Emit<'_>) {
    let mut attributes = vec![KeyValue::new("version", VERSION)];
    attributes.extend(
        reading
            .backend
            .map(|backend| KeyValue::new("backend", backend)),
    );
    emit(1, &attributes);
}
