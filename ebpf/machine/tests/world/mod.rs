//! The machine's surroundings in user space: memory instead of maps.

use std::collections::HashMap;

use kerntally_abi::{Counter, EndReason, role};
use kerntally_machine::{
    Close, Connection, Ended, Event, Host, NO_SLOT, Phase, REQUEST, RESPONSE, Request, Window,
    Work, finish_all, on_data, request_flag,
};

/// A finished exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) head: String,
    pub(crate) status: u16,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) sequence: u32,
    pub(crate) complete: bool,
    pub(crate) reason: u8,
    pub(crate) response_bytes: u64,
}

/// The maps and helpers.
#[derive(Default)]
pub(crate) struct Memory {
    pieces: Vec<Vec<u8>>,
    skip: usize,
    slots: HashMap<u16, (Vec<u8>, [u8; 64])>,
    next_slot: u16,
    stored: HashMap<u32, Request>,
    pub(crate) finished: Vec<Finished>,
    pub(crate) counters: HashMap<&'static str, u64>,
}

fn bytes(window: &Window, from: u32, count: u32) -> Vec<u8> {
    (from..from + count)
        .map(|at| (window.words[at as usize / 8] >> (at % 8 * 8)) as u8)
        .collect()
}

fn write(window: &mut Window, at: u32, data: &[u8]) {
    for (index, byte) in data.iter().enumerate() {
        let at = at as usize + index;
        let shift = at % 8 * 8;
        let word = &mut window.words[at / 8];
        *word = *word & !(0xff << shift) | u64::from(*byte) << shift;
    }
}

impl Host for Memory {
    fn barrier(&self) {}

    fn masked(&self, value: u32, mask: u32) -> u32 {
        value & mask
    }

    fn read(&mut self, window: &mut Window, at: u32, limit: u32) -> Option<u32> {
        assert!(at <= 64 && limit <= 960);
        while self.pieces.first().is_some_and(Vec::is_empty) {
            self.pieces.remove(0);
        }
        let piece = self.pieces.first_mut()?;
        let passed = self.skip.min(piece.len());
        self.skip -= passed;
        piece.drain(..passed);
        let count = piece.len().min(limit as usize);
        let data: Vec<u8> = piece.drain(..count).collect();
        write(window, at, &data);
        Some(count as u32)
    }

    fn skip(&mut self, count: u32) {
        self.skip += count as usize;
    }

    fn compact(&mut self, window: &mut Window, from: u32, count: u32) {
        assert!(count <= 64);
        let data = bytes(window, from, count);
        write(window, 0, &data);
    }

    fn take_slot(&mut self) -> u16 {
        self.next_slot += 1;
        self.slots.insert(self.next_slot, (Vec::new(), [0; 64]));
        self.next_slot
    }

    fn return_slot(&mut self, slot: u16) {
        assert!(
            self.slots.remove(&slot).is_some(),
            "slot {slot} given back twice"
        );
    }

    fn save_carry(&mut self, slot: u16, window: &mut Window, from: u32, count: u32) {
        let data = bytes(window, from, count);
        self.slots.get_mut(&slot).unwrap().1[..data.len()].copy_from_slice(&data);
    }

    fn load_carry(&mut self, slot: u16, window: &mut Window, count: u32) {
        let carry = self.slots[&slot].1;
        write(window, 0, &carry[..count as usize]);
    }

    fn keep(&mut self, slot: u16, at: u32, window: &mut Window, from: u32, count: u32) {
        let data = bytes(window, from, count);
        let head = &mut self.slots.get_mut(&slot).unwrap().0;
        assert!(
            head.len() == at as usize || at >= 1024,
            "{} kept, {at} claimed",
            head.len()
        );
        head.extend_from_slice(&data);
        head.truncate(1024);
    }

    fn store(&mut self, request: &Request) -> bool {
        self.stored.insert(request.sequence, *request);
        true
    }

    fn load(&mut self, sequence: u32, into: &mut Request) -> bool {
        self.stored
            .get(&sequence)
            .map(|request| *into = *request)
            .is_some()
    }

    fn remove(&mut self, sequence: u32) {
        self.stored.remove(&sequence);
    }

