//! Messages and framing between HookProbe processes.
//!
//! Every service speaks these types over Unix sockets that PID 1 opened. Nothing here does I/O,
//! reads a clock or draws randomness, and nothing here may panic on bytes from a peer: the bytes
//! on a socket are hostile until [`frame::Decoder`] has cut them and the typed decoder has
//! accepted every one of them.
//!
//! Encoding: CBOR (RFC 8949), deterministic by construction: fixed-position arrays, definite
//! lengths, no maps, no floats. Adding a field means adding it last as an `Option`; anything else
//! means a new [`frame::VERSION`].

#![forbid(unsafe_code)]

pub mod attest;
pub mod block;
mod bounded;
pub mod control;
pub mod event;
pub mod export;
pub mod frame;
pub mod inspector;
pub mod ledger;
pub mod qr;
pub mod response;
pub mod sensor;
pub mod site;
pub mod text;
pub mod unlock;

pub use block::{Block, Hash, NodeId, Seq};
pub use event::{Diagnostic, Event, EventType, Severity};
pub use frame::{Decoder, FrameError};

/// Where PID 1 puts the sockets; one file per service, owned by its uid, group [`CLIENTS_GID`].
pub const SOCKET_DIR: &str = "/run/hookprobe";
/// `ledger`'s socket.
pub const LEDGER_SOCKET: &str = "/run/hookprobe/ledger.sock";
/// `sensor`'s socket.
pub const SENSOR_SOCKET: &str = "/run/hookprobe/sensor.sock";
/// `inspector`'s socket.
pub const INSPECTOR_SOCKET: &str = "/run/hookprobe/inspector.sock";
/// `response`'s socket.
pub const RESPONSE_SOCKET: &str = "/run/hookprobe/response.sock";
/// `attest`'s socket.
pub const ATTEST_SOCKET: &str = "/run/hookprobe/attest.sock";
/// PID 1's socket.
pub const INIT_SOCKET: &str = "/run/hookprobe/init.sock";
/// The site configuration that PID 1 accepted (always valid; defaults where the file was not).
pub const SITE_FILE: &str = "/run/hookprobe/site.toml";
/// File system in memory for rules and lists, PID 1's alone to write.
pub const DETECTION_MOUNT: &str = "/run/hookprobe/detection";
/// Folder of rules and lists in force, which PID 1 copied from the boot partition and measured. It is
/// exchanged as a whole.
pub const DETECTION_DIR: &str = "/run/hookprobe/detection/now";

/// Group whose members may connect to the sockets above.
pub const CLIENTS_GID: u32 = 800;
/// User of `ledger`.
pub const LEDGER_UID: u32 = 801;
/// User of `sensor`.
pub const SENSOR_UID: u32 = 802;
/// User of `response`.
pub const RESPONSE_UID: u32 = 803;
/// User of `console`.
pub const CONSOLE_UID: u32 = 804;
/// User of the DHCP client.
pub const DHCP_UID: u32 = 805;
/// User of `attest`, and of the helper that opens the state volume.
pub const ATTEST_UID: u32 = 806;
/// User of `inspector`.
pub const INSPECTOR_UID: u32 = 807;
/// User of `courier`.
pub const COURIER_UID: u32 = 808;
