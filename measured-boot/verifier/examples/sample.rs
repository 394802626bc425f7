//! Writes evidence of a box that does not exist, and what a verifier needs for it, into a folder:
//! `cargo run -p hookprobe-verifier --example sample -- DIR`, then
//! `hookprobe-verify bench DIR/box.cbor --release-key DIR/release.pem --ek-root DIR/root.der`.

use std::{fs, io, path::PathBuf};

use hookprobe_evidence::sample::{self, Sample};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};

fn main() -> io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| ".".into()));
    let sample = Sample::new();
    let pem = sample.release.verifying_key().to_public_key_pem(LineEnding::LF);
    fs::write(folder.join("release.pem"), pem.map_err(io::Error::other)?)?;
    fs::write(folder.join("root.der"), sample::fixture("p384.root"))?;
    fs::write(folder.join("site.toml"), &sample.site)?;
    fs::write(folder.join("manifest.dsse"), sample.envelope())?;
    fs::write(folder.join("box.cbor"), sample.evidence().to_bytes())?;
    fs::write(folder.join("short.cbor"), sample.short().to_bytes())
}
