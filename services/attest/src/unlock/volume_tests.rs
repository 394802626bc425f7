use std::{fs, process::Command};

use tempfile::TempDir;

use super::*;
use crate::unlock::header::{HEAD_BYTES, Head, classify};

const PASSPHRASE: [u8; 32] = [7; 32];
const FRESH: [u8; 32] = [9; 32];

struct Case {
    directory: TempDir,
    recovery: RecoveryKey,
}

impl Case {
    fn disk(&self) -> std::path::PathBuf {
        self.directory.path().join("disk")
    }

    /// A disk with a volume on it, its header copied as `disk` does.
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let case = Self { recovery: RecoveryKey::from_bytes(&[3; 25]), directory };
        let header = case.directory.path().join("header");
        for (path, length) in [(&header, HEAD_BYTES), (&case.disk(), 64 << 20)] {
            fs::File::create(path).unwrap().set_len(length.try_into().unwrap()).unwrap();
        }
        let token = token(0, 1, &PASSPHRASE);
        Volume::format(&header, &case.disk(), &PASSPHRASE, &case.recovery, &token).unwrap();
        let bytes = fs::read(header).unwrap();
        assert_eq!(bytes.len(), HEAD_BYTES);
        case.write_head(&bytes);
        case
    }

    fn head(&self) -> Vec<u8> {
        use std::io::Read;
        let mut head = vec![0; HEAD_BYTES];
        fs::File::open(self.disk()).unwrap().read_exact(&mut head).unwrap();
        head
    }

    fn write_head(&self, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        fs::File::options().write(true).open(self.disk()).unwrap().write_all_at(bytes, 0).unwrap();
    }

    fn load(&self) -> Volume {
        match Volume::load(&self.disk()).unwrap() {
            Loaded::Ours(volume) => *volume,
            Loaded::Foreign(why) => panic!("{why}"),
        }
    }
}

/// Sealed in the clear: what opens it is the test itself.
fn token(slot: u32, generation: u32, passphrase: &[u8; 32]) -> Token {
    Token { slot, generation, sealed: passphrase.to_vec() }
}

/// The volume opens by its token's passphrase and by the recovery key, and gives `identity`.
fn opens(case: &Case, identity: Hash) -> Token {
    let mut volume = case.load();
    let token = volume.header().token.clone();
    let sealed: [u8; 32] = token.sealed.as_slice().try_into().unwrap();
    let uuid = volume.uuid().to_owned();
    let key = volume.open_sealed(&sealed).unwrap().unwrap();
    assert_eq!(key.identity(&uuid), identity);
    let key = volume.open_recovery(&case.recovery).unwrap().unwrap();
    assert_eq!(key.identity(&uuid), identity);
    token
}

fn identity(case: &Case) -> Hash {
    let mut volume = case.load();
    let key = volume.open_sealed(&PASSPHRASE).unwrap().unwrap();
    key.identity(volume.uuid())
}

#[test]
fn only_the_two_secrets_open_it() {
    let case = Case::new();
    assert_eq!(opens(&case, identity(&case)), token(0, 1, &PASSPHRASE));
    let mut volume = case.load();
    assert!(volume.open_sealed(&FRESH).unwrap().is_none());
    assert!(volume.open_recovery(&RecoveryKey::from_bytes(&[4; 25])).unwrap().is_none());
    // Not even the right secret opens a slot that it is not for.
    assert!(volume.open_slot(RECOVERY_SLOT, &PASSPHRASE).unwrap().is_none());
    assert!(volume.open_slot(0, case.recovery.expose().as_bytes()).unwrap().is_none());
}

#[test]
fn identities_differ_by_key_and_by_uuid() {
    let key = |byte| VolumeKey(Zeroizing::new([byte; 64]));
    assert_ne!(key(1).identity("a"), key(2).identity("a"));
    assert_ne!(key(1).identity("a"), key(1).identity("b"));
    assert!(!format!("{:?}", key(1)).contains('1'));
}

