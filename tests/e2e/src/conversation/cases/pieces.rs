//! Keep-alive, and heads that arrive in pieces.

use super::super::Scale;
use super::super::plan::{Batch, Plan, Turn, bytewise, joined, part};
use super::super::stream::{RecvBy, SendBy};
use super::Case;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::plan("keep-alive", keep_alive),
        Case::plan("request-cut-anywhere", request_cut_anywhere),
        Case::plan("request-cut-anywhere-first", request_cut_anywhere_first),
        Case::plan("response-cut-anywhere", response_cut_anywhere),
        Case::plan("both-cut-anywhere", both_cut_anywhere),
        Case::plan("post-cut-anywhere", post_cut_anywhere),
        Case::plan("byte-by-byte", byte_by_byte),
        Case::plan("one-byte-ahead", one_byte_ahead),
        Case::plan("small-receives", small_receives),
        Case::plan("leading-empty-line", leading_empty_line),
    ]
}

fn keep_alive(_: &Scale) -> Plan {
    let kinds = [
        ("GET", "/alpha", 200),
        ("POST", "/alpha", 201),
        ("PUT", "/beta", 200),
        ("DELETE", "/beta", 202),
        ("PATCH", "/gamma", 200),
        ("OPTIONS", "/gamma", 200),
        ("GET", "/delta", 301),
        ("GET", "/absent", 404),
        ("GET", "/broken", 500),
        ("GET", "/busy", 503),
    ];
    let turn = |(method, path, status): (&str, &str, u16)| Turn::new(method, path, status);
    Plan::of_turns((0..5).flat_map(|_| kinds).map(turn))
}

fn request_length() -> usize {
    joined(&Turn::new("GET", "/cut", 200).request).len()
}

fn response_length() -> usize {
    joined(&Turn::new("GET", "/cut", 200).response).len()
}

/// Each position gets a status of its own as far as there are any, so that a slipped pairing shows.
fn numbered(index: usize) -> Turn {
    const STATUSES: [u16; 5] = [200, 201, 202, 203, 206];
    Turn::new("GET", "/cut", STATUSES[index % STATUSES.len()])
}

fn request_cut_anywhere(_: &Scale) -> Plan {
    Plan::of_turns((1..request_length()).map(|at| numbered(at).request_cut_at(at)))
}

fn request_cut_anywhere_first(_: &Scale) -> Plan {
    let connection = |at: usize| vec![Batch::one(numbered(at).request_cut_at(at))];
    Plan::of_connections((1..request_length()).map(connection).collect())
}

fn response_cut_anywhere(_: &Scale) -> Plan {
    Plan::of_turns((1..response_length()).map(|at| numbered(at).response_cut_at(at)))
}

fn both_cut_anywhere(_: &Scale) -> Plan {
    let most = request_length().min(response_length());
    Plan::of_turns((1..most).map(|at| numbered(at).request_cut_at(at).response_cut_at(at)))
}

fn post_with_body(index: usize) -> Turn {
    numbered(index).with_request(vec![part(
        "POST /cut HTTP/1.1\r\nHost: peer.test\r\nContent-Length: 11\r\n\r\nhello world",
    )])
}

fn post_cut_anywhere(_: &Scale) -> Plan {
    let length = joined(&post_with_body(0).request).len();
    Plan::of_turns((1..length).map(|at| {
        let mut turn = post_with_body(at).request_cut_at(at);
        "POST".clone_into(&mut turn.method);
        turn
    }))
}

fn byte_by_byte(_: &Scale) -> Plan {
    Plan::of_turns((0..4).map(|index| {
        let mut turn = if index % 2 == 0 {
            numbered(index)
        } else {
            post_with_body(index)
        };
        if index % 2 == 1 {
            "POST".clone_into(&mut turn.method);
        }
        let (request, response) = (joined(&turn.request), joined(&turn.response));
        turn.with_request(bytewise(&request))
            .with_response(bytewise(&response))
    }))
}

fn one_byte_ahead(_: &Scale) -> Plan {
    Plan::of_turns((0..60).map(numbered))
        .requests(SendBy::Send, RecvBy::OneByteAhead)
        .responses(SendBy::Send, RecvBy::OneByteAhead)
}

fn small_receives(_: &Scale) -> Plan {
    Plan::of_turns((0..60).map(numbered))
        .requests(SendBy::Send, RecvBy::AtMost(7))
        .responses(SendBy::Send, RecvBy::AtMost(5))
        .without_lockstep()
}

fn leading_empty_line(_: &Scale) -> Plan {
    Plan::of_turns((0..6).map(|index| {
        let turn = numbered(index);
        let mut request = b"\r\n".repeat(index % 3);
        request.extend(joined(&turn.request));
        turn.with_request(vec![part(request)])
    }))
}
