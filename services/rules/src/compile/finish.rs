//! What is decided when the whole rule is known: its kind, its directions, what its engines are.

use hookprobe_traffic::{Direction, app::Proto};

use super::{Builder, RuleError, fault};
use crate::{
    buffer::{self, Buffer, Place},
    chain::{Content, Op, Value},
    finder::Finder,
    rule::{Action, AppName, Engine, Kind, Look, Owner, Post, Rule, Test},
};

impl Builder<'_, '_> {
    pub(super) fn finish(mut self, line: usize) -> Result<Rule, RuleError> {
        if self.sid == 0 {
            return Err(RuleError::Sid);
        }
        if let Some(pending) = &self.pending {
            let name = pending.spec.names.first().copied().unwrap_or_default();
            return Err(fault(name, "sticky buffer without a match"));
        }
        for found in &mut self.buffers {
            fold_case(found.buffer, &mut found.ops);
        }
        for op in self.all_ops() {
            settle(op);
        }
        self.check()?;
        self.name_app();
        let directions = self.directions();
        self.stream_or_packet();
        let is_app = self.app.is_some() || !self.buffers.is_empty() || !self.tx_tests.is_empty();
        let kind = self.kind.unwrap_or_else(|| self.kind_of(is_app, directions));
        let engines = self.engines(directions)?;
        let only_stream =
            self.tests.iter().any(|test| matches!(test, Test::Flow(flow) if flow.only_stream));
        let is_silent = self.is_silent || self.action == Action::Pass;
        let priority = self.priority.or(self.class_priority).unwrap_or(3);
        Ok(Rule {
            order: 0,
            gid: self.gid,
            sid: self.sid,
            rev: self.rev,
            message: self.message,
            action: self.action,
            scope: self.scope,
            is_silent,
            priority,
            category: self.category,
            metadata: self.metadata,
            references: self.references,
            target: self.target,
            kind,
            line,
            text: None,
            header: self.header,
            // The others have no early place in Suricata either.
            hook: self.early.filter(|_| kind == Kind::Packet),
            app: self.app,
            tests: self.tests,
            payload: self.payload,
            packet_buffers: self.packet_buffers.into(),
            buffers: self.buffers,
            tx_tests: self.tx_tests.into(),
            engines,
            base64: self.base64.into(),
            post: self.post.into(),
            limit: self.limit.map(Box::new),
            filter: self.filter.map(Box::new),
            needs_packet: self.needs_packet,
            needs_stream: self.needs_stream,
            only_stream,
            is_transactional: self.is_transactional,
        })
    }

    fn all_ops(&mut self) -> impl Iterator<Item = &mut Op> {
        self.payload
            .iter_mut()
            .chain(self.base64.iter_mut())
            .chain(self.buffers.iter_mut().flat_map(|found| found.ops.iter_mut()))
            .chain(self.packet_buffers.iter_mut().flat_map(|found| found.ops.iter_mut()))
    }

    fn check(&self) -> Result<(), RuleError> {
        let has_tx = !self.buffers.is_empty() || !self.tx_tests.is_empty();
        if has_tx && self.needs_packet {
            return Err(RuleError::Conflict(
                "matches on packets (dsize, flags, ttl, ..) and on transactions do not go together",
            ));
        }
        if self.limit.is_some() && self.filter.is_some() {
            return Err(RuleError::Conflict("threshold and detection_filter exclude each other"));
        }
        Ok(())
    }

    /// A buffer of one protocol makes the rule one of that protocol.
    fn name_app(&mut self) {
        if self.app.is_some() {
            return;
        }
        let mut protos: Vec<Vec<Proto>> = Vec::new();
        for found in &self.buffers {
            let places = buffer::spec(found.buffer).map(|spec| spec.places).unwrap_or_default();
            protos.push(places.iter().map(|place| place.proto).collect());
        }
        for (_, places) in &self.tx_tests {
            protos.push(places.iter().map(|place| place.proto).collect());
        }
        for protos in protos {
            let Some(first) = protos.first().copied() else { continue };
            if protos.iter().all(|proto| *proto == first) {
                self.app = Some(match first {
                    Proto::Http1 => AppName::Http,
                    other => AppName::One(other),
                });
                return;
            }
        }
    }

    /// Which ways the rule looks: by `flow`, else by buffers that exist in one direction only.
    fn directions(&self) -> [bool; 2] {
        let flow = self.tests.iter().find_map(|test| match test {
            Test::Flow(flow) => flow.direction,
            _ => None,
        });
        match flow {
            Some(Direction::ToServer) if !self.is_transactional => [true, false],
            Some(Direction::ToClient) if !self.is_transactional => [false, true],
            Some(_) | None => self.buffer_directions(),
        }
    }