#[test]
fn cryptsetup_reads_what_we_write() {
    let case = Case::new();
    let disk = case.disk();
    let Ok(dump) = Command::new("cryptsetup").arg("luksDump").arg(&disk).output() else {
        println!("skipped: no cryptsetup");
        return;
    };
    let text = String::from_utf8_lossy(&dump.stdout);
    for part in ["aes-xts-plain64", "pbkdf2", "hookprobe", "16777216", "512 [bytes]"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("argon2"), "{text}");
    // The operator's paper opens it with stock tools.
    let paper = case.directory.path().join("paper");
    fs::write(&paper, case.recovery.expose()).unwrap();
    let test = Command::new("cryptsetup")
        .args(["open", "--test-passphrase", "--key-slot", "1", "--key-file"])
        .arg(&paper)
        .arg(&disk)
        .status()
        .unwrap();
    assert!(test.success());
}

#[test]
fn a_reseal_that_is_cut_off_anywhere_leaves_a_volume_that_opens() {
    let whole = Case::new();
    let identity = identity(&whole);
    let before = whole.head();
    for cut in [Step::Added, Step::Sealed, Step::Destroyed] {
        whole.write_head(&before);
        let mut volume = whole.load();
        let key = volume.open_sealed(&PASSPHRASE).unwrap().unwrap();
        let slot = volume.header().next_slot();
        let mut after = |step| if step == cut { Err(UnlockError::Cut) } else { Ok(()) };
        let end = volume.reseal(&key, &FRESH, token(slot, 2, &FRESH), &mut after);
        assert!(matches!(end, Err(UnlockError::Cut)));
        drop(volume);
        let token = opens(&whole, identity);
        let mut volume = whole.load();
        let leftover = volume.header().leftover.clone();
        match cut {
            Step::Added => assert_eq!((token.generation, leftover.as_slice()), (1, &[2][..])),
            Step::Sealed => assert_eq!((token.generation, leftover.as_slice()), (2, &[0][..])),
            _ => assert_eq!((token.generation, leftover.as_slice()), (2, &[][..])),
        }
        // The next boot tidies, and can seal again.
        volume.tidy(&mut |_| Ok(())).unwrap();
        drop(volume);
        opens(&whole, identity);
        let mut volume = whole.load();
        let slot = volume.header().next_slot();
        volume.reseal(&key, &[8; 32], self::token(slot, 3, &[8; 32]), &mut |_| Ok(())).unwrap();
        drop(volume);
        assert_eq!(opens(&whole, identity).generation, 3);
        assert!(whole.load().open_slot(0, &PASSPHRASE).is_err_or_none());
    }
}

#[test]
fn a_torn_copy_of_the_header_is_mended() {
    if !Path::new(LOCKS).is_dir() {
        println!("skipped: no {LOCKS}, without locks libcryptsetup mends nothing");
        return;
    }
    let case = Case::new();
    let identity = identity(&case);
    // In the text of the first copy; the first sector stays, as a disk writes sectors.
    let mut head = case.head();
    head[4096..4196].fill(0);
    case.write_head(&head);
    opens(&case, identity);
    // And in the second.
    let mut head = case.head();
    head[16384..20480].fill(0xff);
    case.write_head(&head);
    opens(&case, identity);
}

#[test]
fn volumes_of_others_are_foreign() {
    let case = Case::new();
    if Command::new("cryptsetup").arg("--version").output().is_err() {
        println!("skipped: no cryptsetup");
        return;
    }
    let paper = case.directory.path().join("key");
    fs::write(&paper, PASSPHRASE).unwrap();
    for kdf in ["pbkdf2", "argon2id"] {
        let made = Command::new("cryptsetup")
            .args(["luksFormat", "-q", "--type", "luks2", "--pbkdf", kdf])
            .args(["--pbkdf-force-iterations", if kdf == "pbkdf2" { "1000" } else { "4" }])
            .arg("--key-file")
            .args([&paper, &case.disk()])
            .status()
            .unwrap();
        assert!(made.success());
        assert_eq!(classify(&case.head()), Head::Luks2);
        let Loaded::Foreign(why) = Volume::load(&case.disk()).unwrap() else { panic!() };
        assert!(!why.is_empty());
    }
    case.write_head(&[0xff; 32768][..]);
    assert!(matches!(Volume::load(&case.disk()).unwrap(), Loaded::Foreign(_)));
}

trait ErrOrNone {
    fn is_err_or_none(&self) -> bool;
}

impl<E> ErrOrNone for Result<Option<VolumeKey>, E> {
    fn is_err_or_none(&self) -> bool {
        !matches!(self, Ok(Some(_)))
    }
}
