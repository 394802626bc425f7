//! The command line: one definition gives parsing, help and errors.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::input;

const AFTER_HELP: &str = "\
Exit codes:
  0  affirming         everything that was asked for holds
  1  warning           it holds, but something was not shown or is not as it should be
  2  contraindicated   it does not hold: do not trust the box, the ledger or the image
  3  unreadable        a file can't be read or is not what it should be; nothing was verified
  4  usage             the command line is wrong, or no release key is known

The release key is taken from --release-key, else from the variable HOOKPROBE_RELEASE_KEY (a path),
else from the file release.pem beside this program. No key is built in.";

/// Verifies a box's evidence, its ledger and its image offline: no TPM, no network.
#[derive(Debug, Parser)]
#[command(name = "hookprobe-verify", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Print JSON (stable members) instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to verify.
    #[command(subcommand)]
    pub command: Command,
}

/// What to verify.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A quote: short evidence, as a file or as the lines HPQ1:.. of QR codes (several files: all
    /// lines of one set).
    Quote(EvidenceArgs),
    /// Full evidence: the quote, both event logs and the manifest that came with the image.
    Bundle(EvidenceArgs),
    /// A ledger copied off a box: links, hashes, signatures, payloads, tree head, and the quotes
    /// that vouch for its keys.
    Ledger(LedgerArgs),
    /// A boot blob or a disk image: what it will measure, and whether the release signed that.
    Image(ImageArgs),
    /// What a code means, or the event logs of full evidence in words.
    Explain(ExplainArgs),
    /// A challenge for a box: fresh random digits, to be typed on its console and given to quote or
    /// bundle as --nonce.
    Nonce,
    /// Appraisals per second on one core, and the time of one verification as a process.
    Bench(EvidenceArgs),
}

/// Of `quote`, `bundle` and `bench`.
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    /// Evidence as exported from the box, or text with its QR codes' lines.
    #[arg(required = true)]
    pub file: Vec<PathBuf>,
    /// The challenge that the box was given. Without it the quote may be an old one.
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    pub nonce: Option<Hex>,
    /// The release's signed manifest; the one in the evidence otherwise.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// The release's public key (SubjectPublicKeyInfo, PEM).
    #[arg(long, value_name = "PEM")]
    pub release_key: Option<PathBuf>,
    /// Name of the attestation key of the box as it was enrolled.
    #[arg(long, value_name = "NAME", value_parser = parse_hex)]
    pub ak: Option<Hex>,
    /// Earlier evidence of the box, or an earlier result of this program (--json or --sign): finds
    /// a box that was restored from a snapshot.
    #[arg(long, value_name = "FILE")]
    pub previous: Option<PathBuf>,
    /// The site configuration that the box should have.
    #[arg(long, value_name = "FILE")]
    pub site: Option<PathBuf>,
    /// Rules and lists of names that stand beside it (with --site).
    #[arg(long, value_name = "FILE", requires = "site")]
    pub site_file: Vec<PathBuf>,
    /// Certificates that may have issued the endorsement key's (DER, or PEM with one or more).
    #[arg(long, value_name = "DER|PEM")]
    pub ek_root: Vec<PathBuf>,
    /// Lists of revoked certificates by those (DER, or PEM with one or more): refuses an endorsement key
    /// that its maker took back.
    #[arg(long, value_name = "DER|PEM", requires = "ek_root")]
    pub ek_crl: Vec<PathBuf>,
    /// Refuse images of an older generation.
    #[arg(long, value_name = "N")]
    pub minimum_generation: Option<u32>,
    /// Sign the result with this key (ECDSA P-256, PKCS#8 PEM) and print it as a JWS.
    #[arg(long, value_name = "PEM")]
    pub sign: Option<PathBuf>,
}

/// Of `ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// The exported ledger.
    pub file: PathBuf,
    /// Evidence of the same box: its head, epoch and key have to be this ledger's.
    #[arg(long, value_name = "FILE")]
    pub evidence: Option<PathBuf>,
    /// Name of the attestation key of the box as it was enrolled.
    #[arg(long, value_name = "NAME", value_parser = parse_hex)]
    pub ak: Option<Hex>,
}

/// Of `image`.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// A boot blob (.efi) or a GPT disk image with one at EFI/BOOT/BOOTX64.EFI.
    pub file: PathBuf,
    /// The release's public key (SubjectPublicKeyInfo, PEM).
    #[arg(long, value_name = "PEM")]
    pub release_key: Option<PathBuf>,
    /// The signed manifest; the one in the blob otherwise.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// The image's root, unpacked: PCR 13 is computed from it.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// Of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A code such as HP-MB-004, or a file of full evidence.
    #[arg(value_name = "CODE|FILE")]
    pub subject: String,
    /// The release's public key (SubjectPublicKeyInfo, PEM): tells what each event should be.
    #[arg(long, value_name = "PEM")]
    pub release_key: Option<PathBuf>,
}

/// Bytes given as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

fn parse_hex(text: &str) -> Result<Hex, String> {
    input::hex(text).map(Hex)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
