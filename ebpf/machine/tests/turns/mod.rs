//! Several hook runs of one connection at the same time, as on several CPUs, in an order that the test says.
//!
//! Every run is a thread, and one of them moves at a time: at each look at what is shared, and at each
//! barrier, it may have to hand the baton on. The schedule alone decides, so a failure can be repeated and
//! shrunk.
#![allow(dead_code, reason = "every test program uses a part")]

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use kerntally_machine::Connection;

use crate::world::{Access, Memory};

/// Who may move.
#[derive(Debug)]
pub(crate) struct Baton {
    state: Mutex<State>,
    passed: Condvar,
}

#[derive(Debug)]
struct State {
    holder: usize,
    /// Looks that the holder may still take.
    left: u32,
    schedule: VecDeque<u32>,
    running: Vec<bool>,
    /// Hand-overs in a row in which nobody could go on.
    idle: u32,
}

impl Baton {
    /// Actor 0 begins; `schedule` says how many looks each holder takes before the next one's turn. Once it
    /// is used up, whoever holds the baton keeps it to its end.
    pub(crate) fn new(actors: usize, schedule: &[u32]) -> Self {
        let mut schedule: VecDeque<u32> = schedule.iter().copied().collect();
        let left = schedule.pop_front().unwrap_or(u32::MAX);
        Self {
            state: Mutex::new(State {
                holder: 0,
                left,
                schedule,
                running: vec![true; actors],
                idle: 0,
            }),
            passed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // An actor that failed must not take the others' messages with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_turn<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        actor: usize,
    ) -> MutexGuard<'a, State> {
        while state.holder != actor {
            state = self
                .passed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Others may come in between here.
    pub(crate) fn pause(&self, actor: usize) {
        let mut state = self.wait_turn(self.state(), actor);
        state.idle = 0;
        if state.left > 0 {
            state.left -= 1;
            return;
        }
        state.left = state.schedule.pop_front().unwrap_or(u32::MAX);
        self.hand_on(&mut state);
        drop(self.wait_turn(state, actor));
    }

    /// Waits until something is true that others bring about.
    pub(crate) fn until(&self, actor: usize, holds: impl Fn() -> bool) {
        loop {
            let mut state = self.wait_turn(self.state(), actor);
            if holds() {
                return;
            }
            state.idle += 1;
            assert!(state.idle < 100, "all wait for each other");
            self.hand_on(&mut state);
        }
    }

    fn hand_on(&self, state: &mut State) {
        let actors = state.running.len();
        let next = (1..=actors)
            .map(|step| (state.holder + step) % actors)
            .find(|actor| state.running[*actor]);
        state.holder = next.unwrap_or(state.holder);
        self.passed.notify_all();
    }

    /// Takes part from here on; leaves when the guard is dropped, also by a failure.
    pub(crate) fn join(&self, actor: usize) -> Leaving<'_> {
        drop(self.wait_turn(self.state(), actor));
        Leaving { baton: self, actor }
    }
}

/// See [`Baton::join`].
#[derive(Debug)]
pub(crate) struct Leaving<'a> {
    baton: &'a Baton,
    actor: usize,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut state = self.baton.state();
        state.running[self.actor] = false;
        if state.holder == self.actor {
            self.baton.hand_on(&mut state);
        }
    }
}

/// One actor's way to the shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) baton: &'a Baton,
    pub(crate) actor: usize,
    pub(crate) memory: &'a Mutex<Memory>,
}

impl Access for Turn<'_> {
    fn pause(&self) {
        self.baton.pause(self.actor);
    }

    fn memory<R>(&mut self, act: impl FnOnce(&mut Memory) -> R) -> R {
        act(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A connection that several hook runs hold at the same time, as they hold a map's value in the kernel.
///
/// This is the one place outside the BPF programs and their loader with `unsafe`: what is under test *is* that
/// two runs share the memory behind their references. Only the holder of the baton runs between two pauses,
/// so no two threads touch it at the same time, and every hand-over goes through a lock, which orders what
/// was written before what is read after. The compiler must not keep fields in registers across a pause: the
/// tests that use this are compiled without optimisation, see [`Shared::possible`].
#[derive(Debug)]
pub(crate) struct Shared {
    pointer: *mut Connection,
}

// SAFETY: the connection is reached by the holder of the baton alone, see above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            pointer: Box::into_raw(Box::new(connection)),
        }
    }

    /// Whether the test program was compiled so that sharing works.
    pub(crate) fn possible() -> bool {
        cfg!(debug_assertions)
    }

    /// What one hook run holds.
    #[expect(clippy::mut_from_ref, reason = "the very thing that is under test")]
    pub(crate) fn lend(&self) -> &mut Connection {
        // SAFETY: the pointer is to a live box; see above for who uses the reference when.
        unsafe { &mut *self.pointer }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a box, and nobody is left who was lent it.
        drop(unsafe { Box::from_raw(self.pointer) });
    }
}
