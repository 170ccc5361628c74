//! Responses that pause, readers that stop, and connections that idle.

use std::time::Duration;

use super::super::Scale;
use super::super::plan::{Batch, Plan, Turn, part, part_after};
use super::Case;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::plan("pause-between-head-and-body", pause).slow(),
        Case::plan("pause-before-response", pause_before_response).slow(),
        Case::plan("events-chunked", events_chunked).slow(),
        Case::plan("events-until-close", events_until_close).slow(),
        Case::plan("reader-stops", reader_stops).slow(),
        Case::plan("idle-connection", idle).slow(),
        Case::plan("slow-handlers", slow_handlers).slow(),
    ]
}

fn pause(scale: &Scale) -> Plan {
    let sized = Turn::new("GET", "/report", 200).with_response(vec![
        part("HTTP/1.1 200 Word\r\nContent-Length: 5\r\n\r\n"),
        part_after(scale.pause, "fine\n"),
    ]);
    let chunked = Turn::new("GET", "/report", 201).with_response(vec![
        part("HTTP/1.1 201 Word\r\nTransfer-Encoding: chunked\r\n\r\n"),
        part_after(scale.pause, "5\r\nfine\n\r\n0\r\n\r\n"),
    ]);
    Plan::of_turns([
        sized,
        Turn::new("GET", "/report", 206),
        chunked,
        Turn::new("GET", "/report", 206),
    ])
}

fn pause_before_response(scale: &Scale) -> Plan {
    let head = "HTTP/1.1 200 Word\r\nContent-Length: 0\r\n\r\n";
    Plan::of_turns([
        Turn::new("GET", "/query", 200).with_response(vec![part_after(scale.pause, head)]),
        Turn::new("GET", "/query", 206),
    ])
}

fn events_chunked(scale: &Scale) -> Plan {
    let mut parts = vec![part(
        "HTTP/1.1 200 Word\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
    )];
    parts.extend((0..4).map(|_| part_after(scale.event_gap, "c\r\ndata: tick\n\n\r\n")));
    parts.push(part("0\r\n\r\n"));
    Plan::of_turns([
        Turn::new("GET", "/events", 200).with_response(parts),
        Turn::new("GET", "/events", 206),
    ])
}

fn events_until_close(scale: &Scale) -> Plan {
    let mut parts = vec![part(
        "HTTP/1.1 200 Word\r\nContent-Type: text/event-stream\r\n\r\n",
    )];
    parts.extend((0..4).map(|_| part_after(scale.event_gap, "data: tick\n\n")));
    Plan::of_turns([Turn::new("GET", "/events", 200).with_response(parts)]).server_closes()
}

/// Much more than the sockets' buffers hold, so that the server's sends wait for the reader.
fn reader_stops(scale: &Scale) -> Plan {
    let size = 24_000_000;
    let mut response = format!("HTTP/1.1 200 Word\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    response.resize(response.len() + size, b'z');
    let mut plan =
        Plan::of_turns([Turn::new("GET", "/dump", 200).with_response(vec![part(response)])])
            .without_lockstep();
    plan.reader_stops = scale.reader_stop;
    plan
}

fn idle(_: &Scale) -> Plan {
    let batch = |status| Batch {
        idle_before: Duration::from_millis(1500),
        ..Batch::one(Turn::new("GET", "/idle", status))
    };
    Plan::of_connections(vec![
        vec![batch(200), batch(201), batch(202)],
        vec![batch(203)],
    ])
}

fn slow_handlers(_: &Scale) -> Plan {
    let head = "HTTP/1.1 200 Word\r\nContent-Length: 0\r\n\r\n";
    Plan::of_turns([5, 20, 80, 10, 40, 160, 5, 20].into_iter().map(|millis| {
        let pause = Duration::from_millis(millis);
        Turn::new("GET", "/work", 200).with_response(vec![part_after(pause, head)])
    }))
}
