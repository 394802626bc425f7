//! What is said to nf_tables: the table, its elements, and reading them back. Pure.
//!
//! Numbers and shapes are those of linux/netfilter/nfnetlink.h and nf_tables.h. Used by [`super`].

use std::{collections::BTreeMap, ffi::CStr, net::IpAddr};

use crate::netlink::{
    Batch,
    message::{ACKNOWLEDGE, APPEND, Attributes, CREATE, attribute, attributes},
};

const TABLE: &CStr = c"hookprobe";
/// Elements of each set: twice what may be in force, so that taking back and adding in one batch
/// never fails for room.
const SET_ELEMENTS_MAX: u32 = 8192;

/// `struct nfgenmsg` of a request about inet tables, and of begin and end of a batch (subsystem 10).
pub(super) const INET: [u8; NFGENMSG_BYTES] = [1, 0, 0, 0];
pub(super) const BATCH: [u8; NFGENMSG_BYTES] = [0, 0, 0, 10];
const NFGENMSG_BYTES: usize = 4;

/// Numbers of linux/netfilter/nfnetlink.h and nf_tables.h, by the names they have there.
pub(super) mod nf {
    pub(in crate::enforce::nft) const BATCH_BEGIN: u16 = 0x10;
    pub(in crate::enforce::nft) const BATCH_END: u16 = 0x11;
    pub(in crate::enforce::nft) const NEWTABLE: u16 = 0xa00;
    pub(in crate::enforce::nft) const DELTABLE: u16 = 0xa02;
    pub(in crate::enforce::nft) const NEWCHAIN: u16 = 0xa03;
    pub(in crate::enforce::nft) const NEWRULE: u16 = 0xa06;
    pub(in crate::enforce::nft) const DELRULE: u16 = 0xa08;
    pub(in crate::enforce::nft) const NEWSET: u16 = 0xa09;
    pub(in crate::enforce::nft) const NEWSETELEM: u16 = 0xa0c;
    pub(in crate::enforce::nft) const GETSETELEM: u16 = 0xa0d;
    pub(in crate::enforce::nft) const DESTROYSETELEM: u16 = 0xa1e;

    pub(in crate::enforce::nft) const TABLE_NAME: u16 = 1;
    pub(in crate::enforce::nft) const CHAIN_TABLE: u16 = 1;
    pub(in crate::enforce::nft) const CHAIN_NAME: u16 = 3;
    pub(in crate::enforce::nft) const CHAIN_HOOK: u16 = 4;
    pub(in crate::enforce::nft) const CHAIN_POLICY: u16 = 5;
    pub(in crate::enforce::nft) const CHAIN_TYPE: u16 = 7;
    pub(in crate::enforce::nft) const HOOK_HOOKNUM: u16 = 1;
    pub(in crate::enforce::nft) const HOOK_PRIORITY: u16 = 2;
    pub(in crate::enforce::nft) const SET_TABLE: u16 = 1;
    pub(in crate::enforce::nft) const SET_NAME: u16 = 2;
    pub(in crate::enforce::nft) const SET_FLAGS: u16 = 3;
    pub(in crate::enforce::nft) const SET_KEY_TYPE: u16 = 4;
    pub(in crate::enforce::nft) const SET_KEY_LEN: u16 = 5;
    pub(in crate::enforce::nft) const SET_DESC: u16 = 9;
    pub(in crate::enforce::nft) const SET_ID: u16 = 10;
    pub(in crate::enforce::nft) const SET_EXPR: u16 = 17;
    pub(in crate::enforce::nft) const SET_DESC_SIZE: u16 = 1;
    pub(in crate::enforce::nft) const SET_ELEM_LIST_TABLE: u16 = 1;
    pub(in crate::enforce::nft) const SET_ELEM_LIST_SET: u16 = 2;
    pub(in crate::enforce::nft) const SET_ELEM_LIST_ELEMENTS: u16 = 3;
    pub(in crate::enforce::nft) const SET_ELEM_KEY: u16 = 1;
    pub(in crate::enforce::nft) const SET_ELEM_TIMEOUT: u16 = 4;
    pub(in crate::enforce::nft) const SET_ELEM_EXPIRATION: u16 = 5;
    pub(in crate::enforce::nft) const SET_ELEM_EXPR: u16 = 7;
    pub(in crate::enforce::nft) const RULE_TABLE: u16 = 1;
    pub(in crate::enforce::nft) const RULE_CHAIN: u16 = 2;
    pub(in crate::enforce::nft) const RULE_EXPRESSIONS: u16 = 4;
    pub(in crate::enforce::nft) const LIST_ELEM: u16 = 1;
    pub(in crate::enforce::nft) const EXPR_NAME: u16 = 1;
    pub(in crate::enforce::nft) const EXPR_DATA: u16 = 2;
    pub(in crate::enforce::nft) const META_DREG: u16 = 1;
    pub(in crate::enforce::nft) const META_KEY: u16 = 2;
    pub(in crate::enforce::nft) const CMP_SREG: u16 = 1;
    pub(in crate::enforce::nft) const CMP_OP: u16 = 2;
    pub(in crate::enforce::nft) const CMP_DATA: u16 = 3;
    pub(in crate::enforce::nft) const PAYLOAD_DREG: u16 = 1;
    pub(in crate::enforce::nft) const PAYLOAD_BASE: u16 = 2;
    pub(in crate::enforce::nft) const PAYLOAD_OFFSET: u16 = 3;
    pub(in crate::enforce::nft) const PAYLOAD_LEN: u16 = 4;
    pub(in crate::enforce::nft) const LOOKUP_SET: u16 = 1;
    pub(in crate::enforce::nft) const LOOKUP_SREG: u16 = 2;
    pub(in crate::enforce::nft) const IMMEDIATE_DREG: u16 = 1;
    pub(in crate::enforce::nft) const IMMEDIATE_DATA: u16 = 2;
    pub(in crate::enforce::nft) const DATA_VALUE: u16 = 1;
    pub(in crate::enforce::nft) const DATA_VERDICT: u16 = 2;
    pub(in crate::enforce::nft) const VERDICT_CODE: u16 = 1;
    pub(in crate::enforce::nft) const COUNTER_PACKETS: u16 = 2;

