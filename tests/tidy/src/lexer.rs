//! Just enough of Rust's lexer to tell code from comments, strings and tests, so that a rule about
//! `unsafe` does not stumble over the word in a sentence.

/// A source taken apart. Offsets and line numbers stay those of the original.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lexed {
    /// The source with comments and the inside of strings blanked.
    pub code: String,
    /// `(line from 1, content)` of every string literal, escapes as written.
    pub strings: Vec<(usize, String)>,
}

impl Lexed {
    /// The code without items under `#[cfg(test)]`.
    #[must_use]
    pub fn without_tests(&self) -> String {
        let mut code: Vec<char> = self.code.chars().collect();
        let mark: Vec<char> = "#[cfg(test)]".chars().collect();
        let mut at = 0;
        while at + mark.len() <= code.len() {
            if code[at..].starts_with(&mark) {
                let end = item_end(&code, at + mark.len());
                blank(&mut code[at..end]);
                at = end;
            } else {
                at += 1;
            }
        }
        code.into_iter().collect()
    }

    /// Lines of the strings that do not stand in items under `#[cfg(test)]`.
    pub fn strings_without_tests(&self) -> impl Iterator<Item = &(usize, String)> {
        let kept: Vec<bool> =
            self.without_tests().lines().map(|line| !line.trim().is_empty()).collect();
        self.strings.iter().filter(move |(line, _)| kept.get(line - 1).copied().unwrap_or(false))
    }
}

/// End of the item that starts at `from`: its closing brace, or a semicolon before any brace.
fn item_end(code: &[char], from: usize) -> usize {
    let mut depth = 0usize;
    for (offset, char) in code[from..].iter().enumerate() {
        match char {
            ';' if depth == 0 => return from + offset + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return from + offset + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn blank(chars: &mut [char]) {
    for char in chars {
        if *char != '\n' {
            *char = ' ';
        }
    }
}

/// Takes a source apart.
#[must_use]
pub fn lex(text: &str) -> Lexed {
    let chars: Vec<char> = text.chars().collect();
    let mut code = chars.clone();
    let mut strings = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let rest = &chars[at..];
        // (end of the token, part of it to blank, whether that part is a string)
        let token = if rest.starts_with(&['/', '/']) {
            let end = position(&chars, at, '\n');
            Some((end, at..end, false))
        } else if rest.starts_with(&['/', '*']) {
            let end = comment_end(&chars, at);
            Some((end, at..end, false))
        } else if let Some((open, hashes)) = raw_string(&chars, at) {
            let (inside_end, end) = raw_end(&chars, open, hashes);
            Some((end, open..inside_end, true))
        } else if rest[0] == '"' {
            let end = quoted_end(&chars, at + 1, '"');
            Some((end, at + 1..end.saturating_sub(1).max(at + 1), true))
        } else if rest[0] == '\'' {
            char_literal(&chars, at).map(|end| (end, at + 1..end - 1, false))
        } else {
            None
        };
        let Some((end, inside, is_string)) = token else {
            line += usize::from(chars[at] == '\n');
            at += 1;
            continue;
        };
        if is_string {
            strings.push((line, chars[inside.clone()].iter().collect()));
        }
        blank(&mut code[inside]);
        line += chars[at..end].iter().filter(|char| **char == '\n').count();
        at = end.max(at + 1);
    }
    Lexed { code: code.into_iter().collect(), strings }
}

fn position(chars: &[char], from: usize, wanted: char) -> usize {
    chars[from..]
        .iter()
        .position(|char| *char == wanted)
        .map_or(chars.len(), |offset| from + offset)
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0usize, from);
    while at < chars.len() {
        if chars[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if chars[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    chars.len()
}

/// Start of the inside and number of `#` of a raw string that starts at `at`.
fn raw_string(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let before = at.checked_sub(1).and_then(|before| chars.get(before));
    if chars[at] != 'r' || before.is_some_and(|char| char.is_alphanumeric() && *char != 'b') {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|char| **char == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some((at + 2 + hashes, hashes))
}

fn raw_end(chars: &[char], open: usize, hashes: usize) -> (usize, usize) {
    let mut close = vec!['"'];
    close.resize(1 + hashes, '#');
    let inside_end =
        (open..chars.len()).find(|at| chars[*at..].starts_with(&close)).unwrap_or(chars.len());
    (inside_end, (inside_end + close.len()).min(chars.len()))
}

/// One after the closing quote.
fn quoted_end(chars: &[char], from: usize, quote: char) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            char if char == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// One after a character literal; `None` for a lifetime.
fn char_literal(chars: &[char], at: usize) -> Option<usize> {
    match (chars.get(at + 1)?, chars.get(at + 2)) {
        ('\\', _) => Some(quoted_end(chars, at + 1, '\'')),
        (_, Some('\'')) => Some(at + 3),
        _ => None,
    }
}

/// Whether `word` stands in `code` as a whole word.
#[must_use]
pub fn has_word(code: &str, word: &str) -> bool {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !(before.is_some_and(part) || after.is_some_and(part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_chars_are_no_code() {
        let lexed =
            lex("a // unsafe\n/* unsafe /* x */ */ b \"unsafe \\\" x\" 'u' &'a r#\"c\"d\"# e\n");
        assert!(!lexed.code.contains("unsafe"), "{}", lexed.code);
        for kept in ["a ", " b ", "&'a", " e\n"] {
            assert!(lexed.code.contains(kept), "{kept:?} in {:?}", lexed.code);
        }
        assert_eq!(lexed.strings, [(2, "unsafe \\\" x".to_owned()), (2, "c\"d".to_owned())]);
    }

    #[test]
    fn tests_are_cut_out_whole() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { \"HP\"; }\n}\nfn c() { \"HQ\"; }\n";
        let lexed = lex(text);
        let code = lexed.without_tests();
        assert!(code.contains("fn a") && code.contains("fn c") && !code.contains("fn b"));
        assert_eq!(code.lines().count(), text.lines().count());
        let strings: Vec<_> = lexed.strings_without_tests().collect();
        assert_eq!(strings, [&(6, "HQ".to_owned())]);
        assert!(lex("#[cfg(test)]\nmod tests;\nfn d() {}").without_tests().contains("fn d"));
    }

    #[test]
    fn words() {
        assert!(has_word("(unsafe {", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
    }
}
