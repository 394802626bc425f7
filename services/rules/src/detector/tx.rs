//! Rules for transactions: engines in order of progress, with what was found kept by transaction.

use std::borrow::Cow;

use hookprobe_traffic::{
    app::{
        App, Proto, TxRef,
        http::{File, FileState},
        http2::{Note, Value},
        tls::Certificate,
    },
    engine::View,
    packet::{Origin, Transport},
};

use super::{Work, has_app, is_settled, slot_of};
use crate::{
    buffer::{Buffer, tx_data},
    chain::Scan,
    few::Few,
    grown::{Grown, may_grow},
    number::Compare,
    rule::{CertTime, FrameTest, Look, Match, Rule, TxTest},
    state::{FlowState, TxState},
};

/// Transactions of a flow whose state is kept: more than the application layer keeps.
const TXS_MAX: usize = 512;
/// Instances of one buffer that are looked at.
const INSTANCES_MAX: usize = 1024;

const FULL: u32 = 1 << 31;
const CANT: u32 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Match,
    No,
    Cant,
}

impl Work<'_> {
    pub(super) fn transactions(&mut self, view: &View<'_, '_>) {
        let Some(flow) = view.flow.as_deref() else { return };
        if !has_app(view) || flow.app.txs_len() == 0 {
            return;
        }
        let is_end = view.is_stream_end || view.packet.origin == Origin::FlowEnd;
        let is_tcp = matches!(view.packet.transport, Transport::Tcp(_));
        let mark = fingerprint(flow, view.direction);
        self.note_fed(view);
        let seen = std::mem::replace(view.direction.of_mut(&mut self.state.seen), mark);
        if is_tcp && seen == mark && !is_end {
            return;
        }
        let is_new = self.state.proto != flow.app.proto();
        self.forget(&flow.app);
        for tx in flow.app.txs() {
            // A message of which nothing came yet is looked at when the flow ends.
            let is_silent = matches!(tx, TxRef::Http(http) if http.notes.is_none())
                && tx.progress(view.direction) == 0
                && !is_end;
            if tx.has_direction(view.direction) && !is_silent {
                self.transaction(tx, view);
            }
        }
        if is_new && self.rules.prefilter.has_states {
            // That the protocol was found is news to the next packet of this direction, too.
            *view.direction.of_mut(&mut self.state.seen) = 0;
        }
    }

    /// Rules about a state alone are looked at whenever its direction was fed, whatever came of it.
    fn note_fed(&mut self, view: &View<'_, '_>) {
        if !self.rules.prefilter.has_states || view.fed == [false; 2] {
            return;
        }
        for direction in hookprobe_traffic::Direction::BOTH {
            if *direction.of(&view.fed) || direction == view.direction {
                *direction.of_mut(&mut self.state.seen) = 0;
            }
        }
    }

    /// Drops the state of transactions that are gone, so that there is room for those that are kept.
    fn forget(&mut self, app: &App) {
        if self.state.proto != app.proto() {
            self.state.proto = app.proto();
            self.state.txs.clear();
        }
        let first = app.tx(0).map_or(0, TxRef::id);
        self.state.txs.retain(|tx| tx.id >= first);
        // One that stays open keeps those behind it in place, whether they are there or not.
        if self.state.txs.len() > app.txs_len() {
            self.state.txs.retain(|known| app.txs().any(|tx| tx.id() == known.id));
        }
    }

    pub(super) fn tx_state(&mut self, id: u64) -> &mut TxState {
        let at = self.state.txs.iter().position(|tx| tx.id == id);
        let at = at.unwrap_or_else(|| {
            if self.state.txs.len() >= TXS_MAX {
                self.state.txs.remove(0);
            }
            self.state.txs.push(TxState { id, ..TxState::default() });
            self.state.txs.len() - 1
        });
        let at = at.min(self.state.txs.len().saturating_sub(1));
        #[expect(clippy::indexing_slicing, reason = "`at` was found or pushed just above")]
        &mut self.state.txs[at]
    }

    fn transaction(&mut self, tx: TxRef<'_>, view: &View<'_, '_>) {
        let side = slot_of(view.direction);
        let progress = tx.progress(view.direction);
        let state = self.tx_state(tx.id());
        if state.is_done.get(side).copied().unwrap_or(false) {
            return;
        }
        let searched = state.searched.get_mut(side).map(|own| std::mem::replace(own, progress));
        self.collect_tx(tx, view, progress, searched.unwrap_or(0));
        let mut index = 0;
        while let Some(order) = self.candidates.get(index) {
            index += 1;
            let rules = self.rules;
            let Some(rule) = rules.rule(order) else { continue };
            let flags = self.stored(tx.id(), side, order);
            if flags.is_some_and(|flags| flags & (FULL | CANT) != 0) {
                continue;
            }
            self.tx_rule(rule, tx, view, flags);
        }
        // Of a handshake that is over nothing more is learnt but that the session ends.
        let is_known = matches!(tx, TxRef::Tls(_))
            && !self.rules.prefilter.has_states
            && view.flow.as_deref().is_some_and(|flow| flow.is_app_done);
        if is_known || progress >= tx.progress_complete(view.direction) {
            let state = self.tx_state(tx.id());
            if let Some(done) = state.is_done.get_mut(side) {
                *done = true;
            }
            if let Some(rules) = state.rules.get_mut(side) {
                rules.clear();
            }
            state.grown.retain(|grown| usize::from(grown.place().1) != side);
        }
    }

    /// What is kept of a rule in a transaction.
    fn stored(&self, id: u64, side: usize, order: u32) -> Option<u32> {
        let state = self.state.txs.iter().find(|tx| tx.id == id)?;
        let mut rules = state.rules.get(side)?.iter();
        rules.find(|(known, _)| *known == order).map(|(_, flags)| *flags)
    }

    /// The candidates: what the searches find in the buffers that are there, and what waits for more.
    /// Buffers below `searched` were complete when they were searched last: what was found in them has
    /// been looked at, and is kept where it waits for more.
    fn collect_tx(&mut self, tx: TxRef<'_>, view: &View<'_, '_>, progress: u8, searched: u8) {
        self.candidates.clear();
        let rules = self.rules;
        let proto = view.flow.as_deref().and_then(|flow| flow.app.proto());
        for (rule, app) in &rules.prefilter.tx_always {
            if app.is_none_or(|app| app.fits(proto, false)) {
                self.candidates.add(*rule);
            }
        }
        let body = self.body(view);
        let is_last_look = progress >= tx.progress_complete(view.direction);
        let due = rules.prefilter.in_tx(kind(tx), view.direction, (searched, progress));
        // A message in HTTP/2 may come with its body, however far the stream was before.
        let carried = carried(tx, view.direction).is_some();
        let in_message = carried
            .then(|| rules.prefilter.in_tx(Proto::Dns, view.direction, (0, progress)))
            .into_iter()
            .flatten();
        for (number, entry) in due.chain(in_message) {
            let Some(search) = &entry.search else { continue };
            let (order, at) = entry.lender;
            let Some(lender) = rules.rule(order).and_then(|rule| rule.buffers.get(at)) else {
                continue;
            };
            let count = if lender.is_multi { INSTANCES_MAX } else { 1 };
            let data = |index| {
                let data = tx_data(entry.buffer, tx, view.direction, index, body);
                data.filter(|_| index < count)
            };
            if may_grow(entry.buffer) && data(0).is_some() {
                let place = (number, slot_of(view.direction));
                if let Some(grown) = grown_of(self.state, tx.id(), place, is_last_look) {
                    grown.search(search, &lender.transforms, data, self.candidates);
                    continue;
                }
            }
            for (data, _) in (0..count).map_while(data) {
                search.find(&transformed(lender, data), self.candidates);
            }
        }
        let side = slot_of(view.direction);
        let state = self.state.txs.iter().find(|known| known.id == tx.id());
        let waiting = state.and_then(|state| state.rules.get(side)).map(Few::as_slice);
        for (rule, _) in waiting.unwrap_or_default() {
            self.candidates.add(*rule);
        }
        self.candidates.sort();
    }

    fn tx_rule(&mut self, rule: &Rule, tx: TxRef<'_>, view: &View<'_, '_>, stored: Option<u32>) {
        if stored.is_none() {
            let Some(flow) = view.flow.as_deref() else { return };
            let is_app = rule.app.is_none_or(|app| app.fits(flow.app.proto(), false));
            let mut tests = rule.tests.iter();
            let fits = is_app
                && tests.all(|test| {
                    rule_test_is_for_other_side(rule, test) || self.holds(test, view, Some(tx.id()))
                })
                && (self.header_fits(rule, view)
                    || (rule.is_transactional && self.header_fits_reversed(rule, view)));
            if !fits {
                return;
            }
        }
        let mut flags = stored.unwrap_or(0);
        let mut scan = Self::scan(self.sets, rule);
        if stored.is_none() {
            for found in rule.packet_buffers.iter() {
                let Some(data) = crate::buffer::packet_data(found.buffer, view.packet) else {
                    return;
                };
                if !scan.matches(&found.ops, &transformed(found, data), 0, true) {
                    return;
                }
            }
        }
        let body_end = view.is_stream_end || view.packet.origin == Origin::FlowEnd;
        let body = crate::buffer::Body {
            bytes_min: self.rules.config.body_bytes_min,
            is_end: body_end,
            is_closed: is_settled(view),
            is_inline: self.is_inline || self.rules.config.is_body_inline,
        };
        let is_full = run_engines(rule, tx, view, &mut flags, &mut scan, body);
        let (captures, contexts) = (scan.captures, scan.contexts);
        // A hook holds as long as the message is where it says.
        let is_there = rule.is_hook_at(tx.reached(view.direction));
        let is_over = tx.progress(view.direction) >= tx.progress_complete(view.direction);
        if flags != stored.unwrap_or(0) && (is_over || !is_there) {
            self.store(rule, tx, view, flags);
        }
        if is_full {
            self.keep(captures);
            self.hit(rule, view, Some(tx.id()), false, contexts);
        }
    }

    fn header_fits_reversed(&self, rule: &Rule, view: &View<'_, '_>) -> bool {
        let packet = view.packet;
        packet.ip.as_ref().is_some_and(|ip| {
            rule.header.fits(
                ip.destination,
                ip.source,
                packet.ports().map(|(source, destination)| (destination, source)),
            )
        })
    }

    fn store(&mut self, rule: &Rule, tx: TxRef<'_>, view: &View<'_, '_>, flags: u32) {
        let sides: &[usize] =
            if rule.is_transactional { &[0, 1] } else { &[slot_of(view.direction)][..] };
        let order = rule.order;
        let state = self.tx_state(tx.id());
        for side in sides {
            let Some(rules) = state.rules.get_mut(*side) else { continue };
            match rules.iter_mut().find(|(known, _)| *known == order) {
                Some(entry) => entry.1 = flags,
                None => rules.push((order, flags)),
            }
        }
    }
}

