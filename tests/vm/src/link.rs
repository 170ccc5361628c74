//! Brings a network interface up with one netlink message.

use anyhow::{Result, bail};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto,
    socket_with,
};

/// Index of the loopback interface, which is always the first.
pub(crate) const LOOPBACK: i32 = 1;

const NEW_LINK: u16 = 16;
const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
const UP: u32 = 1;
const ERROR: u16 = 2;

/// Sets the interface's `IFF_UP` flag.
pub(crate) fn up(index: i32) -> Result<()> {
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sendto(
        &socket,
        &message(index),
        SendFlags::empty(),
        &netlink::SocketAddrNetlink::new(0, 0),
    )?;
    let mut answer = [0_u8; 64];
    let (length, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    match refusal(&answer[..length]) {
        None => bail!("the kernel's answer is not understood"),
        Some(0) => Ok(()),
        Some(error) => Err(std::io::Error::from_raw_os_error(-error).into()),
    }
}

/// `struct nlmsghdr` and `struct ifinfomsg`.
fn message(index: i32) -> [u8; 32] {
    let mut message = [0; 32];
    message[0..4].copy_from_slice(&32_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&NEW_LINK.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    message[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    message[20..24].copy_from_slice(&index.to_ne_bytes());
    message[24..28].copy_from_slice(&UP.to_ne_bytes());
    message[28..32].copy_from_slice(&UP.to_ne_bytes());
    message
}

/// The error number of an acknowledgement, 0 if it is none.
fn refusal(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let error = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == ERROR).then_some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_its_length_and_the_interface() {
        let message = message(7);
        assert_eq!(message[0], 32);
        assert_eq!(message[20], 7);
        assert_eq!(message[24..32], [1, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn acknowledgements_carry_the_error() {
        let mut answer = [0; 20];
        answer[4] = 2;
        assert_eq!(refusal(&answer), Some(0));
        answer[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(refusal(&answer), Some(-1));
        assert_eq!(refusal(&answer[..8]), None);
    }
}
