//! Rules that run before flow and stream: hooks `pre_flow` and `pre_stream`.
//!
//! The engine shows a packet once, when its stream has taken it. These rules are asked first and
//! see of it what was known before: no stream, and before the flow no flow either.

use std::sync::Arc;

use hookprobe_traffic::{
    engine::View,
    packet::{Origin, Transport},
};

use super::{Detector, Mode, Work};
use crate::{
    buffer::packet_data,
    rule::{Hook, Rule, Test},
    state::FlowState,
};

impl Detector {
    /// Asks them; whether the packet was dropped and nobody else sees it.
    pub(super) fn early(&mut self, view: &View<'_, '_>, state: &mut FlowState) -> bool {
        let prefilter = &self.rules.prefilter;
        let is_any = !prefilter.pre_flow.is_empty() || !prefilter.pre_stream.is_empty();
        if !is_any {
            return false;
        }
        for hook in [Hook::PreFlow, Hook::PreStream] {
            self.at_hook(hook, view, state);
            if self.verdict.drop.is_some() && self.mode == Mode::Inline {
                return true;
            }
        }
        false
    }

    fn at_hook(&mut self, hook: Hook, view: &View<'_, '_>, state: &mut FlowState) {
        let is_end = view.packet.origin == Origin::FlowEnd;
        let is_segment = is_end || matches!(view.packet.transport, Transport::Tcp(_));
        let is_there = match hook {
            Hook::PreFlow => !is_end,
            Hook::PreStream => is_segment && !is_end && view.flow.is_some(),
        };
        if !is_there {
            return;
        }
        let rules = Arc::clone(&self.rules);
        // Bits of a flow that is not yet known can't be kept.
        let mut none = FlowState::default();
        let bare = View { flow: None, is_in_stream: false, ..shared(view) };
        let mut work = Work {
            rules: &rules,
            sets: &mut self.sets,
            hosts: &mut self.hosts,
            state: if hook == Hook::PreFlow { &mut none } else { state },
            hits: &mut self.hits,
            candidates: &mut self.candidates,
            packet_variables: &mut self.verdict.packet_variables,
            is_inline: self.mode == Mode::Inline,
        };
        let (list, tested) = match hook {
            Hook::PreFlow => (&rules.prefilter.pre_flow, &bare),
            Hook::PreStream => (&rules.prefilter.pre_stream, view),
        };
        for order in list {
            if let Some(rule) = rules.rule(*order) {
                work.early_rule(rule, tested, &bare);
            }
        }
        if !self.hits.is_empty() {
            self.finalize(view, state, &rules);
        }
    }
}

/// What a view says beside the flow, which it alone may change.
const fn shared<'v, 'a>(view: &View<'v, 'a>) -> View<'v, 'a> {
    View {
        packet: view.packet,
        outer: view.outer,
        flow: None,
        direction: view.direction,
        is_first: view.is_first,
        is_established: view.is_established,
        is_refused: view.is_refused,
        is_in_stream: view.is_in_stream,
        is_stream_end: view.is_stream_end,
        exceptions: view.exceptions,
        is_app_changed: view.is_app_changed,
        fed: view.fed,
        is_payload_hidden: view.is_payload_hidden,
    }
}

impl Work<'_> {
    /// `tested` has the flow where the hook has it, `bare` never: its payload is no stream's.
    fn early_rule(&mut self, rule: &Rule, tested: &View<'_, '_>, bare: &View<'_, '_>) {
        let is_end = tested.packet.origin == Origin::FlowEnd;
        // Before the flow there is no direction that rules could be sorted by.
        let is_open = |test: &Test| {
            let is_way = matches!(test, Test::Flow(flow) if flow.is_way_only());
            is_way && tested.flow.is_none()
        };
        let mut tests = rule.tests.iter();
        let fits = !(is_end && rule.needs_packet)
            && rule.app.is_none()
            && tests.all(|test| is_open(test) || self.holds(test, tested, None))
            && self.header_fits(rule, tested);
        if !fits {
            return;
        }
        let mut scan = Self::scan(self.sets, rule);
        for found in rule.packet_buffers.iter() {
            let Some(data) = packet_data(found.buffer, bare.packet) else { return };
            let data = found.transforms.iter().fold(data, |data, transform| transform.apply(data));
            if !scan.matches(&found.ops, &data, 0, true) {
                return;
            }
        }
        if (!rule.payload.is_empty() || !rule.base64.is_empty())
            && super::packet::payload(rule, bare, &mut scan).is_none()
        {
            return;
        }
        let (captures, contexts) = (scan.captures, scan.contexts);
        self.keep(captures);
        self.hit(rule, bare, None, false, contexts);
    }
}
