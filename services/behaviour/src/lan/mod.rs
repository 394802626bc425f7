//! Detectors for what only neighbours on the same link can do: [`arp`], [`dhcp`], [`router`].

pub mod arp;
pub mod dhcp;
pub mod router;
