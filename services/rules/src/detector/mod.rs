//! The detector: rules against packets, streams and transactions, in Suricata's order.
//!
//! For each packet: rules of addresses only (once for each direction of a flow), rules for packet and
//! stream, rules for transactions, then `finalize` (limits, order, actions). State of flows is kept by
//! slot. What must never happen here: state without a cap, an alert that depends on the prefilter.

mod early;
mod finalize;
mod packet;
mod tests;
mod tx;

use std::sync::Arc;

use hookprobe_traffic::{
    Direction,
    app::State,
    engine::{Inspector, View, exception as met},
    flow::{Fate, Flow, Reason},
    packet::{Origin, Transport},
    stream::Raw,
};

pub(crate) use tx::carried;

use crate::{
    buffer::Body,
    candidates::Candidates,
    chain::{Capture, Scan, Scope},
    config::ExceptionPolicy,
    rule::{Action, IntValue, Owner, Post, RejectTarget, Rule},
    ruleset::Ruleset,
    sets::Sets,
    state::{Dropped, Ends, FlowState, HostBits, set_local},
    tags::{Seen, Tags},
    threshold::Counters,
};

/// Whether packets can be held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Only told.
    #[default]
    Passive,
    /// Dropped packets are dropped.
    Inline,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// A rule.
    Rules,
    /// A rate filter made a rule drop.
    Threshold,
    /// Its flow was dropped before.
    Flow,
    /// Its flow was dropped before, by an exception policy.
    ExceptionFlow,
    /// An exception policy says so, for what this bit of `hookprobe_traffic::engine::exception`
    /// stands for.
    Exception(u8),
}

/// An alert of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Index in [`Ruleset::rules`].
    pub rule: u32,
    /// What the rule wants, after rate filters.
    pub action: Action,
    /// Transaction that matched.
    pub tx_id: Option<u64>,
    /// The transaction was not part of the match.
    pub is_tx_guessed: bool,
    /// Bytes of the stream matched.
    pub is_stream: bool,
    /// Names and JSON of members of datasets.
    pub contexts: Vec<(String, String)>,
}

/// What the rules say of one packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Alerts that are told, in order.
    pub alerts: Vec<Alert>,
    /// The packet is dropped.
    pub drop: Option<DropReason>,
    /// The rule that dropped it.
    pub dropped_by: Option<u32>,
    /// Someone is told of the rejection.
    pub reject: Option<RejectTarget>,
    /// A pass rule matched.
    pub is_passed: bool,
    /// Variables of the packet that were captured.
    pub packet_variables: Vec<(String, Vec<u8>)>,
    /// It follows the alert of a rule that tags its session or one of its hosts.
    pub is_tagged: bool,
}

impl Verdict {
    /// Nothing is said; what was allocated stays.
    fn clear(&mut self) {
        let Self { alerts, drop, dropped_by, reject, is_passed, packet_variables, is_tagged } =
            self;
        alerts.clear();
        packet_variables.clear();
        (*drop, *dropped_by, *reject) = (None, None, None);
        (*is_passed, *is_tagged) = (false, false);
    }
}

/// What was found and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Alerts told.
    pub alerts: u64,
    /// Alerts beyond `packet-alert-max`.
    pub overflow: u64,
    /// Alerts that limits or `noalert` kept quiet.
    pub suppressed: u64,
    /// Counters of limits given up because their table was full.
    pub counters_evicted: u64,
    /// Bits of hosts that did not fit.
    pub host_bits_dropped: u64,
    /// Members of sets that did not fit.
    pub members_dropped: u64,
    /// Tags of sessions and hosts that did not fit.
    pub tags_dropped: u64,
}

/// A match before `finalize`.
#[derive(Clone, Debug)]
struct Hit {
    rule: u32,
    tx_id: Option<u64>,
    has_tx: bool,
    is_guessed: bool,
    is_state: bool,
    is_stream: bool,
    contexts: Vec<(String, String)>,
}

/// Rules with their state.
#[derive(Debug)]
pub struct Detector {
    rules: Arc<Ruleset>,
    /// Names of the bits of flows, by number: outputs ask for them with every event.
    bit_names: Vec<Option<Box<str>>>,
    /// Those of numbers of flows.
    number_names: Vec<Option<Box<str>>>,
    sets: Sets,
    mode: Mode,
    version: u16,
    flows: Vec<FlowState>,
    hosts: HostBits,
    counters: Counters,
    tags: Tags,
    hits: Vec<Hit>,
    candidates: Candidates,
    verdict: Verdict,
    /// What was decided before the packet itself comes.
    held: Held,
    statistics: Statistics,
}

