//! What the boot tests share: how many machines run at a time, and waiting for one.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use hookprobe_xtask::{
    run,
    tree::{Image, Tree},
    vm::{Line, Options, Vm},
};

/// Machines at a time: translated, each keeps one processor busy.
const MACHINES_MAX: usize = 2;

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run a machine.
pub(crate) struct Slot;

impl Slot {
    fn take() -> Self {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        while *running >= MACHINES_MAX {
            running = ENDED.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        *running += 1;
        Self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A test that failed must not fail the others.
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ENDED.notify_one();
    }
}

/// How long the guest may take for anything after it is ready.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The tree and its image; `None` (and a line saying so) without one.
pub(crate) fn image() -> Option<(Tree, Image, Slot)> {
    let tree = Tree::find();
    let image = tree.image();
    if std::env::var_os("HOOKPROBE_IMAGE").is_none() || !image.disk().exists() {
        eprintln!("skipped: no image; run `cargo xtask test`");
        return None;
    }
    Some((tree, image, Slot::take()))
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
