//! A service that was taken over: it runs in its sandbox like any other and tries what a taken over
//! service would try, then says what came of it, one line each, and dies. Started again in the same
//! boot it says so and stays. Called with [`BORROW`] it is another service, whose closure has a file
//! that the first one can write; it dies when the box was challenged.
//!
//! Put into a packed-again, properly signed image by `cargo xtask attack`; never part of the real
//! one. What may be answered by death is tried in a child.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    time::Duration,
};

use hookprobe_wire::{
    attest,
    event::{Event, ServiceChange},
    frame::{self, Decoder},
    ledger,
};

/// A directory of its own, made by PID 1.
const HOME: &str = "/var/lib/hookprobe/adversary";
/// Its own binary.
const SELF: &str = "/usr/lib/hookprobe/hookprobe-adversary";
/// Services answer in milliseconds; a translated guest that boots is slow.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
/// A sensor on a translated guest of a busy machine needs a minute to load its programs.
const MAPPINGS_MAX: u32 = 300;
/// Other services start after this one; they are there by then.
const OTHERS_WAIT: Duration = Duration::from_secs(8);
/// What an attempt says that could not be made; the kernel refuses with others.
const UNTRIED: io::ErrorKind = io::ErrorKind::InvalidData;
/// The argument of the service with a closure that others can write.
const BORROW: &str = "borrow";
/// Starts of what a racer exchanges, where no argument says how many.
const STARTS: u32 = 500;
/// How many times as many are made when the racer did not get a turn in between.
const STARTS_FACTOR_MAX: u32 = 200;
/// A program of 132 bytes (ELF64, x86-64) that ends at once; the byte behind it tells two apart.
const TINY: [u8; 132] = {
    let head = [
        0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x3e, 0, 1, 0, 0, 0,
        0x78, 0, 0x40, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0x40, 0, 0x38, 0, 1, 0, 0, 0, 0, 0, 0, 0, // the program header
        1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x40, 0,
        0, 0, 0, 0, 0x84, 0, 0, 0, 0, 0, 0, 0, 0x84, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0,
        0,
    ];
    // exit(0): mov eax, 60; xor edi, edi; syscall
    let code = [0xb8, 0x3c, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    let mut all = [0x90; 132];
    let mut at = 0;
    while at < head.len() {
        all[at] = head[at];
        at += 1;
    }
    while at < head.len() + code.len() {
        all[at] = code[at - head.len()];
        at += 1;
    }
    all
};

mod call {
    #![allow(
        unsafe_code,
        reason = "calls that no safe crate offers, because nobody should make them"
    )]

    use std::io;

    /// Makes a system call with numbers and pointers that the kernel checks.
    pub(crate) fn raw(number: libc::c_long, arguments: [usize; 5]) -> io::Result<i64> {
        let [a, b, c, d, e] = arguments;
        // SAFETY: every pointer that is passed is null or lives through the call; the kernel copies.
        let result = unsafe { libc::syscall(number, a, b, c, d, e) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }

    /// Maps the first page of a file to be executed.
    pub(crate) fn map_executable(file: &std::fs::File) -> io::Result<i64> {
        use std::os::fd::AsRawFd as _;
        const PAGE_BYTES: usize = 4096;
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        // SAFETY: a new mapping at a place that the kernel chooses; nobody uses it.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                protection,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(0) }
    }

    /// `true` in the child.
    pub(crate) fn fork() -> io::Result<bool> {
        // SAFETY: there is one thread, so the child has the whole of the program.
        match unsafe { libc::fork() } {
            0 => Ok(true),
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(false),
        }
    }
}

fn say(name: &str, result: &str, detail: &str) {
    let detail = detail.replace('"', "'").replace('\n', " ");
    eprintln!("INFO attempt name={name} result={result} detail=\"{detail}\"");
}