/// What is remembered of a search in the bodies of a transaction; nothing is begun with a last look.
fn grown_of(
    state: &mut FlowState,
    id: u64,
    place: (u32, usize),
    is_last_look: bool,
) -> Option<&mut Grown> {
    let tx = state.txs.iter_mut().find(|tx| tx.id == id)?;
    let place = (place.0, u8::try_from(place.1).ok()?);
    let at = tx.grown.iter().position(|grown| grown.place() == place);
    if at.is_none() && !is_last_look {
        tx.grown.push(Grown::new(place));
    }
    let at = at.unwrap_or(tx.grown.len().checked_sub(1)?);
    tx.grown.get_mut(at).filter(|grown| grown.place() == place)
}

/// `flow:to_server` of a transactional rule says nothing of the response.
fn rule_test_is_for_other_side(rule: &Rule, test: &crate::rule::Test) -> bool {
    rule.is_transactional && matches!(test, crate::rule::Test::Flow(_))
}

/// Runs the engines that are due; whether all of them have matched now.
fn run_engines(
    rule: &Rule,
    tx: TxRef<'_>,
    view: &View<'_, '_>,
    flags: &mut u32,
    scan: &mut Scan<'_>,
    body: crate::buffer::Body,
) -> bool {
    let progress = tx.reached(view.direction);
    let now_s = i64::try_from(view.packet.time_ns / 1_000_000_000).unwrap_or(i64::MAX);
    let is_response = view.direction == hookprobe_traffic::Direction::ToClient;
    let mut matches = 0;
    for (at, engine) in rule.engines.iter().enumerate() {
        let bit = 1 << engine.id;
        let is_last = at + 1 == rule.engines.len();
        if *flags & bit != 0 {
            continue;
        }
        let is_own = engine.direction == view.direction;
        if !(is_own || (rule.is_transactional && is_response)) {
            if rule.is_transactional && !is_response && is_last {
                return false;
            }
            continue;
        }
        let is_mdns =
            view.flow.as_deref().is_some_and(|flow| flow.app.proto() == Some(Proto::Mdns));
        let is_other = |proto| !is_of(tx, proto) || (proto == Proto::Mdns) != is_mdns;
        if engine.proto.is_some_and(is_other) {
            continue;
        }
        let own_progress = if is_own { progress } else { tx.reached(engine.direction) };
        if own_progress < engine.progress {
            return false;
        }
        let complete = tx.progress_complete(engine.direction);
        // What ends with this progress is never known to be absent, as in Suricata.
        // What broke before it closed does not come further with the end.
        // SSH is not over before its keys are new, however the session ends.
        let is_end = body.is_end
            && !(body.is_closed && is_broken(tx, engine.direction))
            && !matches!(tx, TxRef::Ssh(_));
        let is_past = if is_end { complete } else { own_progress } > engine.progress;
        let is_over = is_past || own_progress >= complete || body.is_end;
        let outcome = match engine.look {
            Look::Buffer(index) => {
                rule.buffers.get(usize::from(index)).map_or(Outcome::Cant, |found| {
                    let over = (is_over, is_past);
                    buffer_outcome(found, tx, engine.direction, over, scan, body)
                })
            }
            Look::Stream => stream_outcome(rule, view, scan),
            Look::Test(index) => {
                rule.tx_tests.get(usize::from(index)).map_or(Outcome::Cant, |(test, _)| {
                    test_outcome(test, tx, engine.direction, is_over, now_s)
                })
            }
        };
        match outcome {
            Outcome::Match => {
                *flags |= bit;
                matches += 1;
            }
            Outcome::Cant => {
                *flags |= CANT | bit;
                return false;
            }
            Outcome::No => return false,
        }
    }
    if matches > 0 {
        *flags |= FULL;
    }
    matches > 0
}

