//! What is said on the sensor's socket.

use std::net::IpAddr;

use minicbor::{Decode, Encode};

use crate::{
    bounded,
    event::{Diagnostic, STATUS_DIAGNOSTICS_MAX},
    site::INTERFACES_MAX,
};

/// Most flows in one [`Status`].
pub const FLOWS_MAX: usize = 64;
/// Most counters in one [`Status`].
pub const COUNTERS_MAX: usize = 384;

/// To the sensor.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Answered by [`Reply::Status`].
    #[n(0)]
    Status,
    /// Play the built-in harmless attack through the loaded XDP program.
    #[n(1)]
    Drill,
    /// Read rules and lists again and put them in force without losing a packet. Only PID 1 may ask,
    /// which measured them first.
    #[n(2)]
    Reload,
}

/// From the sensor.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// How it is.
    #[n(0)]
    Status(#[n(0)] Status),
    /// The drill began or was refused (`reason`).
    #[n(1)]
    Drill {
        /// Whether it began.
        #[n(0)]
        started: bool,
        /// Why not, or what to look for.
        #[n(1)]
        reason: String,
    },
    /// Rules and lists are in force, or why they are not. Comes when they were read.
    #[n(3)]
    Reload {
        /// Whether they were read.
        #[n(0)]
        started: bool,
        /// Why not.
        #[n(1)]
        reason: String,
        /// What is in force now.
        #[n(2)]
        loaded: Option<Loaded>,
    },
    /// The request can't be served; the connection closes.
    #[n(2)]
    Error {
        /// Stable code.
        #[n(0)]
        code: String,
        /// Why and what to do.
        #[n(1)]
        reason: String,
    },
}

/// What a reload put in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Loaded {
    /// Rules.
    #[n(0)]
    pub rules: u64,
    /// Rules that are not understood; the log names the first.
    #[n(1)]
    pub rejected: u64,
    /// Names in the list of names.
    #[n(2)]
    pub names: u64,
    /// Addresses in the kernel's list.
    #[n(3)]
    pub addresses: u64,
    /// How long reading and compiling took, in milliseconds.
    #[n(4)]
    pub ms: u64,
    /// A list that can't be used, so that the one before stays: with code and remedy. Empty: none.
    #[n(5)]
    pub trouble: String,
}

/// How the sensor is.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Status {
    /// One per interface.
    #[cbor(n(0), decode_with = "bounded::list::<_, _, INTERFACES_MAX>")]
    pub interfaces: Vec<Interface>,
    /// Named counters of the eBPF programs and of the core, losses included, since the start.
    #[cbor(n(1), decode_with = "bounded::list::<_, _, COUNTERS_MAX>")]
    pub counters: Vec<Counter>,
    /// Most active flows now, at most [`FLOWS_MAX`].
    #[cbor(n(2), decode_with = "bounded::list::<_, _, FLOWS_MAX>")]
    pub flows: Vec<Flow>,
    /// What is wrong.
    #[cbor(n(3), decode_with = "bounded::list::<_, _, STATUS_DIAGNOSTICS_MAX>")]
    pub diagnostics: Vec<Diagnostic>,
}

/// Where packets are seen.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Interface {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// `native`, `generic`, or `none` when nothing is attached.
    #[n(1)]
    pub xdp_mode: String,
}

/// A named number.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Counter {
    /// e.g. `packets`, `dropped_block`, `ring_lost`.
    #[n(0)]
    pub name: String,
    /// Since the start.
    #[n(1)]
    pub value: u64,
}

/// One direction of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Flow {
    /// From.
    #[n(0)]
    pub source: IpAddr,
    /// To.
    #[n(1)]
    pub destination: IpAddr,
    /// IP protocol number.
    #[n(2)]
    pub protocol: u8,
    /// From port, 0 where there is none.
    #[n(3)]
    pub source_port: u16,
    /// To port, 0 where there is none.
    #[n(4)]
    pub destination_port: u16,
    /// Packets.
    #[n(5)]
    pub packets: u64,
    /// Bytes with headers.
    #[n(6)]
    pub bytes: u64,
    /// Milliseconds since the last packet.
    #[n(7)]
    pub idle_ms: u64,
}
