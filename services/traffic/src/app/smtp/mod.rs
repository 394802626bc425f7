//! SMTP (RFC 5321) and as much of MIME (RFC 2045) as rules and logs need.

mod mime;

pub use mime::{Attachment, Email};

use super::{Config, Events, Fed, Meta, Proto, Step};
use crate::Direction;
use std::collections::VecDeque;

/// Suricata's progress: a mail is open or complete.
pub mod progress {
    /// Commands or data still come.
    pub const OPEN: u8 = 0;
    /// The mail was accepted, refused, or the flow ended.
    pub const COMPLETE: u8 = 1;
}

/// Longest line that is looked at (Suricata's limit).
const LINE_BYTES_MAX: usize = 4_096;
/// Commands that may wait for their replies.
const COMMANDS_MAX: usize = 128;
/// Recipients of a mail that are kept.
const RECIPIENTS_MAX: usize = 128;
/// Reply lines of a mail that are kept.
const REPLIES_MAX: usize = 64;

/// State of a flow.
#[derive(Debug, Default)]
pub struct Smtp {
    /// Mails not yet pruned.
    pub txs: VecDeque<Tx>,
    /// `smtp.helo`: the last HELO or EHLO name.
    pub helo: Vec<u8>,
    /// STARTTLS was asked and granted: what follows is TLS.
    pub is_tls_next: bool,
    next_id: u64,
    held: [Vec<u8>; 2],
    is_cut: [bool; 2],
    mode: Mode,
    commands: VecDeque<Command>,
    /// The welcome came.
    is_welcomed: bool,
    is_gapped: bool,
}

/// What the client's bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Command,
    Data,
    /// So many bytes of a BDAT chunk are to come, and whether it is the last.
    Chunk(u64, bool),
}

/// Commands whose replies matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    StartTls,
    Data,
    Other,
    /// The end of the mail.
    End,
}

/// One mail (or a session without one).
#[derive(Debug, Default)]
pub struct Tx {
    /// Number within the flow.
    pub id: u64,
    /// Time of its first command.
    pub at_ns: u64,
    /// See `progress`.
    pub progress: u8,
    /// Name of HELO or EHLO when the mail began.
    pub helo: Vec<u8>,
    /// `smtp.mail_from`: with angle brackets as sent, parameters cut.
    pub mail_from: Vec<u8>,
    /// `smtp.rcpt_to`.
    pub rcpt_to: Vec<Vec<u8>>,
    /// Reply codes and texts, at most 64 lines.
    pub replies: Vec<Vec<u8>>,
    /// The message.
    pub email: Option<Box<Email>>,
    /// Suricata's `smtp.*` events.
    pub events: Events,
}

impl Tx {
    /// Same for both directions.
    #[must_use]
    pub const fn progress(&self, _direction: Direction) -> u8 {
        self.progress
    }
}

impl Smtp {
    pub(crate) fn feed(
        &mut self,
        now_ns: u64,
        direction: Direction,
        data: &[u8],
        meta: &Meta<'_>,
        fed: &mut Fed,
    ) -> Step {
        fed.is_changed |= !data.is_empty() || meta.eof;
        self.is_gapped |= meta.gap > 0;
        if self.is_gapped {
            self.finish();
            return Step::Fail;
        }
        let is_mail = |mode: &Mode| !matches!(mode, Mode::Command);
        let was_mail = is_mail(&self.mode);
        let step = match direction {
            Direction::ToServer => self.client(now_ns, data, meta.config),
            Direction::ToClient => self.server(data),
        };
        // Commands and replies are looked at as they come, a mail when there is enough of it.
        fed.is_raw_waiting =
            direction == Direction::ToServer && was_mail && is_mail(&self.mode) && !meta.eof;
        if meta.eof {
            self.finish();
        }
        step
    }

    fn finish(&mut self) {
        for tx in &mut self.txs {
            tx.progress = progress::COMPLETE;
            if let Some(email) = &mut tx.email {
                email.finish();
            }
        }
    }

    fn client(&mut self, now_ns: u64, data: &[u8], config: &Config) -> Step {
        let mut rest = data;
        while !rest.is_empty() {
            if let Mode::Chunk(left, is_last) = self.mode {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                let (now, later) = rest.split_at(length);
                rest = later;
                self.chunk(now, left - length as u64, is_last, config);
                continue;
            }
            if self.mode == Mode::Data && self.long_line(&mut rest, config) {
                continue;
            }
            let Some(line) = self.line(Direction::ToServer, &mut rest) else { break };
            match self.mode {
                Mode::Data => self.data_line(&line, config),
                Mode::Command | Mode::Chunk(..) => self.command(now_ns, &line, config),
            }
        }
        Step::Go
    }

