//! Untrusted text made safe for terminals and logs.

/// Escapes control characters, bidirectional overrides and other invisible characters, and cuts
/// after `chars_max` characters (marked with `~`). The result never moves a cursor.
#[must_use]
pub fn escape(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    for char in text.chars() {
        let piece = if is_hidden(char) {
            format!("\\u{{{:x}}}", u32::from(char))
        } else {
            char.to_string()
        };
        length += piece.chars().count();
        if length > chars_max {
            out.push('~');
            break;
        }
        out.push_str(&piece);
    }
    out
}

fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(
            u32::from(char),
            0x00ad | 0x061c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfe00..=0xfe0f
                | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe0fff
        )
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(escape("a\x1b[2Jb\r\n", 80), "a\\u{1b}[2Jb\\u{d}\\u{a}");
        assert_eq!(escape("x\u{202e}y", 80), "x\\u{202e}y");
        assert_eq!(escape("abcdef", 3), "abc~");
        assert_eq!(escape("Gr\u{fc}n", 80), "Gr\u{fc}n");
    }
}
