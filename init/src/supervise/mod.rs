//! Supervision of services: what to do is decided in [`core`] (pure), done by [`spawn`] and the
//! event loop. Nothing here waits on a child.

pub mod core;
pub mod notify;
pub mod sandbox;
pub mod spawn;
pub mod syscalls;
