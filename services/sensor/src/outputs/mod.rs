//! What the sensor says to others about the traffic: EVE JSON, Zeek's logs, events of the ledger.
//!
//! Everything here is pure but for the `io::Write` it is given: flows and transactions in, lines
//! out; time is the packets'. Nothing may keep a packet, and no table is without a cap. Replay,
//! `verify` and the live service call it.

pub mod eve;
pub mod events;
pub mod json;
pub mod time;
pub mod told;
pub mod zeek;
