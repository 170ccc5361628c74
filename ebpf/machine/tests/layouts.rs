//! Responses whose heads are laid out like the one before on their connection, or nearly so: whatever of that
//! layout is made use of, each must end where it really ends.
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module as a whole"
)]

mod world;

use kerntally_machine::RESPONSE;
use proptest::prelude::*;
use world::World;

/// What frames a response.
#[derive(Clone, Debug)]
enum Framing {
    Length(usize),
    Chunked(usize),
    /// A body in which another response stands, with the same fields.
    Echo(usize),
    NoContent,
    /// The request was HEAD: a length, and nothing of it.
    Head(usize),
}

/// How the server hands it over.
#[derive(Clone, Copy, Debug)]
enum Calls {
    Whole,
    /// Head and body as two pieces of one call.
    Gathered,
    /// The body in a call of its own.
    HeadFirst,
    /// Cut somewhere.
    Cut(usize),
}

#[derive(Clone, Debug)]
struct Spoken {
    framing: Framing,
    calls: Calls,
    /// Fields before the one that frames the body, and after it.
    before: usize,
    after: usize,
    lower_case: bool,
}

impl Spoken {
    fn request(&self) -> &'static [u8] {
        match self.framing {
            Framing::Head(_) => b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n",
            _ => b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        }
    }

    fn status(&self) -> u16 {
        match self.framing {
            Framing::NoContent => 204,
            _ => 200,
        }
    }

    fn head(&self, framing: &str) -> String {
        let framing = if self.lower_case {
            framing.to_ascii_lowercase()
        } else {
            framing.to_owned()
        };
        let before = "Server: s\r\n".repeat(self.before);
        let after = "Etag: abc\r\n".repeat(self.after);
        let status = self.status();
        format!("HTTP/1.1 {status} Fine\r\n{before}{framing}{after}\r\n")
    }

    fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let (framing, body) = match self.framing {
            Framing::Length(len) => (format!("Content-Length: {len}\r\n"), "b".repeat(len)),
            Framing::Chunked(len) => (
                "Transfer-Encoding: chunked\r\n".to_owned(),
                format!("{len:x}\r\n{}\r\n0\r\n\r\n", "b".repeat(len)),
            ),
            Framing::Echo(len) => {
                let inner = self.head(&format!("Content-Length: {len}\r\n")) + &"e".repeat(len);
                (format!("Content-Length: {}\r\n", inner.len()), inner)
            }
            Framing::NoContent => (String::new(), String::new()),
            Framing::Head(len) => (format!("Content-Length: {len}\r\n"), String::new()),
        };
        (self.head(&framing).into_bytes(), body.into_bytes())
    }

    fn say(&self, world: &mut World) -> usize {
        let (head, body) = self.parts();
        let whole = [&head[..], &body[..]].concat();
        world.request(self.request());
        match self.calls {
            Calls::Whole => world.response(&whole),
            Calls::Gathered => world.pieces(RESPONSE, &[&head, &body]),
            Calls::HeadFirst if !body.is_empty() => {
                world.response(&head);
                world.response(&body);
            }
            Calls::HeadFirst => world.response(&head),
            Calls::Cut(at) => {
                let at = 1 + at % (whole.len() - 1);
                world.response(&whole[..at]);
                world.response(&whole[at..]);
            }
        }
        whole.len()
    }
}

fn spoken() -> impl Strategy<Value = Spoken> {
    let len = prop_oneof![Just(0usize), 1..20usize, 95..105usize];
    let framing = prop_oneof![
        4 => len.clone().prop_map(Framing::Length),
        1 => (1..40usize).prop_map(Framing::Chunked),
        1 => len.clone().prop_map(Framing::Echo),
        1 => Just(Framing::NoContent),
        1 => len.prop_map(Framing::Head),
    ];
    let calls = prop_oneof![
        4 => Just(Calls::Whole),
        2 => Just(Calls::Gathered),
        2 => Just(Calls::HeadFirst),
        1 => (0..400usize).prop_map(Calls::Cut),
    ];
    (framing, calls, 0..3usize, 0..3usize, any::<bool>()).prop_map(
        |(framing, calls, before, after, lower_case)| Spoken {
            framing,
            calls,
            before,
            after,
            lower_case,
        },
    )
}

proptest! {
    #[test]
    fn each_response_ends_where_it_ends(conversation in proptest::collection::vec(spoken(), 1..24)) {
        let mut world = World::server();
        let expected: Vec<(u16, u64)> = conversation
            .iter()
            .map(|spoken| (spoken.status(), spoken.say(&mut world) as u64))
            .collect();
        let finished = world.memory.finished.iter();
        let found: Vec<_> = finished.map(|it| (it.status, it.response_bytes)).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(world.memory.finished.iter().all(|it| it.complete));
        prop_assert_eq!(world.slots(), 0);
    }
}

#[test]
fn a_layout_is_remembered_and_forgotten() {
    let mut world = World::server();
    let ask = b"GET / HTTP/1.1\r\n\r\n";
    world.request(ask);
    world.response(b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 9\r\nA: b\r\n\r\n123456789");
    let at = "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length:".len() as u16;
    assert_eq!(world.connection.length_at, at);
    assert_eq!(
        world.connection.length_rest,
        "\r\nA: b\r\n\r\n".len() as u16
    );
    world.request(ask);
    world.response(b"HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 10\r\nA: c\r\n\r\n1234567890");
    world.request(ask);
    world.response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(world.connection.length_at, 0);
    assert_eq!(world.statuses(), [200; 3]);
}

#[test]
fn the_layout_of_an_answer_is_not_that_of_two() {
    let long = b"HTTP/1.1 200 OK\r\nServer: a long one, it is, as long as another head is\r\nContent-Length: 2\r\n\r\nab";
    let short = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
    let ask = b"GET / HTTP/1.1\r\n\r\n";
    for cut in 1..long.len() {
        let mut world = World::server();
        world.request(ask);
        world.response(long);
        // Two in one call, so long that the second one's length may stand where the first answer's stood.
        world.request(&ask.repeat(2));
        let padded = [short, &long[..17], &long[17 + cut.min(50)..]].concat();
        world.response(&padded);
        assert_eq!(world.statuses(), [200, 404, 200], "without {cut} bytes");
    }
}
