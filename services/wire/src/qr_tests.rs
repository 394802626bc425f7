use proptest::prelude::*;

use super::*;

const TEXT: &[u8] = b"evidence of one box at one moment";

#[test]
fn golden() {
    let expect = [
        "HPQ1:1:2:59C158EB:MV3GSZDFNZRWKIDPMYQG63TFEBRG66BA",
        "HPQ1:2:2:59C158EB:MF2CA33OMUQG233NMVXHI",
    ];
    assert_eq!(split(TEXT, HEADER_CHARS + 32).unwrap(), expect);
    // Made by this version; every later one reads it.
    assert_eq!(join(&expect.join("\n")).unwrap(), TEXT);
}

#[test]
fn parts_are_those_of_the_standards() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    for (bytes, text) in
        [("f", "MY"), ("fo", "MZXQ"), ("foo", "MZXW6"), ("foob", "MZXW6YQ"), ("fooba", "MZXW6YTB")]
    {
        assert_eq!(base32(bytes.as_bytes()), text);
        assert_eq!(from_base32(text).unwrap(), bytes.as_bytes());
    }
}

#[test]
fn what_a_terminal_adds_is_not_looked_at() {
    let lines = split(TEXT, HEADER_CHARS + 8).unwrap();
    let mut screen: Vec<String> = lines.iter().map(|line| format!("| {line}   |")).collect();
    screen.reverse();
    screen.insert(2, "+- EVIDENCE -----+\r".into());
    screen.push(format!("{}\r", lines[1]));
    assert_eq!(join(&screen.join("\n")).unwrap(), TEXT);
}

#[test]
fn what_is_wrong_is_named() {
    let lines = split(TEXT, HEADER_CHARS + 16).unwrap();
    assert_eq!(lines.len(), 4);
    let other = split(b"evidence of another box, or later", HEADER_CHARS + 16).unwrap();
    let check = |text: String, code: &str| {
        let error = join(&text).unwrap_err().to_string();
        assert!(error.starts_with(code), "{text}: {error}");
    };
    check("x".repeat(TEXT_BYTES_MAX + 1), "HP-QR-010");
    check("nothing here".into(), "HP-QR-011");
    for damaged in [
        "HPQ1:",
        "HPQ1:1:4",
        "HPQ1:0:4:00000000:MY",
        "HPQ1:5:4:00000000:MY",
        "HPQ1:01:4:00000000:MY",
        "HPQ1:1:100:00000000:MY",
        "HPQ1:1:4:0000:MY",
        "HPQ1:1:4:0000000g:MY",
        "HPQ1:1:4:+0000000:MY",
        "HPQ1:1:4:00000000:",
        "HPQ1:1:4:00000000:M",
        "HPQ1:1:4:00000000:MZ",
    ] {
        check(damaged.into(), "HP-QR-012");
    }
    let changed = lines[0].replace(":1:4:", ":2:4:");
    check(format!("{}\n{changed}", lines[1]), "HP-QR-012");
    check(format!("{}\n{}", lines[0], other[1]), "HP-QR-013");
    check(
        format!("{}\n{}", lines[0], lines[3]),
        "HP-QR-014 text: 2 of 4 lines are missing, the first is 2",
    );
    let flipped = lines.join("\n").replace('M', "N");
    assert!(join(&flipped).is_err());
    let swapped = [
        &lines[0],
        &lines[1].replace(":2:4:", ":3:4:"),
        &lines[2].replace(":3:4:", ":2:4:"),
        &lines[3],
    ];
    check(swapped.map(String::as_str).join("\n"), "HP-QR-015");
}

#[test]
fn what_does_not_fit_is_refused() {
    assert_eq!(split(&[], 100), Err(SplitError::Size { got: 0 }));
    assert_eq!(split(&[0; BYTES_MAX + 1], 100), Err(SplitError::Size { got: BYTES_MAX + 1 }));
    assert!(matches!(split(&[0; BYTES_MAX], 30), Err(SplitError::Narrow { .. })));
    assert!(matches!(split(&[0; 9], HEADER_CHARS + 7), Err(SplitError::Narrow { .. })));
    // The text page of an 80 column terminal takes the longest set.
    assert!(split(&[0; BYTES_MAX], 76).unwrap().len() <= PARTS_MAX);
}

proptest! {
    #[test]
    fn what_was_split_is_joined(
        bytes in prop::collection::vec(any::<u8>(), 1..BYTES_MAX),
        chars_max in 76usize..500,
    ) {
        let lines = split(&bytes, chars_max).unwrap();
        for line in &lines {
            prop_assert!(line.len() <= chars_max);
            let qr = |char: char| char.is_ascii_uppercase() || char.is_ascii_digit() || char == ':';
            prop_assert!(line.chars().all(qr));
        }
        prop_assert_eq!(join(&lines.join("\n")).unwrap(), bytes);
    }

    #[test]
    fn no_text_panics(text in "(HPQ1:[0-9]{0,3}:[0-9]{0,3}:[0-9A-F]{0,9}:[A-Z2-7]{0,20}.?\n?){0,9}") {
        let _ = join(&text);
    }

    /// A changed character is found: by the line's form or by the CRC.
    #[test]
    fn no_change_goes_unseen(at in 0usize..200, to in "[A-Z0-9:]") {
        let text = split(TEXT, HEADER_CHARS + 24).unwrap().join("\n");
        let at = at % text.len();
        let mut changed = text.clone();
        changed.replace_range(at..=at, &to);
        if changed != text {
            prop_assert!(join(&changed).is_err() , "{}", changed);
        }
    }
}
