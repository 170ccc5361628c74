//! Exchanges made up for tests: what a client and a server say, and what is true of it by construction.
//!
//! Nothing here parses: where messages begin and end is known because they were put together here.
#![allow(dead_code, reason = "every test program uses a part")]

use proptest::prelude::*;

/// One exchange with its truth.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) method: &'static str,
    /// Stands in its path.
    pub(crate) id: usize,
    pub(crate) request: Vec<u8>,
    /// Bytes of empty lines before the request.
    pub(crate) leading: usize,
    /// Where the request line ends in `request`.
    pub(crate) line: usize,
    /// Where the head ends in `request`.
    pub(crate) head: usize,
    /// Bytes of the body that the head announces.
    pub(crate) announced: usize,
    /// Interim responses and the final one.
    pub(crate) response: Vec<u8>,
    /// Where the final response begins in `response`.
    pub(crate) last: usize,
    /// Where its head ends in `response`.
    pub(crate) answer: usize,
    pub(crate) status: u16,
    pub(crate) ends: Ends,
}

/// How a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// By its own framing.
    Framed,
    /// With the connection.
    WithConnection,
    /// By a change of protocol.
    WithHttp,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (request, response) = (self.request.escape_ascii(), self.response.escape_ascii());
        write!(formatter, "\n  {request} -> {response} ({:?})", self.ends)
    }
}

impl Exchange {
    /// What its head begins with.
    pub(crate) fn line_start(&self) -> String {
        format!("{} /x/{} ", self.method, self.id)
    }

    /// Bytes that its record must show for the request.
    pub(crate) fn request_bytes(&self) -> u64 {
        (self.head - self.leading + self.announced) as u64
    }
}

/// A body and how it is framed.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    None,
    Empty,
    Length(usize),
    Chunked(Vec<usize>),
}

/// What is drawn at random.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    method: &'static str,
    leading: usize,
    padding: usize,
    upper: bool,
    request: Body,
    interim: Vec<u16>,
    bodiless: Option<u16>,
    response: Body,
    trailers: bool,
    ends: Ends,
    /// Bodies look like heads.
    deceitful: bool,
}

const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "DELETE", "QUERY", "BREW"];

pub(crate) fn body() -> impl Strategy<Value = Body> {
    let sizes = prop_oneof![4 => 1usize..40, 1 => 900usize..2500];
    prop_oneof![
        3 => Just(Body::None),
        1 => Just(Body::Empty),
        3 => sizes.clone().prop_map(Body::Length),
        3 => prop::collection::vec(sizes, 0..3).prop_map(Body::Chunked),
    ]
}

/// Any exchange; what ends the connection's HTTP only where it is the last, see [`speak`].
pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    let request = (
        prop::sample::select(&METHODS[..]),
        prop_oneof![4 => Just(0usize), 1 => 1usize..=2],
        prop_oneof![5 => 0usize..60, 1 => 900usize..1100, 1 => 1900usize..2500],
        any::<bool>(),
        body(),
    );
    let response = (
        prop_oneof![
            4 => Just(Vec::new()),
            1 => prop::collection::vec(prop::sample::select(&[100u16, 102, 103][..]), 1..3),
        ],
        prop_oneof![5 => Just(None), 1 => Just(Some(204u16)), 1 => Just(Some(304u16))],
        body(),
        any::<bool>(),
        prop_oneof![
            4 => Just(Ends::Framed),
            1 => Just(Ends::WithConnection),
            1 => Just(Ends::WithHttp)
        ],
    );
    (request, response).prop_map(
        |(
            (method, leading, padding, upper, request),
            (interim, bodiless, response, trailers, ends),
        )| Shape {
            method,
            leading,
            padding,
            upper,
            request,
            interim,
            bodiless,
            response,
            trailers,
            ends,
            deceitful: true,
        },
    )
}

/// The exchanges of one connection, numbered from `first`.
pub(crate) fn speak(shapes: &[Shape], first: usize) -> Vec<Exchange> {
    let numbered = shapes.iter().enumerate();
    numbered
        .map(|(index, shape)| {
            let mut shape = shape.clone();
            if index == 0 {
                // Empty lines come behind bodies; a socket whose first bytes are one is not taken for HTTP.
                shape.leading = 0;
            }
            shape.speak(first + index, index + 1 == shapes.len())
        })
        .collect()
}

impl Shape {
    /// The usual: a short request, a short answer of known length.
    pub(crate) fn plain(method: &'static str, ends: Ends) -> Self {
        Self {
            method,
            leading: 0,
            padding: 0,
            upper: false,
            request: Body::None,
            interim: Vec::new(),
            bodiless: None,
            response: Body::Length(20),
            trailers: false,
            ends,
            deceitful: true,
        }
    }

    /// Bodies that nobody takes for heads: who has lost the thread has nothing else to go by.
    pub(crate) fn honest(&mut self) {
        self.deceitful = false;
    }