    pub(in crate::enforce::nft) const SET_FLAG_TIMEOUT: u32 = 0x10;
    pub(in crate::enforce::nft) const REG_VERDICT: u32 = 0;
    pub(in crate::enforce::nft) const REG_1: u32 = 1;
    pub(in crate::enforce::nft) const META_NFPROTO: u32 = 15;
    pub(in crate::enforce::nft) const CMP_EQ: u32 = 0;
    pub(in crate::enforce::nft) const PAYLOAD_NETWORK_HEADER: u32 = 1;
    pub(in crate::enforce::nft) const ACCEPT: u32 = 1;
    pub(in crate::enforce::nft) const DROP: u32 = 0;
    pub(in crate::enforce::nft) const PROTO_IPV4: u8 = 2;
    pub(in crate::enforce::nft) const PROTO_IPV6: u8 = 10;
    pub(in crate::enforce::nft) const LOCAL_IN: u32 = 1;
    pub(in crate::enforce::nft) const FORWARD: u32 = 2;
}

/// `filter - 10`.
const PRIORITY: i32 = -10;

/// One of the two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    name: &'static CStr,
    id: u32,
    /// Type number that nft(8) shows as ipv4_addr, ipv6_addr.
    key_type: u32,
    key_bytes: u32,
    family: u8,
    /// Of the source address in the network header.
    offset: u32,
}

pub(super) const SETS: [Set; 2] = [
    Set { name: c"block4", id: 1, key_type: 7, key_bytes: 4, family: nf::PROTO_IPV4, offset: 12 },
    Set { name: c"block6", id: 2, key_type: 8, key_bytes: 16, family: nf::PROTO_IPV6, offset: 8 },
];
const CHAINS: [(&CStr, u32); 2] = [(c"input", nf::LOCAL_IN), (c"forward", nf::FORWARD)];

/// What an element says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) left_ms: u64,
    pub(super) packets: u64,
}

/// Takes the table away with all that is in it; for one that is not as it should be.
pub(super) fn delete_table(batch: &mut Batch) {
    add_table(batch); // So that there is one to delete.
    batch.add("deltable", (nf::DELTABLE, ACKNOWLEDGE), &INET, |table| {
        table.text(nf::TABLE_NAME, TABLE);
    });
}

/// Everything, idempotent: sets and chains as they are, rules anew.
pub(super) fn add_all(batch: &mut Batch) {
    add_table(batch);
    for set in SETS {
        add_set(batch, set);
    }
    for (chain, hook) in CHAINS {
        add_chain(batch, chain, hook);
        for set in SETS {
            add_rule(batch, chain, set);
        }
    }
}

fn add_table(batch: &mut Batch) {
    batch.add("newtable", (nf::NEWTABLE, ACKNOWLEDGE | CREATE), &INET, |table| {
        table.text(nf::TABLE_NAME, TABLE);
    });
}

