//! Requests that servers have not answered yet, counted by what they have in common.

use std::collections::HashMap;

use kerntally_abi::{Method, role};
use kerntally_machine::{Connection, Request, request_flag};

/// Requests of one kind that wait for the end of their response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequests {
    /// Thread group that received them.
    pub tgid: u32,
    /// Its start, in nanoseconds of `CLOCK_BOOTTIME`; 0 if it is not known.
    pub process_start_ns: u64,
    /// The server's port; 0 on Unix sockets.
    pub server_port: u16,
    /// Their method.
    pub method: Method,
    /// How many.
    pub count: u64,
}

/// What a walk over the connection table has found so far.
#[derive(Debug, Default)]
pub(crate) struct Counts(HashMap<(u32, u16, u8), u64>);

impl Counts {
    /// Adds what waits on one connection; `stored` finds a request beyond those in its entry.
    pub(crate) fn add(&mut self, connection: &Connection, stored: impl Fn(u32) -> Option<Request>) {
        if connection.role != role::SERVER {
            return;
        }
        for ahead in 0..connection.waiting() {
            let sequence = connection.answered.wrapping_add(ahead);
            let cell = connection.embedded[(sequence & 1) as usize];
            let embedded = cell.flags & request_flag::LIVE != 0 && cell.sequence == sequence;
            let request = if embedded {
                Some(cell)
            } else {
                stored(sequence)
            };
            // A hole in the queue, or one that has its outcome already.
            let Some(request) = request.filter(|it| it.flags & request_flag::SILENT == 0) else {
                continue;
            };
            let kind = (request.tgid, connection.server_port, request.method);
            *self.0.entry(kind).or_default() += 1;
        }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything found, with the start of each process.
    pub(crate) fn finish(self, start_of: impl Fn(u32) -> u64) -> Vec<OpenRequests> {
        let each = self.0.into_iter();
        each.map(|((tgid, server_port, method), count)| OpenRequests {
            tgid,
            process_start_ns: start_of(tgid),
            server_port,
            method: Method::from_byte(method),
            count,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(sequence: u32, method: Method) -> Request {
        Request {
            tgid: 7,
            sequence,
            method: method as u8,
            flags: request_flag::LIVE,
            ..Request::EMPTY
        }
    }

    #[test]
    fn requests_in_the_entry_and_behind_it_are_counted() {
        let mut connection = Connection::EMPTY;
        (
            connection.answered,
            connection.arrived,
            connection.server_port,
        ) = (4, 8, 80);
        connection.embedded = [waiting(4, Method::Get), waiting(5, Method::Post)];
        let mut counts = Counts::default();
        counts.add(&connection, |sequence| {
            (sequence == 6).then(|| waiting(6, Method::Get))
        });
        let mut client = connection;
        client.role = role::CLIENT;
        counts.add(&client, |_sequence| None);
        let mut found = counts.finish(u64::from);
        found.sort_by_key(|open| open.method as u8);
        let shown: Vec<_> = found.iter().map(|open| (open.method, open.count)).collect();
        assert_eq!(shown, [(Method::Get, 2), (Method::Post, 1)]);
        assert_eq!(
            (
                found[0].tgid,
                found[0].process_start_ns,
                found[0].server_port
            ),
            (7, 7, 80)
        );
    }

    #[test]
    fn what_is_silent_is_not_counted() {
        let mut connection = Connection::EMPTY;
        connection.arrived = 1;
        connection.embedded[0] = waiting(0, Method::Get);
        connection.embedded[0].flags |= request_flag::SILENT;
        let mut counts = Counts::default();
        counts.add(&connection, |_sequence| None);
        assert!(counts.finish(|_tgid| 0).is_empty());
    }
}
