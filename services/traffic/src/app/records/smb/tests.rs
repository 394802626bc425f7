use super::{Direction::*, *};
use crate::app::{
    Config, Fed, Meta, Proto, Step,
    http::FileState::{self, *},
    records::Records,
    tests::meta,
};

const OWN: [u8; 16] = [7; 16];
const JUST_OPENED: [u8; 16] = [0xff; 16];
const RELATED: u32 = 4;

struct Bench {
    records: Records,
    config: Config,
}

impl Bench {
    fn new() -> Self {
        let config = Config { are_files_hashed: true, ..Config::default() };
        Self { records: Records::of(Proto::Smb).unwrap(), config }
    }

    fn feed(&mut self, direction: Direction, bytes: &[u8]) -> &mut Self {
        self.feed_behind(0, direction, bytes)
    }

    /// Bytes behind `gap` lost ones.
    fn feed_behind(&mut self, gap: u64, direction: Direction, bytes: &[u8]) -> &mut Self {
        let meta = Meta { gap, ..meta(&self.config) };
        let step = self.records.feed(0, direction, bytes, &meta, &mut Fed::default());
        assert!(matches!(step, Step::Go));
        self
    }

    /// Names, bytes and states of files.
    #[track_caller]
    fn check(&self, expected: &[(&str, &[u8], FileState)]) {
        let transfers = self.records.txs.iter().filter_map(|tx| tx.transfer());
        let found: Vec<_> = transfers
            .map(|transfer| {
                let name = str::from_utf8(&transfer.file.name).unwrap();
                (name, transfer.body.window().1, transfer.file.state)
            })
            .collect();
        assert_eq!(found, expected);
    }
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn letters(count: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(count).collect()
}

/// A message of SMB 1 from its header on.
fn one(command: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let head = [b"\xffSMB", &[command, 0, 0, 0, 0, flags][..], &[0; 22]].concat();
    [&head, body].concat()
}

/// WRITE_ANDX: `length` bytes for the beginning of a file, at `at` in the message.
fn write_andx(chained: (u8, u16), handle: u16, length: u32, at: u16) -> Vec<u8> {
    let (low, high) = (length as u16, (length >> 16) as u16);
    let words = [u16::from(chained.0), chained.1, handle, 0, 0, 0, 0, 0, 0, high, low, at, 0, 0, 0];
    let words = words.map(u16::to_le_bytes);
    [&[14][..], words.as_flattened()].concat()
}

/// A message of SMB 2: number of the message, flags, command, body.
fn two(number: u64, flags: u32, command: u16, body: &[u8]) -> Vec<u8> {
    let related = flags & RELATED != 0;
    let (tree, session) = if related { (u32::MAX, u64::MAX) } else { (3, 5) };
    let head = [
        b"\xfeSMB\x40\0\0\0\0\0\0\0",
        &command.to_le_bytes()[..],
        &[0; 2],
        &flags.to_le_bytes(),
        &[0; 4],
        &number.to_le_bytes(),
        &[0; 4],
        &tree.to_le_bytes(),
        &session.to_le_bytes(),
        &[0; 16],
    ];
    [&head.concat(), body].concat()
}

fn compound(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let mut message = message.clone();
        if at + 1 < messages.len() {
            message.resize(message.len().next_multiple_of(8), 0);
            let next = message.len() as u32;
            message[20..24].copy_from_slice(&next.to_le_bytes());
        }
        out.extend(message);
    }
    frame(&out)
}

fn create(number: u64, name: &str) -> Vec<u8> {
    let wide: Vec<u8> = name.bytes().flat_map(|byte| [byte, 0]).collect();
    let body = [&[0; 44][..], &120_u16.to_le_bytes(), &[wide.len() as u8, 0], &[0; 8], &wide];
    two(number, 0, 5, &body.concat())
}

fn write(number: u64, flags: u32, handle: [u8; 16], padding: usize, data: &[u8]) -> Vec<u8> {
    let body = [
        &[49, 0][..],
        &(112 + padding as u16).to_le_bytes(),
        &(data.len() as u32).to_le_bytes(),
        &[0; 8],
        &handle,
        &[0; 16],
        &vec![0; padding],
        data,
    ];
    two(number, flags, 9, &body.concat())
}

fn read(number: u64, flags: u32, handle: [u8; 16]) -> Vec<u8> {
    two(number, flags, 8, &[&[0; 16][..], &handle, &[0; 17]].concat())
}