    /// A line without its end; what is longer than the limit is cut and noted.
    fn line(&mut self, direction: Direction, rest: &mut &[u8]) -> Option<Vec<u8>> {
        let end = memchr::memchr(b'\n', rest).map(|at| at + 1);
        let (now, later) = rest.split_at(end.unwrap_or(rest.len()));
        *rest = later;
        let is_data = direction == Direction::ToServer && self.mode == Mode::Data;
        let held = self.held.get_mut(direction.index())?;
        let room = LINE_BYTES_MAX.saturating_sub(held.len());
        held.extend_from_slice(now.get(..room.min(now.len())).unwrap_or_default());
        let is_cut = self.is_cut.get_mut(direction.index())?;
        *is_cut |= now.len() > room;
        end?;
        let was_cut = std::mem::take(is_cut);
        let mut line = std::mem::take(held);
        if was_cut && let Some(tx) = self.txs.back_mut() {
            tx.events.add(match direction {
                Direction::ToServer if is_data => "mime_long_line",
                Direction::ToServer => "max_command_line_len_exceeded",
                Direction::ToClient => "max_reply_line_len_exceeded",
            });
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(line)
    }

    /// Of a mail's line that is longer than the limit everything counts, piece by piece. Whether a
    /// piece was taken.
    fn long_line(&mut self, rest: &mut &[u8], config: &Config) -> bool {
        let Some(held) = self.held.get_mut(Direction::ToServer.index()) else { return false };
        let room = LINE_BYTES_MAX.saturating_sub(held.len());
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        if end <= room {
            return false;
        }
        let (now, later) = rest.split_at(room);
        *rest = later;
        held.extend_from_slice(now);
        let piece = std::mem::take(held);
        if let Some(tx) = self.txs.back_mut() {
            tx.events.add("mime_long_line");
            let email = tx.email.get_or_insert_with(|| Box::new(Email::new(config)));
            let is_dotted = !email.is_line_open();
            let piece = piece.strip_prefix(b".").filter(|_| is_dotted).unwrap_or(&piece);
            email.part_of_line(piece, false, &mut tx.events);
        }
        true
    }

    /// The mail that is open, or a new one.
    fn tx(&mut self, now_ns: u64, config: &Config) -> Option<&mut Tx> {
        let is_open = self.txs.back().is_some_and(|tx| tx.progress == progress::OPEN);
        if !is_open {
            if self.txs.len() >= config.txs_max.max(1) as usize {
                self.txs.pop_front();
            }
            let helo = self.helo.clone();
            self.txs.push_back(Tx { id: self.next_id, at_ns: now_ns, helo, ..Tx::default() });
            self.next_id += 1;
        }
        self.txs.back_mut()
    }

    fn command(&mut self, now_ns: u64, line: &[u8], config: &Config) {
        let upper = line.to_ascii_uppercase();
        let argument = |at: usize| line.get(at..).unwrap_or_default().trim_ascii();
        let mut command = Command::Other;
        if upper.starts_with(b"EHLO ") || upper.starts_with(b"HELO ") {
            self.helo = argument(5).to_vec();
            let helo = self.helo.clone();
            if let Some(tx) = self.tx(now_ns, config) {
                tx.helo = helo;
            }
        } else if upper.starts_with(b"MAIL FROM:") {
            let address = address(argument(10));
            if let Some(tx) = self.txs.back_mut()
                && tx.progress == progress::OPEN
                && !tx.mail_from.is_empty()
            {
                tx.progress = progress::COMPLETE;
            }
            if let Some(tx) = self.tx(now_ns, config) {
                tx.mail_from = address;
            }
        } else if upper.starts_with(b"RCPT TO:") {
            let address = address(argument(8));
            if let Some(tx) = self.tx(now_ns, config)
                && tx.rcpt_to.len() < RECIPIENTS_MAX
            {
                tx.rcpt_to.push(address);
            }
        } else if upper == b"DATA" {
            command = Command::Data;
            self.mode = Mode::Data;
            self.tx(now_ns, config);
        } else if upper.starts_with(b"BDAT ") {
            self.bdat(now_ns, &upper, config);
            return;
        } else if upper == b"STARTTLS" {
            command = Command::StartTls;
            self.tx(now_ns, config);
        } else if upper == b"RSET" {
            if let Some(tx) = self.tx(now_ns, config) {
                tx.progress = progress::COMPLETE;
            }
        } else {
            self.tx(now_ns, config);
        }
        self.push(command);
    }

    fn push(&mut self, command: Command) {
        if self.commands.len() < COMMANDS_MAX {
            self.commands.push_back(command);
        } else if let Some(tx) = self.txs.back_mut() {
            tx.events.add("invalid_pipelined_sequence");
        }
    }

    fn bdat(&mut self, now_ns: u64, upper: &[u8], config: &Config) {
        let mut words = upper.split(|byte| *byte == b' ').skip(1).filter(|word| !word.is_empty());
        let size = words
            .next()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u64>().ok());
        let is_last = words.next() == Some(b"LAST");
        self.tx(now_ns, config);
        self.push(if is_last { Command::End } else { Command::Other });
        match size {
            Some(size) if size > 0 => self.mode = Mode::Chunk(size, is_last),
            Some(_) | None => {}
        }
    }

