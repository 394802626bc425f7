//! PID 1. See [`hookprobe_init`].

fn main() {
    hookprobe_init::emergency::install_panic_hook("init");
    let failure = match hookprobe_init::machine::run() {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    hookprobe_init::emergency::stay(&failure);
}