fn add_set(batch: &mut Batch, set: Set) {
    batch.add("newset", (nf::NEWSET, ACKNOWLEDGE | CREATE), &INET, |message| {
        message
            .text(nf::SET_TABLE, TABLE)
            .text(nf::SET_NAME, set.name)
            .be32(nf::SET_FLAGS, nf::SET_FLAG_TIMEOUT)
            .be32(nf::SET_KEY_TYPE, set.key_type)
            .be32(nf::SET_KEY_LEN, set.key_bytes)
            .be32(nf::SET_ID, set.id)
            .nest(nf::SET_DESC, |description| {
                description.be32(nf::SET_DESC_SIZE, SET_ELEMENTS_MAX);
            })
            .nest(nf::SET_EXPR, |counter| {
                counter.text(nf::EXPR_NAME, c"counter").nest(nf::EXPR_DATA, |_| {});
            });
    });
}

/// The chain, and none of the rules that were in it.
fn add_chain(batch: &mut Batch, chain: &CStr, hook: u32) {
    batch.add("newchain", (nf::NEWCHAIN, ACKNOWLEDGE | CREATE), &INET, |message| {
        message
            .text(nf::CHAIN_TABLE, TABLE)
            .text(nf::CHAIN_NAME, chain)
            .nest(nf::CHAIN_HOOK, |place| {
                place.be32(nf::HOOK_HOOKNUM, hook).put(nf::HOOK_PRIORITY, &PRIORITY.to_be_bytes());
            })
            .be32(nf::CHAIN_POLICY, nf::ACCEPT)
            .text(nf::CHAIN_TYPE, c"filter");
    });
    batch.add("delrule", (nf::DELRULE, ACKNOWLEDGE), &INET, |message| {
        message.text(nf::RULE_TABLE, TABLE).text(nf::RULE_CHAIN, chain);
    });
}

/// One expression of a rule.
fn expression(rule: &mut Attributes, name: &CStr, fill: impl FnOnce(&mut Attributes)) {
    rule.nest(nf::LIST_ELEM, |element| {
        element.text(nf::EXPR_NAME, name).nest(nf::EXPR_DATA, fill);
    });
}

/// `ip saddr @block4 counter drop`, with the family check that inet tables need.
fn add_rule(batch: &mut Batch, chain: &CStr, set: Set) {
    let kind = (nf::NEWRULE, ACKNOWLEDGE | CREATE | APPEND);
    batch.add("newrule", kind, &INET, |message| {
        message.text(nf::RULE_TABLE, TABLE).text(nf::RULE_CHAIN, chain);
        message.nest(nf::RULE_EXPRESSIONS, |rule| {
            expression(rule, c"meta", |meta| {
                meta.be32(nf::META_KEY, nf::META_NFPROTO).be32(nf::META_DREG, nf::REG_1);
            });
            expression(rule, c"cmp", |cmp| {
                cmp.be32(nf::CMP_SREG, nf::REG_1).be32(nf::CMP_OP, nf::CMP_EQ).nest(
                    nf::CMP_DATA,
                    |data| {
                        data.put(nf::DATA_VALUE, &[set.family]);
                    },
                );
            });
            expression(rule, c"payload", |payload| {
                payload
                    .be32(nf::PAYLOAD_DREG, nf::REG_1)
                    .be32(nf::PAYLOAD_BASE, nf::PAYLOAD_NETWORK_HEADER)
                    .be32(nf::PAYLOAD_OFFSET, set.offset)
                    .be32(nf::PAYLOAD_LEN, set.key_bytes);
            });
            expression(rule, c"lookup", |lookup| {
                lookup.be32(nf::LOOKUP_SREG, nf::REG_1).text(nf::LOOKUP_SET, set.name);
            });
            expression(rule, c"counter", |_| {});
            expression(rule, c"immediate", |immediate| {
                immediate.be32(nf::IMMEDIATE_DREG, nf::REG_VERDICT).nest(
                    nf::IMMEDIATE_DATA,
                    |data| {
                        data.nest(nf::DATA_VERDICT, |verdict| {
                            verdict.be32(nf::VERDICT_CODE, nf::DROP);
                        });
                    },
                );
            });
        });
    });
}

pub(super) fn set_of(subject: IpAddr) -> Set {
    let [four, six] = SETS;
    if subject.is_ipv4() { four } else { six }
}