    fn buffer_directions(&self) -> [bool; 2] {
        if self.is_transactional {
            return [true, true];
        }
        let mut out = [true, true];
        for found in &self.buffers {
            let places = buffer::spec(found.buffer).map(|spec| spec.places).unwrap_or_default();
            let has = |direction| {
                found.only.is_none_or(|only| only == direction)
                    && places.iter().any(|place| place.direction == direction)
            };
            match (has(Direction::ToServer), has(Direction::ToClient)) {
                (true, false) => out = [out[0], false],
                (false, true) => out = [false, out[1]],
                _ => {}
            }
        }
        out
    }

    fn stream_or_packet(&mut self) {
        if self.payload.is_empty()
            || !(self.header.transports.is_tcp
                || self.header.transports.is_any
                || self.app.is_some())
        {
            return;
        }
        let no_stream =
            self.tests.iter().any(|test| matches!(test, Test::Flow(flow) if flow.no_stream));
        let only_stream =
            self.tests.iter().any(|test| matches!(test, Test::Flow(flow) if flow.only_stream));
        if no_stream {
            self.needs_packet = true;
        }
        if only_stream {
            self.needs_stream = true;
        }
        let carries_tcp = self.header.transports.is_tcp || self.header.transports.is_any;
        if carries_tcp && !self.needs_packet && !self.needs_stream {
            self.needs_stream = true;
            self.needs_packet = self.payload.iter().any(|op| {
                matches!(op, Op::Content(content)
                    if content.depth.is_some() || content.offset.is_some())
            });
        }
    }

    fn kind_of(&self, is_app: bool, directions: [bool; 2]) -> Kind {
        let has_payload = !self.payload.is_empty() || !self.base64.is_empty();
        let has_tx = !self.buffers.is_empty() || !self.tx_tests.is_empty();
        let is_plain =
            self.app.is_none() && !has_payload && !has_tx && self.packet_buffers.is_empty();
        if is_plain && !self.tests.is_empty() && self.is_protocol_only() {
            return Kind::ProtocolOnly;
        }
        if is_plain && self.is_ip_only(directions) {
            let is_negated =
                self.header.source.has_negation() || self.header.destination.has_negation();
            return if is_negated { Kind::LikeIpOnly } else { Kind::IpOnly };
        }
        if is_plain
            && !self.tests.is_empty()
            && self.tests.iter().all(
                |test| matches!(test, Test::Event(event) if event.name().starts_with("decoder.")),
            )
        {
            return Kind::EventOnly;
        }
        if !self.packet_buffers.is_empty() {
            return Kind::Packet;
        }
        if has_tx {
            return Kind::Transaction;
        }
        if has_payload {
            return match (self.needs_packet, self.needs_stream) {
                (true, false) => Kind::Packet,
                (false, true) => Kind::Stream,
                _ => Kind::PacketStream,
            };
        }
        let is_way = |test: &Test| matches!(test, Test::Flow(flow) if !flow.only_fragment && !flow.no_fragment);
        if !(self.tests.is_empty() || self.app.is_some() && self.tests.iter().all(is_way)) {
            return Kind::Packet;
        }
        if is_app { Kind::AppLayer } else { Kind::Packet }
    }

    fn is_protocol_only(&self) -> bool {
        let mut has_proto = false;
        for test in &self.tests {
            match test {
                Test::AppProto { .. } => has_proto = true,
                Test::Flow(flow) => {
                    if flow.is_established.is_some()
                        || flow.only_stream
                        || flow.no_stream
                        || flow.is_stateless
                        || flow.only_fragment
                        || flow.no_fragment
                    {
                        return false;
                    }
                }
                _ => return false,
            }
        }
        has_proto
    }

    fn is_ip_only(&self, directions: [bool; 2]) -> bool {
        // Whatever is tested but a bit that the host owns needs the packet.
        directions == [true, true]
            && !self.header.transports.is_arp
            && !self.header.transports.is_ether
            && self.early.is_none()
            && self.tests.iter().all(|test| match test {
                Test::Bits { bits, .. } => bits.owner != Owner::Flow,
                // These are part of the header to Suricata.
                Test::IpProto(_) | Test::IpVersion(_) => true,
                _ => false,
            })
            && self.post.iter().all(|post| match post {
                Post::Set(_) | Post::Tag(_) => true,
                Post::Unset(bits) | Post::Toggle(bits) => bits.owner != Owner::Flow,
                Post::IntSet(..) | Post::IntAdd(..) | Post::IntSubtract(..) | Post::Bypass => false,
            })
    }