fn stream_outcome(rule: &Rule, view: &View<'_, '_>, scan: &mut Scan<'_>) -> Outcome {
    let found = match view.packet.transport {
        Transport::Udp { .. } => scan.matches(&rule.payload, view.packet.payload, 0, true),
        Transport::Tcp(_) => {
            let mut raws = super::raws(view);
            raws.any(|raw| scan.matches(&rule.payload, raw.bytes, 0, false))
        }
        _ => true,
    };
    if found { Outcome::Match } else { Outcome::No }
}

fn transformed<'a>(found: &Match, data: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
    if data.is_empty() {
        // Of nothing Suricata makes nothing, no digest either.
        return data;
    }
    found.transforms.iter().fold(data, |data, transform| transform.apply(data))
}

fn buffer_outcome(
    found: &Match,
    tx: TxRef<'_>,
    direction: hookprobe_traffic::Direction,
    (is_over, is_past): (bool, bool),
    scan: &mut Scan<'_>,
    body: crate::buffer::Body,
) -> Outcome {
    let otherwise = if is_over { Outcome::Cant } else { Outcome::No };
    let is_body = matches!(
        found.buffer,
        Buffer::HttpRequestBody | Buffer::HttpResponseBody | Buffer::FileData
    );
    let count = if found.is_multi { INSTANCES_MAX } else { 1 };
    for index in 0..count {
        let Some((data, start)) = tx_data(found.buffer, tx, direction, index, body) else {
            if index == 0 && found.is_absent {
                // Of what broke nobody knows whether it would have come.
                let is_sure = is_past && !(is_body && is_broken(tx, direction));
                return if is_sure { Outcome::Match } else { otherwise };
            }
            break;
        };
        let data = transformed(found, data);
        let is_end = !is_body || is_over || body_is_finished(tx, direction);
        if scan.matches(&found.ops, &data, start, is_end) {
            return Outcome::Match;
        }
    }
    otherwise
}