    pub(crate) fn without_head_method(&mut self) {
        if self.method == "HEAD" {
            self.method = "GET";
        }
    }

    fn speak(&self, id: usize, last: bool) -> Exchange {
        let ends = if last { self.ends } else { Ends::Framed };
        let mut request = b"\r\n".repeat(self.leading);
        let method = self.method;
        request.extend(format!("{method} /x/{id} HTTP/1.1\r\n").bytes());
        let line = request.len();
        let padding = "p".repeat(self.padding);
        request.extend(format!("Host: h\r\nX-Padding: {padding}\r\n").bytes());
        request.extend(self.framing(&self.request).bytes());
        request.extend(b"\r\n");
        let head = request.len();
        // What looks like a request in a body is none.
        let text = self.filling(b"GET /in/a/body HTTP/1.1\r\n\r\n");
        let announced = put(&mut request, &self.request, text, self.trailers);
        let bodiless = self.bodiless.is_some() || method == "HEAD";
        let ends = if ends == Ends::WithConnection && bodiless {
            Ends::Framed
        } else {
            ends
        };
        let (response, last, status) = self.answer(id, ends);
        let end = response[last..]
            .windows(4)
            .position(|four| four == b"\r\n\r\n");
        let answer = last + end.map_or(0, |at| at + 4);
        Exchange {
            method,
            id,
            request,
            leading: 2 * self.leading,
            line,
            head,
            announced,
            response,
            last,
            answer,
            status,
            ends,
        }
    }

    fn answer(&self, id: usize, ends: Ends) -> (Vec<u8>, usize, u16) {
        let mut response = Vec::new();
        for status in &self.interim {
            response.extend(format!("HTTP/1.1 {status} Interim\r\nLink: <x>\r\n\r\n").bytes());
        }
        let last = response.len();
        if ends == Ends::WithHttp {
            response.extend(b"HTTP/1.1 101 Other\r\nUpgrade: else\r\n\r\n");
            return (response, last, 101);
        }
        // Far from the statuses that end a response by themselves.
        let status = self.bodiless.unwrap_or(310 + id as u16 % 280);
        response.extend(format!("HTTP/1.1 {status} Word\r\nDate: now\r\n").bytes());
        let fake = self.filling(b"HTTP/1.1 555 In a body\r\n\r\n");
        let bodiless = self.bodiless.is_some() || self.method == "HEAD";
        if ends == Ends::WithConnection {
            response.extend(b"\r\n");
            response.extend(fake.repeat(3));
            return (response, last, status);
        }
        let body = match &self.response {
            Body::None if !bodiless => &Body::Empty,
            other => other,
        };
        response.extend(self.framing(body).bytes());
        response.extend(b"\r\n");
        if !bodiless {
            put(&mut response, body, fake, self.trailers);
        }
        (response, last, status)
    }

    fn filling<'a>(&self, deceit: &'a [u8]) -> &'a [u8] {
        if self.deceitful {
            deceit
        } else {
            b"[{\"a\": 1}], "
        }
    }

    fn framing(&self, body: &Body) -> String {
        let line = match body {
            Body::None => return String::new(),
            Body::Empty => "Content-Length: 0\r\n".to_owned(),
            Body::Length(length) => format!("Content-Length: {length}\r\n"),
            Body::Chunked(_) => "Transfer-Encoding: gzip, chunked\r\n".to_owned(),
        };
        if self.upper {
            line.to_ascii_uppercase()
        } else {
            line
        }
    }
}

/// Appends the body; how long its head says that it is.
fn put(into: &mut Vec<u8>, body: &Body, like: &[u8], trailers: bool) -> usize {
    let filled = |length: usize| like.iter().copied().cycle().take(length);
    match body {
        Body::None | Body::Empty => 0,
        Body::Length(length) => {
            into.extend(filled(*length));
            *length
        }
        Body::Chunked(chunks) => {
            for chunk in chunks {
                into.extend(format!("{chunk:x};a=b\r\n").bytes());
                into.extend(filled(*chunk));
                into.extend(b"\r\n");
            }
            into.extend(b"0\r\n");
            if trailers {
                into.extend(b"T: ");
                into.extend(filled(17));
                into.extend(b"\r\n");
            }
            into.extend(b"\r\n");
            0
        }
    }
}

/// Cuts `bytes` where the wishes say: each is the length of the next piece.
pub(crate) fn cut(total: usize, wishes: &[usize]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    for wish in wishes {
        at += wish;
        if at >= total {
            break;
        }
        ends.push(at);
    }
    ends.push(total);
    ends
}

/// Lengths of pieces: mostly short ones, where the interesting cuts are.
pub(crate) fn pieces(most: usize) -> impl Strategy<Value = Vec<usize>> {
    let piece = prop_oneof![3 => 1usize..30, 2 => 30usize..200, 1 => 200usize..3000];
    prop::collection::vec(piece, 0..most)
}
