//! Bodies of every framing, bodies that look like heads, and heads of unusual size.

use std::time::Duration;

use anyhow::Result;

use super::super::Scale;
use super::super::peer::Peer;
use super::super::plan::{Batch, Part, Plan, Turn, bytewise, joined, part};
use super::super::stream::{RecvBy, SendBy};
use super::Case;
use crate::truth::{Key, Role};

const REQUEST_IN_BODY: &str = "GET /inner HTTP/1.1\r\nHost: inner.test\r\n\r\n";
const RESPONSE_IN_BODY: &str = "HTTP/1.1 500 Inner\r\nContent-Length: 0\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::plan("request-body-like-head", request_body_like_head),
        Case::plan(
            "request-body-like-head-chunked",
            request_body_like_head_chunked,
        ),
        Case::plan("response-body-like-head", response_body_like_head),
        Case::plan(
            "response-body-like-head-chunked",
            response_body_like_head_chunked,
        ),
        Case::plan("chunk-like-last-chunk", chunk_like_last_chunk),
        Case::plan("chunked-cut-anywhere", chunked_cut_anywhere),
        Case::plan("chunked-byte-by-byte", chunked_byte_by_byte),
        Case::plan("chunked-with-trailer", chunked_with_trailer),
        Case::plan("no-body-by-method-or-status", no_body),
        Case::plan("length-and-close", length_and_close),
        Case::plan("until-close", until_close),
        Case::plan("until-close-http-1-0", until_close_1_0),
        Case::plan("keep-alive-http-1-0", keep_alive_1_0),
        Case::plan("body-by-sendfile", |_| {
            big_body(&SendBy::Sendfile(big_head().len()))
        }),
        Case::plan("body-by-splice", |_| {
            big_body(&SendBy::Splice(big_head().len()))
        }),
        Case::plan("request-body-by-sendfile", |_| {
            big_upload(&SendBy::Sendfile(upload_head().len()))
        }),
        Case::plan("sendfile-until-close", sendfile_until_close),
        Case::peers("response-before-request-body", early_server, early_client).asymmetric(),
        Case::plan("request-head-beyond-1-kib", request_head_beyond_1_kib),
        Case::plan(
            "request-head-beyond-1-kib-in-pieces",
            request_head_in_pieces,
        ),
        Case::plan("response-head-beyond-1-kib", response_head_beyond_1_kib),
        Case::plan("unknown-method", unknown_method),
        Case::plan("query-string-is-no-route", query_string),
        Case::plan("absolute-form-target", absolute_form),
    ]
}

fn post(status: u16, headers: &str, body: Vec<Part>) -> Turn {
    let head = format!("POST /body HTTP/1.1\r\nHost: peer.test\r\n{headers}\r\n");
    let mut parts = vec![part(head)];
    parts.extend(body);
    Turn::new("POST", "/body", status).with_request(parts)
}

fn answer(status: u16, headers: &str, body: Vec<Part>) -> Turn {
    let mut parts = vec![part(format!("HTTP/1.1 {status} Word\r\n{headers}\r\n"))];
    parts.extend(body);
    Turn::new("GET", "/body", status).with_response(parts)
}

