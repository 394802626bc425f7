use proptest::prelude::*;

use super::*;

/// What a text gives: `+name` blocks, `-name` allows.
fn read(syntax: Syntax, text: &[u8], piece: usize) -> (Vec<String>, Counts) {
    let mut out = Vec::new();
    let mut each = |entry: Entry<'_>| {
        let (sign, name) = match entry {
            Entry::Block(name) => ('+', name),
            Entry::Allow(name) => ('-', name),
        };
        out.push(format!("{sign}{}", String::from_utf8(name.to_vec()).unwrap()));
    };
    let mut parser = Parser::new(syntax);
    for piece in text.chunks(piece) {
        parser.feed(piece, &mut each);
    }
    let counts = parser.finish(&mut each);
    (out, counts)
}

/// The faults, as text.
fn faults(counts: &Counts) -> String {
    let kinds = Garbage::ALL.iter().filter(|kind| counts.of(**kind) > 0);
    kinds
        .map(|kind| format!("{}: {}", kind.label(), counts.of(*kind)))
        .collect::<Vec<_>>()
        .join(", ")
}

#[track_caller]
fn check(syntax: Syntax, text: &str, names: &[&str], expected_faults: &str) {
    for piece in [1, 3, 100_000] {
        let (found, counts) = read(syntax, text.as_bytes(), piece);
        assert_eq!(found, names);
        assert_eq!(faults(&counts), expected_faults);
    }
}

#[test]
fn hosts() {
    check(
        Syntax::Hosts,
        "\u{feff}# comment\r\n127.0.0.1 localhost\n::1 localhost.localdomain\n\
         0.0.0.0 Ads.Example tracker.example # two\r\n  :: six.example\nfe80::1%lo0 x.example\n\
         192.0.2.7 nas.example\nnonsense\n0.0.0.0\n0.0.0.0 co.uk\n0.0.0.0 0.0.0.0\n\
         0.0.0.0 last.example",
        &["+ads.example", "+tracker.example", "+six.example", "+last.example"],
        "address as name: 1, single label: 2, public suffix: 1, malformed line: 2, real address: 2",
    );
}

#[test]
fn adblock() {
    check(
        Syntax::Adblock,
        "[Adblock Plus 2.0]\n! Title\n# words\n||bad.example^\n||wide.example^$important\n\
         @@||good.bad.example^\n@@||fine.example^|\n||*.star.example^\n||page.example^$third-party\n\
         ||path.example/x^\n||part.ex*mple^\nexample.com##.banner\n##.ad\n/regex/\n||github.io^\n||x^\n",
        &["+bad.example", "+wide.example", "-good.bad.example", "-fine.example", "+star.example"],
        "bad character: 1, single label: 1, public suffix: 1, unsupported rule: 5",
    );
}

#[test]
fn rpz() {
    check(
        Syntax::Rpz,
        "$TTL 300\n$ORIGIN rpz.box.\n@ IN SOA ns.box. root.box. (\n  1 2\n  3 4 5 )\n IN NS ns.box.\n\
         bad.example CNAME . ; why\n*.bad.example CNAME .\nOdd.example.rpz.box. 60 IN CNAME *.\n\
         drop.example 1h CNAME rpz-drop.\ngood.example CNAME rpz-passthru.\n\
         sink.example A 0.0.0.0\n\tAAAA ::\nreal.example A 192.0.2.1\n\
         tcp.example CNAME rpz-tcp-only.\n32.1.2.0.192.rpz-ip CNAME .\nother.zone. CNAME .\n\
         text.example TXT \"a;b\"\ngarden.example CNAME walled.example.\ncom CNAME .\n$GENERATE 1-9 x\n\
         lonely\n",
        &[
            "+bad.example",
            "+bad.example",
            "+odd.example",
            "+drop.example",
            "-good.example",
            "+sink.example",
            "+sink.example",
            "+garden.example",
        ],
        "single label: 1, malformed line: 2, real address: 1, unsupported rule: 4",
    );
}

#[test]
fn an_open_bracket_does_not_swallow_the_zone() {
    let text = format!("@ SOA a. b. (\n{}late.example CNAME .\n", "x 1\n".repeat(16));
    check(Syntax::Rpz, &text, &["+late.example"], "");
}

#[test]
fn plain() {
    check(
        Syntax::Plain,
        "# c\n; c\na.example # c\n*.b.example\nC.EXAMPLE.\ntwo words.example\n\n..\nb\u{fc}cher.example\n",
        &["+a.example", "+b.example", "+c.example"],
        "empty label: 1, not ASCII: 1, malformed line: 1",
    );
}

#[test]
fn long_lines_cost_one_line() {
    let text = format!("a.example\n{}\nb.example\n", "x".repeat(1_000_000));
    check(Syntax::Plain, &text, &["+a.example", "+b.example"], "line too long: 1");
    let mut parser = Parser::new(Syntax::Plain);
    parser.feed(text.as_bytes(), &mut |_| {});
    assert!(parser.line.capacity() <= 2 * LINE_BYTES_MAX);
}

/// A million lines, every third of them garbage: the good part is there, each fault is counted.
#[test]
fn good_part_of_a_list_with_garbage() {
    let mut text = String::new();
    let (lines, mut good) = (30_000, 0);
    for n in 0..lines {
        match n % 9 {
            0 => text.push_str("\u{0}\u{1}\u{7f}garbage\n"),
            3 => text.push_str("<html><body>404</body></html>\n"),
            6 => text.push_str("com\n"),
            _ => {
                good += 1;
                text.push_str(&format!("n{n}.example\n"));
            }
        }
    }
    let (found, counts) = read(Syntax::Plain, text.as_bytes(), 4096);
    assert_eq!((found.len(), counts.blocked), (good, good as u64));
    assert_eq!(counts.lines, lines as u64);
    assert_eq!(counts.blocked + counts.garbage_total(), lines as u64);
}

proptest! {
    #[test]
    fn any_bytes_any_pieces(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        piece in 1_usize..50,
        which in 0_usize..4,
    ) {
        let syntax = [Syntax::Hosts, Syntax::Adblock, Syntax::Rpz, Syntax::Plain][which];
        let whole = read(syntax, &bytes, bytes.len().max(1));
        prop_assert_eq!(&whole, &read(syntax, &bytes, piece));
        for name in whole.0 {
            let name = &name.as_bytes()[1..];
            prop_assert!(!suffix::is_public_suffix(name));
            let again = name::normalise(name).unwrap();
            prop_assert_eq!(again.as_bytes(), name);
        }
    }

    #[test]
    fn lines_of_the_format(
        lines in proptest::collection::vec("(@@)?(\\|\\||0\\.0\\.0\\.0 |\\*\\.|)[a-c.]{1,9}( CNAME \\.|\\^|\\$x)?", 0..40),
        which in 0_usize..4,
    ) {
        let syntax = [Syntax::Hosts, Syntax::Adblock, Syntax::Rpz, Syntax::Plain][which];
        let text = lines.join("\n");
        let (found, counts) = read(syntax, text.as_bytes(), 7);
        prop_assert_eq!(found.len() as u64, counts.blocked + counts.allowed);
    }
}
