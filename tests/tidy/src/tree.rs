//! The files that rules look at.

use std::{fs, io, path::Path};

use crate::lexer::{self, Lexed};

/// Not ours, or made by tools.
const SKIPPED: [&str; 3] = ["target", ".git", "node_modules"];
/// Files that rules look at; the rest (fixtures, images) may be anything.
const EXTENSIONS: [&str; 3] = ["rs", "toml", "md"];

/// One text file.
#[derive(Debug, Clone)]
pub struct File {
    /// From the root, with `/`.
    pub path: String,
    /// Content.
    pub text: String,
}

impl File {
    /// Whether it is Rust.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether it is only compiled into tests or examples, by its place or name. The attacks on a
    /// booted box are tests as well, although a command runs them: they compare what others say.
    #[must_use]
    pub fn is_test(&self) -> bool {
        ["tests/", "image/xtask/src/attack/"].iter().any(|folder| self.path.starts_with(folder))
            || ["/tests.rs", "_tests.rs"].iter().any(|end| self.path.ends_with(end))
            || ["/tests/", "/examples/", "/benches/"]
                .iter()
                .any(|folder| self.path.contains(folder))
    }

    /// Rust source taken apart.
    #[must_use]
    pub fn lexed(&self) -> Lexed {
        lexer::lex(&self.text)
    }
}

/// All files.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// In order of path.
    pub files: Vec<File>,
    /// Names of the folders at the top, without hidden ones.
    pub top_folders: Vec<String>,
}

impl Tree {
    /// Reads the tree that this package is part of.
    ///
    /// # Errors
    /// What the file system says.
    pub fn load() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut tree = Self::default();
        tree.walk(&root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.top_folders.sort();
        Ok(tree)
    }

    /// A made-up tree, for tests of rules.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| File { path: (*path).into(), text: (*text).into() })
                .collect(),
            top_folders: Vec::new(),
        }
    }

    /// One file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Rust sources.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    fn walk(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                if prefix.is_empty() && !name.starts_with('.') {
                    self.top_folders.push(name);
                }
                self.walk(&entry.path(), &format!("{path}/"))?;
            } else if EXTENSIONS
                .iter()
                .any(|extension| path.rsplit_once('.').is_some_and(|(_, end)| end == *extension))
            {
                let bytes = fs::read(entry.path())?;
                self.files.push(File { path, text: String::from_utf8_lossy(&bytes).into_owned() });
            }
        }
        Ok(())
    }
}
