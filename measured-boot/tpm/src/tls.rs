//! TLS with a key that stays in the TPM: ECDSA P-256 behind rustls' signing interface.
//!
//! One thread owns the connection to the TPM and signs what it is asked for, one after the other;
//! handshakes wait for it with a limit. The key is loaded for each signature, so it takes no slot of
//! the TPM in between. Must never happen here: the key signing anything but a handshake's digest, or
//! a handshake that waits without an end.
//!
//! Called by whoever serves TLS; the session is bound to a quote by the exporter [`EXPORTER_LABEL`]
//! (RFC 5705, RFC 8446 7.5), which goes into `evidence::quote::Binding`.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use p256::{ecdsa::Signature as EcdsaSignature, pkcs8::EncodePublicKey};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    sign::{Signer, SigningKey},
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tss_esapi::{
    constants::{StructureTag, tss::TPM2_RH_NULL},
    structures::{Digest, HashcheckTicket, Signature, SignatureScheme as TpmScheme},
    tss2_esys::TPMT_TK_HASHCHECK,
};

use crate::{
    Context,
    error::TrustError,
    structures::{self, SigningKind},
    trust::AkBlob,
};

/// Label of the exporter that binds a quote to a session.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-hookprobe-attest";
/// Bytes of that exporter.
pub const EXPORTER_BYTES: usize = 32;
/// Signatures that wait; a further handshake is refused. A discrete TPM makes five or so a second,
/// so the last of these waits less than [`SIGN_TIMEOUT`].
pub const JOBS_MAX: usize = 16;
/// A signature takes a fifth of a second on a slow TPM, and the peer gives up after ten seconds.
const SIGN_TIMEOUT: Duration = Duration::from_secs(5);

/// A TLS key outside the TPM. The same encoding as an attestation key's, but never one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsKeyBlob(pub AkBlob);

/// Why a TLS key can't be used.
#[derive(Debug, Error)]
pub enum TlsKeyError {
    /// The TPM.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No thread.
    #[error("HP-TP-130 tls: can't start the signing thread; free memory or raise the task limit")]
    Thread(#[source] io::Error),
    /// Not a point on the curve.
    #[error("HP-TP-131 tls: the key in the TPM is no P-256 key; make a new one")]
    Key,
}

impl Context {
    /// Makes a TLS key under the endorsement key: it can't leave this TPM.
    ///
    /// # Errors
    /// Any [`TrustError`].
    pub fn create_tls_key(&mut self) -> Result<TlsKeyBlob, TrustError> {
        self.create_child(SigningKind::Session).map(TlsKeyBlob)
    }

    /// Signs a SHA-256 with a TLS key: r and s.
    ///
    /// # Errors
    /// Any [`TrustError`].
    pub fn sign_tls(
        &mut self,
        key: &TlsKeyBlob,
        digest: &[u8; 32],
    ) -> Result<EcdsaSignature, TrustError> {
        const COMMAND: &str = "TPM2_Sign";
        let loaded = self.load_child(&key.0, SigningKind::Session)?;
        let digest = Digest::try_from(digest.as_slice()).map_err(TrustError::tpm(COMMAND));
        let signature = self.with_object(loaded.handle.into(), |tpm| {
            let (digest, ticket) = (digest?, no_ticket()?);
            tpm.with_hmac(|tpm, hmac| {
                tpm.call_with(hmac, COMMAND, |esys| {
                    esys.sign(loaded.handle, digest, TpmScheme::Null, ticket)
                })
            })
        })?;
        let Signature::EcDsa(signature) = signature else {
            return Err(TrustError::Unexpected { what: "TPM2_Sign gave no ECDSA signature" });
        };
        padded(signature.signature_r().value())
            .zip(padded(signature.signature_s().value()))
            .and_then(|(r, s)| EcdsaSignature::from_scalars(r, s).ok())
            .ok_or(TrustError::Unexpected { what: "TPM2_Sign gave numbers outside the group" })
    }
}

/// A key that is not restricted signs digests without a ticket.
fn no_ticket() -> Result<HashcheckTicket, TrustError> {
    HashcheckTicket::try_from(TPMT_TK_HASHCHECK {
        tag: StructureTag::Hashcheck.into(),
        hierarchy: TPM2_RH_NULL,
        digest: Default::default(),
    })
    .map_err(TrustError::tpm("TPM2_Sign"))
}

/// A number as exactly 32 bytes: TPMs may leave out leading zeros.
fn padded(number: &[u8]) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    let start = out.len().checked_sub(number.len())?;
    out.get_mut(start..)?.copy_from_slice(number);
    Some(out)
}