/// Says what came of an attempt: success is the box's failure.
fn attempt<T>(name: &str, result: io::Result<T>) {
    match result {
        Ok(_) => say(name, "succeeded", ""),
        Err(error) => say(name, "refused", &error.to_string()),
    }
}

/// An attempt that may be answered by death.
fn in_child(name: &str, act: impl FnOnce() -> io::Result<i64>) {
    watched(name, "", act);
}

/// An attempt to become another program: silence after the first word is success.
fn exec(name: &str, act: impl FnOnce() -> io::Result<i64>) {
    watched(name, "exec", act);
}

fn watched(name: &str, first: &str, act: impl FnOnce() -> io::Result<i64>) {
    let Ok((mut reader, writer)) = io::pipe() else {
        return say(name, "untried", "no pipe");
    };
    match call::fork() {
        Err(error) => say(name, "untried", &error.to_string()),
        Ok(true) => {
            drop(reader);
            let _ = (&writer).write_all(first.as_bytes());
            let text = match act() {
                Ok(_) => "succeeded".to_owned(),
                Err(error) if error.kind() == UNTRIED => format!("untried {error}"),
                Err(error) => format!("refused {error}"),
            };
            let _ = (&writer).write_all(text.as_bytes());
            std::process::exit(0);
        }
        Ok(false) => {
            drop(writer);
            let mut text = String::new();
            let _ = reader.read_to_string(&mut text);
            match text.split_once(' ') {
                Some((word, why)) if word.ends_with("untried") => say(name, "untried", why),
                Some((_, why)) => say(name, "refused", why),
                None if text.is_empty() && first.is_empty() => {
                    say(name, "killed", "by the sandbox");
                }
                None => say(name, "succeeded", ""),
            }
        }
    }
}

fn open_for_writing(path: &str) -> io::Result<fs::File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn tpm() {
    for device in ["/dev/tpmrm0", "/dev/tpm0"] {
        attempt(&device.replace("/dev/", "open-"), open_for_writing(device));
    }
    for path in ["/var/lib/hookprobe/attest", "/run/hookprobe/unlock", "/var/lib/hookprobe/ledger"]
    {
        attempt(
            &format!("list-{}", path.rsplit('/').next().unwrap_or_default()),
            fs::read_dir(path),
        );
    }
    attempt("open-mapper", open_for_writing("/dev/mapper/control"));
    attempt("open-memory", open_for_writing("/dev/mem"));
}

fn ask<M: minicbor::Encode<()>, R>(socket: &str, request: &M) -> io::Result<R>
where
    R: for<'b> minicbor::Decode<'b, ()>,
{
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.write_all(&frame::to_vec(request).map_err(io::Error::other)?)?;
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 4096];
    loop {
        if let Some(reply) = decoder.next().map_err(io::Error::other)? {
            return Ok(reply);
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::Error::other("closed the connection")),
            got => decoder.feed(buffer.get(..got).unwrap_or_default()),
        }
    }
}

fn refusal(code: &str, reason: &str) -> io::Error {
    io::Error::other(format!("{code} {reason}"))
}

/// The ledger's seed, the recovery key, blocks that are not ours.
fn services() {
    let socket = hookprobe_wire::ATTEST_SOCKET;
    let seed = ask(socket, &attest::Request::Seed).and_then(|reply| match reply {
        attest::SeedReply::Seed(_) => Ok(()),
        attest::SeedReply::Refused { code, reason } => Err(refusal(&code, &reason)),
        attest::SeedReply::Later => Err(io::Error::other("later")),
    });
    attempt("seed", seed);
    let activate =
        attest::Request::Activate { credential: vec![1; 64].into(), secret: vec![2; 64].into() };
    for (name, request) in [
        ("activate", activate),
        ("recovery", attest::Request::Recovery),
        ("recovery-noted", attest::Request::RecoveryNoted),
    ] {
        let reply = ask(socket, &request).and_then(|reply| match reply {
            attest::Reply::Error { code, reason } => Err(refusal(&code, &reason)),
            other => Ok(other),
        });
        attempt(name, reply);
    }
    let change = ServiceChange {
        service: "ledger".into(),
        change: "started".into(),
        detail: "a lie".into(),
    };
    let request = ledger::Request::Append {
        id: ledger::RequestId([0x48; 16].into()),
        event: Event::Service(change),
    };
    let appended = ask(hookprobe_wire::LEDGER_SOCKET, &request).and_then(|reply| match reply {
        ledger::Reply::Rejected { code, reason, .. } | ledger::Reply::Error { code, reason } => {
            Err(refusal(&code, &reason))
        }
        other => Ok(other),
    });
    attempt("append", appended);
}