/// What a flow shows before a packet ([`hookprobe_traffic::packet::Packet::is_flush`]) came with that
/// packet: who drops it drops the packet.
#[derive(Debug, Default)]
struct Held {
    drop: Option<DropReason>,
    dropped_by: Option<u32>,
    reject: Option<RejectTarget>,
}

/// What the parts of one inspection share.
struct Work<'w> {
    rules: &'w Ruleset,
    sets: &'w mut Sets,
    hosts: &'w mut HostBits,
    state: &'w mut FlowState,
    hits: &'w mut Vec<Hit>,
    candidates: &'w mut Candidates,
    packet_variables: &'w mut Vec<(String, Vec<u8>)>,
    is_inline: bool,
}

/// Names of a kind, each where its number says.
fn names_of(rules: &Ruleset, kind: &str) -> Vec<Option<Box<str>>> {
    let mut out = Vec::new();
    for (name, number) in rules.names.iter() {
        let place = usize::try_from(number).ok().zip(name.strip_prefix(kind));
        let Some((at, name)) = place else { continue };
        if out.len() <= at {
            // Numbers are those of a count of names.
            out.resize(at + 1, None);
        }
        if let Some(slot) = out.get_mut(at) {
            *slot = Some(name.into());
        }
    }
    out
}

impl Detector {
    /// A detector without flows.
    #[must_use]
    pub fn new(rules: Arc<Ruleset>, sets: Sets, mode: Mode) -> Self {
        Self {
            bit_names: names_of(&rules, "flowbits:"),
            number_names: names_of(&rules, "flowint:"),
            rules,
            sets,
            mode,
            version: 1,
            flows: Vec::new(),
            hosts: HostBits::default(),
            counters: Counters::default(),
            tags: Tags::default(),
            hits: Vec::new(),
            candidates: Candidates::default(),
            verdict: Verdict::default(),
            held: Held::default(),
            statistics: Statistics::default(),
        }
    }

    /// Other rules from the next packet on. Flows keep their bits; transactions start over.
    pub fn reload(&mut self, rules: Arc<Ruleset>, sets: Sets) {
        self.bit_names = names_of(&rules, "flowbits:");
        self.number_names = names_of(&rules, "flowint:");
        self.rules = rules;
        self.sets = sets;
        self.version = self.version.wrapping_add(1);
    }

    /// The rules in use.
    #[must_use]
    pub const fn rules(&self) -> &Arc<Ruleset> {
        &self.rules
    }

    /// What the last packet led to.
    #[must_use]
    pub const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Variables that rules captured in a flow.
    #[must_use]
    pub fn flow_variables(&self, slot: u32) -> &[(String, Vec<u8>)] {
        self.flows.get(slot as usize).map(FlowState::variables).unwrap_or_default()
    }

