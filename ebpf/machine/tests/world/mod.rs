//! The machine's surroundings in user space: memory instead of maps.
#![allow(dead_code, reason = "every test program uses a part")]

use std::collections::HashMap;

use kerntally_abi::{Counter, EndReason, limits::HEAD_BYTES, role};
use kerntally_machine::{
    Close, Connection, Ended, Event, Host, NO_SLOT, Phase, REQUEST, RESPONSE, Request, Window,
    Work, finish_all, on_data, request_flag,
};

/// A finished exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) socket: u64,
    pub(crate) head: String,
    pub(crate) status: u16,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) sequence: u32,
    pub(crate) complete: bool,
    pub(crate) reason: u8,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

/// What all sockets share: the head pool, the stored requests, the ring, the counters.
#[derive(Debug)]
pub(crate) struct Memory {
    slots: HashMap<u16, (Vec<u8>, [u8; 64])>,
    next_slot: u16,
    /// Slots that may be taken at one time.
    most_slots: usize,
    stored: HashMap<(u64, u32), Request>,
    pub(crate) finished: Vec<Finished>,
    counters: HashMap<&'static str, u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
            next_slot: 0,
            most_slots: usize::MAX,
            stored: HashMap::new(),
            finished: Vec::new(),
            counters: HashMap::new(),
        }
    }
}

impl Memory {
    pub(crate) fn with_slots(most_slots: usize) -> Self {
        Self {
            most_slots,
            ..Self::default()
        }
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter.name()).copied().unwrap_or(0)
    }

    /// Slots still taken: none once nothing waits.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// What the agent does when a probe is switched off: tables are emptied, the pool is filled again.
    pub(crate) fn forget_all(&mut self) {
        self.slots.clear();
        self.stored.clear();
    }

    /// Requests that wait in the map of their own.
    pub(crate) fn stored(&self) -> usize {
        self.stored.len()
    }

    fn take_slot(&mut self) -> u16 {
        if self.slots.len() >= self.most_slots {
            return NO_SLOT;
        }
        self.next_slot += 1;
        self.slots.insert(self.next_slot, (Vec::new(), [0; 64]));
        self.next_slot
    }

    fn return_slot(&mut self, slot: u16) {
        let taken = self.slots.remove(&slot).is_some();
        assert!(taken, "slot {slot} given back twice");
    }

    fn save_carry(&mut self, slot: u16, data: &[u8]) {
        self.slots.get_mut(&slot).unwrap().1[..data.len()].copy_from_slice(data);
    }

    fn keep(&mut self, slot: u16, at: u32, data: &[u8]) {
        let head = &mut self.slots.get_mut(&slot).unwrap().0;
        assert!(
            head.len() == at as usize || at as usize >= HEAD_BYTES,
            "{} kept, {at} claimed",
            head.len()
        );
        head.extend_from_slice(data);
        head.truncate(HEAD_BYTES);
    }

    fn emit(&mut self, socket: u64, request: &Request, ended: &Ended) {
        assert!(request.flags & request_flag::LIVE != 0);
        let head = if request.slot == NO_SLOT {
            String::new()
        } else {
            String::from_utf8_lossy(&self.slots[&request.slot].0).into_owned()
        };
        self.finished.push(Finished {
            socket,
            head,
            status: ended.status,
            start_ns: request.start_ns,
            end_ns: ended.end_ns,
            sequence: request.sequence,
            complete: ended.complete != 0,
            reason: ended.reason,
            request_bytes: request.bytes,
            response_bytes: ended.response_bytes,
        });
    }
}

/// The caller's buffer of one call.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pieces: Vec<Vec<u8>>,
    skip: usize,
}

impl Buffer {
    pub(crate) fn of(pieces: &[&[u8]]) -> Self {
        Self {
            pieces: pieces.iter().map(|piece| piece.to_vec()).collect(),
            skip: 0,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.pieces.iter().map(Vec::len).sum::<usize>() as u32
    }

    fn read(&mut self, limit: usize) -> Option<Vec<u8>> {
        while self.pieces.first().is_some_and(Vec::is_empty) {
            self.pieces.remove(0);
        }
        let piece = self.pieces.first_mut()?;
        let passed = self.skip.min(piece.len());
        self.skip -= passed;
        piece.drain(..passed);
        let count = piece.len().min(limit);
        Some(piece.drain(..count).collect())
    }
}

/// How one hook run gets at the memory that it shares.
pub(crate) trait Access {
    /// Others may run here.
    fn pause(&self);
    fn memory<R>(&mut self, act: impl FnOnce(&mut Memory) -> R) -> R;
}

/// Nobody else runs.
impl Access for &mut Memory {
    fn pause(&self) {}

    fn memory<R>(&mut self, act: impl FnOnce(&mut Memory) -> R) -> R {
        act(self)
    }
}

/// One hook run.
#[derive(Debug)]
pub(crate) struct Hook<A> {
    pub(crate) access: A,
    pub(crate) buffer: Buffer,
    pub(crate) socket: u64,
}

impl<A: Access> Hook<A> {
    /// Every look at what is shared is a place where others may come in between.
    fn shared<R>(&mut self, act: impl FnOnce(&mut Memory) -> R) -> R {
        self.access.pause();
        self.access.memory(act)
    }
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

impl<A: Access> Host for Hook<A> {
    fn barrier(&self) {
        self.access.pause();
    }

