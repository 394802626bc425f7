//! Syslog over TLS (RFC 5425): the server's identity, and bytes in and out of a session.
//!
//! TLS 1.3 only. With roots for clients, only senders with a certificate below them are heard.

use std::{
    io::{self, Read as _},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use thiserror::Error;

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// A file's content.
    #[error("HP-SN-601 syslog: the {what} can't be used ({why}); give it as PEM")]
    Pem {
        /// Certificates, key or roots.
        what: &'static str,
        /// What the reader said.
        why: String,
    },
    /// They don't fit together.
    #[error(
        "HP-SN-605 syslog: certificate and key don't make an identity; give the key of the certificate"
    )]
    Refused(#[from] rustls::Error),
}

/// A server's identity from PEM: its chain, its key, and the roots of clients that are heard
/// (`None`: every client).
///
/// # Errors
/// Any [`IdentityError`].
pub fn identity(
    chain: &[u8],
    key: &[u8],
    clients: Option<&[u8]>,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let chain = certificates("certificates", chain)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| IdentityError::Pem { what: "key", why: error.to_string() })?;
    server(chain, key, clients)
}

/// The same from DER; the roots are still PEM.
///
/// # Errors
/// Any [`IdentityError`].
pub fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<&[u8]>,
) -> Result<Arc<ServerConfig>, IdentityError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let wrong = |why: String| IdentityError::Pem { what: "roots of clients", why };
            let mut store = RootCertStore::empty();
            for root in certificates("roots of clients", roots)? {
                store.add(root).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
        }
    };
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let wrong = |why: String| IdentityError::Pem { what, why };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is none".into()));
    }
    Ok(found)
}

/// What came out of bytes from the network.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// What the sender said.
    pub(super) plain: Vec<u8>,
    /// What has to be sent, an alert included.
    pub(super) answer: Vec<u8>,
    /// Why the session is over.
    pub(super) failed: Option<rustls::Error>,
    /// The sender said goodbye.
    pub(super) is_closed: bool,
}

/// A session without a socket.
#[derive(Debug)]
pub(super) struct Session(ServerConnection);

impl Session {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        ServerConnection::new(config).map(Self)
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Takes bytes from the network.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> io::Result<Step> {
        let (mut step, mut rest) = (Step::default(), bytes);
        while !rest.is_empty() && step.failed.is_none() && !step.is_closed {
            // Never more than was given: the slice is read, not a socket.
            if self.0.read_tls(&mut rest)? == 0 {
                break;
            }
            match self.0.process_new_packets() {
                Ok(state) => step.is_closed |= state.peer_has_closed(),
                Err(error) => step.failed = Some(error),
            }
            self.drain(&mut step.plain)?;
        }
        while self.0.wants_write() {
            self.0.write_tls(&mut step.answer)?;
        }
        Ok(step)
    }

    /// What was decrypted; at most what one call of `read_tls` holds.
    fn drain(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.0.reader().read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => plain.extend(buffer.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The sender went without a goodbye; what it said counts all the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}
