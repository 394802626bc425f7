//! The end of an inspection: order, limits, actions.

use std::cmp::Reverse;

use hookprobe_traffic::engine::View;

use super::{Alert, Detector, DropReason, Hit};
use crate::{
    rule::{Action, Kind, Post, Rule, Scope},
    ruleset::Ruleset,
    state::{Dropped, FlowState},
    threshold::{Answer, Subject, Track},
};

impl Detector {
    pub(super) fn finalize(&mut self, view: &View<'_, '_>, state: &mut FlowState, rules: &Ruleset) {
        let mut hits = std::mem::take(&mut self.hits);
        // Of one rule: without transaction last, the newest transaction first.
        hits.sort_by_key(|hit| (hit.rule, hit.tx_id.is_none(), Reverse(hit.tx_id)));
        for hit in hits.drain(..) {
            let Some(rule) = rules.rule(hit.rule) else { continue };
            if self.finish_hit(hit, rule, view, state, rules) {
                break;
            }
        }
        self.hits = hits;
        self.hits.clear();
        if !self.verdict.alerts.is_empty() {
            state.has_alerted = true;
        }
    }

    /// Whether nothing after it counts.
    fn finish_hit(
        &mut self,
        hit: Hit,
        rule: &Rule,
        view: &View<'_, '_>,
        state: &mut FlowState,
        rules: &Ruleset,
    ) -> bool {
        let (answer, action, is_changed) = self.limits(rule, view, state, rules);
        if answer != Answer::No {
            self.act(&hit, rule, action, is_changed, state);
        }
        let is_pass = action == Action::Pass;
        let is_quiet = matches!(answer, Answer::No | Answer::Silent);
        if !is_quiet {
            for post in rule.post.iter() {
                if let Post::Tag(tag) = post {
                    self.tags.add((rule.gid, rule.sid), *tag, &super::seen(view));
                }
            }
        }
        if is_quiet || (rule.is_silent && rule.action != Action::Pass) {
            self.statistics.suppressed += 1;
        } else if self.verdict.alerts.len() < rules.config.alerts_max {
            if is_pass {
                self.verdict.is_passed = true;
                return true;
            }
            self.statistics.alerts += 1;
            self.verdict.alerts.push(Alert {
                rule: rule.order,
                action,
                tx_id: hit.tx_id.filter(|_| hit.has_tx),
                is_tx_guessed: hit.is_guessed,
                is_stream: hit.is_stream || hit.is_state,
                contexts: hit.contexts,
            });
        } else {
            self.statistics.overflow += 1;
        }
        false
    }

    fn limits(
        &mut self,
        rule: &Rule,
        view: &View<'_, '_>,
        state: &mut FlowState,
        rules: &Ruleset,
    ) -> (Answer, Action, bool) {
        let ip = view.packet.ip.as_ref();
        let subject = Subject {
            now_ns: view.packet.time_ns,
            source: ip.map(|ip| ip.source),
            destination: ip.map(|ip| ip.destination),
            ports: view.packet.ports(),
            flow: view.flow.as_deref().map_or(0, |flow| flow.id),
        };
        let id = (rule.gid, rule.sid);
        if rules.config.is_suppressed(id, subject.source, subject.destination) {
            return (Answer::Silent, rule.action, false);
        }
        let mut action = rule.action;
        let mut is_changed = false;
        // A filter of events in the configuration takes the place of those in the rule.
        let is_replaced = rules.config.is_filtered_by_number(rule.gid, rule.sid);
        let own = rule.limit.as_deref().into_iter().chain(rule.filter.as_deref());
        for limit in own.filter(|_| !is_replaced).chain(rules.config.limits_of(rule.gid, rule.sid))
        {
            state.is_counted |= limit.track == Track::Flow;
            match self.counters.ask(id, limit, &subject) {
                Answer::Alert => {}
                Answer::Changed(new) => {
                    action = new;
                    is_changed = true;
                }
                answer @ (Answer::No | Answer::Silent) => return (answer, action, false),
            }
        }
        (Answer::Alert, action, is_changed)
    }

    fn act(
        &mut self,
        hit: &Hit,
        rule: &Rule,
        action: Action,
        is_changed: bool,
        state: &mut FlowState,
    ) {
        let is_dropped = self.verdict.drop.is_some();
        if is_dropped && action == Action::Pass {
            return;
        }
        let is_for_flow = match rule.scope {
            Scope::Flow => true,
            Scope::Packet => false,
            Scope::Auto => match rule.kind {
                Kind::IpOnly
                | Kind::LikeIpOnly
                | Kind::ProtocolOnly
                | Kind::AppLayer
                | Kind::Transaction => true,
                Kind::PacketStream | Kind::Stream => hit.is_state || hit.is_stream,
                Kind::EventOnly | Kind::Packet => false,
            },
        };
        match action {
            Action::Drop | Action::Reject(_) => {
                if self.verdict.drop.is_none() {
                    let reason = if is_changed { DropReason::Threshold } else { DropReason::Rules };
                    self.verdict.drop = Some(reason);
                    self.verdict.dropped_by = Some(rule.order);
                }
                if let Action::Reject(target) = action {
                    self.verdict.reject.get_or_insert(target);
                }
                if is_for_flow && !state.is_passed {
                    state.dropped = Dropped::ByRule;
                }
            }
            Action::Pass => {
                if is_for_flow && state.dropped == Dropped::No {
                    state.is_passed = true;
                }
            }
            Action::Alert => {}
        }
    }
}