fn dns_fits(
    test: &TxTest,
    message: &hookprobe_traffic::app::dns::Message,
    direction: hookprobe_traffic::Direction,
) -> bool {
    match test {
        TxTest::DnsOpcode(compare) => compare.fits(u64::from(message.opcode())),
        TxTest::DnsRcode(compare) => compare.fits(u64::from(message.rcode())),
        TxTest::DnsRrtype(compare) => {
            // What is asked for on the way to the server, what is answered on the way back.
            let fits = |kind: u16| compare.fits(u64::from(kind));
            match direction {
                hookprobe_traffic::Direction::ToServer => {
                    message.queries.iter().any(|query| fits(query.rtype))
                }
                hookprobe_traffic::Direction::ToClient => {
                    message.answers.iter().any(|record| fits(record.rtype))
                }
            }
        }
        _ => false,
    }
}

fn is_broken(tx: TxRef<'_>, direction: hookprobe_traffic::Direction) -> bool {
    matches!(tx, TxRef::Http(tx) if tx.body(direction).is_broken)
}

fn body_is_finished(tx: TxRef<'_>, direction: hookprobe_traffic::Direction) -> bool {
    match tx {
        TxRef::Http(tx) => tx.body(direction).is_finished,
        TxRef::Record(tx) => tx.transfer().is_some_and(|transfer| transfer.body.is_finished),
        _ => false,
    }
}