fn length(body: &str) -> String {
    format!("Content-Length: {}\r\n", body.len())
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// In a send of its own, in two, and right behind the head; each followed by a plain request.
fn request_body_like_head(_: &Scale) -> Plan {
    let twice = REQUEST_IN_BODY.repeat(2);
    let mut together = post(202, &length(REQUEST_IN_BODY), vec![part(REQUEST_IN_BODY)]);
    together.request = vec![part(joined(&together.request))];
    Plan::of_turns([
        post(200, &length(REQUEST_IN_BODY), vec![part(REQUEST_IN_BODY)]),
        Turn::new("GET", "/body", 206),
        post(
            201,
            &length(&twice),
            vec![part(REQUEST_IN_BODY), part(REQUEST_IN_BODY)],
        ),
        Turn::new("GET", "/body", 206),
        together,
        Turn::new("GET", "/body", 206),
    ])
}

fn request_body_like_head_chunked(_: &Scale) -> Plan {
    let whole = chunk(REQUEST_IN_BODY);
    let (size, rest) = whole.split_at(whole.find("GET").unwrap_or(0));
    Plan::of_turns([
        post(
            200,
            CHUNKED,
            vec![part(size), part(rest), part("0\r\n\r\n")],
        ),
        Turn::new("GET", "/body", 206),
        post(201, CHUNKED, vec![part(whole.repeat(3)), part("0\r\n\r\n")]),
        Turn::new("GET", "/body", 206),
    ])
}

fn response_body_like_head(_: &Scale) -> Plan {
    let twice = RESPONSE_IN_BODY.repeat(2);
    Plan::of_turns([
        answer(200, &length(RESPONSE_IN_BODY), vec![part(RESPONSE_IN_BODY)]),
        Turn::new("GET", "/body", 206),
        answer(
            201,
            &length(&twice),
            vec![part(RESPONSE_IN_BODY), part(RESPONSE_IN_BODY)],
        ),
        Turn::new("GET", "/body", 206),
        answer(202, &length(REQUEST_IN_BODY), vec![part(REQUEST_IN_BODY)]),
        Turn::new("GET", "/body", 206),
    ])
}

fn response_body_like_head_chunked(_: &Scale) -> Plan {
    let whole = chunk(RESPONSE_IN_BODY);
    let (size, rest) = whole.split_at(whole.find("HTTP").unwrap_or(0));
    Plan::of_turns([
        answer(
            200,
            CHUNKED,
            vec![part(size), part(rest), part("0\r\n\r\n")],
        ),
        Turn::new("GET", "/body", 206),
    ])
}

fn chunk_like_last_chunk(_: &Scale) -> Plan {
    let body = || {
        vec![
            part(chunk("0\r\n\r\n")),
            part(chunk("0\r\n\r\nGET / HTTP/1.1\r\n\r\n")),
            part("0\r\n\r\n"),
        ]
    };
    Plan::of_turns([
        post(200, CHUNKED, body()),
        Turn::new("GET", "/body", 206),
        answer(201, CHUNKED, body()),
        Turn::new("GET", "/body", 206),
    ])
}

fn chunked_cut_anywhere(_: &Scale) -> Plan {
    let body = format!("{}{}0\r\n\r\n", chunk("hello"), chunk("0\r\n\r\n"));
    let request = joined(&post(200, CHUNKED, vec![part(body.clone())]).request).len();
    let response = joined(&answer(200, CHUNKED, vec![part(body.clone())]).response).len();
    let requests =
        (1..request).map(|at| post(200, CHUNKED, vec![part(body.clone())]).request_cut_at(at));
    let responses =
        (1..response).map(|at| answer(201, CHUNKED, vec![part(body.clone())]).response_cut_at(at));
    Plan::of_turns(requests.chain(responses))
}

fn chunked_byte_by_byte(_: &Scale) -> Plan {
    let body = format!("{}{}0\r\n\r\n", chunk(REQUEST_IN_BODY), chunk("0\r\n\r\n"));
    let request = joined(&post(200, CHUNKED, vec![part(body.clone())]).request);
    let response = joined(&answer(201, CHUNKED, vec![part(body.clone())]).response);
    Plan::of_turns([
        post(200, CHUNKED, vec![]).with_request(bytewise(&request)),
        answer(201, CHUNKED, vec![]).with_response(bytewise(&response)),
        Turn::new("GET", "/body", 206),
    ])
}

fn chunked_with_trailer(_: &Scale) -> Plan {
    let body = format!("{}0\r\nX-Sum: GET / HTTP/1.1\r\n\r\n", chunk("hello"));
    Plan::of_turns([
        post(200, CHUNKED, vec![part(body.clone())]),
        Turn::new("GET", "/body", 206),
        answer(201, CHUNKED, vec![part(body)]),
        Turn::new("GET", "/body", 206),
    ])
}

fn no_body(_: &Scale) -> Plan {
    let bare = |method: &str, status: u16, headers: &str| {
        Turn::new(method, "/bare", status).with_response(vec![part(format!(
            "HTTP/1.1 {status} Word\r\n{headers}\r\n"
        ))])
    };
    Plan::of_turns([
        bare("HEAD", 200, "Content-Length: 1000\r\n"),
        Turn::new("GET", "/bare", 200),
        bare("HEAD", 200, CHUNKED),
        bare("GET", 204, ""),
        bare("GET", 304, "Content-Length: 1000\r\n"),
        bare("GET", 304, ""),
        Turn::new("GET", "/bare", 201),
        bare("DELETE", 204, ""),
        bare("HEAD", 200, "Content-Length: 5\r\n"),
        bare("POST", 200, "Content-Length: 0\r\n"),
    ])
}

/// What common servers answer to a failed request: framed, with a page, and the connection ends.
fn length_and_close(_: &Scale) -> Plan {
    let page = "<html>\r\n<head><title>500 Internal Server Error</title></head>\r\n<body>\r\n\
                <center><h1>500 Internal Server Error</h1></center>\r\n</body>\r\n</html>\r\n";
    let headers = format!(
        "Server: test\r\nDate: Sun, 22 Nov 2026 06:52:13 GMT\r\nContent-Type: text/html\r\n{}Connection: close\r\n",
        length(page)
    );
    let turn = |status| {
        let turn = answer(status, &headers, vec![part(page)]);
        let response = joined(&turn.response);
        turn.with_response(vec![part(response)])
    };
    let statuses = (0..12).map(|index| if index % 2 == 0 { 500 } else { 200 });
    Plan::of_connections(
        statuses
            .map(|status| vec![Batch::one(turn(status))])
            .collect(),
    )
    .server_closes()
}

fn until_close(_: &Scale) -> Plan {
    let turn = || {
        answer(
            200,
            "Connection: close\r\n",
            vec![part("some"), part(RESPONSE_IN_BODY)],
        )
    };
    Plan::of_connections((0..8).map(|_| vec![Batch::one(turn())]).collect()).server_closes()
}

fn old(status: u16, request_headers: &str, response: Vec<Part>) -> Turn {
    let request = format!("GET /old HTTP/1.0\r\nHost: peer.test\r\n{request_headers}\r\n");
    let mut turn = Turn::new("GET", "/old", status)
        .with_request(vec![part(request)])
        .with_response(response);
    turn.http_1_0 = true;
    turn
}

fn until_close_1_0(_: &Scale) -> Plan {
    let turn = || {
        old(
            200,
            "",
            vec![part("HTTP/1.0 200 OK\r\n\r\n"), part("some body")],
        )
    };
    Plan::of_connections((0..8).map(|_| vec![Batch::one(turn())]).collect()).server_closes()
}

fn keep_alive_1_0(_: &Scale) -> Plan {
    let response = || {
        vec![part(
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nfine",
        )]
    };
    Plan::of_turns((0..8).map(|_| old(200, "Connection: keep-alive\r\n", response())))
}

const BIG: usize = 300_000;

fn big_head() -> String {
    format!("HTTP/1.1 200 Word\r\nContent-Length: {BIG}\r\n\r\n")
}

fn big_body(by: &SendBy) -> Plan {
    let mut response = big_head().into_bytes();
    response.extend(RESPONSE_IN_BODY.bytes().cycle().take(BIG));
    let turn = || Turn::new("GET", "/big", 200).with_response(vec![part(response.clone())]);
    Plan::of_turns([turn(), turn(), Turn::new("GET", "/big", 201), turn()])
        .responses(by.clone(), RecvBy::Recv)
        .without_lockstep()
}

fn upload_head() -> String {
    format!("PUT /big HTTP/1.1\r\nHost: peer.test\r\nContent-Length: {BIG}\r\n\r\n")
}

fn big_upload(by: &SendBy) -> Plan {
    let mut request = upload_head().into_bytes();
    request.extend(REQUEST_IN_BODY.bytes().cycle().take(BIG));
    let turn = |status| Turn::new("PUT", "/big", status).with_request(vec![part(request.clone())]);
    Plan::of_turns([turn(200), turn(201), turn(202)])
        .requests(by.clone(), RecvBy::Recv)
        .without_lockstep()
}

fn sendfile_until_close(_: &Scale) -> Plan {
    let head = "HTTP/1.1 200 Word\r\nConnection: close\r\n\r\n";
    let response = format!("{head}{}", RESPONSE_IN_BODY.repeat(500));
    let turn = || Turn::new("GET", "/file", 200).with_response(vec![part(response.clone())]);
    Plan::of_connections((0..4).map(|_| vec![Batch::one(turn())]).collect())
        .responses(SendBy::Sendfile(head.len()), RecvBy::Recv)
        .without_lockstep()
        .server_closes()
}

/// A refusal before the body is there; the body comes all the same, and the connection lives on.
fn early_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    for _ in 0..3 {
        let begin = stream
            .expect(early_head().as_bytes(), &RecvBy::Recv)?
            .first();
        stream.expect(&[b'a'; 1000], &RecvBy::Recv)?;
        let end = stream
            .send(early_answer().as_bytes(), &SendBy::Send)?
            .last();
        peer.count_since(Key::answered(Role::Server, "POST", "/**", 413), begin, end);
        stream.expect(&REQUEST_IN_BODY.repeat(100).into_bytes(), &RecvBy::Recv)?;
        let turn = Turn::new("GET", "/after", 200);
        let begin = stream
            .expect(&joined(&turn.request), &RecvBy::Recv)?
            .first();
        let end = stream.send(&joined(&turn.response), &SendBy::Send)?.last();
        peer.count_since(turn.key(Role::Server), begin, end);
    }
    stream.drain()?;
    Ok(())
}

