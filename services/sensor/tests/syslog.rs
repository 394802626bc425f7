//! The syslog listener over loopback: every transport, the limits, and senders who mean ill.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't be set up has to fail; helpers are not seen as tests"
)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64ct::{Base64, Encoding as _};
use hookprobe_sensor::inspector::identity::{self, fingerprint};
use hookprobe_sensor::syslog::{
    Listener, Options, Record,
    listener::CONNECTIONS_PER_SOURCE_MAX,
    message::{Format, Transport},
    queue::Queue,
    rate::PER_SOURCE,
    tls,
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// Everything here takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const NOW_NS: u64 = 1_700_000_000_000_000_000;

fn now_ns() -> u64 {
    NOW_NS
}

struct Identity {
    config: Arc<rustls::ServerConfig>,
    roots: RootCertStore,
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = Base64::encode_string(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(vec!["box.example".into()]).unwrap();
    let (chain, key) = (
        pem("CERTIFICATE", made.cert.der()),
        pem("PRIVATE KEY", &made.signing_key.serialize_der()),
    );
    let config = tls::identity(chain.as_bytes(), key.as_bytes(), None).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    Identity { config, roots }
}

/// Listens on all transports and runs `test` with their addresses.
async fn with_listener<F>(
    tls: Option<Arc<rustls::ServerConfig>>,
    test: impl FnOnce([Option<SocketAddr>; 3], Queue) -> F,
) where
    F: Future<Output = ()>,
{
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let options =
        Options { udp: Some(local), tcp: Some(local), tls: tls.map(|config| (local, config)) };
    let listener = Listener::bind(&options).await.unwrap();
    let (addresses, queue) = (listener.addresses(), Queue::new());
    tokio::select! {
        () = listener.run(queue.clone(), now_ns) => unreachable!("it runs for ever"),
        () = test(addresses, queue) => {}
    }
}

async fn next(queue: &Queue) -> Record {
    timeout(PATIENCE, queue.pop()).await.expect("no record came")
}

/// Waits until `wanted` holds.
async fn until(wanted: impl Fn() -> bool) {
    let wait = async {
        while !wanted() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it did not happen");
}

#[tokio::test]
async fn datagrams() {
    with_listener(None, async |[udp, ..], queue| {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let text =
            "<34>1 2026-01-02T03:04:05Z nas sshd 7 - - Failed password for root from 192.0.2.1";
        socket.send_to(text.as_bytes(), udp.unwrap()).await.unwrap();
        let record = next(&queue).await;
        assert_eq!((record.transport, record.format), (Transport::Udp, Format::Rfc5424));
        assert_eq!(record.source, SocketAddr::from(([127, 0, 0, 1], 0)).ip());
        assert_eq!(record.received_ns, NOW_NS);
        assert_eq!(record.app.as_deref(), Some("sshd"));
        let failure = hookprobe_sensor::syslog::auth::failure(&record).unwrap();
        assert_eq!(failure.client.to_string(), "192.0.2.1");
        // Hostile ones: nothing, noise, the longest that there is.
        for bytes in [&b""[..], &[0xff; 100], &[b'<'; 60_000]] {
            socket.send_to(bytes, udp.unwrap()).await.unwrap();
            let record = next(&queue).await;
            assert!(record.fault.is_some());
        }
    })
    .await;
}

#[tokio::test]
async fn connections_counted_and_by_line() {
    with_listener(None, async |[_, tcp, _], queue| {
        let mut stream = TcpStream::connect(tcp.unwrap()).await.unwrap();
        stream.write_all(b"15 <13>one: counte").await.unwrap();
        stream.write_all(b"<13>two: line\n<13>three: last").await.unwrap();
        stream.shutdown().await.unwrap();
        for (app, message) in [("one", "counte"), ("two", "line"), ("three", "last")] {
            let record = next(&queue).await;
            assert_eq!(record.transport, Transport::Tcp);
            assert_eq!((record.app.as_deref(), record.message.as_str()), (Some(app), message));
        }
        assert_eq!(queue.counts().broken, 0);
    })
    .await;
}

#[tokio::test]
async fn a_broken_stream_is_closed_and_counted() {
    with_listener(None, async |[_, tcp, _], queue| {
        let mut stream = TcpStream::connect(tcp.unwrap()).await.unwrap();
        stream.write_all(b"99999999 <13>x").await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        until(|| queue.counts().broken == 1).await;
        assert_eq!(queue.counts().received, 0);
    })
    .await;
}

#[tokio::test]
async fn too_many_connections_are_refused() {
    with_listener(None, async |[_, tcp, _], queue| {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS_PER_SOURCE_MAX + 2 {
            streams.push(TcpStream::connect(tcp.unwrap()).await.unwrap());
        }
        until(|| queue.counts().refused == 2).await;
        // Room again when one goes.
        streams.clear();
        until(|| queue.counts().connections == CONNECTIONS_PER_SOURCE_MAX as u64).await;
        let wait = async {
            loop {
                let mut stream = TcpStream::connect(tcp.unwrap()).await.unwrap();
                let _ = stream.write_all(b"<13>again\n").await;
                tokio::time::sleep(Duration::from_millis(10)).await;
                if queue.try_pop().is_some() {
                    break;
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_flood_is_limited_and_counted() {
    with_listener(None, async |[_, tcp, _], queue| {
        let mut stream = TcpStream::connect(tcp.unwrap()).await.unwrap();
        let lines = PER_SOURCE.burst + 500;
        let flood = "<13>flood\n".repeat(usize::try_from(lines).unwrap());
        stream.write_all(flood.as_bytes()).await.unwrap();
        // The clock stands still: exactly the burst.
        until(|| queue.counts().limited == 500).await;
        assert_eq!(queue.counts().received, PER_SOURCE.burst);
    })
    .await;
}

/// A sender that knows one certificate by its fingerprint, as RFC 5425 has it.
#[derive(Debug)]
struct Pin(String, WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if fingerprint(certificate) == self.0 {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another fingerprint".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 alone is offered")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.1)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.supported_schemes()
    }
}

/// What a sender goes by.
enum Trust {
    Roots(RootCertStore),
    Fingerprint(String),
}

fn client(trust: Trust) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap();
    match trust {
        Trust::Roots(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        Trust::Fingerprint(pinned) => {
            let pin = Pin(pinned, provider.signature_verification_algorithms);
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(pin))
                .with_no_client_auth()
        }
    }
}

/// A client in a thread of its own, which blocks.
fn tls_client(address: SocketAddr, trust: Trust, bytes: &'static [u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let config = client(trust);
    let name = ServerName::try_from("box.example").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = std::net::TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, socket);
    // In small pieces, so that messages are spread over records.
    for piece in bytes.chunks(7) {
        stream.write_all(piece)?;
        stream.flush()?;
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut rest).map(|_| ())
}

#[tokio::test]
async fn encrypted() {
    let Identity { config, roots } = identity();
    with_listener(Some(config), async |[_, _, tls], queue| {
        let bytes = b"12 <13>one: tls21 <14>1 - h a - - - two";
        let client = tokio::task::spawn_blocking(move || {
            tls_client(tls.unwrap(), Trust::Roots(roots), bytes)
        });
        let record = next(&queue).await;
        assert_eq!((record.transport, record.message.as_str()), (Transport::Tls, "tls"));
        assert_eq!(next(&queue).await.message, "two");
        let _ = client.await.unwrap();
        assert_eq!(queue.counts().broken, 0);
    })
    .await;
}

/// What a device needs to know of a box that has just been flashed is one line of its log.
#[tokio::test]
async fn the_boxes_own_identity_is_known_by_its_fingerprint() {
    let state = tempfile::tempdir().unwrap();
    let own = identity::Identity::of_the_box(state.path(), "hp-lab").unwrap();
    let (right, wrong) = (own.fingerprint.clone(), own.fingerprint.replace('A', "B"));
    with_listener(Some(own.server), async |[_, _, tls], queue| {
        let send = |pinned| {
            let trust = Trust::Fingerprint(pinned);
            tokio::task::spawn_blocking(move || tls_client(tls.unwrap(), trust, b"9 <13>it: x"))
        };
        assert!(send(wrong).await.unwrap().is_err(), "somebody between them is noticed");
        let _ = send(right).await.unwrap();
        let record = next(&queue).await;
        assert_eq!((record.transport, record.message.as_str()), (Transport::Tls, "x"));
    })
    .await;
}

#[tokio::test]
async fn what_is_no_tls_is_closed_and_counted() {
    let Identity { config, roots } = identity();
    with_listener(Some(config), async |[_, _, tls], queue| {
        let mut stream = TcpStream::connect(tls.unwrap()).await.unwrap();
        stream.write_all(b"<13>in the clear\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        until(|| queue.counts().broken == 1).await;
        // Lines are wrong over TLS.
        let client = tokio::task::spawn_blocking(move || {
            tls_client(tls.unwrap(), Trust::Roots(roots), b"<13>line\n")
        });
        until(|| queue.counts().broken == 2).await;
        let _ = client.await.unwrap();
        assert_eq!(queue.counts().received, 0);
    })
    .await;
}

#[tokio::test]
async fn clients_without_a_certificate_are_not_heard_where_one_is_wanted() {
    let made = rcgen::generate_simple_self_signed(vec!["box.example".into()]).unwrap();
    let (chain, key) = (
        pem("CERTIFICATE", made.cert.der()),
        pem("PRIVATE KEY", &made.signing_key.serialize_der()),
    );
    let config = tls::identity(chain.as_bytes(), key.as_bytes(), Some(chain.as_bytes())).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    with_listener(Some(config), async |[_, _, tls], queue| {
        let client = tokio::task::spawn_blocking(move || {
            tls_client(tls.unwrap(), Trust::Roots(roots), b"5 <13>x")
        });
        assert!(client.await.unwrap().is_err());
        until(|| queue.counts().broken == 1).await;
        assert_eq!(queue.counts().received, 0);
    })
    .await;
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let udp = Some(socket.local_addr().unwrap());
    let error = Listener::bind(&Options { udp, ..Options::default() }).await.unwrap_err();
    assert!(error.to_string().starts_with("HP-SN-600 syslog: UDP 127.0.0.1:"), "{error}");
    let error = tls::identity(b"", b"", None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "HP-SN-601 syslog: the certificates can't be used (there is none); give it as PEM"
    );
}
