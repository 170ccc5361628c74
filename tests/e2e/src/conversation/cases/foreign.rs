//! Something on the port that is not HTTP, or not as anyone would send it: the service is undisturbed, and
//! the ledger names what was not counted.

use anyhow::Result;

use super::super::Scale;
use super::super::peer::Peer;
use super::super::plan::{Plan, Turn, joined, part};
use super::super::stream::{RecvBy, SendBy};
use super::{Case, Ledgers};
use crate::truth::{Key, Role};

const NOT_HTTP: Ledgers = Ledgers::Names(&["not_http"]);
const NOT_BUILT: Ledgers = Ledgers::Names(&["protocol_not_built"]);
const MEGABYTE: usize = 1_000_000;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::peers(
            "binary",
            |peer| echo_server(peer, &binary()),
            |peer| echo_client(peer, &binary()),
        )
        .ledger(NOT_HTTP),
        Case::peers(
            "text-lines",
            |peer| echo_server(peer, &lines()),
            |peer| echo_client(peer, &lines()),
        )
        .ledger(NOT_HTTP),
        Case::peers(
            "tls-hello",
            |peer| echo_server(peer, &tls()),
            |peer| echo_client(peer, &tls()),
        )
        .ledger(NOT_BUILT),
        Case::peers(
            "http2-preface",
            |peer| echo_server(peer, &http2()),
            |peer| echo_client(peer, &http2()),
        )
        .ledger(NOT_BUILT),
        Case::plan("unknown-method-with-megabyte-line", unknown_megabyte)
            .ledger(Ledgers::Names(&["head_too_long"])),
        Case::plan("known-method-with-megabyte-line", known_megabyte).host_cut_off(),
        Case::plan("endless-head", endless_head),
        Case::peers("beside-http", mixed_server, mixed_client),
        Case::peers("received-by-splice", splicing_server, spliced_client)
            .ledger(Ledgers::Closes)
            .asymmetric()
            .blind("data received by splice(2) is not read by any back end"),
    ]
}

fn binary() -> Vec<Vec<u8>> {
    let mut state = 0x2545_f491_u32;
    (0..40)
        .map(|_| {
            (0..500)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8 | 0x80
                })
                .collect()
        })
        .collect()
}

fn lines() -> Vec<Vec<u8>> {
    let redis = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n".to_vec();
    let smtp = b"EHLO peer.test\r\n".to_vec();
    let ftp = b"RETR /pub/file\r\n".to_vec();
    [redis, smtp, ftp].into_iter().cycle().take(40).collect()
}

fn tls() -> Vec<Vec<u8>> {
    let mut hello = vec![
        0x16, 0x03, 0x01, 0x01, 0xfc, 0x01, 0x00, 0x01, 0xf8, 0x03, 0x03,
    ];
    hello.resize(517, 0xa5);
    let mut data = vec![0x17, 0x03, 0x03, 0x00, 0x40];
    data.resize(69, 0x5a);
    std::iter::once(hello)
        .chain(std::iter::repeat_n(data, 20))
        .collect()
}

fn http2() -> Vec<Vec<u8>> {
    let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    preface.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let headers = vec![0, 0, 5, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 0x00];
    std::iter::once(preface)
        .chain(std::iter::repeat_n(headers, 20))
        .collect()
}

fn echo_server(peer: &mut Peer, messages: &[Vec<u8>]) -> Result<()> {
    let listener = peer.listen()?;
    for _ in 0..3 {
        let stream = listener.accept()?;
        for message in messages {
            stream.expect(message, &RecvBy::Recv)?;
            stream.send(message, &SendBy::Send)?;
        }
        stream.drain()?;
    }
    Ok(())
}

fn echo_client(peer: &mut Peer, messages: &[Vec<u8>]) -> Result<()> {
    for _ in 0..3 {
        let stream = peer.connect()?;
        for message in messages {
            stream.send(message, &SendBy::Send)?;
            stream.expect(message, &RecvBy::Recv)?;
        }
    }
    Ok(())
}

fn megabyte_line(method: &str) -> Turn {
    let path = "a".repeat(MEGABYTE);
    Turn::new(method, "/long", 414).with_request(vec![part(format!(
        "{method} /{path} HTTP/1.1\r\nHost: peer.test\r\n\r\n"
    ))])
}

/// Nothing of it is counted: whether it is a method at all is not known within the kept head.
fn unknown_megabyte(_: &Scale) -> Plan {
    let mut plan = Plan::of_connections(vec![vec![super::super::plan::Batch::one(megabyte_line(
        "BREW",
    ))]])
    .without_lockstep();
    plan.uncounted = true;
    plan
}

fn known_megabyte(_: &Scale) -> Plan {
    Plan::of_turns([
        megabyte_line("GET"),
        Turn::new("GET", "/after", 200),
        megabyte_line("GET"),
        Turn::new("GET", "/after", 201),
    ])
    .without_lockstep()
}

fn endless_head(_: &Scale) -> Plan {
    let filler = "X-Filler: abcdefghijklmnopqrstuvwxyz\r\n".repeat(MEGABYTE / 19);
    let request = format!("GET /endless HTTP/1.1\r\nHost: peer.test\r\n{filler}");
    Plan::of_turns([Turn::new("GET", "/endless", 431).with_request(vec![part(request)])])
        .without_lockstep()
        .server_closes()
}

/// One port, some connections binary and some HTTP.
fn mixed_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    let plan = Plan::of_turns((0..4).map(|_| Turn::new("GET", "/mixed", 200))).without_lockstep();
    for _ in 0..5 {
        let stream = listener.accept()?;
        for message in binary() {
            stream.expect(&message, &RecvBy::Recv)?;
            stream.send(&message, &SendBy::Send)?;
        }
        stream.drain()?;
        let stream = listener.accept()?;
        plan.serve(peer, &stream, &plan.connections[0])?;
        stream.drain()?;
    }
    Ok(())
}

fn mixed_client(peer: &mut Peer) -> Result<()> {
    let plan = Plan::of_turns((0..4).map(|_| Turn::new("GET", "/mixed", 200))).without_lockstep();
    for _ in 0..5 {
        let stream = peer.connect()?;
        for message in binary() {
            stream.send(&message, &SendBy::Send)?;
            stream.expect(&message, &RecvBy::Recv)?;
        }
        drop(stream);
        let stream = peer.connect()?;
        plan.request(peer, &stream, &plan.connections[0])?;
    }
    Ok(())
}

fn splicing_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    for _ in 0..5 {
        let turn = Turn::new("GET", "/spliced", 200);
        let request = stream.receive_by_splice(joined(&turn.request).len())?;
        anyhow::ensure!(
            request == joined(&turn.request),
            "the spliced request differs"
        );
        let begin = std::time::Instant::now();
        let end = stream.send(&joined(&turn.response), &SendBy::Send)?.last();
        peer.count_since(
            Key::answered(Role::Server, "GET", "/spliced", 200),
            begin,
            end,
        );
    }
    stream.drain()?;
    Ok(())
}

fn spliced_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let plan = Plan::of_turns((0..5).map(|_| Turn::new("GET", "/spliced", 200))).without_lockstep();
    plan.request(peer, &stream, &plan.connections[0])
}
