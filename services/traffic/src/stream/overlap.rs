//! Who wins where two segments overlap.
//!
//! The table is that of Suricata's stream engine, which follows Novak and Sturges, "Target-Based TCP
//! Stream Reassembly" (2007).

use std::ops::Range;

use crate::config::Policy;

/// Whether the bytes of a `new` segment replace those of an `old` one that it overlaps.
pub(super) fn is_new_used(policy: Policy, new: &Range<u64>, old: &Range<u64>) -> bool {
    use Policy::{
        Bsd, HpUx10, HpUx11, Irix, Last, Linux, MacOs, OldLinux, Solaris, Windows, Windows2k3,
    };
    if policy == Last {
        return true;
    }
    let reaches_end = new.end >= old.end;
    if new.start == old.start {
        return match policy {
            Linux => new.end > old.end,
            OldLinux | Solaris | HpUx11 => reaches_end,
            _ => false,
        };
    }
    if new.start < old.start {
        return match policy {
            Solaris | HpUx11 => reaches_end,
            Bsd | HpUx10 | Irix | Windows | Windows2k3 | OldLinux | Linux | MacOs => true,
            _ => false,
        };
    }
    matches!(policy, Solaris | HpUx11) && new.end > old.end
}
