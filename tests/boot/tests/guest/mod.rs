//! What the boot tests share: one machine at a time, and waiting for it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hookprobe_xtask::{
    run,
    tree::{Image, Tree},
    vm::{Line, Options, Vm},
};

static ONE: Mutex<()> = Mutex::new(());

/// How long the guest may take for anything after it is ready.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The tree and its image; `None` (and a line saying so) without one.
pub(crate) fn image() -> Option<(Tree, Image, MutexGuard<'static, ()>)> {
    let tree = Tree::find();
    let image = tree.image();
    if std::env::var_os("HOOKPROBE_IMAGE").is_none() || !image.disk().exists() {
        eprintln!("skipped: no image; run `cargo xtask test`");
        return None;
    }
    // A test that failed must not fail the others.
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    Some((tree, image, guard))
}

/// Starts a machine and waits until it is ready.
pub(crate) fn boot(tree: &Tree, image: &Image, options: &Options) -> (Vm, Line) {
    let mut vm = Vm::start(tree, image, options).unwrap();
    let ready =
        run::wait_ready(&mut vm).unwrap_or_else(|error| panic!("{}: {error}", options.name));
    (vm, ready)
}

/// Waits for a log line that starts with `verb` and has `part` in it, seen or not.
pub(crate) fn expect(vm: &mut Vm, verb: &str, part: &str) -> Line {
    let fits = |line: &Line| line.verb() == verb && line.text.contains(part);
    if let Some(line) = vm.log.all().iter().find(|line| fits(line)) {
        return line.clone();
    }
    vm.wait(&format!("{verb} .. {part}"), SOON, fits).unwrap()
}