    fn claim(&mut self, connection: &mut Connection, sequence: u32) -> bool {
        assert_eq!(connection.answered, sequence);
        connection.answered += 1;
        true
    }

    fn emit(&mut self, _connection: &Connection, request: &Request, ended: &Ended) {
        assert!(request.flags & request_flag::LIVE != 0);
        let head = if request.slot == NO_SLOT {
            String::new()
        } else {
            String::from_utf8_lossy(&self.slots[&request.slot].0).into_owned()
        };
        self.finished.push(Finished {
            head,
            status: ended.status,
            start_ns: request.start_ns,
            end_ns: ended.end_ns,
            sequence: request.sequence,
            complete: ended.complete != 0,
            reason: ended.reason,
            response_bytes: ended.response_bytes,
        });
    }

    fn count(&mut self, counter: Counter, by: u64) {
        *self.counters.entry(counter.name()).or_default() += by;
    }

    // As many steps as the kernel's loop helper allows.
    fn drive(&mut self, connection: &mut Connection, side: usize, work: &mut Work) -> bool {
        (0..kerntally_machine::MAX_STEPS_LOOPED)
            .any(|_| !kerntally_machine::step(connection, side, work, self))
    }
}

/// One socket under observation, with a clock that the test moves.
pub(crate) struct World {
    pub(crate) connection: Connection,
    pub(crate) memory: Memory,
    work: Box<Work>,
    pub(crate) now_ns: u64,
    positions: [u32; 2],
}

impl World {
    pub(crate) fn new(side: u8) -> Self {
        let mut connection = Connection::EMPTY;
        connection.role = side;
        Self {
            connection,
            memory: Memory::default(),
            work: Box::new(Work::new()),
            now_ns: 1000,
            positions: [0; 2],
        }
    }

    pub(crate) fn server() -> Self {
        Self::new(role::SERVER)
    }

    pub(crate) fn client() -> Self {
        let mut world = Self::new(role::CLIENT);
        world.connection.positioned = 1;
        world
    }

    /// Bytes of the request direction in one call.
    pub(crate) fn request(&mut self, data: &[u8]) {
        self.pieces(REQUEST, &[data]);
    }

    /// Bytes of the response direction in one call.
    pub(crate) fn response(&mut self, data: &[u8]) {
        self.pieces(RESPONSE, &[data]);
    }

    /// One scatter-gather call.
    pub(crate) fn pieces(&mut self, side: usize, pieces: &[&[u8]]) {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.positions[side] = self.positions[side].wrapping_add(len as u32);
        self.call(side, pieces, self.positions[side], self.positions[1 - side]);
    }

    /// A call seen out of order: the positions are given.
    pub(crate) fn call(&mut self, side: usize, pieces: &[&[u8]], position: u32, opposite: u32) {
        self.now_ns += 1000;
        self.memory.pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
        self.memory.skip = 0;
        let event = Event {
            now_ns: self.now_ns,
            len: pieces.iter().map(|piece| piece.len()).sum::<usize>() as u32,
            tgid: 1,
            position,
            opposite,
            readable: true,
            settled: true,
        };
        on_data(
            &mut self.connection,
            side,
            &mut self.work,
            &event,
            &mut self.memory,
        );
    }

    pub(crate) fn not_http(&self) -> bool {
        self.work.not_http != 0
    }

    pub(crate) fn done(&self) -> bool {
        self.connection.directions[RESPONSE].phase == Phase::Done as u8
    }

    pub(crate) fn close(&mut self, reason: EndReason) {
        self.now_ns += 1000;
        let close = Close {
            reason,
            now_ns: self.now_ns,
        };
        finish_all(
            &mut self.connection,
            &mut self.work,
            close,
            &mut self.memory,
        );
    }

    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.memory
            .finished
            .iter()
            .map(|finished| finished.status)
            .collect()
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.memory
            .counters
            .get(counter.name())
            .copied()
            .unwrap_or(0)
    }

    /// Slots still taken: none once nothing waits.
    pub(crate) fn slots(&self) -> usize {
        self.memory.slots.len()
    }
}