    fn chunk(&mut self, bytes: &[u8], left: u64, is_last: bool, config: &Config) {
        self.mode = if left == 0 { Mode::Command } else { Mode::Chunk(left, is_last) };
        let Some(tx) = self.txs.back_mut() else { return };
        let email = tx.email.get_or_insert_with(|| Box::new(Email::new(config)));
        email.bytes(bytes, &mut tx.events);
        if left == 0 && is_last {
            email.finish();
        }
    }

    fn data_line(&mut self, line: &[u8], config: &Config) {
        let Some(tx) = self.txs.back_mut() else {
            self.mode = Mode::Command;
            return;
        };
        let email = tx.email.get_or_insert_with(|| Box::new(Email::new(config)));
        let is_rest = email.is_line_open();
        if line == b"." && !is_rest {
            email.finish();
            self.mode = Mode::Command;
            // The mail is whole, whatever the server makes of it.
            if let Some(tx) = self.txs.back_mut() {
                tx.progress = progress::COMPLETE;
            }
            self.push(Command::End);
            return;
        }
        let line = line.strip_prefix(b".").filter(|_| !is_rest).unwrap_or(line);
        email.line(line, &mut tx.events);
    }

    fn server(&mut self, data: &[u8]) -> Step {
        let mut rest = data;
        while !rest.is_empty() {
            let Some(line) = self.line(Direction::ToClient, &mut rest) else { break };
            if let Some(tx) = self.txs.back_mut()
                && tx.replies.len() < REPLIES_MAX
            {
                tx.replies.push(line.clone());
            }
            let code = line.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
            let Some(code) = code.and_then(|digits| digits.parse::<u16>().ok()) else {
                if let Some(tx) = self.txs.back_mut() {
                    tx.events.add("invalid_reply");
                }
                continue;
            };
            if line.get(3) == Some(&b'-') {
                continue;
            }
            if self.reply(code) {
                self.is_tls_next = true;
                self.finish();
                return Step::Change(Some(Proto::Tls));
            }
        }
        Step::Go
    }

    /// Takes a final reply; returns whether TLS follows.
    fn reply(&mut self, code: u16) -> bool {
        if !std::mem::replace(&mut self.is_welcomed, true) {
            if code == 220 {
                return false;
            }
            if let Some(tx) = self.txs.back_mut() {
                tx.events.add("no_server_welcome_message");
            }
        }
        let command = self.commands.pop_front();
        match (command, self.txs.back_mut()) {
            (Some(Command::StartTls), _) if code == 220 => return true,
            (Some(Command::StartTls), Some(tx)) => tx.events.add("tls_rejected"),
            (Some(Command::Data), tx) if code != 354 => {
                self.mode = Mode::Command;
                if let Some(tx) = tx {
                    tx.events.add("data_command_rejected");
                    // What was sent all the same is no beginning of the next message.
                    tx.email = None;
                }
            }
            (Some(Command::End), Some(tx)) => tx.progress = progress::COMPLETE,
            (None, Some(tx)) if code != 421 => {
                tx.events.add("unable_to_match_reply_with_request");
            }
            _ => {}
        }
        false
    }

    /// See [`crate::app::App::held_bytes`].
    pub(crate) fn held_bytes(&self) -> usize {
        let tx = |tx: &Tx| {
            let lists = tx.rcpt_to.iter().chain(&tx.replies);
            size_of::<Tx>()
                + lists.map(Vec::capacity).sum::<usize>()
                + tx.email.as_ref().map_or(0, |email| email.held_bytes())
        };
        size_of::<Self>()
            + self.held.iter().map(Vec::capacity).sum::<usize>()
            + self.txs.iter().map(tx).sum::<usize>()
    }

