//! Every system call that receives or sends, with heads spread over segments and messages.

use super::super::plan::{Batch, Plan, Turn, part};
use super::super::stream::{RecvBy, SendBy};
use super::Case;

/// Where a head is cut into segments: inside the method, the target, the version, a header and the body.
fn ends() -> Vec<usize> {
    vec![1, 3, 9, 14, 30, 44, 60]
}

/// Segments to receive into, the first too small for a method.
fn sizes() -> Vec<usize> {
    vec![2, 5, 9, 1, 20, 33]
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::plan("read-write", |_| plan(&SendBy::Write, &RecvBy::Read)),
        Case::plan("readv-writev", |_| {
            plan(&SendBy::Writev(ends()), &RecvBy::Readv(sizes()))
        }),
        Case::plan("recvmsg-sendmsg", |_| {
            plan(&SendBy::Sendmsg(ends()), &RecvBy::Recvmsg(sizes()))
        }),
        Case::plan("recvmmsg-sendmmsg", |_| {
            plan(&SendBy::Sendmmsg(ends()), &RecvBy::Recvmmsg(sizes()))
        }),
        Case::plan("sendmmsg-pipelined", |_| sendmmsg_pipelined()),
        Case::plan("msg-peek", |_| plan(&SendBy::Send, &RecvBy::Peek)),
        Case::plan("non-blocking", |_| {
            plan(&SendBy::NonBlocking, &RecvBy::NonBlocking)
        }),
        Case::plan("non-blocking-large", |_| non_blocking_large()),
        Case::plan("read-into-tiny-segments", |_| {
            plan(
                &SendBy::Writev((1..16).collect()),
                &RecvBy::Readv(vec![1; 15]),
            )
        }),
    ]
}

fn turn(index: usize) -> Turn {
    const STATUSES: [u16; 5] = [200, 201, 202, 203, 206];
    let status = STATUSES[index % STATUSES.len()];
    if index.is_multiple_of(2) {
        return Turn::new("GET", "/call", status);
    }
    let body = "GET /inner HTTP/1.1\r\n\r\n";
    Turn::new("POST", "/call", status).with_request(vec![part(format!(
        "POST /call HTTP/1.1\r\nHost: peer.test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))])
}

fn plan(send: &SendBy, recv: &RecvBy) -> Plan {
    Plan::of_turns((0..30).map(turn))
        .requests(send.clone(), recv.clone())
        .responses(send.clone(), recv.clone())
}

/// Each message of one call is a request.
fn sendmmsg_pipelined() -> Plan {
    let request = Turn::new("GET", "/call", 200).request[0].bytes.len();
    let batch = |_| Batch {
        turns: (0..6).map(|index| turn(index * 2)).collect(),
        requests_at_once: true,
        ..Batch::one(turn(0))
    };
    Plan::of_batches((0..5).map(batch).collect()).requests(
        SendBy::Sendmmsg((1..6).map(|count| count * request).collect()),
        RecvBy::Recv,
    )
}

/// More than the socket holds, so that sends are refused in between.
fn non_blocking_large() -> Plan {
    let size = 8_000_000;
    let mut response = format!("HTTP/1.1 200 Word\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    response.resize(response.len() + size, b'z');
    let large = || Turn::new("GET", "/call", 200).with_response(vec![part(response.clone())]);
    Plan::of_turns([large(), turn(1), large()])
        .requests(SendBy::NonBlocking, RecvBy::NonBlocking)
        .responses(SendBy::NonBlocking, RecvBy::NonBlocking)
        .without_lockstep()
}
