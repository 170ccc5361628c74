//! Sockets that change hands, and sockets that are used again at once.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context as _, Result};
use fork::Fork;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{Pid, Signal, kill_process};

use super::super::peer::Peer;
use super::super::plan::{Batch, Plan, Turn, joined};
use super::super::stream::{RecvBy, SendBy, Stream};
use super::Case;
use crate::truth::Role;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::peers("passed-to-worker", passing_server, passed_client).with("worker", worker),
        Case::peers(
            "passed-in-mid-connection",
            late_passing_server,
            late_passed_client,
        )
        .with("worker", late_worker),
        Case::peers("dup", dup_server, dup_client),
        Case::peers("pre-fork", prefork_server, prefork_client).slow(),
        Case::peers("reuse-closed-by-client", reuse_server, reuse_client),
        Case::peers("reuse-closed-by-both", reuse_closing_server, reuse_client),
        Case::peers(
            "reuse-closed-by-server",
            reuse_closing_server,
            reuse_drained_client,
        ),
    ]
}

fn status(index: usize) -> u16 {
    const STATUSES: [u16; 7] = [200, 201, 202, 203, 206, 500, 503];
    STATUSES[index % STATUSES.len()]
}

fn turns(count: usize) -> Vec<Turn> {
    (0..count)
        .map(|index| Turn::new("GET", "/hand", status(index)))
        .collect()
}

fn plan() -> Plan {
    Plan::of_turns(turns(5)).without_lockstep()
}

const PASSED: usize = 12;

fn handover(peer: &Peer) -> Result<UnixStream> {
    let listener = UnixListener::bind(peer.directory.join("handover"))?;
    peer.mark("handover-ready")?;
    Ok(listener.accept().context("waiting for the worker")?.0)
}

fn take_over(peer: &Peer) -> Result<UnixStream> {
    peer.wait_for("handover-ready")?;
    UnixStream::connect(peer.directory.join("handover")).context("reaching the acceptor")
}

fn pass(channel: &UnixStream, stream: &Stream) -> Result<()> {
    let descriptors = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(
        channel,
        &[IoSlice::new(b"s")],
        &mut control,
        SendFlags::empty(),
    )
    .context("passing a socket")?;
    Ok(())
}

fn receive(channel: &UnixStream) -> Result<Stream> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut segments = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(
        channel,
        &mut segments,
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .context("receiving a socket")?;
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let passed: OwnedFd = passed.context("no socket was passed")?;
    Ok(Stream::from(passed))
}

fn passing_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    let channel = handover(peer)?;
    for _ in 0..PASSED {
        pass(&channel, &listener.accept()?)?;
    }
    Ok(())
}

fn worker(peer: &mut Peer) -> Result<()> {
    let channel = take_over(peer)?;
    for _ in 0..PASSED {
        let stream = receive(&channel)?;
        plan().serve(peer, &stream, &plan().connections[0])?;
        stream.drain()?;
    }
    Ok(())
}

fn passed_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..PASSED {
        let stream = peer.connect()?;
        plan().request(peer, &stream, &plan().connections[0])?;
    }
    Ok(())
}

/// The acceptor serves the first requests of a connection, another process those after.
fn late_passing_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    let channel = handover(peer)?;
    for _ in 0..PASSED {
        let stream = listener.accept()?;
        plan().serve(peer, &stream, &plan().connections[0])?;
        pass(&channel, &stream)?;
    }
    Ok(())
}

fn late_worker(peer: &mut Peer) -> Result<()> {
    worker(peer)
}

fn late_passed_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..PASSED {
        let stream = peer.connect()?;
        for _ in 0..2 {
            plan().request(peer, &stream, &plan().connections[0])?;
        }
    }
    Ok(())
}

fn dup_server(peer: &mut Peer) -> Result<()> {
    let reading = peer.listen()?.accept()?;
    let writing = reading.duplicate()?;
    for turn in turns(40) {
        let begin = reading
            .expect(&joined(&turn.request), &RecvBy::Recv)?
            .first();
        let end = writing.send(&joined(&turn.response), &SendBy::Send)?.last();
        peer.count_since(turn.key(Role::Server), begin, end);
    }
    drop(writing);
    reading.drain()?;
    Ok(())
}

fn dup_client(peer: &mut Peer) -> Result<()> {
    let writing = peer.connect()?;
    let reading = writing.duplicate()?;
    for turn in turns(40) {
        let begin = writing.send(&joined(&turn.request), &SendBy::Send)?.first();
        let end = reading
            .expect(&joined(&turn.response), &RecvBy::Recv)?
            .last();
        peer.count_since(turn.key(Role::Client), begin, end);
    }
    Ok(())
}

/// Three forked children accept from one listener.
fn prefork_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    let mut children = Vec::new();
    for _ in 0..3 {
        match fork::fork().context("fork")? {
            Fork::Parent(child) => children.push(child),
            Fork::Child => loop {
                let stream = listener.accept()?;
                plan().serve(peer, &stream, &plan().connections[0])?;
                stream.drain()?;
                peer.save()?;
                peer.tell()?;
            },
        }
    }
    peer.wait_for("client-done")?;
    std::thread::sleep(peer.scale.linger);
    for child in children {
        kill_process(
            Pid::from_raw(child).context("a child has no process id")?,
            Signal::KILL,
        )?;
        fork::waitpid(child).context("waiting for a child")?;
    }
    Ok(())
}

fn prefork_client(peer: &mut Peer) -> Result<()> {
    for _ in 0..18 {
        let stream = peer.connect()?;
        plan().request(peer, &stream, &plan().connections[0])?;
        drop(stream);
        peer.hear()?;
    }
    peer.mark("client-done")
}

fn short_turn(index: usize) -> Batch {
    Batch::one(Turn::new("GET", "/short", status(index)))
}

fn reuse_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    for index in 0..peer.scale.short_connections {
        let stream = listener.accept()?;
        plan().serve(peer, &stream, &[short_turn(index)])?;
        stream.drain()?;
    }
    Ok(())
}

fn reuse_client(peer: &mut Peer) -> Result<()> {
    for index in 0..peer.scale.short_connections {
        let stream = peer.connect()?;
        plan().request(peer, &stream, &[short_turn(index)])?;
    }
    Ok(())
}

fn reuse_closing_server(peer: &mut Peer) -> Result<()> {
    let listener = peer.listen()?;
    for index in 0..peer.scale.short_connections {
        let stream = listener.accept()?;
        plan().serve(peer, &stream, &[short_turn(index)])?;
    }
    Ok(())
}

fn reuse_drained_client(peer: &mut Peer) -> Result<()> {
    for index in 0..peer.scale.short_connections {
        let stream = peer.connect()?;
        plan().request(peer, &stream, &[short_turn(index)])?;
        stream.drain()?;
    }
    Ok(())
}
