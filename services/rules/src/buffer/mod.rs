//! Sticky buffers: their names, in which protocol and direction they exist, from which progress on
//! they are inspected, and how their bytes are got.
//!
//! `TABLE` is the one list; keywords, engines and the prefilter are made from it. Progress values are
//! those of Suricata's inspection engines.

mod packet;
mod tx;

use hookprobe_traffic::{Direction, app::Proto};

pub(crate) use packet::data as packet_data;
pub(crate) use tx::{Body, data as tx_data};

/// A buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Buffer {
    HttpUri,
    HttpUriRaw,
    HttpMethod,
    HttpRequestLine,
    HttpProtocol,
    HttpHeader,
    HttpHeaderRaw,
    HttpHeaderNames,
    HttpRequestHeader,
    HttpResponseHeader,
    HttpCookie,
    HttpUserAgent,
    HttpHost,
    HttpHostRaw,
    HttpAccept,
    HttpAcceptEnc,
    HttpAcceptLang,
    HttpConnection,
    HttpContentLen,
    HttpContentType,
    HttpReferer,
    HttpLocation,
    HttpServer,
    HttpStart,
    HttpRequestBody,
    HttpResponseBody,
    HttpStatCode,
    HttpStatMsg,
    HttpResponseLine,
    Http2HeaderName,
    FileData,
    FileName,
    DnsQuery,
    DnsQueries,
    DnsAnswers,
    DnsAuthorities,
    DnsAdditionals,
    DnsResponse,
    TlsSni,
    TlsSubject,
    TlsIssuer,
    TlsSerial,
    TlsFingerprint,
    TlsCerts,
    TlsSan,
    TlsAlpn,
    TlsRandom,
    TlsRandomTime,
    TlsRandomBytes,
    Ja3Hash,
    Ja3String,
    Ja3sHash,
    Ja3sString,
    Ja4Hash,
    QuicSni,
    QuicUa,
    QuicVersion,
    QuicCyuHash,
    QuicCyuString,
    SshProto,
    SshSoftware,
    SshHassh,
    SshHasshString,
    SshHasshServer,
    SshHasshServerString,
    SmtpHelo,
    SmtpMailFrom,
    SmtpRcptTo,
    EmailFrom,
    EmailTo,
    EmailCc,
    EmailSubject,
    EmailDate,
    EmailMessageId,
    EmailMailer,
    EmailReceived,
    EmailUrl,
    SipMethod,
    SipUri,
    SipProtocol,
    SipRequestLine,
    SipResponseLine,
    SipStatCode,
    SipStatMsg,
    SipFrom,
    SipTo,
    SipVia,
    SipUserAgent,
    SipContentType,
    SipContentLength,
    Ipv4Header,
    Ipv6Header,
    TcpHeader,
    UdpHeader,
    Icmp4Header,
    Icmp6Header,
    IpSource,
    IpDestination,
}

/// Where a buffer exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) proto: Proto,
    pub(crate) direction: Direction,
    pub(crate) progress: u8,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) buffer: Buffer,
    /// Keyword, older names of the sticky buffer.
    pub(crate) names: &'static [&'static str],
    /// Keyword that turns the content before it to this buffer.
    pub(crate) modifier: Option<&'static str>,
    /// Empty: a buffer of the packet.
    pub(crate) places: &'static [Place],
    /// There may be several: each is tried.
    pub(crate) is_multi: bool,
}

const fn ts(proto: Proto, progress: u8) -> Place {
    Place { proto, direction: Direction::ToServer, progress }
}

const fn tc(proto: Proto, progress: u8) -> Place {
    Place { proto, direction: Direction::ToClient, progress }
}

const fn row(
    buffer: Buffer,
    names: &'static [&'static str],
    modifier: Option<&'static str>,
    places: &'static [Place],
) -> Spec {
    Spec { buffer, names, modifier, places, is_multi: false }
}

const fn multi(buffer: Buffer, names: &'static [&'static str], places: &'static [Place]) -> Spec {
    Spec { buffer, names, modifier: None, places, is_multi: true }
}

