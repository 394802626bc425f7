//! Buffers of transactions.

use std::borrow::Cow;

use hookprobe_traffic::{
    Direction,
    app::{TxRef, dns, http, quic, records, smtp, ssh, tls},
};

use super::Buffer;

/// How bodies are inspected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    /// Bytes that are waited for, to the server and to the client.
    pub(crate) bytes_min: [u64; 2],
    /// The flow has ended: what is there is all.
    pub(crate) is_end: bool,
    /// Both ends closed it: a body that broke before gets no other look.
    pub(crate) is_closed: bool,
    /// Bytes are inspected as they come.
    pub(crate) is_inline: bool,
}

/// The bytes of `buffer` number `index`, and where in the whole they begin.
pub(crate) fn data<'a>(
    buffer: Buffer,
    tx: TxRef<'a>,
    direction: Direction,
    index: usize,
    body: Body,
) -> Option<(Cow<'a, [u8]>, u64)> {
    let whole = |bytes: Option<Cow<'a, [u8]>>| bytes.map(|bytes| (bytes, 0));
    match tx {
        TxRef::Http(http) if http.doh.is_some() => {
            let carried = crate::detector::carried(tx, direction);
            let name = carried.and_then(|message| dns_name(buffer, message, index)).and_then(some);
            whole(name).or_else(|| http_data(buffer, http, direction, index, body))
        }
        TxRef::Http(tx) => http_data(buffer, tx, direction, index, body),
        // The name of the root is none.
        TxRef::Dns(tx) => whole(dns_name(buffer, &tx.message, index).and_then(some)),
        TxRef::Tls(tx) => whole(tls_data(buffer, tx, direction, index)),
        TxRef::Quic(tx) => whole(quic_data(buffer, tx, index)),
        TxRef::Ssh(tx) if index == 0 => whole(ssh_data(buffer, tx, direction)),
        TxRef::Smtp(tx) => smtp_data(buffer, tx, index, body),
        TxRef::Record(records::Tx { body: records::Body::Sip(message), .. }) => {
            whole(sip_data(buffer, message, index))
        }
        TxRef::Record(tx) if index == 0 => smb_data(buffer, tx, body),
        TxRef::Ssh(_) | TxRef::Dhcp(_) | TxRef::Record(_) => None,
    }
}

fn text(text: &str) -> Option<Cow<'_, [u8]>> {
    some(text.as_bytes())
}

fn some(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    (!bytes.is_empty()).then_some(Cow::Borrowed(bytes))
}

fn http_data<'a>(
    buffer: Buffer,
    tx: &'a http::Tx,
    direction: Direction,
    index: usize,
    body: Body,
) -> Option<(Cow<'a, [u8]>, u64)> {
    let is_request = direction == Direction::ToServer;
    match buffer {
        Buffer::HttpResponseHeader if tx.stream != 0 => return None,
        Buffer::HttpRequestHeader | Buffer::HttpResponseHeader => {
            let item = tx.headers(direction).item(index)?;
            return Some((Cow::Owned(item), 0));
        }
        Buffer::FileData if is_request => return request_file(tx, index, body),
        Buffer::HttpRequestBody | Buffer::HttpResponseBody | Buffer::FileData if index == 0 => {
            let is_file = buffer == Buffer::FileData;
            let file =
                if is_request { tx.request.files.first() } else { tx.response.files.first() };
            let whole = tx.body(direction);
            let progress =
                if whole.is_broken { tx.reached(direction) } else { tx.progress(direction) };
            // What a server sends is looked at as a file, and a file has a name.
            if (is_file || !is_request) && file.is_none() {
                return None;
            }
            return window(whole, direction, progress > http::progress::BODY, body);
        }
        Buffer::Http2HeaderName => {
            let headers = tx.headers(direction);
            // Of answers Suricata shows no names.
            let field = headers.fields.get(index).filter(|_| tx.stream != 0 && is_request)?;
            return Some((Cow::Borrowed(field.name.as_slice()), 0));
        }
        Buffer::FileName if tx.stream != 0 => return None,
        Buffer::FileName => {
            let files = if is_request { &tx.request.files } else { &tx.response.files };
            return files.get(index).map(|file| (Cow::Borrowed(file.name.as_slice()), 0));
        }
        _ if index > 0 => return None,
        _ => {}
    }
    http_single(buffer, tx, direction).map(|bytes| (bytes, 0))
}

