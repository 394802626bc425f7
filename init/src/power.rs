//! The end of a boot: the power button, and what is done when every service has stopped.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{sys::wait::WaitPidFlag, unistd::ForkResult};
use rustix::system::{RebootCommand, reboot};

use crate::{emergency, emergency::Emergency, mount, state, sys};

/// Input devices that are watched at most.
const INPUTS_MAX: usize = 16;
/// struct input_event of 64-bit Linux.
const INPUT_EVENT_BYTES: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
const PRESSED: i32 = 1;
/// A card writes 32 MiB of dirty pages in this; a dead disk never does.
const SYNC_MAX: Duration = Duration::from_secs(10);
const SYNC_POLL: Duration = Duration::from_millis(10);

/// How the box ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// And starts again.
    Reboot,
    /// And stays off.
    PowerOff,
}

/// Devices that have a power button.
#[must_use]
pub fn buttons() -> Vec<File> {
    let Ok(entries) = fs::read_dir("/sys/class/input") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"event"))
        .filter(|entry| {
            let path = entry.path().join("device/capabilities/key");
            has_power_key(&fs::read_to_string(path).unwrap_or_default())
        })
        .take(INPUTS_MAX)
        .filter_map(|entry| {
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(Path::new("/dev/input").join(entry.file_name()))
                .ok()
        })
        .collect()
}

/// The key bitmap of a device: 64-bit words in hexadecimal, the highest first.
fn has_power_key(bitmap: &str) -> bool {
    let (word, bit) = (usize::from(KEY_POWER) / 64, usize::from(KEY_POWER) % 64);
    bitmap
        .split_ascii_whitespace()
        .rev()
        .nth(word)
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .is_some_and(|bits| bits & (1 << bit) != 0)
}

/// Reads what a device has to say; `true` when the power button was pressed.
pub fn pressed(device: &mut File) -> bool {
    let mut bytes = [0; INPUT_EVENT_BYTES * 16];
    let got = device.read(&mut bytes).unwrap_or(0);
    bytes.get(..got).unwrap_or_default().chunks_exact(INPUT_EVENT_BYTES).any(is_press)
}

fn is_press(event: &[u8]) -> bool {
    let half = |at: usize| {
        event.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_ne_bytes(*bytes))
    };
    let value =
        event.get(20..).and_then(|rest| rest.first_chunk()).map(|bytes| i32::from_ne_bytes(*bytes));
    half(16) == Some(EV_KEY) && half(18) == Some(KEY_POWER) && value == Some(PRESSED)
}

/// Writes everything back, unmounts the state and ends the box. Never returns.
pub fn finish(end: End) -> ! {
    flush_state();
    let command = match end {
        End::Reboot => RebootCommand::Restart,
        End::PowerOff => RebootCommand::PowerOff,
    };
    let refused = reboot(command).err();
    // A board that can't power off halts with everything on disk.
    emergency::stay(&Emergency {
        code: "HP-BT-091".into(),
        phase: "shutdown",
        cause: format!("the kernel did not end the box: {refused:?}"),
        remedy: "everything is written; switch the power off".into(),
    })
}

/// In a child, because a dead disk holds whoever asks for it.
fn flush_state() {
    match sys::fork() {
        Ok(ForkResult::Child) => {
            rustix::fs::sync();
            let _ = mount::remove(state::STATE);
            sys::exit_child(0)
        }
        Ok(ForkResult::Parent { child }) => {
            let start = Instant::now();
            while start.elapsed() < SYNC_MAX {
                match nix::sys::wait::waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                    Ok(nix::sys::wait::WaitStatus::StillAlive) => thread::sleep(SYNC_POLL),
                    _ => break,
                }
            }
        }
        Err(_) => rustix::fs::sync(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_key_is_bit_116() {
        assert!(has_power_key("10000000000000 0\n"));
        assert!(!has_power_key("10000000000000\n"));
        assert!(!has_power_key("0 10000000000000\n"));
        assert!(!has_power_key(""));
    }

    #[test]
    fn only_a_press_of_it_counts() {
        let mut event = [0; INPUT_EVENT_BYTES];
        event[16..18].copy_from_slice(&EV_KEY.to_ne_bytes());
        event[18..20].copy_from_slice(&KEY_POWER.to_ne_bytes());
        assert!(!is_press(&event));
        event[20..24].copy_from_slice(&PRESSED.to_ne_bytes());
        assert!(is_press(&event));
        event[18..20].copy_from_slice(&30u16.to_ne_bytes());
        assert!(!is_press(&event));
        assert!(!is_press(&event[..20]));
    }
}
