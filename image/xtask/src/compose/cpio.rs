//! The initramfs archive in the kernel's `newc` format
//! (Documentation/driver-api/early-userspace/buffer-format.rst): deterministic, no times, root
//! owns everything.

/// Mode bits of a directory, a regular file, a character device.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// An archive in the making.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub(super) fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.entry(name, REGULAR | permissions, (0, 0), content);
    }

    /// The console's device node, 5:1.
    pub(super) fn console(&mut self, name: &str) {
        self.entry(name, CHARACTER | 0o600, (5, 1), &[]);
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // time
            content.len() as u32,
            0,
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0, // check
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_are_aligned_and_named() {
        let mut archive = Archive::new();
        archive.directory("dev");
        archive.file("init", 0o555, b"abcde");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 512, 0);
        assert!(bytes.starts_with(b"07070100000001000041ed"));
        let second = 110 + 6; // header, "dev\0", padded to 4
        assert!(bytes[second..].starts_with(b"0707010000000200008"));
        assert!(bytes.windows(5).any(|window| window == b"abcde"));
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
