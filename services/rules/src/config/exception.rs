//! Exception policies: what becomes of traffic that can't be looked at as it should be.

use crate::yaml::Node;

/// What is done with flows that can't be inspected as they should (Suricata's exception policies).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExceptionPolicy {
    /// Inspect what can be inspected.
    #[default]
    Ignore,
    /// Drop all of the flow.
    DropFlow,
    /// Drop the packet.
    DropPacket,
    /// Inspect none of the flow.
    PassFlow,
    /// Do not inspect the packet.
    PassPacket,
    /// Inspect none of the flow, and track it no more than needed.
    Bypass,
    /// Drop the flow and tell the sender.
    Reject,
    /// Drop the flow and tell both ends.
    RejectBoth,
}

impl ExceptionPolicy {
    /// By its name; `auto` depends on the mode.
    #[must_use]
    pub fn from_name(name: &str, is_ips: bool) -> Option<Self> {
        Some(match name {
            "auto" if is_ips => Self::DropFlow,
            "auto" | "ignore" => Self::Ignore,
            "rejectboth" => Self::RejectBoth,
            "drop-flow" => Self::DropFlow,
            "drop-packet" => Self::DropPacket,
            "pass-flow" => Self::PassFlow,
            "pass-packet" => Self::PassPacket,
            "bypass" => Self::Bypass,
            "reject" => Self::Reject,
            _ => return None,
        })
    }

    /// As EVE writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::DropFlow => "drop_flow",
            Self::DropPacket => "drop_packet",
            Self::PassFlow => "pass_flow",
            Self::PassPacket => "pass_packet",
            Self::Bypass => "bypass",
            Self::Reject => "reject",
            Self::RejectBoth => "reject_both",
        }
    }

    /// The policy of `option`, else that of the master switch `exception-policy`, else what the mode
    /// says. `has_flow`: there may be a flow to act upon.
    #[must_use]
    pub fn of(node: &Node, option: &str, is_ips: bool, has_flow: bool) -> Self {
        let text = |path: &str| node.path(path).and_then(Node::text);
        let default = if is_ips { Self::DropFlow } else { Self::Ignore };
        let policy = match (text(option), text("exception-policy")) {
            (Some(own), _) => Self::from_name(own, is_ips),
            (None, Some(master)) => Self::from_name(master, is_ips)
                .filter(|policy| is_ips || !matches!(policy, Self::DropFlow | Self::DropPacket)),
            (None, None) => Some(default),
        };
        match policy.unwrap_or_default() {
            Self::DropFlow if !has_flow => Self::DropPacket,
            Self::PassFlow if !has_flow => Self::PassPacket,
            Self::Bypass if !has_flow => Self::Ignore,
            policy => policy,
        }
    }

    /// `stream.midstream-policy`, else the master switch `exception-policy`.
    #[must_use]
    pub fn midstream(node: &Node, is_ips: bool) -> Self {
        let text = |path: &str| node.path(path).and_then(Node::text);
        let is_followed = node.path("stream.midstream").and_then(Node::switch).unwrap_or(false);
        let own = text("stream.midstream-policy");
        let name = own.or_else(|| text("exception-policy")).unwrap_or("auto");
        if is_followed && name == "auto" {
            return Self::Ignore;
        }
        match Self::from_name(name, is_ips).unwrap_or_default() {
            // What the master switch says is for where packets can be dropped.
            Self::DropFlow | Self::DropPacket if !is_ips && own.is_none() => Self::Ignore,
            policy => policy,
        }
    }
}
