//! The thread that waits for the disk, so that no session does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc as std_mpsc,
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{ServeError, setup};
use crate::{
    appender::Batch,
    key::LedgerKey,
    store::open::Opened,
    writer::{Outcome, Writer},
};

/// How often an idle writer shows that it is alive; well under any watchdog period.
const WRITER_IDLE: Duration = Duration::from_secs(1);

/// What the writer is asked.
pub(super) enum Job {
    /// Sign and write.
    Commit(Batch),
    /// Open the store again and find out about the last batch.
    Recover,
}

/// The loop's ends of the channels.
pub(super) struct WriterThread {
    /// Holds one job: the appender has at most one open.
    pub(super) jobs: std_mpsc::SyncSender<Job>,
    /// One outcome per job.
    pub(super) outcomes: mpsc::Receiver<Outcome>,
    /// Counts on as long as the thread comes back from what it does.
    pub(super) beats: Arc<AtomicU64>,
}

/// Starts the thread; it ends when [`WriterThread::jobs`] is dropped.
pub(super) fn spawn(
    opened: &mut Opened,
    key: LedgerKey,
) -> Result<(WriterThread, JoinHandle<()>), ServeError> {
    let (jobs, inbox) = std_mpsc::sync_channel(1);
    let (answers, outcomes) = mpsc::channel(1);
    let beats = Arc::new(AtomicU64::new(0));
    let beat = Arc::clone(&beats);
    let mut writer =
        Writer::new(Arc::clone(&opened.store), key, opened.witness.take(), opened.lane.tip.clone());
    let work = move || {
        loop {
            beat.fetch_add(1, Ordering::Relaxed);
            let outcome = match inbox.recv_timeout(WRITER_IDLE) {
                Ok(Job::Commit(batch)) => writer.commit(batch),
                Ok(Job::Recover) => writer.recover(),
                Err(std_mpsc::RecvTimeoutError::Timeout) => continue,
                Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
            };
            if answers.blocking_send(outcome).is_err() {
                return;
            }
        }
    };
    let thread = Builder::new()
        .name("ledger-writer".into())
        .spawn(work)
        .map_err(|source| setup("start the writer thread", source))?;
    let ends = WriterThread { jobs, outcomes, beats };
    Ok((ends, thread))
}
