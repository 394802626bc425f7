//! A parsed pattern in the notation of `regex-automata`.

use std::fmt::Write as _;

use super::{
    parse::{Anchor, Ast, Greed},
    set::{Set, has},
};

/// Prints what `regex-automata` reads. Only for patterns that are not fancy.
pub(super) fn print(ast: &Ast, out: &mut String) {
    match ast {
        Ast::Empty | Ast::Keep | Ast::Look { .. } | Ast::Backreference { .. } => {
            out.push_str("(?:)");
        }
        Ast::Byte(set) => print_set(set, out),
        Ast::Anchor(anchor) => out.push_str(match anchor {
            Anchor::Start | Anchor::SearchStart => r"\A",
            Anchor::LineStart => "(?m:^)",
            Anchor::End => r"\z",
            Anchor::EndOrNewline => r"(?:\n?\z)",
            Anchor::LineEnd => "(?m:$)",
            Anchor::Word => r"(?-u:\b)",
            Anchor::NotWord => r"(?-u:\B)",
        }),
        Ast::Concat(parts) => {
            out.push_str("(?:");
            parts.iter().for_each(|part| print(part, out));
            out.push(')');
        }
        Ast::Alternate(branches) => {
            out.push_str("(?:");
            for (index, branch) in branches.iter().enumerate() {
                if index > 0 {
                    out.push('|');
                }
                print(branch, out);
            }
            out.push(')');
        }
        Ast::Repeat { inner, min, max, greed } => {
            out.push_str("(?:");
            print(inner, out);
            out.push(')');
            let _ = match max {
                Some(max) => write!(out, "{{{min},{max}}}"),
                None => write!(out, "{{{min},}}"),
            };
            if *greed == Greed::Lazy {
                out.push('?');
            }
        }
        Ast::Group(_, inner) | Ast::Atomic(inner) => print(inner, out),
    }
}

fn print_set(set: &Set, out: &mut String) {
    if *set == Set::default() {
        out.push_str("[a&&b]");
        return;
    }
    out.push('[');
    let mut byte = 0_u16;
    while byte < 256 {
        let member = |at: u16| u8::try_from(at).is_ok_and(|at| has(set, at));
        if member(byte) {
            let mut end = byte;
            while member(end + 1) {
                end += 1;
            }
            let _ = write!(out, "\\x{byte:02x}-\\x{end:02x}");
            byte = end;
        }
        byte += 1;
    }
    out.push(']');
}
