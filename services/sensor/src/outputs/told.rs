//! From what a rule says and where it matched to what outputs take.

use hookprobe_rules::{
    Alert, Rule,
    detector::DropReason,
    rule::{Action, RejectTarget},
};
use hookprobe_traffic::engine::{View, exception};

use super::eve::{Place, Signature};

/// What a rule says of itself, for an alert of it. `is_inline`: packets are dropped indeed.
#[must_use]
pub fn signature<'a>(rule: &'a Rule, alert: &'a Alert, is_inline: bool) -> Signature<'a> {
    Signature {
        gid: rule.gid,
        sid: rule.sid,
        rev: rule.rev,
        message: &rule.message,
        category: &rule.category,
        priority: rule.priority,
        metadata: &rule.metadata,
        references: &rule.references,
        contexts: &alert.contexts,
        target: rule.target,
        text: rule.text.as_deref(),
        is_blocked: match alert.action {
            Action::Reject(_) => true,
            Action::Drop => is_inline,
            Action::Alert | Action::Pass => false,
        },
    }
}

/// Where an alert belongs.
#[must_use]
pub fn place<'v, 'a>(view: &'v View<'_, 'a>, alert: &Alert) -> Place<'v, 'a> {
    Place {
        packet: view.packet,
        flow: view.flow.as_deref(),
        direction: view.direction,
        tx_id: alert.tx_id,
        is_tx_guessed: alert.is_tx_guessed,
        is_stream: alert.is_stream,
        outer: view.outer,
    }
}

/// Where a packet is told of that no rule matched: one that follows an alert.
#[must_use]
pub fn place_of<'v, 'a>(view: &'v View<'_, 'a>) -> Place<'v, 'a> {
    Place {
        packet: view.packet,
        flow: view.flow.as_deref(),
        direction: view.direction,
        tx_id: None,
        is_tx_guessed: false,
        is_stream: false,
        outer: view.outer,
    }
}

/// Suricata's word for why a packet is dropped.
#[must_use]
pub fn drop_reason(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Rules => "rules",
        DropReason::Threshold => "threshold detection_filter",
        DropReason::Flow => "flow drop",
        DropReason::ExceptionFlow => "exception policy flow drop",
        DropReason::Exception(exception::DEFRAG_MEMORY) => "defrag memcap",
        DropReason::Exception(exception::SESSION_MEMORY) => "stream memcap",
        DropReason::Exception(exception::REASSEMBLY_MEMORY) => "stream reassembly",
        DropReason::Exception(exception::FLOW_MEMORY) => "flow memcap",
        DropReason::Exception(exception::MIDSTREAM) => "stream midstream",
        DropReason::Exception(_) => "applayer error",
    }
}

/// Suricata's word for who is told of a rejection.
#[must_use]
pub fn reject_target(target: RejectTarget) -> &'static str {
    match target {
        RejectTarget::Source => "to_client",
        RejectTarget::Destination => "to_server",
        RejectTarget::Both => "both",
    }
}
