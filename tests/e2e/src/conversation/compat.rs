//! A server that is a 32-bit program, which passes its arguments to the kernel otherwise than all others.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::bench::Bench;
use super::checks::{backend, ledger_settles};
use crate::ledger::Ledger;

const REQUESTS: u64 = 20;
pub(super) const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n";
pub(super) const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Where the program is loaded, and where it reads to.
const BASE: u32 = 0x0804_8000;
const BUFFER: u32 = BASE + 0x1000;
/// The header of an ELF file and of its only segment (System V ABI, Intel386 supplement).
const HEADERS: u32 = 52 + 32;

/// Answers each read from its standard input there, until that ends.
fn program() -> Vec<u8> {
    let [buffer, entry] = [BUFFER, BASE + HEADERS].map(u32::to_le_bytes);
    let mut code = Vec::new();
    code.extend([0xb8, 3, 0, 0, 0]); // mov eax, 3 (read)
    code.extend([0x31, 0xdb]); // xor ebx, ebx
    code.extend([&[0xb9], buffer.as_slice()].concat()); // mov ecx, buffer
    code.extend([0xba, 0, 0x10, 0, 0]); // mov edx, 4096
    code.extend([0xcd, 0x80]); // int 0x80
    code.extend([0x85, 0xc0]); // test eax, eax
    code.extend([0x7e, 19]); // jle the exit
    code.extend([0xb8, 4, 0, 0, 0]); // mov eax, 4 (write)
    let place = code.len() + 1;
    code.extend([0xb9, 0, 0, 0, 0]); // mov ecx, response
    code.extend([&[0xba], le(RESPONSE.len()).as_slice()].concat()); // mov edx, its length
    code.extend([0xcd, 0x80]); // int 0x80
    code.extend([0xeb, (-42_i8).cast_unsigned()]); // jmp the beginning
    code.extend([0xb8, 1, 0, 0, 0]); // mov eax, 1 (exit)
    code.extend([0xcd, 0x80]); // int 0x80
    let response = le((BASE + HEADERS) as usize + code.len());
    code[place..place + 4].copy_from_slice(&response);
    code.extend(RESPONSE);

    let size = u32::from_le_bytes(le(HEADERS as usize + code.len()));
    let words = |words: &[u32]| words.iter().flat_map(|it| it.to_le_bytes()).collect();
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 3, 0, 1, 0, 0, 0]); // executable, Intel 80386
    file.extend(entry);
    file.extend::<Vec<u8>>(words(&[52, 0, 0])); // program headers behind this one
    file.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // One segment to read, write and execute, with room for the buffer.
    file.extend::<Vec<u8>>(words(&[1, 0, BASE, BASE, size, 0x2000, 7, 0x1000]));
    file.extend(code);
    file
}

fn le(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

/// The client sees every exchange; the server's side as far as the back end can.
pub(super) fn server(bench: &mut Bench<'_>) -> Result<()> {
    let file = bench.other_program();
    fs::write(&file, program())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    let agent = bench.agent()?;
    let backend = backend(&agent)?;
    let before = agent.ledger()?;
    ask(&file)?;
    let seen_there = matches!(backend.as_str(), "fexit" | "kprobe");
    ledger_settles(bench.options, &agent, |ledger| {
        shortfall(&ledger.since(&before), seen_there, backend == "syscall")
    })?;
    bench.give_back(agent);
    Ok(())
}

fn shortfall(ledger: &Ledger, server_seen: bool, calls_counted: bool) -> Option<&'static str> {
    if ledger.outcome_of("client", "tallied") != REQUESTS {
        return Some("not every request of the client was tallied");
    }
    let expected = if server_seen { REQUESTS } else { 0 };
    if ledger.outcome_of("server", "tallied") != expected {
        return Some("of the server's side something else was tallied");
    }
    let calls = ledger.blind.get("compat_calls").copied().unwrap_or(0);
    if calls_counted && calls < 2 * REQUESTS {
        return Some("the server's calls were not counted");
    }
    None
}

/// Has a connection of ours served by the program.
fn ask(file: &Path) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (accepted, _) = listener.accept()?;
    let mut server: Child = Command::new(file)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(accepted)))
        .spawn()
        .context("starting a 32-bit program: the kernel needs CONFIG_IA32_EMULATION")?;
    for _ in 0..REQUESTS {
        client.write_all(REQUEST)?;
        let mut answer = [0; RESPONSE.len()];
        client.read_exact(&mut answer)?;
        ensure!(answer == RESPONSE);
    }
    drop(client);
    server.wait()?;
    Ok(())
}
