//! `hookprobe-sensor make-names`: lists of names that others publish into one signed list for boxes.
//!
//! Runs where lists are made, never on the box. The key stays with whoever runs it; what it prints at
//! the end goes into `hookprobe.toml`.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use base64ct::{Base64, Encoding as _};
use hookprobe_reputation::{
    draft::{Draft, DraftError, Edition, ListId},
    format::{Category, ListInfo, PublicKey, Serial},
    hash::HashKey,
    lists::{Parser, Syntax},
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use thiserror::Error;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Longest key file.
const KEY_BYTES_MAX: u64 = 4096;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// One list: how it is written, what it is about, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    syntax: Syntax,
    category: Category,
    path: PathBuf,
}

impl FromStr for Input {
    type Err = String;

    /// `SYNTAX:CATEGORY:FILE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let (Some(syntax), Some(category), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("expected SYNTAX:CATEGORY:FILE, e.g. hosts:malware:list.txt".into());
        };
        let syntax = match syntax {
            "hosts" => Syntax::Hosts,
            "adblock" => Syntax::Adblock,
            "rpz" => Syntax::Rpz,
            "plain" => Syntax::Plain,
            _ => return Err(format!("{syntax}: one of hosts, adblock, rpz, plain")),
        };
        let labels = Category::ALL.map(Category::label);
        let found = Category::ALL.into_iter().find(|known| known.label() == category);
        let category = found.ok_or_else(|| format!("{category}: one of {}", labels.join(", ")))?;
        Ok(Self { syntax, category, path: path.into() })
    }
}

/// What is to be made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Lists; of a name on several, the first counts.
    pub lists: Vec<Input>,
    /// Ed25519 private key, PKCS#8 in PEM.
    pub key: PathBuf,
    /// Must grow with each edition.
    pub serial: u64,
    /// Days until boxes no longer use it.
    pub days: u64,
    /// Where it goes.
    pub out: PathBuf,
}

/// Why there is no list.
#[derive(Debug, Error)]
pub enum MakeError {
    /// A file can't be read or written.
    #[error("HP-SN-080 {path}: {source}; check its name and permissions")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key is none.
    #[error(
        "HP-SN-081 {0}: no Ed25519 key in PEM (PKCS#8); make one with \
         `openssl genpkey -algorithm ed25519`"
    )]
    Key(PathBuf),
    /// The lists don't fit together.
    #[error(transparent)]
    Draft(#[from] DraftError),
}

/// Makes the list and says what is in it and which key boxes have to be told.
///
/// # Errors
/// Any [`MakeError`]; nothing is written then.
pub fn run(options: &Options) -> Result<(), MakeError> {
    let pair = key(&options.key)?;
    let public: [u8; 32] =
        pair.public_key().as_ref().try_into().map_err(|_| MakeError::Key(options.key.clone()))?;
    let mut hash_key = [0; 16];
    rustix::rand::getrandom(&mut hash_key[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| file(Path::new("random"))(errno.into()))?;
    let infos = options.lists.iter().map(|list| ListInfo {
        category: list.category,
        name: list.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    });
    let mut draft = Draft::new(HashKey(hash_key), infos.collect())?;
    for (number, list) in (0_u8..).zip(&options.lists) {
        read(list, ListId(number), &mut draft)?;
    }
    if draft.over_capacity() > 0 {
        eprintln!("WARN {} names left out: the list is full", draft.over_capacity());
    }
    let issued_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let edition = Edition {
        serial: Serial(options.serial),
        issued_s,
        expires_s: issued_s.saturating_add(options.days.saturating_mul(DAY_S)),
    };
    let sign = |message: &[u8]| pair.sign(message).as_ref().try_into().unwrap_or([0; 64]);
    let bytes = draft.sign(edition, PublicKey(public), sign)?;
    File::create(&options.out)
        .and_then(|mut out| out.write_all(&bytes))
        .map_err(file(&options.out))?;
    let hex: String = public.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{}: {} bytes; in hookprobe.toml of each box:", options.out.display(), bytes.len());
    println!("[detection]\nname_keys = [\"{hex}\"]");
    Ok(())
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> MakeError {
    move |source| MakeError::File { path: path.into(), source }
}

/// The private key in a file.
fn key(path: &Path) -> Result<Ed25519KeyPair, MakeError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(KEY_BYTES_MAX).read_to_string(&mut text))
        .map_err(file(path))?;
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    Base64::decode_vec(&body)
        .ok()
        .and_then(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok())
        .ok_or_else(|| MakeError::Key(path.into()))
}

/// One list into the draft; what is garbage in it is said.
fn read(list: &Input, number: ListId, draft: &mut Draft) -> Result<(), MakeError> {
    let mut parser = Parser::new(list.syntax);
    let mut input = fs::File::open(&list.path).map_err(file(&list.path))?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = input.read(&mut buffer).map_err(file(&list.path))?;
        if length == 0 {
            break;
        }
        let piece = buffer.get(..length).unwrap_or_default();
        parser.feed(piece, &mut |entry| draft.add(number, entry));
    }
    let counts = parser.finish(&mut |entry| draft.add(number, entry));
    println!(
        "{}: {} names, {} exceptions, {} lines of garbage",
        list.path.display(),
        counts.blocked,
        counts.allowed,
        counts.garbage_total()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use hookprobe_reputation::{
        format::Expectation,
        names::{NameList, Verdict},
    };

    use super::*;

    /// RFC 8410, section 10.3: the example's private key.
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    const PUBLIC: [u8; 32] = [
        0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba, 0xc1, 0x67, 0xdc, 0x3b,
        0x96, 0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6, 0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31,
        0x66, 0xe1,
    ];

    #[test]
    fn what_is_made_is_what_a_box_loads() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("key.pem"), KEY).unwrap();
        fs::write(path("bad.txt"), "0.0.0.0 evil.example\ngarbage\n").unwrap();
        fs::write(path("ads.txt"), "||ads.example^\n@@||good.evil.example^\n").unwrap();
        let list = |kind: &str, name: &str| {
            format!("{kind}:{}", path(name).display()).parse::<Input>().unwrap()
        };
        let options = Options {
            lists: vec![list("hosts:malware", "bad.txt"), list("adblock:advertising", "ads.txt")],
            key: path("key.pem"),
            serial: 3,
            days: 30,
            out: path("hookprobe.names"),
        };
        run(&options).unwrap();
        let bytes = fs::read(path("hookprobe.names")).unwrap();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let keys = [PublicKey(PUBLIC)];
        let expect = Expectation { keys: &keys, accepted: Serial(0), now_s };
        let names = NameList::load(&bytes, &expect).unwrap();
        let Verdict::Listed { list, .. } = names.lookup(b"www.evil.example") else {
            unreachable!("it is listed")
        };
        assert_eq!((list.category, list.name.as_str()), (Category::Malware, "bad"));
        assert_eq!(names.lookup(b"good.evil.example"), Verdict::Allowed);
    }

    #[test]
    fn inputs_and_keys_that_are_none_are_said() {
        for (text, expect) in [
            ("hosts", "SYNTAX:CATEGORY:FILE"),
            ("csv:malware:x", "one of hosts"),
            ("hosts:bad:x", "one of other, malware"),
        ] {
            let error = text.parse::<Input>().unwrap_err();
            assert!(error.contains(expect), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "no key").unwrap();
        assert!(matches!(key(&path), Err(MakeError::Key(_))));
    }
}
