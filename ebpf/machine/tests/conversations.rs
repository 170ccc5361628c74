//! Conversations whose truth is known, through the machine as it runs in the kernel.
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module as a whole"
)]

mod world;

use kerntally_abi::{Counter, EndReason, role};
use kerntally_machine::{REQUEST, RESPONSE};
use world::World;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const MISSING: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n";

#[test]
fn pairs_on_a_kept_alive_connection() {
    let mut world = World::server();
    for _ in 0..3 {
        world.request(GET);
        world.response(OK);
        world.request(GET);
        world.response(MISSING);
    }
    assert_eq!(world.statuses(), [200, 404, 200, 404, 200, 404]);
    assert_eq!(world.memory.finished[0].head.as_bytes(), GET);
    assert_eq!(world.memory.finished[0].response_bytes, OK.len() as u64);
    assert_eq!(world.slots(), 0);
}

#[test]
fn survives_every_cut_in_two() {
    let request = b"POST /abc HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nX: y\r\n\r\npayload";
    let response =
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for first in 1..request.len() {
        for second in 1..response.len() {
            let mut world = World::server();
            for _ in 0..2 {
                world.request(&request[..first]);
                world.request(&request[first..]);
                world.response(&response[..second]);
                world.response(&response[second..]);
            }
            assert_eq!(world.statuses(), [201, 201], "cut at {first} and {second}");
            assert!(request.starts_with(world.memory.finished[1].head.as_bytes()));
            assert_eq!(world.memory.finished[1].head.len(), request.len() - 7);
            assert_eq!(world.slots(), 0);
        }
    }
}

#[test]
fn survives_one_byte_at_a_time() {
    let mut world = World::server();
    for _ in 0..2 {
        for byte in b"POST /x HTTP/1.1\r\ntransfer-encoding:  gzip, Chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: r\r\n\r\n" {
            world.request(&[*byte]);
        }
        for byte in OK {
            world.response(&[*byte]);
        }
    }
    assert_eq!(world.statuses(), [200, 200]);
    assert_eq!(world.memory.finished[0].response_bytes, OK.len() as u64);
    assert_eq!(world.slots(), 0);
}

#[test]
fn separates_pipelines_in_one_call() {
    for depth in 1..=40usize {
        let mut world = World::server();
        world.request(&GET.repeat(depth));
        let mut answers = Vec::new();
        for index in 0..depth {
            answers.extend_from_slice(if index % 3 == 0 { OK } else { MISSING });
        }
        world.response(&answers);
        let expected: Vec<u16> = (0..depth)
            .map(|index| if index % 3 == 0 { 200 } else { 404 })
            .collect();
        assert_eq!(world.statuses(), expected, "depth {depth}");
        assert_eq!(world.slots(), 0);
    }
}

#[test]
fn names_every_request_of_a_pipeline_deeper_than_the_queue() {
    for depth in [60, 64, 66, 67, 90, 200] {
        for answered in 0..4 {
            let mut world = World::server();
            world.request(&GET.repeat(depth));
            for _ in 0..answered {
                world.response(OK);
            }
            // Where the first were answered, their places are free although the queue behind them is full.
            world.request(&GET.repeat(3));
            world.close(EndReason::PeerClose);
            let finished = world.memory.finished.len() as u64;
            let named = world.counter(Counter::UnseparatedServer);
            let seen = world.counter(Counter::SeenServer);
            assert_eq!(seen, depth as u64 + 3, "depth {depth}, {answered} answered");
            assert_eq!(finished + named, seen, "depth {depth}, {answered} answered");
            assert_eq!(world.slots(), 0, "depth {depth}, {answered} answered");
        }
    }
}

#[test]
fn separates_pipelined_posts_answered_one_by_one() {
    let post =
        b"POST /p HTTP/1.1\r\nContent-Length: 31\r\n\r\nGET /fake HTTP/1.1\r\nHost: f\r\n\r\n";
    assert_eq!(post.len(), 40 + 31);
    let mut world = World::server();
    world.request(&post.repeat(5));
    for _ in 0..5 {
        world.response(OK);
    }
    assert_eq!(world.statuses(), [200; 5]);
}

