//! Bytes of a ring buffer to what they stand for. The kernel is trusted to write whole items; an
//! item of another length is none of ours and gives `None`.

use hookprobe_abi::{
    Record,
    host::{EVENT_BYTES, Event, Inode, NAME_BYTES},
    sample::{HEADER_BYTES, Header},
};

/// A record as the eBPF programs wrote it.
#[must_use]
pub fn record_from(bytes: &[u8; size_of::<Record>()]) -> Record {
    let (numbers, rest) = split::<8>(bytes);
    let time_ns = u64::from_ne_bytes(numbers);
    let (source, rest) = split::<16>(rest);
    let (destination, rest) = split::<16>(rest);
    let (source_port, rest) = split::<2>(rest);
    let (destination_port, rest) = split::<2>(rest);
    let (length, rest) = split::<4>(rest);
    let (interface, rest) = split::<4>(rest);
    let ([protocol, kind, flags, tcp_flags], _) = split::<4>(rest);
    Record {
        time_ns,
        source,
        destination,
        source_port: u16::from_ne_bytes(source_port),
        destination_port: u16::from_ne_bytes(destination_port),
        bytes: u32::from_ne_bytes(length),
        interface: u32::from_ne_bytes(interface),
        protocol,
        kind,
        flags,
        tcp_flags,
    }
}

/// A sample and its bytes.
#[must_use]
pub fn sample_from(item: &[u8]) -> Option<(Header, &[u8])> {
    let (head, body) = item.split_first_chunk::<HEADER_BYTES>()?;
    let (time_ns, rest) = split::<8>(head);
    let (source, rest) = split::<16>(rest);
    let (destination, rest) = split::<16>(rest);
    let (source_port, rest) = split::<2>(rest);
    let (destination_port, rest) = split::<2>(rest);
    let (interface, rest) = split::<4>(rest);
    let (payload_bytes, rest) = split::<2>(rest);
    let (bytes, rest) = split::<2>(rest);
    let ([protocol, kind, flags, number], _) = split::<4>(rest);
    let header = Header {
        time_ns: u64::from_ne_bytes(time_ns),
        source,
        destination,
        source_port: u16::from_ne_bytes(source_port),
        destination_port: u16::from_ne_bytes(destination_port),
        interface: u32::from_ne_bytes(interface),
        payload_bytes: u16::from_ne_bytes(payload_bytes),
        bytes: u16::from_ne_bytes(bytes),
        protocol,
        kind,
        flags,
        number,
    };
    body.get(..usize::from(header.bytes)).map(|body| (header, body))
}

/// An event of the host.
#[must_use]
pub fn event_from(item: &[u8]) -> Option<Event> {
    let bytes: &[u8; EVENT_BYTES] = item.try_into().ok()?;
    let (time_ns, rest) = split::<8>(bytes);
    let (device, rest) = split::<8>(rest);
    let (number, rest) = split::<8>(rest);
    let (address, rest) = split::<16>(rest);
    let (kind, rest) = split::<4>(rest);
    let (pid, rest) = split::<4>(rest);
    let (uid, rest) = split::<4>(rest);
    let (port, rest) = split::<2>(rest);
    let (refused, rest) = split::<2>(rest);
    let (task, rest) = split::<16>(rest);
    let (name, _) = split::<NAME_BYTES>(rest);
    Some(Event {
        time_ns: u64::from_ne_bytes(time_ns),
        file: Inode { device: u64::from_ne_bytes(device), number: u64::from_ne_bytes(number) },
        address,
        kind: u32::from_ne_bytes(kind),
        pid: u32::from_ne_bytes(pid),
        uid: u32::from_ne_bytes(uid),
        port: u16::from_ne_bytes(port),
        refused: u16::from_ne_bytes(refused),
        task,
        name,
    })
}

/// The first `N` bytes and the rest; zeros where there are none.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    match bytes.split_first_chunk::<N>() {
        Some((head, rest)) => (*head, rest),
        None => ([0; N], &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_another_length_are_not_ours() {
        for length in [0, 1, EVENT_BYTES - 1, EVENT_BYTES + 1] {
            assert!(event_from(&vec![0; length]).is_none());
        }
        assert!(sample_from(&[0; HEADER_BYTES - 1]).is_none());
        let mut lying = [0; HEADER_BYTES + 3];
        lying[50] = 4;
        assert!(sample_from(&lying).is_none(), "more bytes than there are");
        lying[50] = 2;
        assert_eq!(sample_from(&lying).unwrap().1.len(), 2, "the ring buffer pads to eight");
    }
}