    /// After the inspectors.
    pub(crate) fn prune(&mut self) {
        for tx in &mut self.txs {
            if let Some(email) = &mut tx.email {
                email.roll();
            }
        }
        self.txs.retain(|tx| tx.progress == progress::OPEN);
    }
}

/// An address without the parameters behind it.
fn address(text: &[u8]) -> Vec<u8> {
    let end = match memchr::memchr(b'>', text) {
        Some(at) => at + 1,
        None => memchr::memchr(b' ', text).unwrap_or(text.len()),
    };
    text.get(..end).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::{Smtp, progress};
    use crate::Direction::{ToClient, ToServer};
    use crate::app::tests::meta;
    use crate::app::{Config, Fed, Proto, Step};

    const MAIL: &[u8] = b"EHLO hp\r\nMAIL FROM:<a@hp.org> SIZE=9\r\nRCPT TO:<b@hp.org>\r\n\
        DATA\r\nFrom: a\r\nSubject: one\r\n two\r\nContent-Type: multipart/mixed; boundary=\"xx\"\r\n\r\n\
        --xx\r\nContent-Type: text/plain\r\n\r\nsee http://hp.org/a?b.\r\n--xx\r\n\
        Content-Type: application/x-y; name=\"n.bin\"\r\nContent-Transfer-Encoding: base64\r\n\
        Content-Disposition: attachment;\r\n filename=f.bin\r\n\r\naGVs\r\nbG8=\r\n--xx--\r\n.\r\nQUIT\r\n";

    #[test]
    fn a_mail_split_anywhere() {
        let config = Config::default();
        for at in 0..MAIL.len() {
            let mut smtp = Smtp::default();
            let (head, tail) = MAIL.split_at(at);
            let feed = |smtp: &mut Smtp, direction, data: &[u8]| {
                smtp.feed(1, direction, data, &meta(&config), &mut Fed::default())
            };
            feed(&mut smtp, ToClient, b"220 hp ESMTP\r\n");
            feed(&mut smtp, ToServer, head);
            feed(&mut smtp, ToServer, tail);
            feed(
                &mut smtp,
                ToClient,
                b"250-hp\r\n250 x\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n",
            );
            let tx = &smtp.txs[0];
            assert_eq!(tx.progress, progress::COMPLETE, "split at {at}");
            assert_eq!((&tx.helo[..], &tx.mail_from[..]), (&b"hp"[..], &b"<a@hp.org>"[..]));
            assert_eq!(tx.rcpt_to, [b"<b@hp.org>"]);
            let email = tx.email.as_ref().unwrap();
            assert_eq!(email.header("subject"), Some(&b"one two"[..]));
            assert_eq!(email.urls, [b"hp.org/a?b"]);
            assert_eq!(email.attachments.len(), 1);
            assert_eq!(email.attachments[0].file.name, b"f.bin");
            assert_eq!(email.attachments[0].body.window().1, b"hello");
        }
    }

    #[test]
    fn a_long_line_is_kept_whole() {
        let config = Config::default();
        let mut smtp = Smtp::default();
        let head =
            b"MAIL FROM:<a@hp.org>\r\nDATA\r\nContent-Disposition: attachment; filename*0=a;\r\n \
            filename*1=\"b.txt\"\r\n\r\nfirst\r\n";
        let line = [&b"x".repeat(10_000)[..], b"\r\nlast\r\n.\r\n"].concat();
        for data in [&head[..], &line] {
            smtp.feed(1, ToServer, data, &meta(&config), &mut Fed::default());
        }
        let tx = &smtp.txs[0];
        let attachment = &tx.email.as_ref().unwrap().attachments[0];
        assert_eq!(attachment.file.name, b"ab.txt");
        assert_eq!(attachment.file.size, 10_000 + 7 + 6);
        assert!(attachment.body.window().1.ends_with(b"x\r\nlast"));
        assert!(tx.events.contains("mime_long_line"));
    }

    #[test]
    fn starttls_hands_over() {
        let config = Config::default();
        let mut smtp = Smtp::default();
        let mut fed = Fed::default();
        smtp.feed(1, ToClient, b"220 hp\r\n", &meta(&config), &mut fed);
        smtp.feed(1, ToServer, b"STARTTLS\r\n", &meta(&config), &mut fed);
        let step = smtp.feed(1, ToClient, b"220 go\r\n", &meta(&config), &mut fed);
        assert_eq!(step, Step::Change(Some(Proto::Tls)));
    }
}
