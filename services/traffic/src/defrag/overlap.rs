//! What a new fragment cuts and what cuts it.

use std::ops::Range;

use super::Fragment;
use crate::config::Policy;

/// The families that systems fall into.
#[derive(Clone, Copy)]
enum Family {
    Bsd,
    BsdRight,
    Linux,
    Windows,
    Solaris,
    First,
    Last,
}

const fn family(policy: Policy) -> Family {
    match policy {
        Policy::Bsd | Policy::HpUx10 | Policy::Irix => Family::Bsd,
        Policy::BsdRight => Family::BsdRight,
        Policy::OldLinux | Policy::Linux => Family::Linux,
        Policy::OldSolaris | Policy::HpUx11 | Policy::MacOs | Policy::First => Family::First,
        Policy::Solaris => Family::Solaris,
        Policy::Windows | Policy::Vista | Policy::Windows2k3 => Family::Windows,
        Policy::Last => Family::Last,
    }
}

/// How a look at one of the old fragments ended.
enum Verdict {
    /// The new one is dropped.
    Drop,
    /// It is settled where the new one goes.
    Insert,
    /// The next one has to be looked at.
    Next,
}

/// Cuts old fragments for the bytes `new`, and says how much of the front of `new` is cut; `None`
/// drops it.
pub(super) fn resolve(
    policy: Policy,
    fragments: &mut [Fragment],
    new: &Range<usize>,
) -> Option<usize> {
    let family = family(policy);
    // From the one before the first that begins at or behind the new one.
    let first = fragments.partition_point(|old| old.start < new.start);
    let from = if first == fragments.len() { 0 } else { first.saturating_sub(1) };
    let mut cut = 0;
    for at in from..fragments.len() {
        let (old, next) = match fragments.get_mut(at..) {
            Some([old, next, ..]) => (old, Some(next)),
            Some([old]) => (old, None),
            _ => break,
        };
        let verdict = match family {
            Family::Bsd => bsd(old, next, new, &mut cut),
            Family::Linux => linux(old, new, &mut cut),
            Family::Windows => windows(old, new, &mut cut),
            Family::Solaris => solaris(old, new, &mut cut),
            Family::First => first_wins(old, new, &mut cut),
            Family::Last => last_wins(old, new),
            // Suricata has no rule for it: what comes later in order of offset is copied over.
            Family::BsdRight => Verdict::Next,
        };
        match verdict {
            Verdict::Drop => return None,
            Verdict::Insert => break,
            Verdict::Next => {}
        }
    }
    Some(cut)
}

/// All of `old` is another's.
fn skip(old: &mut Fragment) {
    old.cut = old.bytes.len();
}

fn bsd(
    old: &mut Fragment,
    next: Option<&mut Fragment>,
    new: &Range<usize>,
    cut: &mut usize,
) -> Verdict {
    if new.start >= old.end() {
        return Verdict::Next;
    }
    if old.start <= new.start {
        if old.end() > new.end {
            return Verdict::Drop;
        }
        *cut = old.end() - new.start;
    } else if new.end > old.start + old.cut {
        old.cut = old.cut.max(new.end - old.start);
    }
    if let Some(next) = next.filter(|next| new.end > next.start) {
        next.cut = new.end - next.start;
    }
    Verdict::Insert
}

fn linux(old: &mut Fragment, new: &Range<usize>, cut: &mut usize) -> Verdict {
    if old.start + old.cut < new.start + *cut && old.end() > new.start + *cut {
        *cut = old.end() - new.start;
    }
    let start = new.start + *cut;
    if start < old.start + old.cut && new.end > old.start + old.cut {
        old.cut = new.end - old.start;
        return Verdict::Insert;
    }
    if start <= old.start + old.cut && new.end >= old.end() {
        skip(old);
        return Verdict::Insert;
    }
    Verdict::Next
}

fn windows(old: &mut Fragment, new: &Range<usize>, cut: &mut usize) -> Verdict {
    if new.start >= old.start && new.end <= old.end() {
        return Verdict::Drop;
    }
    if new.start < old.start && new.end > old.end() {
        skip(old);
        return Verdict::Insert;
    }
    let start = new.start + *cut;
    let begins_within = start > old.start + old.cut && start < old.end();
    let begins_same = new.start == old.start && new.end > old.end();
    if begins_within || begins_same {
        *cut = old.end() - new.start;
        return Verdict::Insert;
    }
    Verdict::Next
}

fn solaris(old: &mut Fragment, new: &Range<usize>, cut: &mut usize) -> Verdict {
    if new.start >= old.end() {
        return Verdict::Next;
    }
    if new.start >= old.start {
        *cut = old.end() - new.start;
    } else if new.end >= old.end() {
        skip(old);
    }
    Verdict::Insert
}

fn first_wins(old: &Fragment, new: &Range<usize>, cut: &mut usize) -> Verdict {
    if new.start >= old.start && new.end <= old.end() {
        return Verdict::Drop;
    }
    if new.start < old.start {
        return Verdict::Insert;
    }
    if new.start < old.end() {
        *cut = old.end() - new.start;
        return Verdict::Insert;
    }
    Verdict::Next
}

fn last_wins(old: &mut Fragment, new: &Range<usize>) -> Verdict {
    if new.start > old.start {
        return Verdict::Next;
    }
    if new.end > old.start {
        old.cut = new.end - old.start;
    }
    Verdict::Insert
}