/// Another kernel, a module, somebody else's memory, another root.
fn kernel() {
    in_child("kexec-load", || call::raw(libc::SYS_kexec_load, [0; 5]));
    in_child("kexec-file-load", || {
        let kernel = fs::File::open(SELF)?;
        let fd = usize::try_from(std::os::fd::AsRawFd::as_raw_fd(&kernel)).unwrap_or_default();
        let line = c"";
        call::raw(libc::SYS_kexec_file_load, [fd, fd, 1, line.as_ptr() as usize, 0])
    });
    // What refuses whoever gets past the sandbox.
    for (name, file) in
        [("kexec-disabled", "kexec_load_disabled"), ("modules-disabled", "modules_disabled")]
    {
        let value = fs::read_to_string(format!("/proc/sys/kernel/{file}")).unwrap_or_default();
        let is_off = value.trim() == "1";
        say(name, if is_off { "refused" } else { "succeeded" }, value.trim());
    }
    in_child("module", || call::raw(libc::SYS_init_module, [0; 5]));
    in_child("ptrace", || call::raw(libc::SYS_ptrace, [16, 1, 0, 0, 0]));
    in_child("mount", || {
        let (kind, at) = (c"tmpfs", c"/usr");
        call::raw(
            libc::SYS_mount,
            [kind.as_ptr() as usize, at.as_ptr() as usize, kind.as_ptr() as usize, 0, 0],
        )
    });
    attempt("memory-of-init", open_for_writing("/proc/1/mem"));
}

