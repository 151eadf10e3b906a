//! Counters of single queues from the kernel itself: since Linux 6.9 drivers hand them to the
//! generic netlink family `netdev`, and new drivers, and virtio, no longer tell them to ethtool.

use super::{Attributes, NLM_F_DUMP, Socket, half, long, push_attribute, word};
use nix::sys::socket::SockProtocol;
use std::collections::BTreeMap;
use std::io;

// Numbers of include/uapi/linux/{genetlink,netdev}.h.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_QSTATS_GET: u8 = 12;
const QSTATS_IFINDEX: u16 = 1;
const QSTATS_QUEUE_TYPE: u16 = 2;
const QSTATS_QUEUE_ID: u16 = 3;
const QSTATS_SCOPE: u16 = 4;
const QSTATS_RX_PACKETS: u16 = 8;
const QSTATS_RX_BYTES: u16 = 9;
const QSTATS_TX_PACKETS: u16 = 10;
const QSTATS_TX_BYTES: u16 = 11;
const NETDEV_CMD_QUEUE_GET: u8 = 10;
const QUEUE_ID: u16 = 1;
const QUEUE_IFINDEX: u16 = 2;
const QUEUE_TYPE: u16 = 3;
const QUEUE_NAPI_ID: u16 = 4;
const SCOPE_QUEUE: u64 = 1;
const TYPE_RX: u32 = 0;

/// The header of a generic message: command, version, and two bytes for later.
const GENERIC: usize = 4;

/// What a queue carried since the device came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// Whether it receives; else it transmits.
    pub receives: bool,
    /// Its number.
    pub queue: u32,
    /// Packets.
    pub packets: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
}

/// The counters of every queue of a device.
///
/// # Errors
/// What the kernel says: `ENOENT` before Linux 6.9, `EOPNOTSUPP` for drivers that tell nothing.
pub fn queue_stats(device: u32) -> io::Result<Vec<QueueStats>> {
    let socket = Socket::open(SockProtocol::NetlinkGeneric)?;
    let family = family_id(&socket, b"netdev\0")?;
    let mut body = vec![NETDEV_CMD_QSTATS_GET, 1, 0, 0];
    push_attribute(&mut body, QSTATS_IFINDEX, &device.to_ne_bytes());
    push_attribute(&mut body, QSTATS_SCOPE, &SCOPE_QUEUE.to_ne_bytes());
    let answers = socket.ask(family, NLM_F_DUMP, &body)?;
    let stats = answers.iter().filter_map(|(_, body)| parse(body, device));
    Ok(stats.collect())
}

fn parse(body: &[u8], device: u32) -> Option<QueueStats> {
    let attributes = Attributes(body.get(GENERIC..)?);
    let number = |kind| word(attributes.find(kind)?, 0);
    (number(QSTATS_IFINDEX)? == device).then_some(())?;
    let receives = number(QSTATS_QUEUE_TYPE)? == TYPE_RX;
    let (packets, bytes) = match receives {
        true => (QSTATS_RX_PACKETS, QSTATS_RX_BYTES),
        false => (QSTATS_TX_PACKETS, QSTATS_TX_BYTES),
    };
    Some(QueueStats {
        receives,
        queue: number(QSTATS_QUEUE_ID)?,
        packets: attributes.find(packets).and_then(unsigned),
        bytes: attributes.find(bytes).and_then(unsigned),
    })
}

/// The receive queue of each NAPI instance of a device: a flow knows the instance that its packets
/// come through, and this is its queue.
///
/// # Errors
/// What the kernel says: `ENOENT` before Linux 6.8.
pub fn napi_queues(device: u32) -> io::Result<BTreeMap<u32, u32>> {
    let socket = Socket::open(SockProtocol::NetlinkGeneric)?;
    let family = family_id(&socket, b"netdev\0")?;
    let mut body = vec![NETDEV_CMD_QUEUE_GET, 1, 0, 0];
    push_attribute(&mut body, QUEUE_IFINDEX, &device.to_ne_bytes());
    let answers = socket.ask(family, NLM_F_DUMP, &body)?;
    let queues = answers
        .iter()
        .filter_map(|(_, body)| parse_napi(body, device));
    Ok(queues.collect())
}