use Buffer as B;
use Proto::{Dns, Http1, Mdns, Quic, Sip, Smb, Smtp, Ssh, Tls};

const REQUEST_LINE: &[Place] = &[ts(Http1, 1)];
const REQUEST_HEADERS: &[Place] = &[ts(Http1, 2)];
const RESPONSE_LINE: &[Place] = &[tc(Http1, 1)];
const RESPONSE_HEADERS: &[Place] = &[tc(Http1, 2)];
const BOTH_HEADERS: &[Place] = &[ts(Http1, 2), tc(Http1, 2)];
const DNS: &[Place] = &[ts(Dns, 1), tc(Dns, 1), ts(Mdns, 1), tc(Mdns, 1)];
const TLS_HELLO: &[Place] = &[ts(Tls, 1)];
const TLS_HELLOS: &[Place] = &[ts(Tls, 1), tc(Tls, 1)];
const TLS_CERTS: &[Place] = &[tc(Tls, 2), ts(Tls, 2)];
const JA3: &[Place] = &[ts(Tls, 1), ts(Quic, 1)];
const JA3S: &[Place] = &[tc(Tls, 1), tc(Quic, 1)];
const QUIC: &[Place] = &[ts(Quic, 1)];
const SSH_BANNERS: &[Place] = &[ts(Ssh, 2), tc(Ssh, 2)];
const SMTP: &[Place] = &[ts(Smtp, 0)];
const SIP_REQUEST: &[Place] = &[ts(Sip, 1)];
const SIP_RESPONSE: &[Place] = &[tc(Sip, 1)];
const SIP: &[Place] = &[ts(Sip, 1), tc(Sip, 1)];
/// Files, with the progress of the transactions that carry them.
const FILES: &[Place] = &[ts(Http1, 3), tc(Http1, 3), ts(Smtp, 0), ts(Smb, 0), tc(Smb, 0)];
const PACKET: &[Place] = &[];