/// What is measured, and what could run in its place.
fn files() {
    let planted = format!("{HOME}/planted");
    let copy = fs::copy(SELF, &planted)
        .and_then(|_| fs::set_permissions(&planted, fs::Permissions::from_mode(0o755)));
    if let Err(error) = copy {
        say("plant", "untried", &error.to_string());
    }
    attempt("overwrite-self", open_for_writing(SELF));
    attempt("rename-over-self", fs::rename(&planted, SELF));
    attempt("plant-library", fs::write("/usr/lib/x86_64-linux-gnu/libplanted.so", b"x"));
    attempt("preload-file", fs::write("/etc/ld.so.preload", &planted));
    attempt("edit-services", open_for_writing("/etc/hookprobe/services.toml"));
    attempt("edit-log", open_for_writing("/run/log/hookprobe/measure.log"));
    let Ok(path) = CString::new(planted.as_str()) else { return };
    exec("exec-planted", || {
        let empty = [0usize; 1];
        call::raw(
            libc::SYS_execve,
            [path.as_ptr() as usize, empty.as_ptr() as usize, empty.as_ptr() as usize, 0, 0],
        )
    });
    exec("exec-planted-descriptor", || {
        let file = fs::File::open(&planted)?;
        let fd = usize::try_from(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap_or_default();
        let empty = [0usize; 1];
        let (name, list) = (c"".as_ptr() as usize, empty.as_ptr() as usize);
        call::raw(libc::SYS_execveat, [fd, name, list, list, 0x1000])
    });
    // What a program with libraries may do with a file of the root; the kernel's guard is asked first.
    in_child("map-planted", || {
        fs::File::open(&planted).and_then(|file| call::map_executable(&file))
    });
    in_child("memfd", || {
        let name = c"planted";
        call::raw(libc::SYS_memfd_create, [name.as_ptr() as usize, 0, 0, 0, 0])
    });
}

/// Puts another file where one of the other service's closure was measured. No attempt of the list:
/// it is allowed to, and what matters is what becomes of that service.
fn change_borrowed() {
    let written = fs::write(format!("{HOME}/borrowed"), b"other bytes than measured\n");
    eprintln!("INFO borrowed written={}", written.is_ok());
}

/// Exchanges `path` by rename and by writing into it, until the file `stop` is there.
fn exchange(path: &str, stop: &str) {
    let next = format!("{path}.next");
    for letter in (b'A'..=b'Z').cycle() {
        if Path::new(stop).exists() {
            return;
        }
        let other = [&TINY[..], &[letter]].concat();
        let put = fs::write(&next, other)
            .and_then(|()| fs::set_permissions(&next, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::rename(&next, path));
        let in_place = OpenOptions::new().write(true).open(path).and_then(|file| {
            std::os::unix::fs::FileExt::write_all_at(&file, &[letter ^ 0x20], TINY.len() as u64)
        });
        // Whoever is about to execute it may be in the way: then again.
        let _ = (put, in_place);
    }
}

/// Starts a program in the state directory that a racer exchanges between the look and the start, by
/// name and by the descriptor that was read: whatever it is by then, none may run.
fn race(starts: u32) {
    let (path, stop) = (format!("{HOME}/raced"), format!("{HOME}/raced.stop"));
    let _ = fs::remove_file(&stop);
    let _ = fs::write(&path, TINY);
    match call::fork() {
        Ok(true) => {
            exchange(&path, &stop);
            std::process::exit(0);
        }
        Ok(false) => exec("race", || Err(started(&path, starts))),
        Err(error) => say("race", "untried", &error.to_string()),
    }
    let _ = fs::write(&stop, b"");
}

/// What came of all starts; never comes back from one that is not refused.
fn started(path: &str, starts: u32) -> io::Error {
    let Ok(name) = CString::new(path) else { return UNTRIED.into() };
    let list = [0usize; 1];
    let list = list.as_ptr() as usize;
    let (mut made, mut exchanged, mut before) = (0u32, 0u32, Vec::new());
    let mut why: BTreeMap<String, u32> = BTreeMap::new();
    while made < starts || (exchanged < 2 && made < starts.saturating_mul(STARTS_FACTOR_MAX)) {
        let start = || {
            let mut file = fs::File::open(path)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            let fd = usize::try_from(std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap_or_default();
            let result = if made.is_multiple_of(2) {
                call::raw(libc::SYS_execve, [name.as_ptr() as usize, list, list, 0, 0])
            } else {
                let empty = c"".as_ptr() as usize;
                call::raw(libc::SYS_execveat, [fd, empty, list, list, 0x1000])
            };
            Ok::<_, io::Error>((bytes, result))
        };
        match start() {
            Err(error) => return io::Error::new(UNTRIED, error.to_string()),
            Ok((bytes, result)) => {
                exchanged += u32::from(bytes != before);
                before = bytes;
                let text = result.map_or_else(|error| error.to_string(), |_| "ran".into());
                *why.entry(text).or_default() += 1;
            }
        }
        made += 1;
    }
    let kind = if exchanged < 2 { UNTRIED } else { io::ErrorKind::Other };
    let text = format!("{made} starts, exchanged {exchanged} times or more, {why:?}");
    io::Error::new(kind, text)
}

/// Where something could be written and executed: no mount is both, and none is an overlay. Making
/// one is not for services.
fn writable() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let bad: Vec<&str> = mounts
        .lines()
        .filter(|line| {
            let mut words = line.split(' ').skip(2);
            let (kind, flags) = (words.next(), words.next().unwrap_or_default());
            let has = |flag| flags.split(',').any(|word| word == flag);
            kind == Some("overlay") || (has("rw") && !has("noexec"))
        })
        .collect();
    let result = if bad.is_empty() && !mounts.is_empty() { "refused" } else { "succeeded" };
    let count = mounts.lines().count();
    say("writable-exec", result, &format!("{count} mounts, written and executed from: {bad:?}"));
    in_child("overlay", || {
        let (kind, at) = (c"overlay", c"/usr");
        let options = c"lowerdir=/usr,upperdir=/var/lib/hookprobe/adversary,workdir=/tmp";
        let kind = kind.as_ptr() as usize;
        call::raw(libc::SYS_mount, [kind, at.as_ptr() as usize, kind, 0, options.as_ptr() as usize])
    });
}

/// The service with a file of its closure in the other one's directory: lives until the box answered
/// a challenge, says when it starts.
fn borrow() -> ! {
    eprintln!("INFO borrower starts");
    ready();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let reply = ask(hookprobe_wire::ATTEST_SOCKET, &attest::Request::Status);
        if let Ok(attest::Reply::Status(status)) = reply
            && status.challenges.0 > 0
        {
            std::process::abort();
        }
    }
}

/// What the list of services gives this one, and what PID 1 adds for it.
const ENVIRONMENT: [&str; 3] = ["LD_LIBRARY_PATH", "LD_PRELOAD", "NOTIFY_SOCKET"];

/// Whether anybody has a library preloaded; other users' environments can't even be read.
fn environment() {
    // What the list of services says and what PID 1 adds, nothing of a kernel's command line.
    let mut own: Vec<String> = std::env::vars().map(|(key, _)| key).collect();
    own.retain(|key| !ENVIRONMENT.contains(&key.as_str()));
    let result = if own.is_empty() { "refused" } else { "succeeded" };
    say("own-environment", result, &own.join(" "));
    let (mut hidden, mut clean, mut preloaded) = (0, 0, Vec::new());
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) || name == std::process::id().to_string()
        {
            continue;
        }
        match fs::read(entry.path().join("environ")) {
            Err(_) => hidden += 1,
            Ok(bytes) if bytes.windows(3).any(|part| part == b"LD_") => preloaded.push(name),
            Ok(_) => clean += 1,
        }
    }
    let result = if preloaded.is_empty() { "refused" } else { "succeeded" };
    say("preloaded", result, &format!("hidden {hidden}, clean {clean}, with LD_ {preloaded:?}"));
}

