//! Bits, numbers and variables of flows, hosts and pairs of hosts.
//!
//! Names are numbers here (`ruleset` gives them out). Flow state lives by slot and dies with the
//! flow; host bits expire and their table has a cap.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;

use hookprobe_traffic::app::Proto;

use crate::{
    few::{Few, Marks},
    grown::Grown,
    rule::{Bits, IntCompare, IntTest, IntValue, Owner},
};

/// Bits of hosts and pairs that are kept.
const HOST_BITS_MAX: usize = 1 << 17;
/// Bits, numbers and variables of one flow.
const FLOW_ENTRIES_MAX: usize = 256;
const SECOND_NS: u64 = 1_000_000_000;
/// How long a bit of a host that is over may stay as it is: hosts are swept every second or two.
const HOST_SWEEP_NS: u64 = 2 * SECOND_NS;

/// IP-only rules ran.
pub(crate) const IP_DONE: u8 = 1;
/// The protocol of the direction was known before this packet.
pub(crate) const PROTO_KNOWN: u8 = 4;

/// What a flow remembers for rules.
#[derive(Debug, Default)]
pub(crate) struct FlowState {
    /// Lower half of the flow's id. Slots are used again, but emptied when a flow ends, so no other
    /// has the same.
    pub(crate) id: u32,
    /// Which version of the rules the transactions were inspected with.
    pub(crate) version: u16,
    pub(crate) bits: Marks,
    /// Numbers and captured text: few flows have any.
    pub(crate) kept: Option<Box<Kept>>,
    /// [`IP_DONE`] and [`PROTO_KNOWN`], each a bit for each direction.
    pub(crate) met: u8,
    /// The protocol for which rules that ask for it alone ran, by direction.
    pub(crate) proto_done: [Option<Proto>; 2],
    /// Transactions that are being inspected.
    pub(crate) txs: Few<TxState>,
    /// Whose transactions those are: the numbers of another protocol begin anew.
    pub(crate) proto: Option<Proto>,
    pub(crate) dropped: Dropped,
    pub(crate) is_passed: bool,
    pub(crate) has_alerted: bool,
    /// A limit counts by this flow.
    pub(crate) is_counted: bool,
    /// Which exceptions its packets met, bits of `hookprobe_traffic::engine::exception`.
    pub(crate) exceptions: u8,
    /// Nothing of it is looked at any more.
    pub(crate) is_bypassed: bool,
    /// What the transactions of each direction looked like when they were last inspected.
    pub(crate) seen: [u64; 2],
}

/// Whether the packets of a flow are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dropped {
    #[default]
    No,
    /// A rule says so.
    ByRule,
    /// The policy for something that its packets met says so.
    ByException,
}

/// What rules put into variables.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    numbers: Few<(u32, u32)>,
    /// By name.
    variables: Few<(String, Vec<u8>)>,
}

/// One for each flow, whether rules have anything to remember of it or not: 6.4 MB for 100,000.
const _: () = assert!(size_of::<FlowState>() <= 64);
/// One for each transaction that is open, which TLS and SSH have for the life of the flow.
const _: () = assert!(size_of::<TxState>() <= 56);

/// A transaction under inspection.
#[derive(Debug, Default)]
pub(crate) struct TxState {
    pub(crate) id: u64,
    /// Rules with the flags of their engines, by direction.
    pub(crate) rules: [Few<(u32, u32)>; 2],
    /// What is known of bodies that grow.
    pub(crate) grown: Few<Grown>,
    pub(crate) is_done: [bool; 2],
    /// Buffers of lower progress were searched to their end, by direction.
    pub(crate) searched: [u8; 2],
    pub(crate) bits: Marks,
    pub(crate) guessed: bool,
}

impl FlowState {
    pub(crate) fn variable(&mut self, name: &str, value: &[u8]) {
        let variables = &mut self.kept.get_or_insert_default().variables;
        if let Some(entry) = variables.iter_mut().find(|(known, _)| known == name) {
            entry.1 = value.to_vec();
        } else if variables.len() < FLOW_ENTRIES_MAX {
            variables.push((name.to_owned(), value.to_vec()));
        }
    }

    /// Captured text by name.
    pub(crate) fn variables(&self) -> &[(String, Vec<u8>)] {
        self.kept.as_ref().map(|kept| kept.variables.as_slice()).unwrap_or_default()
    }

