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
    let seen = meter.u64_observable_counter("kerntally.exchanges.seen");
    seen.with_unit("{exchange}")
        .with_description("Exchanges seen.")
        .with_callback(move |observer| {
            let reading = Rc::new(source.read());
            CURRENT.set(Rc::clone(&reading));
            exchanges_seen(&reading, &|value, attributes| {
                observer.observe(value, attributes);
            });
        })
        .build();
    for (name, unit, description, observe) in COUNTERS {
        let counter = meter.u64_observable_counter(name);
        let counter = counter.with_unit(unit).with_description(description);
        counter
            .with_callback(move |observer| emit(observer, observe))
            .build();
    }
    for (name, unit, description, observe) in GAUGES {
        let gauge = meter.u64_observable_gauge(name);
        let gauge = gauge.with_unit(unit).with_description(description);
        gauge
            .with_callback(move |observer| emit(observer, observe))
            .build();
    }
}

/// Name, unit, description, and how a reading becomes values.
type Definition = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Reading, &Emit<'_>),
);

const COUNTERS: [Definition; 13] = [
    (
        "kerntally.exchanges",
        "{exchange}",
        "Exchanges by what became of them.",
        exchanges,
    ),
    (
        "kerntally.exchanges.cut",
        "{exchange}",
        "Exchanges tallied while still open.",
        exchanges_cut,
    ),
    (
        "kerntally.blind",
        "{event}",
        "What was seen and cannot be counted in exchanges.",
        blind,
    ),
    (
        "kerntally.export.pushes",
        "{push}",
        "Pushes by result.",
        pushes,
    ),
    (
        "kerntally.export.retries",
        "{attempt}",
        "Attempts of pushes after the first.",
        |reading, emit| {
            export_value(reading, emit, |export| export.retries);
        },
    ),
    (
        "kerntally.export.points_sent",
        "{point}",
        "Points the collector took.",
        |reading, emit| {
            export_value(reading, emit, |export| export.points_sent);
        },
    ),
    (
        "kerntally.export.points_rejected",
        "{point}",
        "Points the collector refused.",
        |reading, emit| {
            export_value(reading, emit, |export| export.points_rejected);
        },
    ),
    (
        "kerntally.export.points_dropped",
        "{point}",
        "Points that never arrived.",
        |reading, emit| {
            export_value(reading, emit, |export| export.points_dropped);
        },
    ),
    (
        "kerntally.file.lines",
        "{line}",
        "Lines written to the export file.",
        |reading, emit| {
            file_value(reading, emit, |file| file.lines);
        },
    ),
    (
        "kerntally.file.dropped",
        "{line}",
        "Lines the export file did not take.",
        |reading, emit| {
            file_value(reading, emit, |file| file.dropped);
        },
    ),
    (
        "kerntally.file.rotations",
        "{file}",
        "Export files put aside.",
        |reading, emit| {
            file_value(reading, emit, |file| file.rotations);
        },
    ),
    (
        "kerntally.config.reloads",
        "{reload}",
        "Configurations put in force.",
        |reading, emit| {
            emit(reading.config_reloads, &[]);
        },
    ),
    (
        "kerntally.config.reload_errors",
        "{reload}",
        "Configurations refused.",
        |reading, emit| {
            emit(reading.config_reload_errors, &[]);
        },
    ),
];

const GAUGES: [Definition; 6] = [
    (
        "kerntally.exchanges.open",
        "{exchange}",
        "Exchanges seen that have no outcome yet.",
        open,
    ),
    (
        "kerntally.series",
        "{series}",
        "Live series of a service.",
        |reading, emit| {
            for series in &reading.series {
                emit(
                    series.live,
                    &[KeyValue::new("service", series.service.clone())],
                );
            }
        },
    ),
    (
        "kerntally.series.limit",
        "{series}",
        "Series a service may have.",
        |reading, emit| {
            for series in &reading.series {
                emit(
                    series.limit,
                    &[KeyValue::new("service", series.service.clone())],
                );
            }
        },
    ),
    (
        "kerntally.degraded",
        "1",
        "What works less than fully.",
        |reading, emit| {
            for reason in &reading.degraded {
                emit(1, &[KeyValue::new("reason", *reason)]);
            }
        },
    ),
    (
        "kerntally.build.info",
        "1",
        "Version and back end.",
        build_info,
    ),
    (
        "kerntally.export.last_success",
        "s",
        "Time of the last accepted push, Unix.",
        |reading, emit| {
            let last = reading
                .export
                .as_ref()
                .and_then(|export| export.last_success_unix_ns);
            if let Some(nanoseconds) = last {
                emit(nanoseconds / 1_000_000_000, &[]);
            }
        },
    ),
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