/// A file that a client sends: all of the body, or a part of a form. One that is empty or behind the
/// window must not end the list, and only the last is not at its end.
fn request_file(tx: &http::Tx, index: usize, body: Body) -> Option<(Cow<'_, [u8]>, u64)> {
    let whole = tx.body(Direction::ToServer);
    let (from, _) = whole.window();
    let is_here = |file: &&http::File| file.size > 0 && file.start + file.size > from;
    let file = tx.request.files.iter().filter(is_here).nth(index)?;
    if file.state != http::FileState::Closed {
        let side = Direction::ToServer;
        let progress = if whole.is_broken { tx.reached(side) } else { tx.progress(side) };
        window(whole, side, progress > http::progress::BODY, body)?;
    }
    let start = file.start.max(from);
    let bytes = whole.slice(start..file.start + file.size);
    Some((Cow::Borrowed(bytes), start - file.start))
}

fn window<'a>(
    whole: &'a http::Body,
    direction: Direction,
    is_over: bool,
    body: Body,
) -> Option<(Cow<'a, [u8]>, u64)> {
    let (start, bytes) = whole.window();
    let min = *direction.of(&body.bytes_min);
    let is_due = body.is_inline
        || body.is_end && !(whole.is_broken && body.is_closed)
        || is_over
        || whole.is_finished
        || whole.is_limited
        || whole.total >= min;
    (is_due && !bytes.is_empty()).then_some((Cow::Borrowed(bytes), start))
}

fn http_single(buffer: Buffer, tx: &http::Tx, direction: Direction) -> Option<Cow<'_, [u8]>> {
    let (request, response) = (&tx.request, &tx.response);
    let is_request = direction == Direction::ToServer;
    let headers = tx.headers(direction);
    let field = |name: &str| headers.get(name).map(Cow::Borrowed);
    match buffer {
        Buffer::HttpUri => some(&request.uri),
        Buffer::HttpUriRaw if request.is_partial && request.uri_raw.is_empty() => {
            Some(Cow::Borrowed(http::URI_NOT_SEEN))
        }
        Buffer::HttpUriRaw => some(&request.uri_raw),
        Buffer::HttpMethod => some(&request.method),
        Buffer::HttpRequestLine => some(&request.line),
        Buffer::HttpProtocol => {
            some(if is_request { &request.protocol } else { &response.protocol })
        }
        // Both are there when the block is.
        Buffer::HttpHeader | Buffer::HttpHeaderNames
            if tx.stream == 0 && tx.reached(direction) <= http::progress::HEADERS =>
        {
            None
        }
        Buffer::HttpHeader => some(headers.normalized()),
        Buffer::HttpHeaderRaw => some(&headers.raw),
        Buffer::HttpHeaderNames => {
            (!headers.fields.is_empty()).then(|| Cow::Borrowed(headers.names()))
        }
        Buffer::HttpCookie => field(if is_request { "cookie" } else { "set-cookie" }),
        Buffer::HttpUserAgent => field("user-agent"),
        Buffer::HttpHost => request.host.as_deref().map(Cow::Borrowed),
        Buffer::HttpHostRaw => request.host_raw.as_deref().map(Cow::Borrowed),
        Buffer::HttpAccept => field("accept"),
        Buffer::HttpAcceptEnc => field("accept-encoding"),
        Buffer::HttpAcceptLang => field("accept-language"),
        Buffer::HttpConnection => field("connection"),
        Buffer::HttpContentLen => field("content-length"),
        Buffer::HttpContentType => field("content-type"),
        Buffer::HttpReferer => field("referer"),
        Buffer::HttpLocation => field("location"),
        Buffer::HttpServer => field("server"),
        // It is of older versions only.
        Buffer::HttpStart if tx.stream != 0 || tx.is_control() => None,
        Buffer::HttpStart => tx.start(direction).map(Cow::Owned),
        Buffer::HttpStatCode => some(&response.status),
        // HTTP/2 has none, which is an empty one.
        // Behind a status an empty one is one, too.
        Buffer::HttpStatMsg
            if response.version == http::Version::V2 || !response.status.is_empty() =>
        {
            Some(Cow::Borrowed(response.message.as_slice()))
        }
        Buffer::HttpStatMsg => some(&response.message),
        Buffer::HttpResponseLine => some(&response.line),
        _ => None,
    }
}

fn dns_name(buffer: Buffer, message: &dns::Message, index: usize) -> Option<&[u8]> {
    let records = |records: &'static str| match records {
        "answers" => &message.answers,
        "authorities" => &message.authorities,
        _ => &message.additionals,
    };
    let owner = |list: &'static str, index: usize| {
        records(list).get(index).map(|record| record.name.text.as_slice())
    };
    match buffer {
        Buffer::DnsQuery | Buffer::DnsQueries => {
            message.queries.get(index).map(|query| query.name.text.as_slice())
        }
        Buffer::DnsAnswers => owner("answers", index),
        Buffer::DnsAuthorities => owner("authorities", index),
        Buffer::DnsAdditionals => owner("additionals", index),
        Buffer::DnsResponse => response_names(message).nth(index),
        _ => None,
    }
}

