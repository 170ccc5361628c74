//! The state machine of the kernel side, driven by a script.

use kerntally_abi::EndReason;
use kerntally_machine::{REQUEST, RESPONSE};

use crate::world::World;

/// Calls of one script: enough to fill every queue there is.
const MOST_CALLS: usize = 400;

/// A script is a role, then calls: a byte for side and kind, a byte for the length, and the bytes themselves.
pub fn machine(data: &[u8]) {
    let Some((role, mut script)) = data.split_first() else {
        return;
    };
    let mut world = if role & 1 == 0 {
        World::server()
    } else {
        World::client()
    };
    let mut calls = 0;
    while let [kind, len, rest @ ..] = script {
        // The high bits stretch a call, so that short scripts reach past the kept head.
        let len = usize::from(*len).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        script = rest;
        calls += 1;
        if calls > MOST_CALLS {
            break;
        }
        call(&mut world, *kind, bytes);
        if world.not_http() {
            break;
        }
    }
    world.close(EndReason::PeerClose);
    judge(&world);
}

fn call(world: &mut World, kind: u8, bytes: &[u8]) {
    let side = if kind & 1 == 0 { REQUEST } else { RESPONSE };
    match kind >> 1 & 3 {
        0 => world.pieces(side, &[bytes]),
        1 => {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            world.pieces(side, &[first, second]);
        }
        2 => bytes
            .iter()
            .for_each(|byte| world.pieces(side, &[&[*byte]])),
        _ => {
            let repeated = bytes.repeat(1 + usize::from(kind >> 3));
            world.pieces(side, &[&repeated]);
        }
    }
}

/// No exchange ends twice, no status is made up, and what was lent is given back.
fn judge(world: &World) {
    let finished = &world.memory.finished;
    let mut sequences: Vec<u32> = finished.iter().map(|exchange| exchange.sequence).collect();
    sequences.sort_unstable();
    sequences.dedup();
    assert_eq!(sequences.len(), finished.len(), "an exchange ended twice");
    for exchange in finished {
        assert!(exchange.status == 0 || (100..1000).contains(&exchange.status));
        assert!(EndReason::from_byte(exchange.reason).is_some());
    }
    if !world.not_http() {
        assert_eq!(world.slots(), 0, "a slot was not given back");
    }
}
