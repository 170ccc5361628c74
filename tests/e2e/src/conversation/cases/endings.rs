//! Exchanges that end otherwise than with a whole response.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::super::peer::Peer;
use super::super::plan::{Turn, joined};
use super::super::stream::{RecvBy, SendBy, Stream, Transport};
use super::Case;
use crate::truth::{Key, Role};

const ROUNDS: usize = 3;
const GONE: &str = "client_disconnected";
const SILENT: &str = "no_response";
/// Between an event on one side and the next on the other, so that their order is beyond doubt.
const APART: Duration = Duration::from_millis(30);

pub(super) fn cases() -> Vec<Case> {
    all().into_iter().map(Case::ended_by_close).collect()
}

fn all() -> Vec<Case> {
    vec![
        Case::peers("client-gone-before-response", left_server, left_client).asymmetric(),
        Case::peers("client-resets", left_server, reset_client)
            .on(Transport::TCP)
            .asymmetric(),
        Case::peers("client-gone-but-answered", answering_server, left_client).asymmetric(),
        Case::peers(
            "half-close-by-client",
            answering_server,
            half_closing_client,
        ),
        Case::peers(
            "server-closes-without-responding",
            silent_server,
            unanswered_client,
        )
        .asymmetric(),
        Case::peers("server-resets", resetting_server, reset_by_server_client)
            .on(Transport::TCP)
            .asymmetric(),
        Case::peers(
            "server-closes-in-mid-pipeline",
            partial_server,
            partial_client,
        )
        .asymmetric(),
        Case::peers("response-cut-short-by-server", cutting_server, cut_client).asymmetric(),
        Case::peers(
            "response-cut-short-by-client",
            overfull_server,
            leaving_client,
        )
        .asymmetric(),
        Case::peers("server-dies-in-mid-exchange", dying_server, widowed_client)
            .dies(&["server"])
            .slow()
            .asymmetric(),
        Case::peers(
            "server-dies-and-its-socket-is-succeeded",
            dying_server,
            succeeding_client,
        )
        .on(Transport::UNIX)
        .dies(&["server"])
        .slow()
        .asymmetric(),
        Case::peers(
            "client-dies-in-mid-exchange",
            left_once_server,
            dying_client,
        )
        .dies(&["client"])
        .slow()
        .asymmetric(),
        Case::peers(
            "server-dies-in-mid-response",
            half_dying_server,
            cut_once_client,
        )
        .dies(&["server"])
        .slow()
        .asymmetric(),
    ]
}

fn turn() -> Turn {
    Turn::new("GET", "/end", 200)
}

fn unanswered(role: Role, error: Option<&str>) -> Key {
    Key::unanswered(role, "GET", "/**", error)
}

fn take_request(stream: &Stream) -> Result<Instant> {
    Ok(stream
        .expect(&joined(&turn().request), &RecvBy::Recv)?
        .first())
}

fn put_request(stream: &Stream) -> Result<Instant> {
    Ok(stream
        .send(&joined(&turn().request), &SendBy::Send)?
        .first())
}

/// Waits for the client to go, and goes too.
fn left_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    for _ in 0..ROUNDS {
        let stream = listener.accept()?;
        let begin = take_request(&stream)?;
        peer.tell()?;
        stream.wait_closed();
        peer.count_since(unanswered(Role::Server, Some(GONE)), begin, Instant::now());
        std::thread::sleep(APART);
    }
    Ok(())
}

fn left_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..ROUNDS {
        let stream = peer.connect()?;
        let begin = put_request(&stream)?;
        peer.hear()?;
        std::thread::sleep(APART);
        drop(stream);
        peer.count_since(unanswered(Role::Client, None), begin, Instant::now());
    }
    Ok(())
}

fn reset_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..ROUNDS {
        let stream = peer.connect()?;
        let begin = put_request(&stream)?;
        peer.hear()?;
        std::thread::sleep(APART);
        stream.reset()?;
        peer.count_since(unanswered(Role::Client, None), begin, Instant::now());
    }
    Ok(())
}

