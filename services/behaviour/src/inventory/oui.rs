//! Who made a network interface, by the first three bytes of its address.
//!
//! `data/makers.tsv` holds the most common makers of devices that stand in homes and small
//! companies and their blocks in IEEE's registry (MA-L): 4,600 of 32,000 blocks. Limits: blocks
//! given out after August 2022 are not there; of makers with hundreds of blocks (Apple, Intel,
//! Huawei, ...) only a sample is; a module's maker is told, not the product's (an Espressif chip is
//! in a thousand products); phones and laptops that choose their own address have no maker at all.
//! Who isn't found is `None`, never a guess.
//!
//! The text is 34 KB; the index over it, made at the first question, 150 KB.

use std::sync::LazyLock;

use super::Class;
use crate::observation::Mac;

static MAKERS: &str = include_str!("../../data/makers.tsv");

/// A maker of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    /// Name that people know.
    pub name: &'static str,
    /// What it mostly makes.
    pub class: Class,
}

/// The maker of an interface, if it is known.
#[must_use]
pub fn maker(mac: Mac) -> Option<Maker> {
    if mac.is_local() || mac.is_group_or_zero() {
        return None;
    }
    let [first, second, third, ..] = mac.0;
    let block = u32::from_be_bytes([0, first, second, third]);
    let at = BLOCKS.binary_search_by_key(&block, |(held, _)| *held).ok()?;
    BLOCKS.get(at).map(|(_, maker)| *maker)
}

/// By block, made at the first question: a flood of new stations costs a search each, no more.
static BLOCKS: LazyLock<Vec<(u32, Maker)>> = LazyLock::new(|| {
    let mut blocks = Vec::new();
    for line in MAKERS.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let (Some(class), Some(name), Some(its)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let maker = Maker { name, class: class_of(class) };
        let numbers = its.split(' ').filter_map(|block| u32::from_str_radix(block, 16).ok());
        blocks.extend(numbers.map(|block| (block, maker)));
    }
    blocks.sort_unstable_by_key(|(block, _)| *block);
    blocks
});

fn class_of(letter: &str) -> Class {
    match letter {
        "A" => Class::Appliance,
        "I" => Class::Industrial,
        "N" => Class::Network,
        "S" => Class::Storage,
        _ => Class::General,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        for line in MAKERS.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<_> = line.split('\t').collect();
            assert_eq!(fields.len(), 3, "{line}");
            assert!("GAINS".contains(fields[0]) && !fields[1].is_empty(), "{line}");
            for block in fields[2].split(' ') {
                assert!(block.len() == 6 && u32::from_str_radix(block, 16).is_ok(), "{block}");
            }
        }
    }

    #[test]
    fn known_makers_are_found_and_others_are_not() {
        let of = |bytes: [u8; 3]| {
            maker(Mac([bytes[0], bytes[1], bytes[2], 1, 2, 3]))
                .map(|maker| (maker.name, maker.class))
        };
        assert_eq!(of([0xb8, 0x27, 0xeb]), Some(("Raspberry Pi", Class::General)));
        assert_eq!(of([0x00, 0x17, 0x88]), Some(("Signify (Philips Hue)", Class::Appliance)));
        assert_eq!(of([0x18, 0xb4, 0x30]), Some(("Nest", Class::Appliance)));
        assert_eq!(of([0x52, 0x54, 0x00]), None, "chosen by the station itself");
        assert_eq!(of([0xff, 0xff, 0xff]), None);
    }
}