fn test_outcome(
    test: &TxTest,
    tx: TxRef<'_>,
    direction: hookprobe_traffic::Direction,
    is_over: bool,
    now_s: i64,
) -> Outcome {
    let fits = match (test, tx) {
        (
            TxTest::DnsOpcode(_) | TxTest::DnsRcode(_) | TxTest::DnsRrtype(_),
            TxRef::Dns(_) | TxRef::Http(_),
        ) => {
            let message = match tx {
                TxRef::Dns(tx) => Some(&tx.message),
                other => carried(other, direction),
            };
            message.is_some_and(|message| dns_fits(test, message, direction))
        }
        (TxTest::TlsVersion { versions, is_negated }, TxRef::Tls(tx)) => {
            tx.spoken(direction).is_some_and(|spoken| {
                // Drafts of 1.3 are 1.3.
                let known = if spoken >> 8 == 0x7f { 0x0304 } else { spoken };
                (versions.contains(&known) || versions.contains(&spoken)) != *is_negated
            })
        }
        (TxTest::TlsChain(compare), TxRef::Tls(tx)) => {
            let chain = match direction {
                hookprobe_traffic::Direction::ToServer => &tx.client_chain,
                hookprobe_traffic::Direction::ToClient => &tx.server_chain,
            };
            compare.fits(chain.len() as u64)
        }
        (TxTest::CertText { is_issuer, text, is_negated }, TxRef::Tls(tx)) => {
            let chain = match direction {
                hookprobe_traffic::Direction::ToServer => &tx.client_chain,
                hookprobe_traffic::Direction::ToClient => &tx.server_chain,
            };
            chain.first().is_some_and(|own| {
                let own = if *is_issuer { &own.issuer } else { &own.subject };
                let is_in = memchr::memmem::find(own.as_bytes(), text).is_some();
                !own.is_empty() && is_in != *is_negated
            })
        }
        (TxTest::CertTime(test), TxRef::Tls(tx)) => {
            tx.certificate().is_some_and(|own| cert_time_fits(*test, own, now_s))
        }
        (TxTest::TlsStage { stages, negated }, TxRef::Tls(tx)) => {
            (tx.stage.map_or(0, |stage| stage.bit()) & stages) ^ negated != 0
        }
        (TxTest::Reached, _) => true,
        (TxTest::Frame(test), TxRef::Http(tx)) => tx.notes.as_ref().is_some_and(|notes| {
            // Of types of frames within streams Suricata sees those of the client.
            let is_hidden = matches!(test, FrameTest::Kind(_))
                && !notes.is_control
                && direction == hookprobe_traffic::Direction::ToClient;
            let mut own = notes.list.iter().filter(|note| note.direction == direction);
            !is_hidden && own.any(|note| frame_fits(*test, note))
        }),
        (TxTest::Progress(compare), tx) => compare.fits(u64::from(tx.progress(direction))),
        (TxTest::Event { name, .. }, tx) => tx.events().contains(name),
        (TxTest::FileSize(compare), TxRef::Http(tx)) => {
            let files = match direction {
                hookprobe_traffic::Direction::ToServer => &tx.request.files,
                hookprobe_traffic::Direction::ToClient => &tx.response.files,
            };
            files.iter().any(|file| !tx.body(direction).is_broken && size_fits(*compare, file))
        }
        (TxTest::HasFile, TxRef::Http(tx)) => match direction {
            hookprobe_traffic::Direction::ToServer => !tx.request.files.is_empty(),
            hookprobe_traffic::Direction::ToClient => !tx.response.files.is_empty(),
        },
        (TxTest::HasFile, TxRef::Smtp(tx)) => {
            tx.email.as_ref().is_some_and(|email| !email.attachments.is_empty())
        }
        (TxTest::HasFile, TxRef::Record(tx)) => tx.transfer().is_some(),
        _ => false,
    };
    match (fits, is_over) {
        (true, _) => Outcome::Match,
        // Anomalies may come at any time.
        (false, true) if !matches!(test, TxTest::Event { .. }) => Outcome::Cant,
        (false, _) => Outcome::No,
    }
}