/// A FIN ends nothing: the response is sent all the same.
fn answering_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    for _ in 0..ROUNDS {
        let stream = listener.accept()?;
        let begin = take_request(&stream)?;
        peer.tell()?;
        stream.wait_closed();
        let closed = Instant::now();
        std::thread::sleep(APART);
        // On a Unix socket whose peer is gone this fails with EPIPE: nothing was handed over then.
        match stream.send(&joined(&turn().response), &SendBy::Send) {
            Ok(span) => peer.count_since(turn().key(Role::Server), begin, span.last()),
            Err(_) => {
                peer.count_since(unanswered(Role::Server, Some(GONE)), begin, closed);
            }
        }
    }
    Ok(())
}

fn half_closing_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..ROUNDS {
        let stream = peer.connect()?;
        let begin = put_request(&stream)?;
        peer.hear()?;
        stream.shutdown_write()?;
        let end = stream
            .expect(&joined(&turn().response), &RecvBy::Recv)?
            .last();
        peer.count_since(turn().key(Role::Client), begin, end);
    }
    Ok(())
}

fn silent_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    for _ in 0..ROUNDS {
        let stream = listener.accept()?;
        let begin = take_request(&stream)?;
        std::thread::sleep(APART);
        drop(stream);
        peer.count_since(
            unanswered(Role::Server, Some(SILENT)),
            begin,
            Instant::now(),
        );
    }
    Ok(())
}

fn unanswered_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..ROUNDS {
        let stream = peer.connect()?;
        let begin = put_request(&stream)?;
        stream.drain()?;
        peer.count_since(
            unanswered(Role::Client, Some(SILENT)),
            begin,
            Instant::now(),
        );
        std::thread::sleep(APART);
    }
    Ok(())
}

fn resetting_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    for _ in 0..ROUNDS {
        let stream = listener.accept()?;
        let begin = take_request(&stream)?;
        std::thread::sleep(APART);
        stream.reset()?;
        peer.count_since(
            unanswered(Role::Server, Some(SILENT)),
            begin,
            Instant::now(),
        );
    }
    Ok(())
}

fn reset_by_server_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..ROUNDS {
        let stream = peer.connect()?;
        let begin = put_request(&stream)?;
        stream.wait_closed();
        peer.count_since(
            unanswered(Role::Client, Some("connection_reset")),
            begin,
            Instant::now(),
        );
        std::thread::sleep(APART);
    }
    Ok(())
}

/// Three requests under way, one response.
fn partial_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    for _ in 0..ROUNDS {
        let stream = listener.accept()?;
        let begin = stream
            .expect(&joined(&turn().request).repeat(3), &RecvBy::Recv)?
            .first();
        let end = stream
            .send(&joined(&turn().response), &SendBy::Send)?
            .last();
        peer.count_since(turn().key(Role::Server), begin, end);
        std::thread::sleep(APART);
        drop(stream);
        // The answered one made a template, which those without an answer may use.
        let rest = Key::unanswered(Role::Server, "GET", "/end", Some(SILENT));
        peer.count_since(rest.clone(), end, Instant::now());
        // The last one's turn came when the one before it ended, which it did not before the close.
        peer.count_up_to(rest, end.elapsed());
    }
    Ok(())
}

fn partial_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..ROUNDS {
        let stream = peer.connect()?;
        let begin = stream
            .send(&joined(&turn().request).repeat(3), &SendBy::Send)?
            .first();
        let end = stream
            .expect(&joined(&turn().response), &RecvBy::Recv)?
            .last();
        peer.count_since(turn().key(Role::Client), begin, end);
        stream.drain()?;
        for _ in 0..2 {
            peer.count_since(
                unanswered(Role::Client, Some(SILENT)),
                begin,
                Instant::now(),
            );
        }
        std::thread::sleep(APART);
    }
    Ok(())
}

const SHORT: &[u8] = b"HTTP/1.1 200 Word\r\nContent-Length: 100\r\n\r\nonly this";

fn truncated(role: Role) -> Key {
    Key::answered(role, "GET", "/end", 200).truncated()
}