#[test]
fn takes_bodies_that_look_like_heads_for_bodies() {
    let mut world = World::server();
    let fake = b"GET /fake HTTP/1.1\r\n\r\n";
    world.request(format!("POST /p HTTP/1.1\r\nContent-Length: {}\r\n\r\n", fake.len()).as_bytes());
    world.request(fake);
    let fake_response = b"HTTP/1.1 500 Oops\r\n\r\n";
    world.response(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            fake_response.len()
        )
        .as_bytes(),
    );
    world.response(fake_response);
    world.request(b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    world.request(b"5\r\n0\r\n\r\n\r\n16\r\n");
    world.request(fake);
    world.request(b"\r\n0\r\n\r\n");
    world.response(OK);
    assert_eq!(world.statuses(), [200, 200]);
}

#[test]
fn skips_interim_responses() {
    let mut world = World::server();
    world.request(GET);
    world.response(b"HTTP/1.1 100 Continue\r\n\r\n");
    world.response(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
    world.request(GET);
    world.response(OK);
    assert_eq!(world.statuses(), [204, 200]);
}

#[test]
fn a_close_within_the_next_request_leaves_the_response_before_it_whole() {
    for mut world in [World::server(), World::client()] {
        world.request(GET);
        world.response(b"HTTP/1.1 200 OK\r\n\r\nuntil the close");
        let end_ns = world.now_ns;
        world.request(&GET[..20]);
        world.close(EndReason::PeerClose);
        let ends: Vec<_> = world
            .memory
            .finished
            .iter()
            .map(|finished| (finished.status, finished.end_ns, finished.reason))
            .collect();
        assert_eq!(
            ends,
            [
                (200, end_ns, EndReason::NextRequest as u8),
                (0, world.now_ns, EndReason::PeerClose as u8)
            ]
        );
        assert_eq!(world.slots(), 0);
    }
}

#[test]
fn ends_http_with_an_upgrade_or_tunnel() {
    let mut world = World::server();
    world.request(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    world.response(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert_eq!(world.statuses(), [101]);
    assert!(world.done());
    let mut world = World::client();
    world.request(b"CONNECT h:443 HTTP/1.1\r\n\r\n");
    world.response(b"HTTP/1.1 200 OK\r\n\r\n");
    assert!(world.done());
    assert_eq!(world.statuses(), [200]);
}

#[test]
fn knows_responses_without_a_body() {
    let mut world = World::server();
    world.request(b"HEAD /a HTTP/1.1\r\n\r\n");
    world.response(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n");
    world.request(GET);
    world.response(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n");
    world.request(GET);
    world.response(OK);
    assert_eq!(world.statuses(), [200, 304, 200]);
}

#[test]
fn ends_a_body_without_length_at_the_close() {
    let mut world = World::server();
    world.request(b"GET / HTTP/1.0\r\n\r\n");
    world.response(b"HTTP/1.0 200 OK\r\n\r\nsome");
    world.response(b"HTTP/1.1 500 looks like a head\r\n\r\n");
    let end = world.now_ns;
    assert!(world.statuses().is_empty());
    world.close(EndReason::LocalClose);
    assert_eq!(world.statuses(), [200]);
    assert!(world.memory.finished[0].complete);
    assert_eq!(world.memory.finished[0].end_ns, end);
}

#[test]
fn reports_what_never_came() {
    let mut world = World::server();
    world.request(GET);
    world.close(EndReason::Reset);
    assert_eq!(world.memory.finished[0].status, 0);
    assert_eq!(world.memory.finished[0].reason, EndReason::Reset as u8);
    let mut world = World::server();
    world.request(GET);
    world.response(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\npart");
    world.connection.peer_closed_ns = world.now_ns;
    world.close(EndReason::LocalClose);
    assert_eq!(world.statuses(), [200]);
    assert!(!world.memory.finished[0].complete);
    assert_eq!(world.memory.finished[0].reason, EndReason::PeerClose as u8);
    assert_eq!(world.slots(), 0);
}

#[test]
fn answers_before_the_body_or_the_head_is_complete() {
    let mut world = World::server();
    world.request(b"POST /up HTTP/1.1\r\nContent-Length: 100\r\n\r\nfirst");
    world.response(MISSING);
    world.request(&[b'x'; 95]);
    world.request(GET);
    world.response(OK);
    assert_eq!(world.statuses(), [404, 200]);
    let mut world = World::server();
    world.request(b"GET /endless HTTP/1.1\r\nA: ");
    world.request(&[b'a'; 5000]);
    world.response(b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(world.statuses(), [431]);
    world.close(EndReason::LocalClose);
    assert_eq!(world.statuses(), [431]);
    assert_eq!(world.slots(), 0);
}

#[test]
fn follows_heads_longer_than_what_is_kept() {
    for cookie in [900, 1000, 1500, 4000, 20_000] {
        let head = format!(
            "POST /long HTTP/1.1\r\nCookie: {}\r\nContent-Length: 5\r\n\r\n",
            "c".repeat(cookie)
        );
        for size in [1usize, 7, 64, 1000, 100_000] {
            let mut world = World::server();
            for piece in head.as_bytes().chunks(size) {
                world.request(piece);
            }
            world.request(b"12345");
            world.response(OK);
            world.request(GET);
            world.response(MISSING);
            assert_eq!(
                world.statuses(),
                [200, 404],
                "cookie {cookie} in pieces of {size}"
            );
            assert!(
                world.memory.finished[0]
                    .head
                    .starts_with("POST /long HTTP/1.1\r\nCookie: c")
            );
            assert_eq!(world.slots(), 0);
        }
    }
}

#[test]
fn gives_up_what_is_not_http() {
    for garbage in [
        &b"SMTP HELO there\r\n"[..],
        b"GET key\r\n",
        b"\x00\x01\x02",
        b"PRI * HTTP/2.0\r\n\r\nSM",
    ] {
        let mut world = World::server();
        world.request(garbage);
        assert!(world.not_http(), "{garbage:?}");
        world.close(EndReason::LocalClose);
        assert!(world.memory.finished.is_empty());
        assert_eq!(world.slots(), 0);
    }
}

#[test]
fn waits_for_a_request_whose_hook_runs_late() {
    let mut world = World::client();
    let (request, response) = (GET.len() as u32, OK.len() as u32);
    // The response is received, with the request already written, before the send returns.
    world.call(RESPONSE, &[OK], response, request);
    world.call(REQUEST, &[GET], request, response);
    assert_eq!(world.statuses(), [200]);
    // And again, in the middle of a conversation.
    world.call(
        RESPONSE,
        &[MISSING],
        response + MISSING.len() as u32,
        request * 2,
    );
    world.call(REQUEST, &[GET], request * 2, response);
    assert_eq!(world.statuses(), [200, 404]);
}

#[test]
fn does_not_slip_when_joined_in_mid_stream() {
    let mut world = World::client();
    // A response to a request sent before the hooks were there, then an ordinary exchange.
    world.call(RESPONSE, &[OK], 500, 300);
    world.call(REQUEST, &[GET], 300 + GET.len() as u32, 500);
    world.call(
        RESPONSE,
        &[MISSING],
        500 + MISSING.len() as u32,
        300 + GET.len() as u32,
    );
    assert_eq!(world.statuses(), [404]);
    assert_eq!(world.counter(Counter::JoinedClient), 1);
}

#[test]
fn counts_bytes_that_went_past() {
    let mut world = World::server();
    world.connection.positioned = 1;
    let head = b"POST /splice HTTP/1.1\r\nContent-Length: 1000\r\n\r\n";
    world.request(head);
    let after = head.len() as u32 + 1000;
    world.response(OK);
    // The body was spliced out of the socket; the next thing seen is the next request.
    world.call(REQUEST, &[GET], after + GET.len() as u32, OK.len() as u32);
    world.response(MISSING);
    assert_eq!(world.statuses(), [200, 404]);
    assert_eq!(world.counter(Counter::UnseenBytes), 1000);
}

#[test]
fn reads_heads_scattered_over_pieces() {
    let mut world = World::server();
    world.pieces(
        REQUEST,
        &[b"GE", b"T /a HT", b"TP/1.1\r", b"\n", b"", b"\r\n"],
    );
    world.pieces(
        RESPONSE,
        &[
            b"HTTP/1.1 2",
            b"00 OK\r\nContent-Length: ",
            b"5\r\n",
            b"\r\n",
            b"he",
            b"llo",
        ],
    );
    world.request(GET);
    world.response(MISSING);
    assert_eq!(world.statuses(), [200, 404]);
}

#[test]
fn takes_the_end_of_the_stream_for_no_byte() {
    let mut world = World::client();
    world.request(GET);
    world.response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    world.connection.peer_closed_ns = world.now_ns;
    let after = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".len() as u32 + 5 + 1;
    world.call(RESPONSE, &[b"hello"], after, GET.len() as u32);
    assert_eq!(world.statuses(), [200]);
    assert_eq!(world.counter(Counter::Desynchronised), 0);
}

#[test]
fn counts_heads_without_end_once() {
    for (line, status) in [("GET /a HTTP/1.1\r\nA: ", 431), ("GET /", 414)] {
        for size in [1000usize, 60_000, 3_000_000] {
            let mut world = World::server();
            let head = format!("{line}{}", "a".repeat(2_000_000));
            for piece in head.as_bytes().chunks(size) {
                world.request(piece);
            }
            world.response(format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n").as_bytes());
            world.request(GET);
            world.response(OK);
            world.close(EndReason::LocalClose);
            assert_eq!(
                world.statuses(),
                [status, 200],
                "{line} in pieces of {size}"
            );
            assert_eq!(world.counter(Counter::StepBudget), 0);
            assert_eq!(world.slots(), 0);
        }
    }
}

#[test]
fn names_unknown_methods_with_endless_lines() {
    let mut world = World::server();
    world.request(format!("BREW /{} HTTP/1.1\r\n\r\n", "a".repeat(1_000_000)).as_bytes());
    world.response(b"HTTP/1.1 414 No\r\nContent-Length: 0\r\n\r\n");
    world.request(GET);
    world.response(OK);
    assert_eq!(world.statuses(), [200]);
    assert_eq!(world.counter(Counter::HeadTooLongServer), 1);
    assert_eq!(world.slots(), 0);
}

#[test]
fn counts_a_response_sent_after_the_peer_reset() {
    let mut world = World::server();
    world.request(GET);
    world.connection.peer_closed_ns = world.now_ns;
    world.connection.reset = 1;
    world.response(OK);
    world.close(EndReason::LocalClose);
    assert_eq!(world.statuses(), [200]);
    let mut world = World::client();
    world.request(GET);
    world.connection.peer_closed_ns = world.now_ns;
    world.connection.reset = 1;
    world.close(EndReason::LocalClose);
    assert_eq!(world.memory.finished[0].reason, EndReason::Reset as u8);
}

#[test]
fn ignores_what_follows_a_cut_until_the_next_request() {
    let mut world = World::server();
    world.request(GET);
    world.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    let end = world.now_ns;
    assert_eq!(world.connection.oldest_ns(), Some(2000));
    world.close(EndReason::Cut);
    assert_eq!(world.statuses(), [200]);
    assert_eq!(world.memory.finished[0].end_ns, end);
    assert!(!world.memory.finished[0].complete);
    world.response(b"1\r\ny\r\n0\r\n\r\n");
    world.request(GET);
    world.response(MISSING);
    assert_eq!(world.statuses(), [200, 404]);
    assert_eq!(world.slots(), 0);
}

#[test]
fn finds_the_request_of_a_response_that_began_early() {
    let (request, half) = (GET.len() as u32, OK.len() as u32 - 3);
    for cut in [2, 14, 25, OK.len() - 3] {
        let mut world = World::client();
        world.call(RESPONSE, &[&OK[..cut]], cut as u32, request);
        world.call(REQUEST, &[GET], request, cut as u32);
        world.call(RESPONSE, &[&OK[cut..]], half + 3, request);
        world.call(REQUEST, &[GET], 2 * request, half + 3);
        world.call(
            RESPONSE,
            &[MISSING],
            half + 3 + MISSING.len() as u32,
            2 * request,
        );
        assert_eq!(world.statuses(), [200, 404], "cut at {cut}");
        assert_eq!(world.memory.finished[0].head.as_bytes(), GET);
        assert_eq!(world.slots(), 0);
    }
}

#[test]
fn a_response_received_before_its_thread_sent_is_nobodys() {
    let mut world = World::new(role::CLIENT);
    world.threads = [7, 7];
    world.response(OK);
    for _ in 0..3 {
        world.request(GET);
        world.response(MISSING);
    }
    assert_eq!(world.statuses(), [404, 404, 404]);
    assert_eq!(world.counter(Counter::JoinedClient), 1);
    assert_eq!(world.slots(), 0);
}

#[test]
fn an_early_response_is_the_first_requests_only_if_the_connection_is_new() {
    for (joined, statuses) in [(0, &[200, 404][..]), (1, &[404])] {
        let mut world = World::new(role::CLIENT);
        world.connection.joined = joined;
        world.response(OK);
        world.request(GET);
        if joined == 0 {
            world.request(GET);
        }
        world.response(MISSING);
        assert_eq!(world.statuses(), statuses);
    }
}

#[test]
fn ends_http_also_when_the_request_of_the_upgrade_is_seen_late() {
    let switching = &b"HTTP/1.1 101 Switching Protocols\r\n\r\n"[..];
    let connected = &b"HTTP/1.1 200 OK\r\n\r\n"[..];
    for (request, response, status) in [
        (
            &b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"[..],
            switching,
            101,
        ),
        (b"CONNECT h:443 HTTP/1.1\r\n\r\n", connected, 200),
    ] {
        let mut world = World::client();
        let (sent, received) = (request.len() as u32, response.len() as u32);
        world.call(RESPONSE, &[response], received, sent);
        assert!(!world.done());
        world.call(REQUEST, &[request], sent, received);
        assert_eq!(world.statuses(), [status]);
        assert!(world.done());
        assert_eq!(world.slots(), 0);
    }
}

#[test]
fn takes_no_half_interim_response_for_the_answer() {
    let mut world = World::server();
    world.request(GET);
    world.response(b"HTTP/1.1 100 Continue\r\nX");
    world.close(EndReason::LocalClose);
    assert_eq!(world.statuses(), [0]);
    assert_eq!(world.slots(), 0);
}

#[test]
fn names_requests_that_cannot_be_read() {
    for (mut world, seen, lost) in [
        (
            World::server(),
            Counter::SeenServer,
            Counter::BufferUnreadableServer,
        ),
        (
            World::client(),
            Counter::SeenClient,
            Counter::BufferUnreadableClient,
        ),
    ] {
        world.request(GET);
        world.response(OK);
        // Whole, and from its second half on.
        world.unreadable(REQUEST, GET);
        world.response(OK);
        world.request(GET);
        world.response(OK);
        world.request(&GET[..20]);
        world.unreadable(REQUEST, &GET[20..]);
        world.response(OK);
        world.request(GET);
        world.response(MISSING);
        assert_eq!(world.statuses(), [200, 200, 404]);
        assert_eq!((world.counter(seen), world.counter(lost)), (5, 2));
        assert_eq!(world.slots(), 0);
    }
}

#[test]
fn names_requests_whose_response_cannot_be_read() {
    let mut world = World::server();
    world.request(&[GET, GET].concat());
    world.unreadable(RESPONSE, OK);
    world.response(OK);
    world.request(GET);
    world.response(MISSING);
    assert_eq!(world.statuses(), [404]);
    let counted = [
        Counter::SeenServer,
        Counter::BufferUnreadableServer,
        Counter::UnseparatedServer,
    ];
    assert_eq!(counted.map(|counter| world.counter(counter)), [3, 2, 0]);
    // A body that cannot be read is no loss.
    world.request(GET);
    world.response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    world.unreadable(RESPONSE, b"hello");
    assert_eq!(world.statuses(), [404, 200]);
    assert_eq!(world.slots(), 0);
}