    /// Whether a variable was captured with this value.
    pub(crate) fn has_variable(&self, name: &str, value: &[u8]) -> bool {
        self.variables().iter().any(|(known, held)| known == name && held == value)
    }

    fn set(list: &mut Marks, bit: u32) {
        if !list.contains(&bit) && list.len() < FLOW_ENTRIES_MAX {
            list.push(bit);
        }
    }

    /// Numbers by name.
    pub(crate) fn numbers(&self) -> &[(u32, u32)] {
        self.kept.as_ref().map(|kept| kept.numbers.as_slice()).unwrap_or_default()
    }

    pub(crate) fn number(&self, name: u32) -> Option<u32> {
        self.numbers().iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub(crate) fn value(&self, value: IntValue) -> Option<u32> {
        match value {
            IntValue::Number(number) => Some(number),
            IntValue::Variable(name) => self.number(name),
        }
    }

    pub(crate) fn put_number(&mut self, name: u32, value: u32) {
        let numbers = &mut self.kept.get_or_insert_default().numbers;
        if let Some(entry) = numbers.iter_mut().find(|(known, _)| *known == name) {
            entry.1 = value;
        } else if numbers.len() < FLOW_ENTRIES_MAX {
            numbers.push((name, value));
        }
    }

    pub(crate) fn holds(&self, name: u32, test: IntTest) -> bool {
        let own = self.number(name);
        match test {
            IntTest::IsSet => own.is_some(),
            IntTest::IsNotSet => own.is_none(),
            IntTest::Compare(compare, value) => match (own, self.value(value)) {
                (Some(own), Some(value)) => match compare {
                    IntCompare::Less => own < value,
                    IntCompare::LessEqual => own <= value,
                    IntCompare::Equal => own == value,
                    IntCompare::NotEqual => own != value,
                    IntCompare::GreaterEqual => own >= value,
                    IntCompare::Greater => own > value,
                },
                _ => false,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: Owner,
    first: IpAddr,
    second: Option<IpAddr>,
    bit: u32,
}

/// One bit of a host or a pair.
#[derive(Debug)]
struct HostBit {
    /// When it expires (0: never).
    until_ns: u64,
    is_new: bool,
    /// Who asked found it expired.
    is_gone: Cell<bool>,
}

impl Default for HostBit {
    fn default() -> Self {
        Self { until_ns: 0, is_new: true, is_gone: Cell::new(false) }
    }
}

impl HostBit {
    const fn is_on(&self, now_ns: u64) -> bool {
        self.until_ns == 0 || self.until_ns >= now_ns
    }
}

/// Bits of hosts and of pairs.
#[derive(Debug, Default)]
pub(crate) struct HostBits {
    table: HashMap<Key, HostBit>,
    /// When bits that are over were last looked for.
    swept_ns: u64,
    pub(crate) dropped: u64,
}

/// Between whom a packet goes, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) now_ns: u64,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

impl HostBits {
    fn key(owner: Owner, bit: u32, ends: Ends) -> Option<Key> {
        let (source, destination) = (ends.source, ends.destination);
        let (owner, first, second) = match owner {
            // Source and destination are the same table.
            Owner::Source => (Owner::Source, source, None),
            Owner::Destination => (Owner::Source, destination, None),
            Owner::Pair => (Owner::Pair, source.min(destination), Some(source.max(destination))),
            Owner::Flow | Owner::Tx => return None,
        };
        Some(Key { owner, first, second, bit })
    }

    pub(crate) fn has(&self, owner: Owner, bit: u32, ends: Ends) -> bool {
        Self::key(owner, bit, ends).and_then(|key| self.table.get(&key)).is_some_and(|bit| {
            let is_on = bit.is_on(ends.now_ns);
            bit.is_gone.set(!is_on);
            is_on
        })
    }

    pub(crate) fn set(&mut self, bits: &Bits, bit: u32, ends: Ends) {
        let Some(key) = Self::key(bits.owner, bit, ends) else { return };
        if self.table.len() >= HOST_BITS_MAX && !self.table.contains_key(&key) {
            // Once a second: a table full of bits that are on frees nothing, however often it is asked.
            let is_due = ends.now_ns >= self.swept_ns.saturating_add(SECOND_NS);
            if is_due {
                self.swept_ns = ends.now_ns;
                self.table.retain(|_, bit| bit.is_on(ends.now_ns));
            }
            if self.table.len() >= HOST_BITS_MAX {
                self.dropped += 1;
                return;
            }
        }
        let until = match bits.expire_s {
            0 => 0,
            seconds => ends.now_ns.saturating_add(seconds.saturating_mul(SECOND_NS)),
        };
        // Of a host once more is not longer, as in Suricata, not even when it is over, until somebody
        // has asked or such hosts are swept.
        let is_pair = bits.owner == Owner::Pair;
        let own = self.table.entry(key).or_default();
        let is_swept =
            own.until_ns != 0 && own.until_ns.saturating_add(HOST_SWEEP_NS) < ends.now_ns;
        if own.is_new || own.is_gone.get() || is_swept || is_pair && !own.is_on(ends.now_ns) {
            *own = HostBit { until_ns: until, is_new: false, is_gone: Cell::new(false) };
        }
    }

    pub(crate) fn unset(&mut self, owner: Owner, bit: u32, ends: Ends) {
        if let Some(key) = Self::key(owner, bit, ends) {
            self.table.remove(&key);
        }
    }
}

/// Sets, clears or asks a bit of a flow or transaction.
pub(crate) fn set_local(list: &mut Marks, bit: u32) {
    FlowState::set(list, bit);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(seconds: u64, source: u8, destination: u8) -> Ends {
        let address = |last| IpAddr::from([10, 0, 0, last]);
        Ends {
            now_ns: seconds * SECOND_NS,
            source: address(source),
            destination: address(destination),
        }
    }

    #[test]
    fn numbers_and_marks_of_a_flow_are_bounded() {
        let mut state = FlowState::default();
        for number in 0..1_000 {
            state.put_number(number, number);
            set_local(&mut state.bits, number);
            state.variable(&number.to_string(), b"x");
        }
        assert_eq!(state.kept.as_ref().unwrap().numbers.len(), FLOW_ENTRIES_MAX);
        assert_eq!(state.bits.len(), FLOW_ENTRIES_MAX);
        assert_eq!(state.variables().len(), FLOW_ENTRIES_MAX);
        state.put_number(1, 7);
        let is = |compare, value| IntTest::Compare(compare, IntValue::Number(value));
        assert!(
            state.holds(1, is(IntCompare::Equal, 7)) && !state.holds(1, is(IntCompare::Less, 7))
        );
        assert!(state.holds(2, IntTest::Compare(IntCompare::Less, IntValue::Variable(1))));
        assert!(state.holds(1, IntTest::IsSet) && state.holds(5_000, IntTest::IsNotSet));
        assert!(
            !state.holds(5_000, is(IntCompare::NotEqual, 1)),
            "an unset number compares to none"
        );
    }

    #[test]
    fn bits_of_hosts_expire() {
        let mut hosts = HostBits::default();
        let bits =
            |owner, expire_s| Bits { owner, bits: vec![1], expire_s, is_written_last: false };
        hosts.set(&bits(Owner::Source, 5), 1, ends(10, 1, 2));
        assert!(hosts.has(Owner::Source, 1, ends(14, 1, 9)));
        assert!(hosts.has(Owner::Destination, 1, ends(14, 9, 1)), "the same host, as destination");
        assert!(hosts.has(Owner::Source, 1, ends(15, 1, 9)), "to the end of its time");
        assert!(!hosts.has(Owner::Source, 1, ends(16, 1, 9)));
        assert!(!hosts.has(Owner::Source, 2, ends(14, 1, 9)), "another bit");
        hosts.set(&bits(Owner::Pair, 0), 1, ends(10, 1, 2));
        assert!(hosts.has(Owner::Pair, 1, ends(99_999, 2, 1)), "a pair has no direction");
        hosts.unset(Owner::Pair, 1, ends(11, 2, 1));
        assert!(!hosts.has(Owner::Pair, 1, ends(11, 1, 2)));
        hosts.set(&bits(Owner::Flow, 0), 1, ends(10, 1, 2));
        assert!(!hosts.has(Owner::Flow, 1, ends(10, 1, 2)), "not of a host");
    }

    #[test]
    fn a_full_table_of_bits_says_so() {
        let mut hosts = HostBits::default();
        let bits =
            Bits { owner: Owner::Source, bits: Vec::new(), expire_s: 0, is_written_last: false };
        for bit in 0..=u32::try_from(HOST_BITS_MAX).unwrap() {
            hosts.set(&bits, bit, ends(1, 1, 2));
        }
        assert_eq!((hosts.table.len(), hosts.dropped), (HOST_BITS_MAX, 1));
    }
}