fn cutting_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    for _ in 0..ROUNDS {
        let stream = listener.accept()?;
        let begin = take_request(&stream)?;
        let end = stream.send(SHORT, &SendBy::Send)?.last();
        peer.count_since(truncated(Role::Server), begin, end);
        std::thread::sleep(APART);
    }
    Ok(())
}

fn cut_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..ROUNDS {
        cut_round(peer)?;
    }
    Ok(())
}

fn cut_once_client(peer: &mut Peer) -> Result<()> {
    cut_round(peer)
}

fn cut_round(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let begin = put_request(&stream)?;
    let end = stream.expect(SHORT, &RecvBy::Recv)?.last();
    stream.drain()?;
    peer.count_since(truncated(Role::Client), begin, end);
    std::thread::sleep(APART);
    Ok(())
}

/// More than the sockets hold, to a client that leaves.
fn overfull_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    for _ in 0..ROUNDS {
        let stream = listener.accept()?;
        let begin = take_request(&stream)?;
        let size = 24_000_000;
        stream.send(overfull_head(size).as_bytes(), &SendBy::Send)?;
        let body = vec![b'z'; 100_000];
        // Which of the last sends still took a byte is not to be known here: any time up to now is right.
        while stream.send(&body, &SendBy::Send).is_ok() {}
        peer.count_up_to(truncated(Role::Server), begin.elapsed());
    }
    Ok(())
}

fn overfull_head(size: usize) -> String {
    format!("HTTP/1.1 200 Word\r\nContent-Length: {size}\r\n\r\n")
}

fn leaving_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..ROUNDS {
        let stream = peer.connect()?;
        let begin = put_request(&stream)?;
        let (_, span) = stream.receive(1000, &RecvBy::Recv)?;
        std::thread::sleep(APART);
        drop(stream);
        peer.count_since(truncated(Role::Client), begin, span.last());
    }
    Ok(())
}

/// Long enough for the agent to read who this process is.
fn outlive_naming(peer: &Peer) {
    std::thread::sleep(peer.scale.linger);
}

fn dying_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    let begin = take_request(&stream)?;
    outlive_naming(peer);
    peer.count_since(
        unanswered(Role::Server, Some("process_exit")),
        begin,
        Instant::now(),
    );
    peer.die()
}

fn widowed_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let begin = put_request(&stream)?;
    stream.drain()?;
    peer.count_since(
        unanswered(Role::Client, Some(SILENT)),
        begin,
        Instant::now(),
    );
    Ok(())
}

/// Sockets that are opened at once, of which some get the addresses of those that are just gone.
const SUCCESSORS: usize = 64;

/// The dead server's socket goes with the client's; others are met at its address before the sweep has looked there.
fn succeeding_client(peer: &mut Peer) -> Result<()> {
    widowed_client(peer)?;
    let mut successors = Vec::new();
    for _ in 0..SUCCESSORS {
        let (mut one, mut other) = UnixStream::pair()?;
        one.write_all(b"no request\n")?;
        other.read_exact(&mut [0; 11])?;
        successors.push((one, other));
    }
    Ok(())
}

fn left_once_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    let begin = take_request(&stream)?;
    peer.tell()?;
    stream.wait_closed();
    peer.count_since(unanswered(Role::Server, Some(GONE)), begin, Instant::now());
    std::thread::sleep(APART);
    Ok(())
}

fn dying_client(peer: &mut Peer) -> Result<()> {
    let stream = peer.connect()?;
    let begin = put_request(&stream)?;
    peer.hear()?;
    outlive_naming(peer);
    peer.count_since(
        unanswered(Role::Client, Some("process_exit")),
        begin,
        Instant::now(),
    );
    peer.die()
}

fn half_dying_server(peer: &mut Peer) -> Result<()> {
    let stream = peer.listen()?.accept()?;
    let begin = take_request(&stream)?;
    let end = stream.send(SHORT, &SendBy::Send)?.last();
    peer.count_since(truncated(Role::Server), begin, end);
    outlive_naming(peer);
    peer.die()
}
