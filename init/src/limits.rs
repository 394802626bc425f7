//! Limits of PID 1, in one place. Units stand last in every name.

/// Longest file in /etc, /proc or /sys that is read whole.
pub const SMALL_FILE_BYTES_MAX: usize = 64 * 1024;
/// Longest `services.toml`.
pub const SERVICES_BYTES_MAX: usize = 256 * 1024;
/// Longest module index: Debian's modules.alias is 2 MiB, ours has a part of it.
pub const MODULE_INDEX_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most lines of the module index.
pub const MODULE_INDEX_LINES_MAX: usize = 64 * 1024;
/// Deepest directory below /sys/devices that is visited.
pub const SYSFS_DEPTH_MAX: usize = 24;
/// Most devices whose modalias is read in one walk.
pub const DEVICES_MAX: usize = 16 * 1024;

/// Bytes of one file of rules or names. 40 MiB: four million names, or all rules that anybody
/// publishes.
pub const DETECTION_FILE_BYTES_MAX: u64 = 40 << 20;
/// Bytes of all of them. They lie in memory: a box with 512 MB must still run.
pub const DETECTION_BYTES_MAX: u64 = 72 << 20;
/// Bytes of them that are copied before the loop looks at everything else. 1 MiB: some fifty
/// milliseconds of a slow card.
pub const DETECTION_STEP_BYTES: u64 = 1 << 20;
/// How long sensor and inspector may take to put them in force: forty thousand rules and four million
/// names are compiled in less than ten seconds on a board.
pub const RELOAD_ANSWER_MS_MAX: u64 = 60_000;
/// How long evidence may take to be on a stick: a slow TPM quotes in seconds, a slow stick takes half a
/// minute to write what it has promised.
pub const CARRY_MS_MAX: u64 = 60_000;
/// Couriers that are sent in a boot; each has a quote made by the TPM and leaves two events in the ledger.
pub const CARRIES_MAX: u32 = 256;
/// How long the end of the box waits for a courier that still writes: a stick that is cut off in the
/// middle has a broken file on it.
pub const CARRY_END_MS_MAX: u64 = 20_000;

/// Lines kept in the log.
pub const LOG_LINES_MAX: usize = 1024;
/// Bytes of text kept in the log.
pub const LOG_BYTES_MAX: usize = 160 * 1024;
/// Lines that one service may log in [`LOG_WINDOW_MS`]; more are dropped and counted.
pub const LOG_WINDOW_LINES_MAX: u32 = 200;
/// Window of [`LOG_WINDOW_LINES_MAX`]: long enough for a burst at start, short enough that a
/// service that went mad is heard again soon.
pub const LOG_WINDOW_MS: u64 = 10_000;
/// Bytes waiting for the log port of the hypervisor; a reader that stopped costs this much.
pub const LOG_PORT_BYTES_MAX: usize = 64 * 1024;
/// Bytes taken from one descriptor before the loop looks at the others.
pub const READ_BYTES_MAX: usize = 16 * 1024;

/// Diagnostics kept; the oldest stay, further ones are counted.
pub const DIAGNOSTICS_MAX: usize = 48;
/// Characters of one diagnostic's cause or remedy.
pub const DIAGNOSTIC_CHARS_MAX: usize = 300;

/// Clients of `init.sock` at once.
pub const CLIENTS_MAX: usize = 16;
/// A client that asks nothing for so long is gone or stuck; consoles ask every second.
pub const CLIENT_IDLE_MS_MAX: u64 = 60_000;
/// Bytes of answers that wait for one client: four of the largest frames.
pub const CLIENT_BYTES_MAX: usize = 256 * 1024;

/// Events that wait for the ledger; the oldest is dropped.
pub const OUTBOX_MAX: usize = 256;
/// The ledger answers after an fdatasync; a card in trouble takes seconds for one.
pub const LEDGER_ANSWER_MS_MAX: u64 = 15_000;
/// Pause before the ledger is asked again after a failure.
pub const LEDGER_RETRY_MS: u64 = 500;

/// The state disk of a laptop-class USB adapter needs about 2 s from power-on to its partitions;
/// one more for a slow hub. A box without a state disk boots this much later.
pub const DEVICES_MS_MAX: u64 = 3_000;
/// Pause between two looks at the devices.
pub const DEVICES_POLL_MS: u64 = 20;
/// Making a volume on a slow card (header, file system) takes ten seconds where instructions are
/// translated; a TPM that starts with a self-test some more. Nine times that is a helper that hangs.
pub const UNLOCK_MS_MAX: u64 = 90_000;
/// How long a locked state is asked about: somebody at the console has seen it by then, and a box
/// that nobody watches protects half a minute later.
pub const RECOVERY_MS_MAX: u64 = 30_000;
/// Recovery keys that may be tried in one boot: 200 bits are not guessed, typing is hard.
pub const RECOVERY_TRIES_MAX: u32 = 5;
/// A kernel without seeded randomness gets it from interrupts within seconds; after this the box
/// goes on with what it has and says so.
pub const RANDOM_MS_MAX: u64 = 10_000;
/// Pause between two looks at the random number generator.
pub const RANDOM_POLL_MS: u64 = 50;
/// How often conditions that have no event are looked at: link, read-only state, memory.
pub const CHECK_MS: u64 = 1_000;
