//! Several requests under way on one connection.

use std::time::Duration;

use super::super::Scale;
use super::super::plan::{Batch, Plan, Turn, part};
use super::super::stream::{RecvBy, SendBy};
use super::Case;

/// Requests under way at once, smallest and largest.
const DEPTHS: std::ops::RangeInclusive<usize> = 2..=16;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::plan("pipelined-gets-answered-singly", |_| {
            plan(get, true, false, false)
        }),
        Case::plan("pipelined-gets-answered-at-once", |_| {
            plan(get, true, true, false)
        }),
        Case::plan("pipelined-gets-sent-singly", |_| {
            plan(get, false, false, false)
        }),
        Case::plan("pipelined-gets-sent-singly-answered-at-once", |_| {
            plan(get, false, true, false)
        }),
        Case::plan("pipelined-gets-read-in-turn", |_| {
            plan(get, true, false, true)
        }),
        Case::plan("pipelined-posts-answered-singly", |_| {
            plan(post, true, false, false)
        }),
        Case::plan("pipelined-posts-answered-at-once", |_| {
            plan(post, true, true, false)
        }),
        Case::plan("pipelined-posts-sent-singly", |_| {
            plan(post, false, false, false)
        }),
        Case::plan("pipelined-posts-sent-singly-answered-at-once", |_| {
            plan(post, false, true, false)
        }),
        Case::plan("pipelined-posts-read-in-turn", |_| {
            plan(post, true, false, true)
        }),
        Case::plan("pipelined-posts-with-bodies-like-heads", |_| {
            plan(post_like_head, true, true, false)
        }),
        Case::plan("pipelined-read-in-small-pieces", read_in_small_pieces),
    ]
}

fn plan(turn: fn(usize) -> Turn, at_once: bool, answered_at_once: bool, in_turn: bool) -> Plan {
    let batch = |depth: usize| Batch {
        turns: (0..depth).map(turn).collect(),
        requests_at_once: at_once,
        responses_at_once: answered_at_once,
        in_turn,
        idle_before: Duration::ZERO,
    };
    Plan::of_batches(DEPTHS.map(batch).collect())
}

fn status(index: usize) -> u16 {
    const STATUSES: [u16; 7] = [200, 201, 202, 203, 206, 500, 503];
    STATUSES[index % STATUSES.len()]
}

fn get(index: usize) -> Turn {
    Turn::new("GET", "/piped", status(index))
}

fn post(index: usize) -> Turn {
    let body = "x".repeat(10 + index * 3);
    let length = body.len();
    Turn::new("POST", "/piped", status(index)).with_request(vec![part(format!(
        "POST /piped HTTP/1.1\r\nHost: peer.test\r\nContent-Length: {length}\r\n\r\n{body}"
    ))])
}

fn post_like_head(index: usize) -> Turn {
    let body = "GET /inner HTTP/1.1\r\nHost: inner.test\r\n\r\n";
    let length = body.len();
    Turn::new("POST", "/piped", status(index)).with_request(vec![part(format!(
        "POST /piped HTTP/1.1\r\nHost: peer.test\r\nContent-Length: {length}\r\n\r\n{body}"
    ))])
}

fn read_in_small_pieces(_: &Scale) -> Plan {
    plan(get, true, true, false)
        .requests(SendBy::Send, RecvBy::AtMost(11))
        .responses(SendBy::Send, RecvBy::AtMost(13))
        .without_lockstep()
}
