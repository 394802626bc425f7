//! Software TPMs: made with endorsement certificates by a certificate authority of this checkout,
//! and run beside their machine. Nothing outside `target/` is read or written.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{log_file, proxy::Proxy, wait_for_socket};
use crate::{
    error::{Error, Result, at},
    shell,
    tree::Tree,
};

/// Where QEMU finds the TPM, in a machine's folder.
pub(super) const SOCKET: &str = "tpm.sock";
/// Where swtpm itself listens when a proxy stands at [`SOCKET`].
const BEHIND: &str = "swtpm.sock";
/// Where a proxy takes control commands of others than QEMU.
const CONTROL: &str = "tpm-control.sock";

/// Folder of the laboratory's certificate authority; machines of one checkout share it.
const AUTHORITY: &str = "vm/ca";

fn authority(tree: &Tree) -> PathBuf {
    tree.target(AUTHORITY)
}

/// Certificates that an endorsement certificate of a machine here chains up to, root first. They
/// are made together with the first machine.
#[must_use]
pub fn trust_anchors(tree: &Tree) -> Vec<PathBuf> {
    let ca = authority(tree);
    ["swtpm-localca-rootca-cert.pem", "issuercert.pem"].map(|name| ca.join(name)).to_vec()
}

/// Writes the configuration that keeps swtpm_setup inside `target/`; returns its path.
fn configuration(tree: &Tree) -> Result<PathBuf> {
    let ca = authority(tree);
    let path = |name: &str| ca.join(name).display().to_string();
    let put = |name: &str, text: String| -> Result<()> {
        // The same every time; written whole, so that a machine that ends here leaves no half.
        let next = ca.join(format!("{name}.next"));
        fs::write(&next, text).map_err(at(&next))?;
        fs::rename(&next, ca.join(name)).map_err(at(&next))
    };
    put(
        "localca.conf",
        format!(
            "statedir = {}\nsigningkey = {}\nissuercert = {}\ncertserial = {}\n",
            ca.display(),
            path("signkey.pem"),
            path("issuercert.pem"),
            path("certserial"),
        ),
    )?;
    put(
        "localca.options",
        "--platform-manufacturer HookProbe\n--platform-version 1\n--platform-model laboratory\n"
            .into(),
    )?;
    put(
        "setup.conf",
        format!(
            "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\n\
             create_certs_tool_options = {}\nactive_pcr_banks = sha256\n",
            path("localca.conf"),
            path("localca.options"),
        ),
    )?;
    Ok(ca.join("setup.conf"))
}

/// Makes a new TPM in a machine's folder, in place of the one that is there.
///
/// # Errors
/// What swtpm_setup says.
pub fn make(tree: &Tree, dir: &Path, banks: &str) -> Result<()> {
    let state = dir.join("tpm");
    let _ = fs::remove_dir_all(&state);
    fs::create_dir_all(&state).map_err(at(&state))?;
    // One at a time: the first makes the authority, and each takes its next serial number.
    let _alone = tree.alone(AUTHORITY)?;
    let configuration = configuration(tree)?;
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
    shell::output(
        Command::new("swtpm_setup")
            .args(["--tpm2", "--create-ek-cert", "--pcr-banks", banks])
            .args(["--vmid", &name.unwrap_or_default(), "--config"])
            .arg(configuration)
            .arg("--tpmstate")
            .arg(&state),
    )?;
    Ok(())
}

/// A running TPM. Dropping it ends swtpm and the proxy.
#[derive(Debug)]
pub struct Server {
    child: Child,
    proxy: Option<Proxy>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts the TPM of a machine's folder; with `tap` a proxy stands between it and QEMU.
    ///
    /// # Errors
    /// [`Error::Spawn`], [`Error::Compose`] when its socket does not appear, [`Error::Io`].
    pub(super) fn start(dir: &Path, tap: bool) -> Result<Self> {
        let control = dir.join(if tap { BEHIND } else { SOCKET });
        for name in [SOCKET, BEHIND, CONTROL] {
            let _ = fs::remove_file(dir.join(name));
        }
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--terminate", "--tpmstate"])
            .arg(format!("dir={}", dir.join("tpm").display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", control.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file(dir, "swtpm.log")?)
            .spawn()
            .map_err(|source| Error::Spawn { program: "swtpm".into(), source })?;
        let mut server = Self { child, proxy: None };
        wait_for_socket(&control)?;
        if tap {
            server.proxy = Some(Proxy::start(&control, &dir.join(SOCKET), &dir.join(CONTROL))?);
        }
        Ok(server)
    }

    /// The proxy, when there is one.
    #[must_use]
    pub fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }
}

/// Resets the TPM of a running machine behind its back, as a reset line would: `swtpm_ioctl -i`.
///
/// # Errors
/// What swtpm_ioctl says; the machine needs a proxy, because QEMU keeps swtpm's only connection.
pub fn reset(dir: &Path) -> Result<()> {
    shell::output(Command::new("swtpm_ioctl").arg("--unix").arg(dir.join(CONTROL)).arg("-i"))?;
    Ok(())
}