fn early_head() -> String {
    let length = 1000 + REQUEST_IN_BODY.len() * 100;
    format!("POST /upload HTTP/1.1\r\nHost: peer.test\r\nContent-Length: {length}\r\n\r\n")
}

fn early_answer() -> String {
    "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno\n".to_owned()
}

fn early_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    for _ in 0..3 {
        let begin = stream.send(early_head().as_bytes(), &SendBy::Send)?.first();
        stream.send(&[b'a'; 1000], &SendBy::Send)?;
        let end = stream
            .expect(early_answer().as_bytes(), &RecvBy::Recv)?
            .last();
        peer.count_since(Key::answered(Role::Client, "POST", "/**", 413), begin, end);
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..100 {
            stream.send(REQUEST_IN_BODY.as_bytes(), &SendBy::Send)?;
        }
        let turn = Turn::new("GET", "/after", 200);
        let begin = stream.send(&joined(&turn.request), &SendBy::Send)?.first();
        let end = stream
            .expect(&joined(&turn.response), &RecvBy::Recv)?
            .last();
        peer.count_since(turn.key(Role::Client), begin, end);
    }
    Ok(())
}

fn cookie() -> String {
    format!("Cookie: {}\r\n", "crumb=0123456789abcdef; ".repeat(350))
}