/// The NAPI instance and number of a receive queue.
fn parse_napi(body: &[u8], device: u32) -> Option<(u32, u32)> {
    let attributes = Attributes(body.get(GENERIC..)?);
    let number = |kind| word(attributes.find(kind)?, 0);
    let wanted = number(QUEUE_IFINDEX)? == device && number(QUEUE_TYPE)? == TYPE_RX;
    wanted.then_some(())?;
    Some((number(QUEUE_NAPI_ID)?, number(QUEUE_ID)?))
}

/// A number that takes eight bytes only where four do not suffice.
fn unsigned(value: &[u8]) -> Option<u64> {
    match value.len() {
        8 => long(value, 0),
        _ => word(value, 0).map(u64::from),
    }
}

/// The number that the kernel gave a family when it was loaded.
fn family_id(socket: &Socket, name: &[u8]) -> io::Result<u16> {
    let mut body = vec![CTRL_CMD_GETFAMILY, 1, 0, 0];
    push_attribute(&mut body, CTRL_ATTR_FAMILY_NAME, name);
    let answers = socket.ask(GENL_ID_CTRL, 0, &body)?;
    let id = answers.iter().find_map(|(_, body)| {
        let attributes = Attributes(body.get(GENERIC..)?);
        half(attributes.find(CTRL_ATTR_FAMILY_ID)?, 0)
    });
    id.ok_or_else(|| super::incomplete("the family has no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_numbers_are_of_either_width() {
        let mut body = vec![0; GENERIC];
        push_attribute(&mut body, QSTATS_IFINDEX, &3_u32.to_ne_bytes());
        push_attribute(&mut body, QSTATS_QUEUE_TYPE, &1_u32.to_ne_bytes());
        push_attribute(&mut body, QSTATS_QUEUE_ID, &2_u32.to_ne_bytes());
        push_attribute(&mut body, QSTATS_TX_PACKETS, &7_u32.to_ne_bytes());
        push_attribute(&mut body, QSTATS_TX_BYTES, &(1_u64 << 40).to_ne_bytes());
        let expected = QueueStats {
            receives: false,
            queue: 2,
            packets: Some(7),
            bytes: Some(1 << 40),
        };
        assert_eq!(parse(&body, 3), Some(expected));
        assert_eq!(parse(&body, 4), None, "another device's");
        for end in 0..body.len() {
            let _ = parse(&body[..end], 3);
        }
    }

    #[test]
    fn only_receive_queues_with_an_instance_are_told() {
        let queue = |kind: u32, napi: Option<u32>| {
            let mut body = vec![0; GENERIC];
            push_attribute(&mut body, QUEUE_ID, &5_u32.to_ne_bytes());
            push_attribute(&mut body, QUEUE_IFINDEX, &3_u32.to_ne_bytes());
            push_attribute(&mut body, QUEUE_TYPE, &kind.to_ne_bytes());
            if let Some(napi) = napi {
                push_attribute(&mut body, QUEUE_NAPI_ID, &napi.to_ne_bytes());
            }
            body
        };
        assert_eq!(parse_napi(&queue(TYPE_RX, Some(8193)), 3), Some((8193, 5)));
        assert_eq!(parse_napi(&queue(TYPE_RX, Some(8193)), 4), None);
        assert_eq!(parse_napi(&queue(1, Some(8193)), 3), None);
        assert_eq!(parse_napi(&queue(TYPE_RX, None), 3), None);
    }

    #[test]
    fn the_kernel_answers_or_says_why_not() {
        // The first devices of this namespace: loopback, which tells nothing, and perhaps a card.
        for device in 1..=4 {
            match queue_stats(device) {
                Ok(stats) => {
                    for queue in &stats {
                        assert!(queue.queue < 4096, "{stats:?}");
                    }
                }
                Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
            }
            if let Ok(queues) = napi_queues(device) {
                assert!(queues.values().all(|&queue| queue < 4096), "{queues:?}");
            }
        }
    }
}