    /// Whether packets are dropped indeed.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.mode == Mode::Inline
    }

    /// Names of the bits that are set in a flow.
    #[must_use]
    pub fn flow_bits(&self, slot: u32) -> Vec<&str> {
        let Some(state) = self.flows.get(slot as usize) else { return Vec::new() };
        // In the order in which they were set; bits of others than flows have no name here.
        let name = |bit: &u32| self.bit_names.get(usize::try_from(*bit).ok()?)?.as_deref();
        state.bits.iter().filter_map(name).collect()
    }

    /// Names and values of the numbers that rules keep of a flow.
    #[must_use]
    pub fn flow_numbers(&self, slot: u32) -> Vec<(&str, u32)> {
        let Some(state) = self.flows.get(slot as usize) else { return Vec::new() };
        let name = |number: u32| self.number_names.get(usize::try_from(number).ok()?)?.as_deref();
        let numbers = state.numbers().iter();
        numbers.filter_map(|(number, value)| name(*number).map(|name| (name, *value))).collect()
    }

    /// Whether a limit counts by a flow.
    #[must_use]
    pub fn is_flow_counted(&self, slot: u32) -> bool {
        self.flows.get(slot as usize).is_some_and(|state| state.is_counted)
    }

    /// Whether a flow had alerts, is dropped, is passed.
    #[must_use]
    pub fn flow_marks(&self, slot: u32) -> (bool, bool, bool) {
        self.flows.get(slot as usize).map_or((false, false, false), |state| {
            (state.has_alerted, state.dropped != Dropped::No, state.is_passed)
        })
    }

    /// What was found and lost.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            counters_evicted: self.counters.evicted,
            host_bits_dropped: self.hosts.dropped,
            members_dropped: self.sets.dropped,
            tags_dropped: self.tags.dropped,
            ..self.statistics
        }
    }

    /// Inspects one packet.
    pub fn inspect(&mut self, view: &mut View<'_, '_>) -> &Verdict {
        self.verdict.clear();
        self.hits.clear();
        if !view.packet.is_flush {
            let Held { drop, dropped_by, reject } = std::mem::take(&mut self.held);
            (self.verdict.drop, self.verdict.dropped_by) = (drop, dropped_by);
            self.verdict.reject = reject;
        }
        // Put back below: the state of one flow is lent while the rest works.
        let mut flows = std::mem::take(&mut self.flows);
        let mut none = FlowState::default();
        let state = match view.flow.as_deref() {
            Some(flow) => self.state_of(&mut flows, flow).unwrap_or(&mut none),
            None => &mut none,
        };
        if self.early(view, state) {
            // Nobody else sees it.
        } else if state.dropped != Dropped::No {
            let is_exception = state.dropped == Dropped::ByException;
            let reason = if is_exception { DropReason::ExceptionFlow } else { DropReason::Flow };
            self.verdict.drop = Some(reason);
        } else if !state.is_bypassed && !self.exceptions(view.exceptions, state) && !state.is_passed
        {
            self.run(view, state);
        }
        if let Some(flow) = view.flow.as_deref_mut() {
            flow.fate = match state {
                _ if state.is_bypassed => Fate::Bypassed,
                _ if state.dropped != Dropped::No && self.mode == Mode::Inline => Fate::Dropped,
                _ => Fate::Followed,
            };
        }
        let progress = raws(view).last().map(|raw| raw.progress);
        if let (Some(flow), Some(progress)) = (view.flow.as_deref_mut(), progress) {
            flow.raw_done(view.direction, progress);
        }
        self.flows = flows;
        if view.packet.is_flush {
            let Verdict { drop, dropped_by, reject, .. } = &self.verdict;
            self.held.drop = self.held.drop.or(*drop);
            self.held.dropped_by = self.held.dropped_by.or(*dropped_by);
            self.held.reject = self.held.reject.or(*reject);
        }
        &self.verdict
    }

    /// Applies the policies for what a packet met; whether it is not inspected.
    fn exceptions(&mut self, met: u8, state: &mut FlowState) -> bool {
        if met == 0 {
            return false;
        }
        let mut is_skipped = false;
        for bit in (0..u8::BITS).map(|shift| 1 << shift).filter(|bit| met & bit != 0) {
            is_skipped |= self.exception(bit, state);
        }
        is_skipped
    }

    fn exception(&mut self, bit: u8, state: &mut FlowState) -> bool {
        if matches!(bit, met::URGENT | met::INVALID) {
            // No policy and nothing about the flow: the stream's settings want it dropped.
            if self.mode == Mode::Inline {
                self.verdict.drop.get_or_insert(DropReason::Exception(bit));
            }
            return false;
        }
        let (policy, _) = self.rules.config.exception(bit);
        state.exceptions |= bit;
        match policy {
            ExceptionPolicy::Reject => self.verdict.reject = Some(RejectTarget::Source),
            ExceptionPolicy::RejectBoth => self.verdict.reject = Some(RejectTarget::Both),
            _ => {}
        }
        let is_rejection = matches!(policy, ExceptionPolicy::Reject | ExceptionPolicy::RejectBoth);
        match policy {
            ExceptionPolicy::Ignore => return false,
            // Where packets can't be held back a rejection is an answer and nothing else.
            _ if is_rejection && self.mode == Mode::Passive => return false,
            ExceptionPolicy::DropFlow | ExceptionPolicy::Reject | ExceptionPolicy::RejectBoth => {
                state.dropped = Dropped::ByException;
                self.verdict.drop.get_or_insert(DropReason::Exception(bit));
            }
            ExceptionPolicy::DropPacket => {
                self.verdict.drop.get_or_insert(DropReason::Exception(bit));
            }
            ExceptionPolicy::PassFlow => state.is_passed = true,
            ExceptionPolicy::Bypass => {
                state.is_passed = true;
                state.is_bypassed = true;
            }
            ExceptionPolicy::PassPacket => {}
        }
        true
    }

    /// What the packets of a flow met, and the policies that were applied to it for that.
    pub fn flow_exceptions(
        &self,
        slot: u32,
    ) -> impl Iterator<Item = (&'static str, ExceptionPolicy)> {
        let met = self.flows.get(slot as usize).map_or(0, |state| state.exceptions);
        let bits = (0..u8::BITS).map(|shift| 1 << shift).filter(move |bit| met & bit != 0);
        bits.map(|bit| {
            let (policy, name) = self.rules.config.exception(bit);
            (name, policy)
        })
    }

    /// The state of a flow; a slot that is used again starts over.
    fn state_of<'f>(
        &self,
        flows: &'f mut Vec<FlowState>,
        flow: &Flow,
    ) -> Option<&'f mut FlowState> {
        let slot = flow.slot as usize;
        if flows.len() <= slot {
            flows.resize_with(slot + 1, FlowState::default);
        }
        let state = flows.get_mut(slot)?;
        let id = flow.id as u32;
        if state.id != id {
            *state = FlowState { id, ..FlowState::default() };
        }
        if state.version != self.version {
            state.version = self.version;
            state.txs.clear();
        }
        Some(state)
    }

    fn run(&mut self, view: &View<'_, '_>, state: &mut FlowState) {
        let mut work = Work {
            rules: &self.rules,
            sets: &mut self.sets,
            hosts: &mut self.hosts,
            state,
            hits: &mut self.hits,
            candidates: &mut self.candidates,
            packet_variables: &mut self.verdict.packet_variables,
            is_inline: self.mode == Mode::Inline,
        };
        work.packet_rules(view);
        work.transactions(view);
        if !self.hits.is_empty() {
            let rules = Arc::clone(&self.rules);
            self.finalize(view, state, &rules);
        }
        if is_gone_after(view) {
            state.txs.clear();
        }
        if view.packet.origin != Origin::FlowEnd {
            self.verdict.is_tagged = self.tags.is_tagged(&seen(view));
        }
    }
}

