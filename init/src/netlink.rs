//! Three rtnetlink requests (rtnetlink(7)) and their acknowledgement, as bytes. Pure.
//!
//! PID 1 only brings links up and sets fixed addresses; a general netlink library would be more
//! code in PID 1 than this.

use std::net::IpAddr;

const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// NLM_F_REQUEST | NLM_F_ACK
const REQUEST: u16 = 0x5;
/// NLM_F_CREATE | NLM_F_REPLACE
const CREATE: u16 = 0x500;
const IFF_UP: u32 = 1;
const IFF_PROMISC: u32 = 0x100;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const TYPE_UNICAST: u8 = 1;

/// What to ask of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Bring a link up.
    Up {
        /// Interface.
        index: u32,
        /// Take every frame, not only those for this box: a mirror port or a tap.
        promiscuous: bool,
    },
    /// Add an address.
    Address {
        /// Interface.
        index: u32,
        /// Address.
        address: IpAddr,
        /// Prefix length.
        prefix: u8,
    },
    /// Set the default route.
    Gateway {
        /// Interface.
        index: u32,
        /// Next hop.
        gateway: IpAddr,
    },
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Values are 4 or 16 bytes: the length always fits and needs no padding.
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Bytes of a request with sequence number `sequence`.
#[must_use]
pub fn encode(request: &Request, sequence: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(48);
    let (kind, flags) = match *request {
        Request::Up { index, promiscuous } => {
            let flags = if promiscuous { IFF_UP | IFF_PROMISC } else { IFF_UP };
            body.extend_from_slice(&[0; 4]);
            body.extend_from_slice(&index.to_ne_bytes());
            // Which flags, and which of them may change.
            body.extend_from_slice(&flags.to_ne_bytes());
            body.extend_from_slice(&flags.to_ne_bytes());
            (RTM_NEWLINK, REQUEST)
        }
        Request::Address { index, address, prefix } => {
            body.extend_from_slice(&[family(address), prefix, 0, 0]);
            body.extend_from_slice(&index.to_ne_bytes());
            attribute(&mut body, IFA_LOCAL, &octets(address));
            attribute(&mut body, IFA_ADDRESS, &octets(address));
            (RTM_NEWADDR, REQUEST | CREATE)
        }
        Request::Gateway { index, gateway } => {
            body.extend_from_slice(&[family(gateway), 0, 0, 0]);
            body.extend_from_slice(&[TABLE_MAIN, PROTOCOL_STATIC, 0, TYPE_UNICAST]);
            body.extend_from_slice(&[0; 4]);
            attribute(&mut body, RTA_GATEWAY, &octets(gateway));
            attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
            (RTM_NEWROUTE, REQUEST | CREATE)
        }
    };
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0u32.to_ne_bytes());
    out.extend_from_slice(&body);
    out
}

/// The error number in an acknowledgement of `sequence` (0: done); `None`: it is none.
#[must_use]
pub fn acknowledged(bytes: &[u8], sequence: u32) -> Option<i32> {
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let of = u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?);
    let code = i32::from_ne_bytes(*bytes.get(HEADER_BYTES..)?.first_chunk()?);
    (kind == NLMSG_ERROR && of == sequence).then(|| code.saturating_neg())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_request_has_its_fields_in_place() {
        let request =
            Request::Address { index: 2, address: "10.20.0.2".parse().unwrap(), prefix: 24 };
        let bytes = encode(&request, 7);
        assert_eq!(bytes.len(), 40);
        assert_eq!(bytes[..4], 40u32.to_ne_bytes());
        assert_eq!(bytes[16..20], [2, 24, 0, 0]);
        assert_eq!(bytes[28..32], [10, 20, 0, 2]);
    }

    #[test]
    fn only_the_answer_to_this_request_counts() {
        let mut bytes = vec![0; 20];
        bytes[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        bytes[8..12].copy_from_slice(&7u32.to_ne_bytes());
        bytes[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(acknowledged(&bytes, 7), Some(17));
        assert_eq!(acknowledged(&bytes, 8), None);
        assert_eq!(acknowledged(&bytes[..19], 7), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = acknowledged(&bytes, 1);
        }
    }
}