fn answer(number: u64, flags: u32, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u32).to_le_bytes();
    two(number, flags | 1, 8, &[&[17, 0, 80, 0][..], &length, &[0; 8], data].concat())
}

fn close(number: u64, flags: u32, handle: [u8; 16]) -> Vec<u8> {
    two(number, flags, 6, &[&[0; 8][..], &handle].concat())
}

#[test]
fn after_a_loss_the_next_message_is_found() {
    let mut parser = Parser { is_lost: [true, false], ..Parser::default() };
    let bytes = b"garbage\0\0\0\x20\xffSMBr";
    assert!(matches!(parser.lost(Direction::ToServer, bytes), Some(Taken::Message(7))));
    assert!(parser.lost(Direction::ToServer, &bytes[7..]).is_none());
    assert!(parser.lost(Direction::ToServer, bytes).is_none(), "nothing is lost any more");
    parser.is_lost = [true; 2];
    let long = b"garbage\0\x7f\0\x20\xfeSMB@";
    assert!(matches!(parser.lost(Direction::ToServer, long), Some(Taken::Message(7))));
}

#[test]
fn names_of_hosts() {
    assert_eq!(wide(b"Q\0T\0S\0\0\0x\0"), (b"QTS".to_vec(), &b"x\0"[..]));
    assert_eq!(dialects(b"\0\x06\0\x02ab\0\x02c\0"), [b"ab".to_vec(), b"c".to_vec()]);
    assert_eq!(is_response(b"\0\0\0\x20\xffSMBr\0\0\0\0\x88"), Some(true));
    assert_eq!(is_response(b"\0\0\0\x20\xffSMBr"), None);
}

#[test]
fn names_of_dialects_are_cut_and_counted() {
    let names = [&[2][..], &[b'x'; 60_000], &[0]].concat();
    let message = frame(&one(NEGOTIATE, 0, &[b"\0\0\0", &names[..]].concat()));
    let mut bench = Bench::new();
    // The first one also makes room for bytes that wait.
    let before = bench.feed(ToServer, &message).records.held_bytes();
    (0..100).for_each(|_| _ = bench.feed(ToServer, &message));
    let each = size_of::<crate::app::records::Tx>() + size_of::<Command>() + 64;
    assert!(bench.records.held_bytes() >= before + 100 * each);
    for tx in &bench.records.txs {
        let super::Body::Smb(command) = &tx.body else { panic!("{tx:?}") };
        assert_eq!(command.dialects, [vec![b'x'; 64]]);
    }
}

#[test]
fn a_dialect_and_a_handle_of_a_transfer_are_counted() {
    let mut transfer = Transfer::new(b"a", &Config::default());
    let before = transfer.held_bytes();
    transfer.handle = vec![0; 16];
    transfer.dialect = Some(vec![0; 64]);
    assert_eq!(transfer.held_bytes(), before + 80);
}

#[test]
fn data_that_begins_behind_the_first_piece() {
    let data = letters(3_000);
    // Every way to cut the message in two.
    let message = one(
        one::WRITE_ANDX,
        0,
        &[write_andx((0xff, 0), 9, 3_000, 600), vec![0; 600 - 63], data.clone()].concat(),
    );
    let message = frame(&message);
    let ask = [&[12, 0xff, 0, 0, 0, 9, 0][..], &[0; 20]].concat();
    let ask = frame(&one(0x2e, 0, &ask));
    let told = [&[12, 0xff, 0, 0, 0][..], &[0; 6], &3_000_u16.to_le_bytes(), &[88, 2], &[0; 12]];
    let told = [&told.concat()[..], &[0; 600 - 32 - 27], &data].concat();
    let told = frame(&one(0x2e, RESPONSE, &told));
    let second = compound(&[write(1, 0, OWN, 600 - 112, &data)]);
    for cut in [100, 511, 512, 550, 603, 604, 605, 1_000] {
        let mut bench = Bench::new();
        let (head, tail) = message.split_at(cut);
        bench.feed(ToServer, head).feed(ToServer, tail);
        bench.check(&[("<unknown>", &data, Open)]);

        let mut bench = Bench::new();
        let (head, tail) = told.split_at(cut);
        bench.feed(ToServer, &ask).feed(ToClient, head).feed(ToClient, tail);
        bench.check(&[("<unknown>", &data, Open)]);

        let mut bench = Bench::new();
        let (head, tail) = second.split_at(cut);
        bench.feed(ToServer, head).feed(ToServer, tail);
        bench.check(&[("", &data, Open)]);
    }
}

