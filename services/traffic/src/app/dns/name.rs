//! Domain names, compressed or not (RFC 1035, section 4.1.4).

/// Most bytes of a name's text. RFC 1035 allows 255; Suricata keeps what is longer up to this.
const TEXT_BYTES_MAX: usize = 1025;
/// Most labels and pointers of a name: more than any legal name has, so a loop ends here.
const STEPS_MAX: usize = 255;

/// A name as text: labels as sent, joined by dots, no dot at the end; empty is the root. Bytes in a
/// label are kept as they are (a dot inside a label can't be told from a separator, as in Suricata).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// The text.
    pub text: Vec<u8>,
    /// Longer than 1025 bytes: the rest is left out.
    pub is_truncated: bool,
    /// Its pointers go round.
    pub has_loop: bool,
    /// More labels than any legal name has.
    pub has_too_many_labels: bool,
}

impl Name {
    /// As text, bytes that are no UTF-8 replaced.
    #[must_use]
    pub fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// Reads the name at `at` of `message`; returns it and the offset behind it.
/// `None` when it runs out of the message.
pub(super) fn read(message: &[u8], at: usize) -> Option<(Name, usize)> {
    let mut name = Name::default();
    let mut at = at;
    let mut behind = None;
    for _ in 0..STEPS_MAX {
        let length = *message.get(at)?;
        match length >> 6 {
            0 if length == 0 => return Some((name, behind.unwrap_or(at + 1))),
            0 => {
                let end = at + 1 + usize::from(length);
                push_label(&mut name, message.get(at + 1..end)?);
                at = end;
            }
            3 => {
                let low = *message.get(at + 1)?;
                let target = usize::from(length & 0x3f) << 8 | usize::from(low);
                behind.get_or_insert(at + 2);
                if target == at {
                    name.has_loop = true;
                    return Some((name, behind.unwrap_or(at + 2)));
                }
                at = target;
            }
            _ => return None,
        }
    }
    if let Some(behind) = behind {
        name.has_loop = true;
        return Some((name, behind));
    }
    name.has_too_many_labels = true;
    skip_labels(message, at).map(|end| (name, end))
}

fn push_label(name: &mut Name, label: &[u8]) {
    if name.is_truncated {
        return;
    }
    if !name.text.is_empty() {
        name.text.push(b'.');
    }
    let room = TEXT_BYTES_MAX.saturating_sub(name.text.len());
    name.is_truncated = label.len() > room;
    name.text.extend_from_slice(label.get(..room.min(label.len())).unwrap_or_default());
}

/// The end of a name that has more labels than are read.
fn skip_labels(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length >> 6 {
            0 if length == 0 => return Some(at + 1),
            0 => at += 1 + usize::from(length),
            3 => return message.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    fn check(message: &[u8], at: usize, want: Option<(&str, usize)>) {
        let got = read(message, at).map(|(name, end)| (name.to_text(), end));
        assert_eq!(got, want.map(|(text, end)| (text.to_owned(), end)));
    }

    #[test]
    fn plain_compressed_and_root() {
        check(b"\x03www\x02hp\x00", 0, Some(("www.hp", 8)));
        check(b"\x02hp\x00\x03www\xc0\x00x", 4, Some(("www.hp", 10)));
        check(b"\x00", 0, Some(("", 1)));
    }

    #[test]
    fn what_runs_out_is_none() {
        check(b"\x05ab", 0, None);
        check(b"\xc0", 0, None);
        check(b"\x41ab\x00", 0, None);
        check(b"", 0, None);
    }

    #[test]
    fn loops_end() {
        let (name, end) = read(b"\x01a\xc0\x00", 0).unwrap();
        assert!(name.has_loop);
        assert_eq!(end, 4);
        let (name, end) = read(b"\xc0\x00", 0).unwrap();
        assert!(name.has_loop && end == 2);
    }

    #[test]
    fn three_hundred_labels_are_cut_and_skipped() {
        let mut message = b"\x01a".repeat(300);
        message.push(0);
        let (name, end) = read(&message, 0).unwrap();
        assert!(name.has_too_many_labels);
        assert_eq!(end, 601);
    }
}
