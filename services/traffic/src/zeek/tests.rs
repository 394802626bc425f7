//! Histories and states, packet by packet.
