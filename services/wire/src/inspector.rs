//! What is said between the sensor and the inspector of packets.
//!
//! The sensor connects and orders, the inspector reports; neither answers the other. The inspector
//! reads what strangers send: whatever it reports is a claim, bounded here, never an order.

use std::net::IpAddr;

use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::{
    bounded,
    event::{Alert, Diagnostic, STATUS_DIAGNOSTICS_MAX},
    sensor::{COUNTERS_MAX, Counter, Loaded},
    site::INTERFACES_MAX,
};

/// Most samples in one [`Order::Missed`]: so many of the longest fit in a frame.
pub const SAMPLES_MAX: usize = 32;

/// To the inspector.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Order {
    /// Look at packets of these interfaces and of no other.
    #[n(0)]
    Watch {
        /// Interface indices.
        #[cbor(n(0), decode_with = "bounded::list::<_, _, INTERFACES_MAX>")]
        interfaces: Vec<u32>,
    },
    /// Read rules and lists of names again and put them in force without losing a packet.
    #[n(1)]
    Reload {
        /// By which [`State::read`] tells that it is done.
        #[n(0)]
        number: Option<u64>,
    },
    /// First payloads of flows that began while the inspector was away: copied by the kernel's programs,
    /// and looked into by nobody yet.
    #[n(2)]
    Missed {
        /// The oldest first.
        #[cbor(n(0), decode_with = "bounded::list::<_, _, SAMPLES_MAX>")]
        samples: Vec<Sample>,
    },
}

/// What a sample begins like, by its first bytes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum SampleKind {
    /// DNS over UDP or TCP.
    #[n(0)]
    Dns,
    /// A TLS handshake.
    #[n(1)]
    Tls,
}

/// The first payload of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Sample {
    /// From.
    #[n(0)]
    pub source: IpAddr,
    /// To.
    #[n(1)]
    pub destination: IpAddr,
    /// From port, to port.
    #[n(2)]
    pub ports: (u16, u16),
    /// IP protocol number.
    #[n(3)]
    pub protocol: u8,
    /// Interface index.
    #[n(4)]
    pub interface: u32,
    /// What it begins like.
    #[n(5)]
    pub kind: SampleKind,
    /// The payload, or its beginning.
    #[n(6)]
    pub bytes: ByteVec,
}

/// From the inspector.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Report {
    /// Something was found in packets.
    #[n(0)]
    Found {
        /// With times since 1970 and without the name of an interface.
        #[n(0)]
        alert: Alert,
        /// Index of the interface of the packet that decided; 0 when none did.
        #[n(1)]
        interface: u32,
    },
    /// How it is, once a second.
    #[n(1)]
    State(#[n(0)] State),
}

/// How the inspector is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct State {
    /// Named counters since the start, losses included.
    #[cbor(n(0), decode_with = "bounded::list::<_, _, COUNTERS_MAX>")]
    pub counters: Vec<Counter>,
    /// What is wrong.
    #[cbor(n(1), decode_with = "bounded::list::<_, _, STATUS_DIAGNOSTICS_MAX>")]
    pub diagnostics: Vec<Diagnostic>,
    /// Packets, findings and orders lost since the start.
    #[n(2)]
    pub lost: u64,
    /// Findings that were not told because too many were.
    #[n(3)]
    pub held_back: u64,
    /// What is in force since rules and lists were last read; none before they were.
    #[n(4)]
    pub read: Option<Read>,
}

/// Rules and lists that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Read {
    /// Of the last order that came before the reading began; 0 for the reading at the start.
    #[n(0)]
    pub number: u64,
    /// What is in force; without addresses, which are the sensor's.
    #[n(1)]
    pub loaded: Loaded,
}
