//! All of a running machine on disk: its memory, its processor, its TPM's state, its drive; and brought
//! back later. Whoever owns the host of a virtual machine can do both at any time.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Options, Vm, folder, launch};
use crate::{
    error::{Error, Result, at},
    tree::Tree,
};

/// Memory and devices, the TPM's state among them, beside the parts of an ordinary snapshot.
const MEMORY: &str = "memory";
/// Writing or reading a gigabyte on a busy disk.
const MOVE_WAIT: Duration = Duration::from_secs(120);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes a second: as many as the disk takes.
const BANDWIDTH: u64 = 1 << 34;

impl Vm {
    /// Stops the machine for a moment, keeps all of it under a name, and lets it go on. Returns where.
    ///
    /// # Errors
    /// [`Error::Check`] with QEMU's words, [`Error::Io`].
    pub fn freeze(&self, name: &str) -> Result<PathBuf> {
        let to = self.dir.join("snapshots").join(name);
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(&to).map_err(at(&to))?;
        let memory = to.join(MEMORY);
        let mut qmp = self.qmp()?;
        qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": BANDWIDTH }))?;
        qmp.execute("stop", Value::Null)?;
        qmp.execute("migrate", json!({ "uri": format!("exec:cat > '{}'", memory.display()) }))?;
        let begun = Instant::now();
        loop {
            let state = qmp.execute("query-migrate", Value::Null)?;
            match state.get("status").and_then(Value::as_str) {
                Some("completed") => break,
                Some("failed" | "cancelled") => {
                    return Err(Error::Check(format!("snapshot of the running machine: {state}")));
                }
                _ if begun.elapsed() > MOVE_WAIT => {
                    return Err(Error::Check(format!("snapshot not done in time: {state}")));
                }
                _ => std::thread::sleep(LOOK),
            }
        }
        // Nothing is on its way to the drive any more. Of the TPM's folder nothing counts: what was in
        // the TPM is beside the memory.
        folder::keep_parts(&self.dir, &to)?;
        qmp.execute("cont", Value::Null)?;
        Ok(to)
    }

    /// Lets the machine in a snapshot of [`Self::freeze`] go on, in the folder of `options`. The
    /// snapshot is used up.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn thaw(tree: &Tree, from: &Path, options: &Options) -> Result<Self> {
        let dir = folder::folder(tree, &options.name);
        let _ = fs::remove_dir_all(&dir);
        fs::rename(from, &dir).map_err(at(from))?;
        let memory = dir.join(MEMORY);
        let incoming = format!("exec:cat '{}'", memory.display());
        let vm = launch(tree, dir, options, &["-incoming", &incoming])?;
        let mut qmp = vm.qmp()?;
        let begun = Instant::now();
        while qmp.execute("query-status", Value::Null)?.get("status") == Some(&json!("inmigrate")) {
            if begun.elapsed() > MOVE_WAIT {
                return Err(Error::Check("the snapshot was not read in time".into()));
            }
            std::thread::sleep(LOOK);
        }
        qmp.execute("cont", Value::Null)?;
        fs::remove_file(&memory).map_err(at(&memory))?;
        Ok(vm)
    }
}
