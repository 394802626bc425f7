//! EVE: one JSON object a line, as Suricata 8 writes it and its ecosystem reads it.
//!
//! [`Writer`] is an [`Inspector`] for flows, transactions, files and anomalies; alerts are handed
//! in by whoever has them: [`Writer::alert`] by the replay, and [`alert()`] alone by `verify`, which
//! needs the object and no line. An event about a transaction is written when the transaction is
//! complete or its flow ends.

mod alert;
mod app;
pub mod base;
mod community;
mod dns;
mod flows;
mod http;
mod pseudo;
mod records;
mod sdp;
mod settings;
pub mod text;
mod writer;
mod written;
mod xff;

pub use self::{
    alert::{Place, Signature, alert, dropped, finding, tagged},
    app::objects,
    community::community_id,
    http::fileinfo,
    settings::{Details, Parts, Settings, Types},
    writer::{Judged, Metadata, Writer},
    xff::Xff,
};