/// Content-Length comes after more than eight kibibytes of cookies.
fn request_head_beyond_1_kib(_: &Scale) -> Plan {
    let headers = format!("{}{}", cookie(), length(REQUEST_IN_BODY));
    let post = |status| post(status, &headers, vec![part(REQUEST_IN_BODY)]);
    let get = |status| {
        let request = format!(
            "GET /cookies HTTP/1.1\r\nHost: peer.test\r\n{}\r\n",
            cookie()
        );
        Turn::new("GET", "/cookies", status).with_request(vec![part(request)])
    };
    Plan::of_turns([
        get(200),
        post(200),
        Turn::new("GET", "/body", 206),
        post(201),
        get(201),
        get(202),
    ])
}

fn request_head_in_pieces(_: &Scale) -> Plan {
    let request = format!(
        "POST /body HTTP/1.1\r\nHost: peer.test\r\n{}{}\r\n{REQUEST_IN_BODY}",
        cookie(),
        length(REQUEST_IN_BODY)
    );
    let pieces = |size: usize| request.as_bytes().chunks(size).map(part).collect();
    let turn = |status, size| Turn::new("POST", "/body", status).with_request(pieces(size));
    Plan::of_turns([
        turn(200, 1000),
        Turn::new("GET", "/body", 206),
        turn(201, 4096),
        Turn::new("GET", "/body", 206),
        turn(202, 777),
        Turn::new("GET", "/body", 206),
    ])
}

fn response_head_beyond_1_kib(_: &Scale) -> Plan {
    let cookies = "Set-Cookie: crumb=0123456789abcdef\r\n".repeat(250);
    let headers = format!("{cookies}{}", length(RESPONSE_IN_BODY));
    let turn = |status| answer(status, &headers, vec![part(RESPONSE_IN_BODY)]);
    Plan::of_turns([
        turn(200),
        Turn::new("GET", "/body", 206),
        turn(201),
        turn(202),
    ])
}

fn unknown_method(_: &Scale) -> Plan {
    let turn = |method: &str, status| {
        let mut turn = Turn::new(method, "/pot", status);
        "_OTHER".clone_into(&mut turn.method);
        turn
    };
    let mut lower = Turn::new("get", "/pot", 203);
    "_OTHER".clone_into(&mut lower.method);
    Plan::of_turns([
        turn("BREW", 200),
        turn("PROPFIND", 201),
        turn("BREW", 202),
        lower,
    ])
}

fn query_string(_: &Scale) -> Plan {
    Plan::of_turns((0..5).map(|index| Turn::new("GET", &format!("/find?q=needle-{index}"), 200)))
}

fn absolute_form(_: &Scale) -> Plan {
    let request = "GET http://elsewhere.test/thing HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n";
    Plan::of_turns(
        (0..3).map(|_| Turn::new("GET", "/thing", 200).with_request(vec![part(request)])),
    )
}