    fn masked(&self, value: u32, mask: u32) -> u32 {
        value & mask
    }

    fn read(&mut self, window: &mut Window, at: u32, limit: u32) -> Option<u32> {
        assert!(at <= 64 && limit <= 960);
        self.access.pause();
        let data = self.buffer.read(limit as usize)?;
        write(window, at, &data);
        Some(data.len() as u32)
    }

    fn skip(&mut self, count: u32) {
        self.buffer.skip += count as usize;
    }

    fn compact(&mut self, window: &mut Window, from: u32, count: u32) {
        assert!(count <= 64);
        let data = bytes(window, from, count);
        write(window, 0, &data);
    }

    fn take_slot(&mut self) -> u16 {
        self.shared(Memory::take_slot)
    }

    fn return_slot(&mut self, slot: u16) {
        self.shared(|memory| memory.return_slot(slot));
    }

    fn save_carry(&mut self, slot: u16, window: &mut Window, from: u32, count: u32) {
        let data = bytes(window, from, count);
        self.shared(|memory| memory.save_carry(slot, &data));
    }

    fn load_carry(&mut self, slot: u16, window: &mut Window, count: u32) {
        let carry = self.shared(|memory| memory.slots[&slot].1);
        write(window, 0, &carry[..count as usize]);
    }

    fn keep(&mut self, slot: u16, at: u32, window: &mut Window, from: u32, count: u32) {
        let data = bytes(window, from, count);
        self.shared(|memory| memory.keep(slot, at, &data));
    }

    fn store(&mut self, request: &Request) -> bool {
        let key = (self.socket, request.sequence);
        self.shared(|memory| memory.stored.insert(key, *request));
        true
    }

    fn load(&mut self, sequence: u32, into: &mut Request) -> bool {
        let key = (self.socket, sequence);
        let found = self.shared(|memory| memory.stored.get(&key).copied());
        found.map(|request| *into = request).is_some()
    }

    fn remove(&mut self, sequence: u32) {
        let key = (self.socket, sequence);
        self.shared(|memory| memory.stored.remove(&key));
    }

    fn claim(&mut self, connection: &mut Connection, sequence: u32) -> bool {
        self.access.pause();
        if connection.answered != sequence {
            return false;
        }
        connection.answered = sequence.wrapping_add(1);
        true
    }

    fn emit(&mut self, _connection: &Connection, request: &Request, ended: &Ended) {
        let socket = self.socket;
        self.shared(|memory| memory.emit(socket, request, ended));
    }

    fn count(&mut self, counter: Counter, by: u64) {
        self.shared(|memory| *memory.counters.entry(counter.name()).or_default() += by);
    }

    // As many steps as the kernel's loop helper allows.
    fn drive(&mut self, connection: &mut Connection, work: &mut Work) -> bool {
        (0..kerntally_machine::MAX_STEPS_LOOPED)
            .any(|_| !kerntally_machine::step(connection, work, self))
    }
}

/// One socket under observation, with a clock that the test moves.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) connection: Connection,
    pub(crate) memory: Memory,
    work: Box<Work>,
    pub(crate) now_ns: u64,
    /// Threads of the calls in each direction.
    pub(crate) threads: [u32; 2],
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
            threads: [1, 2],
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

    /// A call whose bytes cannot be read.
    pub(crate) fn unreadable(&mut self, side: usize, data: &[u8]) {
        self.positions[side] = self.positions[side].wrapping_add(data.len() as u32);
        let (position, opposite) = (self.positions[side], self.positions[1 - side]);
        self.hooked(side, &[data], position, opposite, false);
    }

    /// A call seen out of order: the positions are given.
    pub(crate) fn call(&mut self, side: usize, pieces: &[&[u8]], position: u32, opposite: u32) {
        self.hooked(side, pieces, position, opposite, true);
    }

    fn hooked(
        &mut self,
        side: usize,
        pieces: &[&[u8]],
        position: u32,
        opposite: u32,
        readable: bool,
    ) {
        self.now_ns += 1000;
        let buffer = Buffer::of(pieces);
        let event = Event {
            now_ns: self.now_ns,
            len: buffer.len(),
            tgid: 1,
            position,
            opposite,
            thread: self.threads[side],
            readable,
            settled: true,
        };
        let mut hook = Hook {
            access: &mut self.memory,
            buffer,
            socket: 0,
        };
        on_data(
            &mut self.connection,
            side,
            &mut self.work,
            &event,
            &mut hook,
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
        let mut hook = Hook {
            access: &mut self.memory,
            buffer: Buffer::default(),
            socket: 0,
        };
        finish_all(&mut self.connection, &mut self.work, close, &mut hook);
    }

    pub(crate) fn statuses(&self) -> Vec<u16> {
        let finished = self.memory.finished.iter();
        finished.map(|finished| finished.status).collect()
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.memory.counter(counter)
    }

    /// Slots still taken: none once nothing waits.
    pub(crate) fn slots(&self) -> usize {
        self.memory.slots()
    }
}
