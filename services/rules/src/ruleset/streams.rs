//! Which streams rules look into: without one for its ports and direction a stream is not shown.

use hookprobe_traffic::Direction;

use super::Ruleset;
use crate::rule::{Rule, Test};

/// Rules that are tried one by one; where there are more, some will be for any stream.
const TRIED_MAX: usize = 64;

/// Rules that look into streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// One of each direction is for all ports.
    is_any: [bool; 2],
    orders: Vec<u32>,
}

impl Streams {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut out = Self::default();
        for rule in rules.iter().filter(|rule| rule.needs_stream && !rule.payload.is_empty()) {
            for direction in Direction::BOTH {
                let header = &rule.header;
                let ports = match direction {
                    Direction::ToServer => &header.destination_ports,
                    Direction::ToClient => &header.source_ports,
                };
                *direction.of_mut(&mut out.is_any) |= ports.is_any() && is_of(rule, direction);
            }
            out.orders.push(rule.order);
        }
        out
    }
}

impl Ruleset {
    /// Whether a rule looks into streams of `direction` with these ports of its packets, as
    /// Suricata's groups of rules have it.
    pub(crate) fn sees_stream(&self, direction: Direction, ports: (u16, u16)) -> bool {
        let streams = &self.streams;
        if *direction.of(&streams.is_any) || streams.orders.len() > TRIED_MAX {
            return true;
        }
        let mut rules = streams.orders.iter().filter_map(|order| self.rule(*order));
        rules.any(|rule| {
            let header = &rule.header;
            let fits = match direction {
                Direction::ToServer => header.destination_ports.contains(ports.1),
                Direction::ToClient => header.source_ports.contains(ports.0),
            };
            is_of(rule, direction) && (fits || header.is_both_ways)
        })
    }
}

fn is_of(rule: &Rule, direction: Direction) -> bool {
    rule.tests.iter().all(|test| match test {
        Test::Flow(flow) => flow.direction.is_none_or(|own| own == direction),
        _ => true,
    })
}
