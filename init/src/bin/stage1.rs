//! `/init` of the initramfs. See [`hookprobe_init::stage1`].

fn main() {
    hookprobe_init::emergency::install_panic_hook("stage1");
    let failure = match hookprobe_init::stage1::run() {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    hookprobe_init::emergency::stay(&failure.screen());
}
