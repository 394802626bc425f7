//! What looks at packets, flows and transactions: rules, outputs, detectors.

use crate::{
    Direction,
    flow::{Flow, Reason},
    packet::Packet,
    zeek,
};

/// What keeps a packet from being looked at as it should be: Suricata's targets of exception
/// policies, in their order.
pub mod exception {
    /// A fragment found no memory.
    pub const DEFRAG_MEMORY: u8 = 1;
    /// There was no memory for a session.
    pub const SESSION_MEMORY: u8 = 2;
    /// A segment found no memory.
    pub const REASSEMBLY_MEMORY: u8 = 4;
    /// There was no memory for a flow.
    pub const FLOW_MEMORY: u8 = 8;
    /// It belongs to no session and begins none.
    pub const MIDSTREAM: u8 = 16;
    /// A parser met bytes that it can't take.
    pub const APP_ERROR: u8 = 32;
    /// It is urgent, and the stream's settings want such packets dropped.
    pub const URGENT: u8 = 64;
    /// It does not fit its session, and the stream's settings want such packets dropped.
    pub const INVALID: u8 = 128;
}

/// A packet and what it belongs to.
#[derive(Debug)]
pub struct View<'v, 'a> {
    /// The packet. At the end of a TCP flow there is one without bytes for each direction that has
    /// something left to inspect (`Origin::FlowEnd`).
    pub packet: &'v Packet<'a>,
    /// The frame around it, if it came out of a tunnel or is made of fragments.
    pub outer: Option<&'v Packet<'a>>,
    /// Its flow; `None` for what has none (no IP, broken headers, fragments, ICMP errors without
    /// their flow, the outside of GRE and IP tunnels).
    pub flow: Option<&'v mut Flow>,
    /// Which way it goes in its flow (without one: `ToServer`).
    pub direction: Direction,
    /// It is the first packet of its flow.
    pub is_first: bool,
    /// The TCP handshake was over when it came; other protocols: both directions were seen.
    pub is_established: bool,
    /// The session refused it: it is wrong where it comes, and says nothing of the application layer.
    pub is_refused: bool,
    /// Its payload went into the stream (`PKT_STREAM_ADD`): stream inspection sees these bytes, so
    /// `content` rules for streams need not look at the packet.
    pub is_in_stream: bool,
    /// Suricata's `PKT_STREAM_EOF`: the session ends here; all that is left is to be inspected.
    pub is_stream_end: bool,
    /// Why it could not be looked at as it should be, bits of [`exception`].
    pub exceptions: u8,
    /// What the application layer did with this packet, in either direction.
    pub is_app_changed: bool,
    /// Directions whose bytes (or end) went to the application layer with this packet.
    pub fed: [bool; 2],
    /// Suricata's `PKT_NOPAYLOAD_INSPECTION`: the flow is encrypted by now, its payload says nothing.
    pub is_payload_hidden: bool,
}

/// Called by the engine. Methods may not block and keep their own state bounded; state of a flow
/// belongs in a `Vec` by [`Flow::slot`].
pub trait Inspector {
    /// Every packet, after flow, stream and application layer took it. Transactions that are
    /// complete are freed once a packet of each of their directions was shown.
    fn packet(&mut self, view: &mut View<'_, '_>);

    /// A connection, as Zeek counts them, has ended: a line of conn.log. `flow` may go on.
    fn connection_end(&mut self, _flow: &Flow, _connection: &zeek::Connection) {}

    /// The flow has ended; its slot is used again. Its transactions are still there.
    fn flow_end(&mut self, _flow: &mut Flow, _reason: Reason) {}

    /// Transactions and streams of the flow were given up because all flows together held too much:
    /// what is known of them may go, too.
    fn app_lost(&mut self, _flow: &Flow) {}

    /// Whether it calls `Flow::raw` and `raw_done`. If nobody does, streams hold nothing for it.
    fn reads_raw_streams(&self) -> bool {
        false
    }
}

impl<I: Inspector + ?Sized> Inspector for &mut I {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        (**self).packet(view);
    }

    fn connection_end(&mut self, flow: &Flow, connection: &zeek::Connection) {
        (**self).connection_end(flow, connection);
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        (**self).flow_end(flow, reason);
    }

    fn app_lost(&mut self, flow: &Flow) {
        (**self).app_lost(flow);
    }

    fn reads_raw_streams(&self) -> bool {
        (**self).reads_raw_streams()
    }
}

impl<I: Inspector + ?Sized> Inspector for Box<I> {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        (**self).packet(view);
    }

    fn connection_end(&mut self, flow: &Flow, connection: &zeek::Connection) {
        (**self).connection_end(flow, connection);
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        (**self).flow_end(flow, reason);
    }

    fn app_lost(&mut self, flow: &Flow) {
        (**self).app_lost(flow);
    }

    fn reads_raw_streams(&self) -> bool {
        (**self).reads_raw_streams()
    }
}

impl<I: Inspector> Inspector for Option<I> {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        if let Some(inner) = self {
            inner.packet(view);
        }
    }

    fn connection_end(&mut self, flow: &Flow, connection: &zeek::Connection) {
        if let Some(inner) = self {
            inner.connection_end(flow, connection);
        }
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        if let Some(inner) = self {
            inner.flow_end(flow, reason);
        }
    }

    fn app_lost(&mut self, flow: &Flow) {
        if let Some(inner) = self {
            inner.app_lost(flow);
        }
    }

    fn reads_raw_streams(&self) -> bool {
        self.as_ref().is_some_and(Inspector::reads_raw_streams)
    }
}

/// All of them, in order.
impl<I: Inspector> Inspector for Vec<I> {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        for inner in self {
            inner.packet(view);
        }
    }

    fn connection_end(&mut self, flow: &Flow, connection: &zeek::Connection) {
        for inner in self {
            inner.connection_end(flow, connection);
        }
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        for inner in self {
            inner.flow_end(flow, reason);
        }
    }

    fn app_lost(&mut self, flow: &Flow) {
        for inner in self {
            inner.app_lost(flow);
        }
    }

    fn reads_raw_streams(&self) -> bool {
        self.iter().any(Inspector::reads_raw_streams)
    }
}

/// Nobody looks.
impl Inspector for () {
    fn packet(&mut self, _view: &mut View<'_, '_>) {}
}

/// Two in order; more by nesting.
impl<A: Inspector, B: Inspector> Inspector for (A, B) {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        self.0.packet(view);
        self.1.packet(view);
    }

    fn connection_end(&mut self, flow: &Flow, connection: &zeek::Connection) {
        self.0.connection_end(flow, connection);
        self.1.connection_end(flow, connection);
    }

    fn flow_end(&mut self, flow: &mut Flow, reason: Reason) {
        self.0.flow_end(flow, reason);
        self.1.flow_end(flow, reason);
    }

    fn app_lost(&mut self, flow: &Flow) {
        self.0.app_lost(flow);
        self.1.app_lost(flow);
    }

    fn reads_raw_streams(&self) -> bool {
        self.0.reads_raw_streams() || self.1.reads_raw_streams()
    }
}