impl Inspector for Detector {
    fn packet(&mut self, view: &mut View<'_, '_>) {
        self.inspect(view);
    }

    fn flow_end(&mut self, flow: &mut Flow, _reason: Reason) {
        self.tags.forget(flow.id);
        if let Some(state) = self.flows.get_mut(flow.slot as usize) {
            *state = FlowState::default();
        }
    }

    fn app_lost(&mut self, flow: &Flow) {
        if let Some(state) = self.flows.get_mut(flow.slot as usize) {
            state.txs.clear();
        }
    }

    fn reads_raw_streams(&self) -> bool {
        true
    }
}

impl Work<'_> {
    fn ends(view: &View<'_, '_>) -> Option<Ends> {
        let now_ns = view.packet.time_ns;
        if let Some(ip) = view.packet.ip.as_ref() {
            return Some(Ends { now_ns, source: ip.source, destination: ip.destination });
        }
        let key = view.flow.as_deref()?.key;
        let (source, destination) = match view.direction {
            Direction::ToServer => (key.client, key.server),
            Direction::ToClient => (key.server, key.client),
        };
        Some(Ends { now_ns, source, destination })
    }

    fn scan<'s>(sets: &'s mut Sets, rule: &'s Rule) -> Scan<'s> {
        Scan::new(sets, &rule.base64)
    }

    /// What a match leaves behind in the flow and in the packet.
    fn keep(&mut self, captures: Vec<Capture>) {
        for (scope, name, value) in captures {
            match scope {
                Scope::Flow => self.state.variable(&name, &value),
                Scope::Packet => self.packet_variables.push((name, value)),
                // Those are in the alert's context.
                Scope::Alert => {}
            }
        }
    }

    /// Bits and numbers that a match writes.
    fn post(&mut self, rule: &Rule, view: &View<'_, '_>, tx_id: Option<u64>) {
        let ends = Self::ends(view);
        for post in rule.post.iter() {
            match post {
                Post::Set(bits) | Post::Unset(bits) | Post::Toggle(bits) => {
                    for bit in &bits.bits {
                        let is_on = match post {
                            Post::Set(_) => true,
                            Post::Toggle(_) => !self.has_bit(bits.owner, *bit, ends, tx_id),
                            _ => false,
                        };
                        self.write(bits, *bit, is_on, ends, tx_id);
                    }
                }
                Post::Bypass => self.state.is_bypassed = true,
                Post::Tag(_) => {}
                Post::IntSet(name, value) => self.number(*name, *value, |_, value| Some(value)),
                Post::IntAdd(name, value) => {
                    self.number(*name, *value, |own, value| own.unwrap_or(0).checked_add(value));
                }
                Post::IntSubtract(name, value) => {
                    self.number(*name, *value, |own, value| own.unwrap_or(0).checked_sub(value));
                }
            }
        }
    }

    fn number(
        &mut self,
        name: u32,
        value: IntValue,
        combine: impl Fn(Option<u32>, u32) -> Option<u32>,
    ) {
        if let Some(value) = self.state.value(value)
            && let Some(value) = combine(self.state.number(name), value)
        {
            self.state.put_number(name, value);
        }
    }

    fn has_bit(&self, owner: Owner, bit: u32, ends: Option<Ends>, tx_id: Option<u64>) -> bool {
        match owner {
            Owner::Flow => self.state.bits.contains(&bit),
            Owner::Tx => {
                self.state.txs.iter().any(|tx| Some(tx.id) == tx_id && tx.bits.contains(&bit))
            }
            Owner::Source | Owner::Destination | Owner::Pair => {
                ends.is_some_and(|ends| self.hosts.has(owner, bit, ends))
            }
        }
    }

    fn write(
        &mut self,
        bits: &crate::rule::Bits,
        bit: u32,
        is_on: bool,
        ends: Option<Ends>,
        tx_id: Option<u64>,
    ) {
        let list = match bits.owner {
            Owner::Flow => Some(&mut self.state.bits),
            Owner::Tx => {
                self.state.txs.iter_mut().find(|tx| Some(tx.id) == tx_id).map(|tx| &mut tx.bits)
            }
            Owner::Source | Owner::Destination | Owner::Pair => {
                if let Some(ends) = ends {
                    if is_on {
                        self.hosts.set(bits, bit, ends);
                    } else {
                        self.hosts.unset(bits.owner, bit, ends);
                    }
                }
                None
            }
        };
        if let Some(list) = list {
            if is_on {
                set_local(list, bit);
            } else {
                list.retain(|known| *known != bit);
            }
        }
    }

    fn body(&self, view: &View<'_, '_>) -> Body {
        Body {
            bytes_min: self.rules.config.body_bytes_min,
            is_end: view.is_stream_end || view.packet.origin == Origin::FlowEnd,
            is_closed: is_settled(view),
            is_inline: self.is_inline || self.rules.config.is_body_inline,
        }
    }
}