/// Names of questions and records, and names within their data.
fn response_names(message: &dns::Message) -> impl Iterator<Item = &[u8]> {
    let queries = message.queries.iter().map(|query| query.name.text.as_slice());
    let records =
        message.answers.iter().chain(&message.authorities).chain(&message.additionals).flat_map(
            |record| {
                let inner = match &record.data {
                    dns::RData::Name(name) | dns::RData::Mx { exchange: name, .. } => {
                        Some(name.text.as_slice())
                    }
                    dns::RData::Soa(soa) => Some(soa.mname.text.as_slice()),
                    dns::RData::Srv { target, .. } => Some(target.text.as_slice()),
                    _ => None,
                };
                std::iter::once(record.name.text.as_slice()).chain(inner)
            },
        );
    queries.chain(records)
}

fn tls_data(
    buffer: Buffer,
    tx: &tls::Tx,
    direction: Direction,
    index: usize,
) -> Option<Cow<'_, [u8]>> {
    let is_client = direction == Direction::ToServer;
    let chain = if is_client { &tx.client_chain } else { &tx.server_chain };
    let leaf = chain.first();
    match buffer {
        Buffer::TlsCerts => return chain.get(index).map(|cert| Cow::Borrowed(cert.der.as_slice())),
        Buffer::TlsSan => return leaf?.sans.get(index).map(|name| Cow::Borrowed(name.as_bytes())),
        Buffer::TlsAlpn => {
            let names = if is_client {
                &tx.client_hello.as_ref()?.alpn
            } else {
                &tx.server_hello.as_ref()?.alpn
            };
            return names.get(index).map(|name| Cow::Borrowed(name.as_slice()));
        }
        _ if index > 0 => return None,
        _ => {}
    }
    // As Suricata has it: of each side when the other has spoken, and of a server that has not, an
    // empty one.
    let random = || match (&tx.client_hello, &tx.server_hello) {
        (Some(client), Some(_)) if is_client => Some(&client.random),
        (Some(_), Some(server)) if !is_client => Some(&server.random),
        (Some(_), None) if !is_client => Some(&[0; 32]),
        _ => None,
    };
    match buffer {
        Buffer::TlsSni => tx.sni().map(Cow::Borrowed),
        Buffer::TlsSubject => leaf.and_then(|cert| some(cert.subject.as_bytes())),
        Buffer::TlsIssuer => leaf.and_then(|cert| some(cert.issuer.as_bytes())),
        Buffer::TlsSerial => leaf.and_then(|cert| some(cert.serial.as_bytes())),
        Buffer::TlsFingerprint => leaf.and_then(|cert| some(cert.fingerprint.as_bytes())),
        Buffer::TlsRandom => random().map(|random| Cow::Borrowed(random.as_slice())),
        Buffer::TlsRandomTime => random().and_then(|random| random.get(..4)).map(Cow::Borrowed),
        Buffer::TlsRandomBytes => random().and_then(|random| random.get(4..)).map(Cow::Borrowed),
        Buffer::Ja3Hash => tx.ja3.as_ref().and_then(|ja3| text(&ja3.1)),
        Buffer::Ja3String => tx.ja3.as_ref().and_then(|ja3| text(&ja3.0)),
        Buffer::Ja3sHash => tx.ja3s.as_ref().and_then(|ja3| text(&ja3.1)),
        Buffer::Ja3sString => tx.ja3s.as_ref().and_then(|ja3| text(&ja3.0)),
        Buffer::Ja4Hash => tx.ja4.as_ref().and_then(|ja4| text(ja4)),
        _ => None,
    }
}

fn quic_data(buffer: Buffer, tx: &quic::Tx, index: usize) -> Option<Cow<'_, [u8]>> {
    match buffer {
        Buffer::QuicCyuHash => return tx.cyu.get(index).map(|cyu| Cow::Borrowed(cyu.1.as_bytes())),
        Buffer::QuicCyuString => {
            return tx.cyu.get(index).map(|cyu| Cow::Borrowed(cyu.0.as_bytes()));
        }
        _ if index > 0 => return None,
        _ => {}
    }
    match buffer {
        Buffer::QuicSni => tx.sni.as_deref().map(Cow::Borrowed),
        Buffer::QuicUa => tx.ua.as_deref().map(Cow::Borrowed),
        Buffer::QuicVersion => Some(Cow::Owned(tx.version.to_be_bytes().to_vec())),
        Buffer::Ja3Hash | Buffer::Ja3sHash => {
            tx.ja3.as_ref().map(|ja3| Cow::Borrowed(ja3.1.as_bytes()))
        }
        Buffer::Ja3String | Buffer::Ja3sString => {
            tx.ja3.as_ref().map(|ja3| Cow::Borrowed(ja3.0.as_bytes()))
        }
        Buffer::Ja4Hash => tx.ja4.as_ref().map(|ja4| Cow::Borrowed(ja4.as_bytes())),
        _ => None,
    }
}