#[test]
fn commands_behind_a_long_first_one_are_read() {
    let data = letters(700);
    let two = compound(&[write(1, 0, OWN, 0, &data), write(2, 0, [8; 16], 0, b"evil")]);
    let at = 63 + 700;
    let first = write_andx((one::WRITE_ANDX, at), 9, 700, 63);
    let second = write_andx((0xff, 0), 8, 4, at + 31);
    let one = frame(&one(one::WRITE_ANDX, 0, &[&first, &data, &second, &b"evil"[..]].concat()));
    for (message, name) in [(one, "<unknown>"), (two, "")] {
        let mut bench = Bench::new();
        let (head, tail) = message.split_at(600);
        bench.feed(ToServer, head).feed(ToServer, tail);
        bench.check(&[(name, &data, Open), (name, b"evil", Open)]);
    }
}

#[test]
fn two_writes_of_one_chain_go_on_behind_what_is_held() {
    let first = write_andx((one::WRITE_ANDX, 63), 9, 70_000, 94);
    let second = write_andx((0xff, 0), 8, 60_000, 60_000);
    let message = one(one::WRITE_ANDX, 0, &[&first[..], &second, &letters(140_000)].concat());
    let mut bench = Bench::new();
    frame(&message).chunks(1_460).for_each(|chunk| _ = bench.feed(ToServer, chunk));
    bench.check(&[
        ("<unknown>", &message[94..70_094], Open),
        ("<unknown>", &message[60_000..120_000], Open),
    ]);
}

#[test]
fn each_message_of_a_long_compound_is_read() {
    let (long, data) = (letters(100_000), letters(700));
    let message = compound(&[
        create(1, "a"),
        write(2, RELATED, JUST_OPENED, 0, &data),
        close(3, RELATED, JUST_OPENED),
        write(4, 0, OWN, 0, &long),
        create(5, "b"),
        write(6, RELATED, JUST_OPENED, 8, &long),
        close(7, RELATED, JUST_OPENED),
        write(8, 0, [8; 16], 0, b"evil"),
    ]);
    let behind = compound(&[close(9, 0, OWN)]);
    for size in [99, 1_460, 70_000] {
        let mut bench = Bench::new();
        let stream = [&message[..], &behind].concat();
        stream.chunks(size).for_each(|chunk| _ = bench.feed(ToServer, chunk));
        bench.check(&[
            ("a", &data, Closed),
            ("", &long, Closed),
            ("b", &long, Closed),
            ("", b"evil", Open),
        ]);
    }
    // Lost bytes inside: the next message is found by the length of the whole.
    let mut bench = Bench::new();
    bench.feed(ToServer, &message[..150_000]);
    bench.feed_behind(message.len() as u64 - 150_010, ToServer, &message[message.len() - 10..]);
    bench.feed(ToServer, &behind);
    let (own, state) = (bench.records.txs.iter().filter_map(|tx| tx.transfer()).nth(1), Truncated);
    assert_eq!(own.map(|own| (own.file.size, own.file.state)), Some((100_000, state)));
}

#[test]
fn each_compound_has_a_file_of_its_own() {
    let mut bench = Bench::new();
    let part = |number, name: &str, data: &[u8]| {
        [create(number, name), write(number + 1, RELATED, JUST_OPENED, 0, data)]
    };
    let with_close = |number, name, data| {
        let end = close(number + 2, RELATED, JUST_OPENED);
        compound(&[&part(number, name, data)[..], &[end]].concat())
    };
    bench.feed(ToServer, &with_close(1, "a", b"one")).feed(ToServer, &with_close(4, "b", b"two"));
    // Without an end, in two compounds and in one.
    bench.feed(ToServer, &compound(&part(7, "c", b"three")));
    bench.feed(ToServer, &compound(&[part(9, "d", b"four"), part(11, "e", b"five")].concat()));
    bench.check(&[
        ("a", b"one", Closed),
        ("b", b"two", Closed),
        ("c", b"three", Truncated),
        ("d", b"four", Truncated),
        ("e", b"five", Open),
    ]);
    for transfer in bench.records.txs.iter().filter_map(|tx| tx.transfer()) {
        assert_eq!((transfer.session_id, transfer.tree_id), (5, 3), "those of the first message");
    }
}