    fn engines(&mut self, directions: [bool; 2]) -> Result<Vec<Engine>, RuleError> {
        let mut engines: Vec<Engine> = Vec::new();
        let fast = self.fast_buffer();
        let mut add = |look: Look, place: &Place, is_prefiltered: bool| {
            let id = u8::try_from(engines.len()).unwrap_or(u8::MAX);
            engines.push(Engine {
                id,
                proto: Some(place.proto),
                direction: place.direction,
                progress: place.progress,
                look,
                is_prefiltered,
            });
        };
        let is_on = |direction: Direction| *direction.of(&directions);
        for ((index, at), found) in (0..=u16::MAX).enumerate().zip(&self.buffers) {
            let places = buffer::spec(found.buffer).map(|spec| spec.places).unwrap_or_default();
            for place in places.iter().filter(|place| {
                is_on(place.direction) && found.only.is_none_or(|only| only == place.direction)
            }) {
                add(Look::Buffer(at), place, fast == Some(index));
            }
        }
        for (at, (_, places)) in (0..=u16::MAX).zip(&self.tx_tests) {
            for place in places.iter().filter(|place| is_on(place.direction)) {
                add(Look::Test(at), place, false);
            }
        }
        let is_told = |wanted| engines.iter().any(|engine| engine.direction == wanted);
        if self.is_transactional && !Direction::BOTH.into_iter().all(is_told) {
            return Err(RuleError::Conflict("a rule with => has no match in one direction"));
        }
        if engines.is_empty() {
            let has_any = !self.buffers.is_empty() || !self.tx_tests.is_empty();
            return if has_any {
                Err(RuleError::Conflict("no buffer of the rule exists in its direction"))
            } else {
                Ok(engines)
            };
        }
        if !self.payload.is_empty() {
            for direction in Direction::BOTH.into_iter().filter(|direction| is_on(*direction)) {
                let id = u8::try_from(engines.len()).unwrap_or(u8::MAX);
                engines.push(Engine {
                    id,
                    proto: None,
                    direction,
                    progress: 0,
                    look: Look::Stream,
                    is_prefiltered: false,
                });
            }
        }
        if engines.len() > 29 {
            return Err(RuleError::Conflict("too many buffers in one rule"));
        }
        // In order of progress; the one that the prefilter waits for is first.
        engines.sort_by_key(|engine| (!engine.is_prefiltered, engine.progress));
        for (id, engine) in engines.iter_mut().enumerate() {
            engine.id = u8::try_from(id).unwrap_or(u8::MAX);
        }
        Ok(engines)
    }

    /// The buffer with the content that the prefilter looks for.
    fn fast_buffer(&self) -> Option<usize> {
        let rank = |content: &Content| crate::prefilter::rank(content);
        let best = |ops: &[Op]| {
            ops.iter()
                .filter_map(|op| match op {
                    Op::Content(content) => rank(content),
                    _ => None,
                })
                .max()
        };
        let payload = best(&self.payload);
        let buffers = self.buffers.iter().enumerate();
        let (rank, index) = buffers
            .filter_map(|(index, found)| best(&found.ops).map(|rank| (rank, index)))
            .max_by_key(|(rank, index)| (*rank, usize::MAX - index))?;
        (payload.is_none_or(|payload| rank >= payload)).then_some(index)
    }
}

/// Buffers whose case is known, whatever case the rule is written in.
fn fold_case(buffer: Buffer, ops: &mut [Op]) {
    for op in ops {
        let Op::Content(content) = op else { continue };
        match buffer {
            Buffer::TlsSerial if !content.is_caseless => content.pattern.make_ascii_uppercase(),
            Buffer::TlsFingerprint
            | Buffer::Ja3Hash
            | Buffer::Ja3sHash
            | Buffer::SshHassh
            | Buffer::SshHasshServer
            | Buffer::QuicCyuHash => content.pattern.make_ascii_lowercase(),
            _ => {}
        }
    }
}

/// Depth counts from the offset; what is found letter for letter has a finder.
fn settle(op: &mut Op) {
    let Op::Content(content) = op else { return };
    if let (Some(Value::Number(offset)), Some(Value::Number(depth))) =
        (content.offset, content.depth)
        && !content.is_at_start
    {
        content.depth = Some(Value::Number(depth.saturating_add(offset)));
    }
    if !content.is_caseless {
        content.finder = Some(Finder::default());
    }
}