fn sip_data(
    buffer: Buffer,
    message: &records::sip::Message,
    index: usize,
) -> Option<Cow<'_, [u8]>> {
    let name = match buffer {
        Buffer::SipFrom => "From",
        Buffer::SipTo => "To",
        Buffer::SipVia => "Via",
        Buffer::SipUserAgent => "User-Agent",
        Buffer::SipContentType => "Content-Type",
        Buffer::SipContentLength => "Content-Length",
        _ if index > 0 => return None,
        Buffer::SipMethod => return some(&message.method),
        Buffer::SipUri => return some(&message.uri),
        Buffer::SipProtocol => return some(&message.version),
        Buffer::SipStatCode => return some(&message.code),
        Buffer::SipStatMsg => return some(&message.reason),
        Buffer::SipRequestLine if !message.method.is_empty() => return some(&message.line),
        Buffer::SipResponseLine if !message.code.is_empty() => return some(&message.line),
        _ => return None,
    };
    message.header(name).nth(index).map(Cow::Borrowed)
}

fn smb_data(buffer: Buffer, tx: &records::Tx, body: Body) -> Option<(Cow<'_, [u8]>, u64)> {
    let transfer = tx.transfer()?;
    match buffer {
        Buffer::FileData => {
            let (start, bytes) = transfer.body.window();
            let is_due = transfer.is_due() || body.is_end || body.is_inline;
            (is_due && !bytes.is_empty()).then_some((Cow::Borrowed(bytes), start))
        }
        Buffer::FileName => Some((Cow::Borrowed(transfer.file.name.as_slice()), 0)),
        _ => None,
    }
}

fn ssh_data(buffer: Buffer, tx: &ssh::Tx, direction: Direction) -> Option<Cow<'_, [u8]>> {
    let side = tx.side(direction);
    match buffer {
        Buffer::SshProto => some(&side.proto),
        Buffer::SshSoftware => some(&side.software),
        Buffer::SshHassh | Buffer::SshHasshServer => some(side.hassh.as_bytes()),
        Buffer::SshHasshString | Buffer::SshHasshServerString => some(side.hassh_string.as_bytes()),
        _ => None,
    }
}

fn smtp_data<'a>(
    buffer: Buffer,
    tx: &'a smtp::Tx,
    index: usize,
    body: Body,
) -> Option<(Cow<'a, [u8]>, u64)> {
    let email = tx.email.as_deref();
    let attachment = || email.and_then(|email| email.attachments.get(index));
    match buffer {
        Buffer::FileData => {
            let is_over = tx.progress == smtp::progress::COMPLETE;
            // An empty one must not end the list: those behind it are looked at, too.
            let filled = |found: &&smtp::Attachment| !found.body.window().1.is_empty();
            let found = email?.attachments.iter().filter(filled).nth(index)?;
            return window(&found.body, Direction::ToServer, is_over, body);
        }
        Buffer::FileName => {
            return attachment().map(|found| (Cow::Borrowed(found.file.name.as_slice()), 0));
        }
        Buffer::SmtpRcptTo => {
            return tx.rcpt_to.get(index).map(|name| (Cow::Borrowed(name.as_slice()), 0));
        }
        Buffer::EmailReceived => {
            let mut fields = email?.headers.iter();
            let (_, value) = fields
                .by_ref()
                .filter(|(name, _)| name.eq_ignore_ascii_case(b"received"))
                .nth(index)?;
            return Some((Cow::Borrowed(value.as_slice()), 0));
        }
        Buffer::EmailUrl => {
            return email?.urls.get(index).map(|url| (Cow::Borrowed(url.as_slice()), 0));
        }
        _ if index > 0 => return None,
        _ => {}
    }
    let header = |name: &str| email.and_then(|email| email.header(name)).map(Cow::Borrowed);
    let bytes = match buffer {
        Buffer::SmtpHelo => some(&tx.helo),
        Buffer::SmtpMailFrom => some(&tx.mail_from),
        Buffer::EmailFrom => header("from"),
        Buffer::EmailTo => header("to"),
        Buffer::EmailCc => header("cc"),
        Buffer::EmailSubject => header("subject"),
        Buffer::EmailDate => header("date"),
        Buffer::EmailMessageId => header("message-id"),
        Buffer::EmailMailer => header("x-mailer"),
        _ => None,
    };
    bytes.map(|bytes| (bytes, 0))
}