#[test]
fn files_read_in_compounds() {
    let mut bench = Bench::new();
    let asked = |number, name| {
        let end = close(number + 2, RELATED, JUST_OPENED);
        compound(&[create(number, name), read(number + 1, RELATED, JUST_OPENED), end])
    };
    let told = |number, handle: u8, data: &[u8]| {
        let opened = two(number, 1, 5, &[&[0; 64][..], &[handle; 16]].concat());
        let end = two(number + 2, RELATED | 1, 6, &[0; 60]);
        compound(&[opened, answer(number + 1, RELATED, data), end])
    };
    bench.feed(ToServer, &asked(1, "a")).feed(ToServer, &asked(4, "b"));
    bench.feed(ToClient, &told(1, 1, b"one")).feed(ToClient, &told(4, 2, b"two"));
    bench.check(&[("a", b"one", Closed), ("b", b"two", Closed)]);
}

#[test]
fn chained_writes_of_the_same_bytes_do_not_multiply_them() {
    const COUNT: u16 = 32;
    let data = letters(2_000);
    let behind = 32 + 31 * COUNT;
    let body: Vec<u8> = (1..=COUNT)
        .flat_map(|number| {
            let next = if number < COUNT { (one::WRITE_ANDX, 32 + 31 * number) } else { (0xff, 0) };
            write_andx(next, number, 2_000, behind)
        })
        .chain(data.iter().copied())
        .collect();
    let mut bench = Bench::new();
    bench.feed(ToServer, &frame(&one(one::WRITE_ANDX, 0, &body)));
    let transfers: Vec<_> = bench.records.txs.iter().filter_map(|tx| tx.transfer()).collect();
    let total: u64 = transfers.iter().map(|transfer| transfer.file.size).sum();
    assert_eq!(total, u64::from(behind) + 2_000);
    assert_eq!((transfers[0].file.size, transfers[0].file.has_gap), (2_000, false));
    assert!(transfers.last().unwrap().file.has_gap);
    assert_eq!(bench.records.evicted(), 31, "each that was cut is counted");
}

#[test]
fn a_late_answer_from_a_pipe_is_no_file() {
    let mut bench = Bench::new();
    let name = [b'p', 0];
    let body = [&[0; 4][..], &72_u16.to_le_bytes(), &[2, 0], &name].concat();
    bench.feed(ToServer, &compound(&[two(1, 0, 3, &body)]));
    bench.feed(ToClient, &compound(&[two(1, 1, 3, &[16, 0, 2, 0])]));
    bench.feed(ToServer, &compound(&[read(2, 0, OWN)]));
    bench.feed(ToClient, &compound(&[answer(2, 2, b"of a pipe")]));
    bench.check(&[]);
}

#[test]
fn pieces_that_waited_too_long_are_counted() {
    let mut bench = Bench::new();
    for number in 0..100_u64 {
        let mut message = write(number, 0, OWN, 0, b"x");
        message[72..80].copy_from_slice(&(number * 2).to_le_bytes());
        bench.feed(ToServer, &compound(&[message]));
    }
    assert_eq!(bench.records.evicted(), 65);
    bench.feed(ToServer, &compound(&[close(100, 0, OWN)]));
    bench.check(&[("", &[b'x'; 100], Truncated)]);
}

#[test]
fn what_stands_before_and_behind_lost_bytes_is_read() {
    // A compound that waits for its rest.
    let message = compound(&[create(1, "a"), write(2, 0, OWN, 0, &letters(900))]);
    let mut bench = Bench::new();
    let head = message.len() - 500;
    bench.feed(ToServer, &message[..head]);
    bench.check(&[]);
    bench.feed_behind(100, ToServer, &message[head + 100..]);
    bench.feed(ToServer, &compound(&[close(3, 0, OWN)]));
    let expected = [&letters(900)[..400], &letters(900)[500..]].concat();
    bench.check(&[("", &expected, Truncated)]);

    // Messages that are lost may have been of any file.
    let mut bench = Bench::new();
    bench.feed(ToServer, &compound(&[write(1, 0, OWN, 0, b"abc")]));
    bench.feed_behind(300, ToServer, &compound(&[close(2, 0, OWN)]));
    bench.check(&[("", b"abc", Truncated)]);
}
