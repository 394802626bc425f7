//! A file of lines that never outgrows two generations.
//!
//! The one before is kept as `NAME.1`; a line is never cut in two. A disk that refuses a write costs
//! lines, which are counted, and is tried again with the next one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
};

/// Bytes of one generation. 8 MiB: ten thousand alerts, on a card of 8 GiB a thousandth for both.
pub const BYTES_MAX: u64 = 8 << 20;

/// The file.
#[derive(Debug)]
pub struct Rotating {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    lost: u64,
    /// The line that is being written.
    line: Vec<u8>,
}

impl Rotating {
    /// Goes on with the file at `path`, or begins it with the first line.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, file: None, bytes: 0, lost: 0, line: Vec::new() }
    }

    /// Lines that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn put(&mut self) -> io::Result<()> {
        if self.bytes >= BYTES_MAX {
            self.file = None;
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            match fs::rename(&self.path, older) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                // Somebody took the file away: it begins anew.
                _ => self.bytes = 0,
            }
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                self.bytes = file.metadata()?.len();
                self.file.insert(file)
            }
        };
        if let Err(error) = file.write_all(&self.line) {
            // No half of a line stays; if that fails too, the next one is tried all the same.
            let _ = file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes = self.bytes.saturating_add(self.line.len() as u64);
        Ok(())
    }
}

/// Never fails: what can't be written is counted.
impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            if self.put().is_err() {
                self.file = None;
                self.lost += 1;
            }
            self.line.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_generations_and_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eve.json");
        let line = [vec![b'x'; 1 << 20], b"\n".to_vec()].concat();
        let mut file = Rotating::new(path.clone());
        for _ in 0..9 {
            let (head, tail) = line.split_at(1000);
            file.write_all(head).unwrap();
            file.write_all(tail).unwrap();
        }
        // Goes on where it was after a restart.
        let mut file = Rotating::new(path.clone());
        file.write_all(b"last\n").unwrap();
        assert_eq!(
            fs::metadata(folder.path().join("eve.json.1")).unwrap().len(),
            8 * line.len() as u64
        );
        assert_eq!(fs::read(&path).unwrap(), [line.as_slice(), b"last\n"].concat());
        assert_eq!(file.lost(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_costs_lines_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = Rotating::new(folder.path().join("not/there/eve.json"));
        file.write_all(b"a\n").unwrap();
        file.write_all(b"b\n").unwrap();
        assert_eq!(file.lost(), 2);
        fs::create_dir_all(folder.path().join("not/there")).unwrap();
        file.write_all(b"c\n").unwrap();
        assert_eq!(fs::read(folder.path().join("not/there/eve.json")).unwrap(), b"c\n");
    }
}