fn frame_fits(test: FrameTest, note: &Note) -> bool {
    match (test, &note.value) {
        (FrameTest::Kind(kind), _) => note.kind == kind,
        (FrameTest::Error(wanted), Value::Error(code)) => wanted == *code,
        (FrameTest::Priority(compare), Value::Priority(weight)) => compare.fits(u64::from(*weight)),
        (FrameTest::Window(compare), Value::Window(growth)) => compare.fits(u64::from(*growth)),
        (FrameTest::Setting(number, compare), Value::Settings(list)) => {
            list.iter().any(|(own, value)| *own == number && compare.fits(u64::from(*value)))
        }
        _ => false,
    }
}

/// Whether the validity of a certificate is as a rule wants it; one that says nothing never is.
fn cert_time_fits(test: CertTime, own: &Certificate, now_s: i64) -> bool {
    let (Some(from), Some(to)) = (own.not_before_s, own.not_after_s) else { return false };
    match test {
        CertTime::Expired => to <= now_s,
        // Suricata does not ask when it begins.
        CertTime::Valid => to > now_s,
        CertTime::NotBefore(low, high) => (low..=high).contains(&from),
        CertTime::NotAfter(low, high) => (low..=high).contains(&to),
    }
}

/// Changes whenever something in the transactions of a direction may have changed.
fn fingerprint(
    flow: &hookprobe_traffic::flow::Flow,
    direction: hookprobe_traffic::Direction,
) -> u64 {
    let mut mark = 1_u64;
    for tx in flow.app.txs() {
        let more = match tx {
            TxRef::Http(tx) => {
                let notes = tx.notes.as_ref().map_or(0, |notes| notes.list.len() as u64);
                tx.body(direction).total + tx.headers(direction).fields.len() as u64 + (notes << 48)
            }
            TxRef::Smtp(tx) => tx.email.as_ref().map_or(0, |email| {
                let bodies = email.attachments.iter();
                let bodies = bodies
                    .map(|found| found.body.total + 1 + (u64::from(found.body.is_finished) << 40));
                bodies.sum::<u64>() + email.headers.len() as u64
            }),
            TxRef::Ssh(tx) => u64::from(tx.side(direction).kex.is_some()),
            TxRef::Tls(tx) => {
                let stage = tx.stage.map_or(0, |stage| u64::from(stage.bit()));
                u64::from(tx.version) + tx.server_chain.len() as u64 + (stage << 32)
            }
            TxRef::Record(tx) => tx.transfer().map_or(0, |transfer| transfer.body.total),
            TxRef::Dns(_) | TxRef::Quic(_) | TxRef::Dhcp(_) => 0,
        };
        for part in [tx.id(), u64::from(tx.progress(direction)), more, tx.events().len() as u64] {
            // The multiplier of splitmix64 spreads the parts.
            mark = (mark.rotate_left(5) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    mark
}

/// The size of a file is known when it has ended; of one that was cut off it is the least.
fn size_fits(compare: Compare, file: &File) -> bool {
    match file.state {
        FileState::Open => false,
        FileState::Closed => compare.fits(file.size),
        _ => {
            let is_least = matches!(compare, Compare::Greater(_) | Compare::GreaterEqual(_));
            is_least && compare.fits(file.size)
        }
    }
}

/// The message of DNS that a stream of HTTP/2 carries.
pub(crate) fn carried(
    tx: TxRef<'_>,
    direction: hookprobe_traffic::Direction,
) -> Option<&hookprobe_traffic::app::dns::Message> {
    match tx {
        TxRef::Http(tx) => tx.doh.as_ref()?.message(direction).map(|tx| &tx.message),
        _ => None,
    }
}

/// The protocol whose parser made it.
fn kind(tx: TxRef<'_>) -> Proto {
    match tx {
        TxRef::Http(_) => Proto::Http1,
        TxRef::Dns(_) => Proto::Dns,
        TxRef::Tls(_) => Proto::Tls,
        TxRef::Ssh(_) => Proto::Ssh,
        TxRef::Smtp(_) => Proto::Smtp,
        TxRef::Quic(_) => Proto::Quic,
        TxRef::Dhcp(_) => Proto::Dhcp,
        TxRef::Record(tx) => tx.proto(),
    }
}

fn is_of(tx: TxRef<'_>, proto: Proto) -> bool {
    let own = kind(tx);
    let is_both = proto == Proto::Dns && matches!(tx, TxRef::Http(tx) if tx.doh.is_some());
    own == proto || (own == Proto::Dns && proto == Proto::Mdns) || is_both
}
