//! What the boot tests share: one machine at a time, waiting, the screen of the serial line.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
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

/// Number of log lines so far with this first word.
pub(crate) fn count(vm: &mut Vm, verb: &str) -> usize {
    vm.log.all().iter().filter(|line| line.verb() == verb).count()
}

/// A terminal at the end of the serial line that never answers.
pub(crate) struct Screen {
    stream: UnixStream,
    parser: vt100::Parser,
}

impl Screen {
    /// Plugs in.
    pub(crate) fn plug(vm: &Vm) -> Self {
        let stream = vm.serial().unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { stream, parser: vt100::Parser::new(24, 80, 0) }
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &str) {
        self.stream.write_all(keys.as_bytes()).unwrap();
    }

    /// Text on the screen now.
    pub(crate) fn text(&mut self) -> String {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.stream.read(&mut buffer) {
            if length == 0 {
                break;
            }
            self.parser.process(&buffer[..length]);
        }
        self.parser.screen().contents()
    }

    /// Waits until every one of `parts` is on the screen at once.
    pub(crate) fn wait(&mut self, parts: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let text = self.text();
            if parts.iter().all(|part| text.contains(part)) {
                return text;
            }
            assert!(start.elapsed() < SOON, "{parts:?} did not appear on\n{text}");
        }
    }
}
