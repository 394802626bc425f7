use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn read(text: &[u8]) -> Record {
    parse(text, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), 5, Transport::Udp)
}

/// On one line what a message says.
fn say(record: &Record) -> String {
    let field = |field: &Option<String>| field.clone().unwrap_or("-".into());
    let mut out = format!(
        "{:?} {}.{:?} {}|{}|{}|{}|{}",
        record.format,
        record.facility.0,
        record.severity,
        field(&record.timestamp),
        field(&record.host),
        field(&record.app),
        field(&record.procid),
        field(&record.msgid),
    );
    for element in &record.structured {
        out += &format!("|[{}", element.id);
        for (name, value) in &element.params {
            out += &format!(" {name}={value}");
        }
        out += "]";
    }
    out += &format!("|{}", record.message);
    match record.fault {
        Some(fault) => format!("{out}|{fault:?}"),
        None => out,
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(say(&read(text.as_bytes())), expected);
}

/// The examples of RFC 5424, 6.5.
#[test]
fn rfc5424_examples() {
    check(
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed \
         for lonvick on /dev/pts/8",
        "Rfc5424 4.Critical 2003-10-11T22:14:15.003Z|mymachine.example.com|su|-|ID47|'su root' \
         failed for lonvick on /dev/pts/8",
    );
    check(
        "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time.",
        "Rfc5424 20.Notice 2003-08-24T05:14:15.000003-07:00|192.0.2.1|myproc|8710|-|%% It's time.",
    );
    check(
        "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 \
         iut=\"3\" eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 \
         class=\"high\"]",
        "Rfc5424 20.Notice 2003-10-11T22:14:15.003Z|mymachine.example.com|evntslog|-|ID47\
         |[exampleSDID@32473 iut=3 eventSource=Application eventID=1011]\
         |[examplePriority@32473 class=high]|",
    );
    check("<0>1 - - - - - -", "Rfc5424 0.Emergency -|-|-|-|-|");
    check("<14>1 - h a - -", "Rfc5424 1.Informational -|h|a|-|-||StructuredData");
    check(
        "<14>1 - h a - - [x y=\"a\\\"b\\]c\\\\d\\e\"] m",
        "Rfc5424 1.Informational -|h|a|-|-|[x y=a\"b]c\\d\\e]|m",
    );
}

/// The examples of RFC 3164, 5.4, and what devices make of it.
#[test]
fn rfc3164_as_it_is_sent() {
    check(
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        "Rfc3164 4.Critical Oct 11 22:14:15|mymachine|su|-|-|'su root' failed for lonvick on \
         /dev/pts/8",
    );
    check(
        "<86>Feb  5 17:32:18 10.0.0.99 sshd[4211]: Failed password\n",
        "Rfc3164 10.Informational Feb  5 17:32:18|10.0.0.99|sshd|4211|-|Failed password",
    );
    // Without a host.
    check(
        "<30>Jan  1 00:00:07 dropbear[12]: Child connection",
        "Rfc3164 3.Informational Jan  1 00:00:07|-|dropbear|12|-|Child connection",
    );
    check(
        "<13>2024-02-01T10:00:00+01:00 nas smbd: up",
        "Rfc3164 1.Notice 2024-02-01T10:00:00+01:00|nas|smbd|-|-|up",
    );
    check("<13>kernel: eth0 down", "Text 1.Notice -|-|kernel|-|-|eth0 down");
    check("<13>Use the BFG!", "Text 1.Notice -|-|-|-|-|Use the BFG!");
}

#[test]
fn faults_are_named_and_nothing_is_lost() {
    check("just text", "Text 1.Notice -|-|-|-|-|just text|NoPriority");
    check("", "Text 1.Notice -|-|-|-|-||NoPriority");
    check("<192>x", "Text 1.Notice -|-|-|-|-|<192>x|Priority");
    check("<0001>x", "Text 1.Notice -|-|-|-|-|<0001>x|Priority");
    check("<>x", "Text 1.Notice -|-|-|-|-|<>x|Priority");
    check(
        "<14>1 yesterday h a p m - x",
        "Text 1.Informational -|-|-|-|-|1 yesterday h a p m - x|Header",
    );
    check(
        "<14>1 - h a p m [x y=\"1] z",
        "Rfc5424 1.Informational -|h|a|p|m|[x y=\"1] z|StructuredData",
    );
    let record = read(b"<14>1 - h a p m - \xff\xfe");
    assert_eq!((record.fault, record.message.as_str()), (Some(Fault::NotUtf8), "\u{fffd}\u{fffd}"));
    let record = read(&[b'x'; 20_000]);
    assert_eq!((record.fault, record.message.len()), (Some(Fault::TooLong), MESSAGE_BYTES_MAX));
    let elements = "[a b=\"c\"]".repeat(ELEMENTS_MAX + 1);
    let record = read(format!("<14>1 - h a p m {elements} x").as_bytes());
    assert_eq!((record.structured.len(), record.fault), (ELEMENTS_MAX, Some(Fault::TooMany)));
    assert_eq!(record.message, "x");
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let record = read(&bytes);
        prop_assert!(record.message.len() <= 3 * bytes.len());
        prop_assert!(record.facility.0 <= 23);
    }

    #[test]
    fn what_is_written_is_read(
        priority in 0_u16..=191,
        fields in proptest::collection::vec("[!-~]{1,20}", 4),
        values in proptest::collection::vec("[ -~\u{e9}]{0,10}", 0..5),
        message in "[ -~\u{e9}]{0,40}",
    ) {
        let mut structured = String::from("-");
        if !values.is_empty() {
            structured = "[id@1".into();
            for (at, value) in values.iter().enumerate() {
                let escaped =
                    value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
                structured += &format!(" p{at}=\"{escaped}\"");
            }
            structured += "]";
        }
        let text = format!("<{priority}>1 2026-01-02T03:04:05Z {} {structured} {message}", fields.join(" "));
        let record = read(text.as_bytes());
        prop_assert_eq!(record.format, Format::Rfc5424);
        prop_assert_eq!(record.fault, None);
        prop_assert_eq!(u16::from(record.facility.0), priority >> 3);
        let found: Vec<String> =
            record.structured.iter().flat_map(|e| e.params.iter().map(|(_, v)| v.clone())).collect();
        prop_assert_eq!(found, values);
        prop_assert_eq!(record.message, message);
        for (field, expected) in [record.host, record.app, record.procid, record.msgid].into_iter().zip(fields) {
            prop_assert_eq!(field.unwrap_or("-".into()), expected);
        }
    }
}