/// All buffers.
pub(crate) const TABLE: &[Spec] = &[
    row(B::HttpUri, &["http.uri", "http_uri"], Some("http_uri"), REQUEST_LINE),
    row(B::HttpUriRaw, &["http.uri.raw", "http_raw_uri"], Some("http_raw_uri"), REQUEST_LINE),
    row(B::HttpMethod, &["http.method"], Some("http_method"), REQUEST_LINE),
    row(B::HttpRequestLine, &["http.request_line", "http_request_line"], None, REQUEST_LINE),
    row(B::HttpProtocol, &["http.protocol", "http_protocol"], None, &[ts(Http1, 1), tc(Http1, 1)]),
    row(B::HttpHeader, &["http.header"], Some("http_header"), BOTH_HEADERS),
    // A trailer is added to it.
    row(
        B::HttpHeaderRaw,
        &["http.header.raw"],
        Some("http_raw_header"),
        &[ts(Http1, 3), tc(Http1, 3)],
    ),
    row(B::HttpHeaderNames, &["http.header_names", "http_header_names"], None, BOTH_HEADERS),
    multi(B::HttpRequestHeader, &["http.request_header", "http_request_header"], REQUEST_HEADERS),
    multi(
        B::HttpResponseHeader,
        &["http.response_header", "http_response_header"],
        RESPONSE_HEADERS,
    ),
    row(B::HttpCookie, &["http.cookie"], Some("http_cookie"), BOTH_HEADERS),
    row(B::HttpUserAgent, &["http.user_agent"], Some("http_user_agent"), REQUEST_HEADERS),
    row(B::HttpHost, &["http.host"], Some("http_host"), REQUEST_HEADERS),
    row(B::HttpHostRaw, &["http.host.raw"], Some("http_raw_host"), REQUEST_HEADERS),
    row(B::HttpAccept, &["http.accept", "http_accept"], None, REQUEST_HEADERS),
    row(B::HttpAcceptEnc, &["http.accept_enc", "http_accept_enc"], None, REQUEST_HEADERS),
    row(B::HttpAcceptLang, &["http.accept_lang", "http_accept_lang"], None, REQUEST_HEADERS),
    row(B::HttpConnection, &["http.connection", "http_connection"], None, BOTH_HEADERS),
    row(B::HttpContentLen, &["http.content_len", "http_content_len"], None, BOTH_HEADERS),
    row(B::HttpContentType, &["http.content_type", "http_content_type"], None, BOTH_HEADERS),
    row(B::HttpReferer, &["http.referer", "http_referer"], None, REQUEST_HEADERS),
    row(B::HttpLocation, &["http.location"], None, RESPONSE_HEADERS),
    row(B::HttpServer, &["http.server"], None, RESPONSE_HEADERS),
    row(B::HttpStart, &["http.start", "http_start"], None, BOTH_HEADERS),
    row(B::HttpRequestBody, &["http.request_body"], Some("http_client_body"), &[ts(Http1, 3)]),
    row(B::HttpResponseBody, &["http.response_body"], Some("http_server_body"), &[tc(Http1, 3)]),
    row(B::HttpStatCode, &["http.stat_code"], Some("http_stat_code"), RESPONSE_LINE),
    row(B::HttpStatMsg, &["http.stat_msg"], Some("http_stat_msg"), RESPONSE_LINE),
    row(B::HttpResponseLine, &["http.response_line", "http_response_line"], None, RESPONSE_LINE),
    multi(B::Http2HeaderName, &["http2.header_name"], BOTH_HEADERS),
    multi(B::FileData, &["file.data", "file_data"], FILES),
    multi(B::FileName, &["file.name"], FILES),
    multi(B::DnsQuery, &["dns.query", "dns_query"], &[ts(Dns, 1), ts(Mdns, 1)]),
    multi(B::DnsQueries, &["dns.queries.rrname", "mdns.queries.rrname", "dns.query.name"], DNS),
    multi(B::DnsAnswers, &["dns.answers.rrname", "mdns.answers.rrname", "dns.answer.name"], DNS),
    multi(B::DnsAuthorities, &["dns.authorities.rrname", "mdns.authorities.rrname"], DNS),
    multi(B::DnsAdditionals, &["dns.additionals.rrname", "mdns.additionals.rrname"], DNS),
    multi(
        B::DnsResponse,
        &["dns.response.rrname", "mdns.response.rrname"],
        &[tc(Dns, 1), tc(Mdns, 1), ts(Mdns, 1)],
    ),
    row(B::TlsSni, &["tls.sni", "tls_sni"], None, TLS_HELLO),
    row(B::TlsSubject, &["tls.cert_subject", "tls_cert_subject"], None, TLS_CERTS),
    row(B::TlsIssuer, &["tls.cert_issuer", "tls_cert_issuer"], None, TLS_CERTS),
    row(B::TlsSerial, &["tls.cert_serial", "tls_cert_serial"], None, TLS_CERTS),
    row(B::TlsFingerprint, &["tls.cert_fingerprint", "tls_cert_fingerprint"], None, TLS_CERTS),
    multi(B::TlsCerts, &["tls.certs"], TLS_CERTS),
    multi(B::TlsSan, &["tls.subjectaltname"], &[tc(Tls, 2)]),
    multi(B::TlsAlpn, &["tls.alpn"], TLS_HELLOS),
    row(B::TlsRandom, &["tls.random"], None, &[ts(Tls, 0), tc(Tls, 0)]),
    row(B::TlsRandomTime, &["tls.random_time"], None, TLS_HELLOS),
    row(B::TlsRandomBytes, &["tls.random_bytes"], None, TLS_HELLOS),
    row(B::Ja3Hash, &["ja3.hash", "ja3_hash"], None, JA3),
    row(B::Ja3String, &["ja3.string", "ja3_string"], None, JA3),
    row(B::Ja3sHash, &["ja3s.hash"], None, JA3S),
    row(B::Ja3sString, &["ja3s.string"], None, JA3S),
    row(B::Ja4Hash, &["ja4.hash"], None, JA3),
    row(B::QuicSni, &["quic.sni"], None, QUIC),
    row(B::QuicUa, &["quic.ua"], None, QUIC),
    row(B::QuicVersion, &["quic.version"], None, &[ts(Quic, 1), tc(Quic, 1)]),
    multi(B::QuicCyuHash, &["quic.cyu.hash"], QUIC),
    multi(B::QuicCyuString, &["quic.cyu.string"], QUIC),
    row(B::SshProto, &["ssh.proto", "ssh_proto"], None, SSH_BANNERS),
    row(B::SshSoftware, &["ssh.software", "ssh_software"], None, SSH_BANNERS),
    row(B::SshHassh, &["ssh.hassh"], None, &[ts(Ssh, 2)]),
    row(B::SshHasshString, &["ssh.hassh.string"], None, &[ts(Ssh, 2)]),
    row(B::SshHasshServer, &["ssh.hassh.server"], None, &[tc(Ssh, 2)]),
    row(B::SshHasshServerString, &["ssh.hassh.server.string"], None, &[tc(Ssh, 2)]),
    row(B::SmtpHelo, &["smtp.helo"], None, SMTP),
    row(B::SmtpMailFrom, &["smtp.mail_from"], None, SMTP),
    multi(B::SmtpRcptTo, &["smtp.rcpt_to"], SMTP),
    row(B::EmailFrom, &["email.from"], None, SMTP),
    row(B::EmailTo, &["email.to"], None, SMTP),
    row(B::EmailCc, &["email.cc"], None, SMTP),
    row(B::EmailSubject, &["email.subject"], None, SMTP),
    row(B::EmailDate, &["email.date"], None, SMTP),
    row(B::EmailMessageId, &["email.message_id"], None, SMTP),
    row(B::EmailMailer, &["email.x_mailer"], None, SMTP),
    multi(B::EmailReceived, &["email.received"], SMTP),
    multi(B::EmailUrl, &["email.url"], SMTP),
    row(B::SipMethod, &["sip.method"], None, SIP_REQUEST),
    row(B::SipUri, &["sip.uri"], None, SIP_REQUEST),
    row(B::SipProtocol, &["sip.protocol"], None, SIP),
    row(B::SipRequestLine, &["sip.request_line"], None, SIP_REQUEST),
    row(B::SipResponseLine, &["sip.response_line"], None, SIP_RESPONSE),
    row(B::SipStatCode, &["sip.stat_code"], None, SIP_RESPONSE),
    row(B::SipStatMsg, &["sip.stat_msg"], None, SIP_RESPONSE),
    multi(B::SipFrom, &["sip.from"], SIP),
    multi(B::SipTo, &["sip.to"], SIP),
    multi(B::SipVia, &["sip.via"], SIP),
    multi(B::SipUserAgent, &["sip.user_agent"], SIP),
    multi(B::SipContentType, &["sip.content_type"], SIP),
    multi(B::SipContentLength, &["sip.content_length"], SIP),
    row(B::Ipv4Header, &["ipv4.hdr"], None, PACKET),
    row(B::Ipv6Header, &["ipv6.hdr"], None, PACKET),
    row(B::TcpHeader, &["tcp.hdr"], None, PACKET),
    row(B::UdpHeader, &["udp.hdr"], None, PACKET),
    row(B::Icmp4Header, &["icmpv4.hdr"], None, PACKET),
    row(B::Icmp6Header, &["icmpv6.hdr"], None, PACKET),
    row(B::IpSource, &["ip.src"], None, PACKET),
    row(B::IpDestination, &["ip.dst"], None, PACKET),
];

/// The row whose sticky buffer is called `name`.
pub(crate) fn by_name(name: &str) -> Option<&'static Spec> {
    // Names that are modifiers of the content before them are no sticky buffers.
    TABLE.iter().find(|spec| spec.names.contains(&name) && spec.modifier != Some(name))
}

/// The row whose modifier is called `name`.
pub(crate) fn by_modifier(name: &str) -> Option<&'static Spec> {
    TABLE.iter().find(|spec| spec.modifier == Some(name))
}

/// The row of `buffer`.
pub(crate) fn spec(buffer: Buffer) -> Option<&'static Spec> {
    TABLE.iter().find(|spec| spec.buffer == buffer)
}