/// One signature to make.
struct Job {
    digest: [u8; 32],
    reply: SyncSender<Result<EcdsaSignature, TrustError>>,
}

/// The thread that signs; it is waited for when this is dropped.
struct Worker {
    jobs: Option<SyncSender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Worker {
    fn start(mut context: Context, blob: TlsKeyBlob) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let thread = thread::Builder::new()
            .name("tpm-tls".into())
            .spawn(move || serve(&mut context, &blob, &queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    fn submit(&self, job: Job) -> Result<(), &'static str> {
        match self.jobs.as_ref().map(|jobs| jobs.try_send(job)) {
            Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(_))) => Err("too many handshakes wait for the TPM"),
            Some(Err(TrySendError::Disconnected(_))) | None => Err(GONE),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Without senders the thread ends, after the signature that it is at: the kernel limits how
        // long a command of the TPM takes.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const GONE: &str = "the TPM's thread is gone";

/// The TLS key as rustls sees it. Clones share the thread, which ends with the last of them.
#[derive(Clone)]
pub struct TlsKey {
    worker: Arc<Worker>,
    refused: Arc<AtomicU64>,
    spki: Arc<[u8]>,
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsKey").field("refused", &self.refused()).finish_non_exhaustive()
    }
}

impl TlsKey {
    /// Gives `context` to a thread of its own that signs with `blob`. One signature is made at once:
    /// a key of another TPM is told here, not in a handshake.
    ///
    /// # Errors
    /// Any [`TlsKeyError`].
    pub fn start(mut context: Context, blob: TlsKeyBlob) -> Result<Self, TlsKeyError> {
        context.sign_tls(&blob, &[0; 32])?;
        let spki = spki(&blob.0.public).ok_or(TlsKeyError::Key)?;
        let worker = Worker::start(context, blob).map_err(TlsKeyError::Thread)?;
        Ok(Self { worker: Arc::new(worker), refused: Arc::default(), spki: spki.into() })
    }

    /// SubjectPublicKeyInfo (DER), for the certificate.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Signatures that were not made because [`JOBS_MAX`] waited already, or in time.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// ASN.1 DER of the ECDSA signature over SHA-256 of `message`.
    ///
    /// # Errors
    /// [`rustls::Error::General`] with the reason.
    pub fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let (reply, answer) = sync_channel(1);
        let job = Job { digest: Sha256::digest(message).into(), reply };
        self.worker.submit(job).map_err(|why| self.refuse(why))?;
        match answer.recv_timeout(SIGN_TIMEOUT) {
            Ok(Ok(signature)) => Ok(signature.to_der().as_bytes().to_vec()),
            Ok(Err(error)) => Err(rustls::Error::General(error.to_string())),
            Err(RecvTimeoutError::Timeout) => Err(self.refuse("the TPM did not sign in time")),
            Err(RecvTimeoutError::Disconnected) => Err(self.refuse(GONE)),
        }
    }

    fn refuse(&self, why: &str) -> rustls::Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        rustls::Error::General(format!("HP-TP-132 tls: {why}; try again later"))
    }
}

/// Until the last [`TlsKey`] is dropped.
fn serve(context: &mut Context, blob: &TlsKeyBlob, queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        // Whoever asked may have given up.
        let _ = job.reply.try_send(context.sign_tls(blob, &job.digest));
    }
}

fn spki(public: &[u8]) -> Option<Vec<u8>> {
    let point = public.get(structures::signing_template(SigningKind::Session).len()..)?;
    let (x, rest) = split_sized(point)?;
    let (y, rest) = split_sized(rest)?;
    if !rest.is_empty() {
        return None;
    }
    let mut sec1 = vec![0x04];
    sec1.extend(padded(x)?);
    sec1.extend(padded(y)?);
    let key = p256::PublicKey::from_sec1_bytes(&sec1).ok()?;
    Some(key.to_public_key_der().ok()?.as_bytes().to_vec())
}

/// A TPM2B and what follows it.
fn split_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.sign_message(message)
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