fn octets(subject: IpAddr) -> Vec<u8> {
    match subject {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn name_set(message: &mut Attributes, set: Set) {
    message.text(nf::SET_ELEM_LIST_TABLE, TABLE).text(nf::SET_ELEM_LIST_SET, set.name);
}

/// The attributes that name elements of a set; `None`: without an end.
pub(super) fn elements_of(
    message: &mut Attributes,
    set: Set,
    elements: impl Iterator<Item = (IpAddr, Option<u64>)>,
) {
    name_set(message, set);
    message.nest(nf::SET_ELEM_LIST_ELEMENTS, |list| {
        for (subject, left_ms) in elements {
            list.nest(nf::LIST_ELEM, |element| {
                element.nest(nf::SET_ELEM_KEY, |key| {
                    key.put(nf::DATA_VALUE, &octets(subject));
                });
                if let Some(left_ms) = left_ms {
                    element.be64(nf::SET_ELEM_TIMEOUT, left_ms);
                }
            });
        }
    });
}

pub(super) fn add_elements(batch: &mut Batch, set: Set, elements: &[(IpAddr, u64)]) {
    batch.add("newsetelem", (nf::NEWSETELEM, ACKNOWLEDGE | CREATE), &INET, |message| {
        elements_of(message, set, elements.iter().map(|(subject, left)| (*subject, Some(*left))));
    });
}

pub(super) fn destroy_elements(batch: &mut Batch, set: Set, subjects: &[IpAddr]) {
    batch.add("destroysetelem", (nf::DESTROYSETELEM, ACKNOWLEDGE), &INET, |message| {
        elements_of(message, set, subjects.iter().map(|subject| (*subject, None)));
    });
}

pub(super) fn parse_elements(bodies: &[Vec<u8>]) -> BTreeMap<IpAddr, Element> {
    let mut found = BTreeMap::new();
    for body in bodies {
        let body = body.get(NFGENMSG_BYTES..).unwrap_or_default();
        let list = attribute(body, nf::SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
        for (_, element) in attributes(list).filter(|(kind, _)| *kind == nf::LIST_ELEM) {
            found.extend(parse_element(element));
        }
    }
    found
}

fn parse_element(bytes: &[u8]) -> Option<(IpAddr, Element)> {
    let number = |bytes: &[u8]| Some(u64::from_be_bytes(*bytes.first_chunk()?));
    let key = attribute(attribute(bytes, nf::SET_ELEM_KEY)?, nf::DATA_VALUE)?;
    let subject = match <[u8; 4]>::try_from(key) {
        Ok(octets) => IpAddr::from(octets),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(key).ok()?),
    };
    let left_ms = attribute(bytes, nf::SET_ELEM_EXPIRATION).and_then(number).unwrap_or_default();
    let packets = attribute(bytes, nf::SET_ELEM_EXPR)
        .and_then(|expression| attribute(expression, nf::EXPR_DATA))
        .and_then(|counter| attribute(counter, nf::COUNTER_PACKETS))
        .and_then(number);
    Some((subject, Element { left_ms, packets: packets.unwrap_or_default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As nft(8) 1.1 sends `add rule inet hookprobe input ip saddr @block4 counter drop`, but for the
    /// wish to be acknowledged and the set's transaction number, which is there for anonymous sets.
    #[test]
    fn golden_rule() {
        let golden = concat!(
            "24010000060a050c0000000000000000010000000e000100686f6f6b70726f62650000000a000200696e7075",
            "74000000f400048024000180090001006d6574610000000014000280080002000000000f0800010000000001",
            "2c00018008000100636d700020000280080001000000000108000200000000000c0003800500010002000000",
            "340001800c0001007061796c6f6164002400028008000100000000010800020000000001080003000000000c",
            "0800040000000004280001800b0001006c6f6f6b757000001800028008000200000000010b000100626c6f63",
            "6b340000140001800c000100636f756e7465720004000280300001800e000100696d6d656469617465000000",
            "1c0002800800010000000000100002800c0002800800010000000000",
        );
        let [four, _] = SETS;
        let mut batch = Batch::default();
        add_rule(&mut batch, c"input", four);
        assert_eq!(hex(batch.bytes()), golden);
    }

    #[test]
    fn golden_element() {
        let [four, _] = SETS;
        let mut batch = Batch::default();
        add_elements(&mut batch, four, &[("10.0.0.1".parse().unwrap(), 60_000)]);
        assert_eq!(
            hex(batch.bytes()),
            concat!(
                "500000000c0a0504000000000000000001000000",
                "0e000100686f6f6b70726f62650000000b000200626c6f636b340000",
                "200003801c0001800c000180080001000a0000010c000400000000000000ea60",
            )
        );
    }

    #[test]
    fn elements_are_read_and_damaged_ones_are_not() {
        let mut built = Attributes::default();
        let whole = crate::netlink::message::message(0, 0, 0, &INET, |message| {
            elements_of(message, SETS[1], [("fd77::2".parse().unwrap(), None)].into_iter());
        });
        let found = parse_elements(&[whole[16..].to_vec()]);
        assert_eq!(found.keys().next(), Some(&"fd77::2".parse().unwrap()));
        built.put(nf::SET_ELEM_KEY, &[1, 2, 3]);
        assert_eq!(parse_elements(&[vec![], vec![0; 3], whole[16..40].to_vec()]).len(), 0);
    }
}