/// The server closed first and the client after it: nothing comes to the client with the last packet,
/// and Suricata looks at such a flow no more when it ends.
fn is_settled(view: &View<'_, '_>) -> bool {
    let session = view.flow.as_deref().and_then(|flow| flow.tcp.as_ref());
    view.direction == Direction::ToClient
        && session.is_some_and(|session| session.is_closed_by_server)
}

/// What tags count of a packet.
fn seen(view: &View<'_, '_>) -> Seen {
    let ip = view.packet.ip.as_ref();
    Seen {
        now_ns: view.packet.time_ns,
        flow: view.flow.as_deref().map(|flow| flow.id),
        source: ip.map(|ip| ip.source),
        destination: ip.map(|ip| ip.destination),
        bytes: view.packet.data.len() as u64,
    }
}

/// Pieces of the stream that are looked at with the packet: none with one that is refused.
fn raws<'v>(view: &'v View<'_, '_>) -> impl Iterator<Item = Raw<'v>> {
    let flow = view.flow.as_deref().filter(|flow| flow.tcp.is_some() && has_app(view));
    flow.into_iter().flat_map(|flow| flow.raws(view.direction))
}

/// Whether the application layer of the packet's flow counts for this packet.
fn has_app(view: &View<'_, '_>) -> bool {
    if view.packet.origin == Origin::FlowEnd {
        return true;
    }
    match view.packet.transport {
        Transport::Tcp(_) => view.is_established && !view.is_refused,
        Transport::Udp { .. } => true,
        _ => false,
    }
}

/// Whether the transactions of the packet's flow go with the packet: those of datagrams that are
/// complete as they come. Many such flows wait for more, and most of them in vain.
fn is_gone_after(view: &View<'_, '_>) -> bool {
    let state = view.flow.as_deref().map(|flow| &flow.app.state);
    matches!(view.packet.transport, Transport::Udp { .. })
        && matches!(state, Some(State::Dns(_) | State::Dhcp(_) | State::Quic(_)))
}

/// The pair's entry for a direction.
fn slot_of(direction: Direction) -> usize {
    direction.index()
}
