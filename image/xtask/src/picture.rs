//! `cargo xtask picture`: README's picture, taken from the booted box after a drill, so that it
//! shows what there is.

use std::fs;

use crate::{
    error::{Error, Result, at},
    run,
    tree::{Image, Tree},
    vm::{Options, Screen, Serial, Vm},
};

/// Title of the notice about the recovery key.
const NOTICE: &str = "RECOVERY KEY NOT NOTED";
const BEGIN: &str = "<!-- picture";
const END: &str = "<!-- end of picture -->";

/// Boots the box, runs its built-in drill and puts the Overview into README.
///
/// # Errors
/// Any [`Error`].
pub fn picture(tree: &Tree, image: &Image) -> Result<String> {
    let options = Options { serial: Serial::Socket, ..Options::lab("picture") };
    let mut vm = Vm::start(tree, image, &options)?;
    run::wait_ready(&mut vm)?;
    let mut screen = Screen::plug(&vm)?;
    // A late terminal asks for the whole screen. A new box has a notice over it as soon as attest has
    // told of the recovery key; Escape puts it away.
    screen.press("\u{c}1")?;
    screen.wait(&[NOTICE])?;
    screen.press("\u{1b}")?;
    screen.wait_gone(NOTICE)?;
    screen.wait(&["ATTESTATION", "sensor         [ OK ]"])?;
    screen.press("d")?;
    screen.wait(&["drill"])?;
    screen.press("y")?;
    vm.wait("the drill", run::READY_WAIT, |line| {
        line.verb() == "drill" && line.field("result").is_some()
    })?;
    screen.press("\u{1b}1")?;
    let text = screen.wait(&["Blocked  1,"])?;
    vm.power_off()?;
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let path = tree.source("README.md");
    let readme = fs::read_to_string(&path).map_err(at(&path))?;
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| {
        let (comment, rest) = rest.split_once('\n')?;
        let (_, after) = rest.split_once(END)?;
        Some((before, comment, after))
    });
    let Some((before, comment, after)) = parts else {
        return Err(Error::Check(format!("README.md has no lines {BEGIN}.. and {END}")));
    };
    let readme = format!("{before}{BEGIN}{comment}\n```text\n{text}```\n{END}{after}");
    fs::write(&path, readme).map_err(at(&path))?;
    Ok(text)
}