fn ready() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Ok(socket) = std::os::unix::net::UnixDatagram::unbound() {
        let _ = socket.send_to(b"READY=1", path);
    }
}

/// The kernel's guard is there as soon as the sensor is, which starts beside this and takes a while.
fn keep_mapping() -> ! {
    let planted = format!("{HOME}/planted");
    for _ in 0..MAPPINGS_MAX {
        std::thread::sleep(Duration::from_secs(1));
        if fs::File::open(&planted).and_then(|file| call::map_executable(&file)).is_ok() {
            say("map-planted-again", "succeeded", "");
        }
    }
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn main() {
    let argument = std::env::args().nth(1).unwrap_or_default();
    if argument == BORROW {
        borrow();
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let marker = Path::new(HOME).join("boot");
    ready();
    if fs::read_to_string(&marker).is_ok_and(|before| before == boot) {
        eprintln!("INFO attempts again=yes");
        keep_mapping();
    }
    std::thread::sleep(OTHERS_WAIT);
    tpm();
    services();
    kernel();
    files();
    writable();
    race(argument.parse().unwrap_or(STARTS));
    environment();
    change_borrowed();
    let marked = fs::write(&marker, &boot);
    eprintln!("INFO attempts done=yes marked={}", marked.is_ok());
    // Only now does the box get something to restart.
    std::process::abort();
}
