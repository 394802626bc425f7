//! Kernel modules: which go into the image, and the index by which PID 1 finds them.
//!
//! The index stands in `/usr/lib/modules/index`, one fact per line:
//! `module NAME PATH DEP,DEP|-`, `alias PATTERN NAME`, `always NAME`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use object::{Object, ObjectSection};

use crate::{
    base::Base,
    error::{Error, Result, at},
};

/// One module of the base.
#[derive(Debug, Clone)]
struct Module {
    packed: Vec<u8>,
    bytes: Vec<u8>,
    depends: Vec<String>,
    aliases: Vec<String>,
}

/// `NAME -> FILE` of every module of the base; names with `_`, as the kernel says them.
fn files(base: &Base) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![base.modules().join("kernel")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(at(&folder))?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = entry.file_name().to_string_lossy().strip_suffix(".ko.xz") {
                found.insert(name.replace('-', "_"), path);
            }
        }
    }
    Ok(found)
}

fn load(path: &Path) -> Result<Module> {
    let packed = fs::read(path).map_err(at(path))?;
    let mut bytes = Vec::new();
    let wrong = |why: String| Error::Compose(format!("module {}: {why}", path.display()));
    lzma_rs::xz_decompress(&mut packed.as_slice(), &mut bytes)
        .map_err(|error| wrong(format!("{error:?}")))?;
    let (depends, aliases) = modinfo(&bytes).map_err(wrong)?;
    Ok(Module { packed, bytes, depends, aliases })
}

/// Dependencies and aliases from the section `.modinfo`.
fn modinfo(elf: &[u8]) -> Result<(Vec<String>, Vec<String>), String> {
    let file = object::File::parse(elf).map_err(|error| error.to_string())?;
    let section = file.section_by_name(".modinfo").ok_or("no .modinfo")?;
    let data = section.data().map_err(|error| error.to_string())?;
    let (mut depends, mut aliases) = (Vec::new(), Vec::new());
    for field in data.split(|byte| *byte == 0) {
        let field = String::from_utf8_lossy(field);
        if let Some(list) = field.strip_prefix("depends=") {
            depends.extend(
                list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")),
            );
        } else if let Some(alias) = field.strip_prefix("alias=") {
            aliases.push(alias.to_owned());
        }
    }
    Ok((depends, aliases))
}

/// Loads `roots` and all that they depend on; dependencies come first.
fn resolve(base: &Base, roots: &[&str]) -> Result<Vec<(String, Module)>> {
    let files = files(base)?;
    let mut done: Vec<(String, Module)> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut stack: Vec<(String, bool)> =
        roots.iter().rev().map(|name| (name.replace('-', "_"), false)).collect();
    let mut open: BTreeMap<String, Module> = BTreeMap::new();
    while let Some((name, ready)) = stack.pop() {
        if ready {
            if let Some(module) = open.remove(&name) {
                done.push((name, module));
            }
            continue;
        }
        if !seen.insert(name.clone()) {
            continue;
        }
        let path = files.get(&name).ok_or_else(|| {
            Error::Compose(format!(
                "the base has no kernel module {name}; is it built in? then take it off the list"
            ))
        })?;
        let module = load(path)?;
        stack.push((name.clone(), true));
        stack.extend(module.depends.iter().rev().map(|name| (name.clone(), false)));
        open.insert(name, module);
    }
    Ok(done)
}

/// Modules and all that they depend on, uncompressed, dependencies first.
///
/// # Errors
/// [`Error::Compose`] when the base lacks one.
pub fn closure(base: &Base, roots: &[&str]) -> Result<Vec<(String, Vec<u8>)>> {
    Ok(resolve(base, roots)?.into_iter().map(|(name, module)| (name, module.bytes)).collect())
}

/// Installs the modules that the list `wanted` names, and their index, below `root`.
/// A line is `NAME` (loaded when a device asks for it) or `NAME always`.
///
/// # Errors
/// [`Error::Compose`] when the base lacks one.
pub fn install(base: &Base, wanted: &Path, root: &Path) -> Result<()> {
    let text = fs::read_to_string(wanted).map_err(at(wanted))?;
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().split_whitespace().collect())
        .filter(|words: &Vec<&str>| !words.is_empty())
        .collect();
    let roots: Vec<&str> = lines.iter().filter_map(|words| words.first().copied()).collect();
    let mut index = String::new();
    for (name, module) in resolve(base, &roots)? {
        // As the maker packed and signed it: the kernel unpacks it, and it is half as large.
        let path = format!("usr/lib/modules/{name}.ko.xz");
        let file = root.join(&path);
        fs::write(&file, &module.packed).map_err(at(&file))?;
        let depends = if module.depends.is_empty() { "-".into() } else { module.depends.join(",") };
        index.push_str(&format!("module {name} /{path} {depends}\n"));
        for alias in module.aliases {
            index.push_str(&format!("alias {alias} {name}\n"));
        }
    }
    for words in &lines {
        if let [name, "always"] = words.as_slice() {
            index.push_str(&format!("always {}\n", name.replace('-', "_")));
        }
    }
    let file = root.join("usr/lib/modules/index");
    fs::write(&file, index).map_err(at(&file))
}
