//! The thread that owns the TPM: takes one job at a time, answers in order.
//!
//! The loop never waits for it. When it does not come back the core says so and the loop goes on;
//! when it ended the process ends, and PID 1 starts another. Called by [`crate::serve`].

use std::{
    io,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
    time::Duration,
};

use hookprobe_tpm::trust::Secret;
use tokio::sync::mpsc::{Receiver, channel};

use crate::{
    attester::Attester,
    job::{Done, Job, Ticket},
};

/// Jobs on the way: the core gives the next one after the last one's answer.
const JOBS_MAX: usize = 2;
/// Enough for tpm2-tss, which keeps command and response buffers on the stack.
const STACK_BYTES: usize = 1024 * 1024;

/// Longest wait for the thread at the end: two quotes; PID 1 waits longer than this.
const STOP: Duration = Duration::from_secs(1);

/// A finished job.
pub type Answer = (Ticket, Done, Option<Secret>);

/// The thread's two ends.
#[derive(Debug)]
pub struct Worker {
    jobs: SyncSender<(Ticket, Job)>,
    /// Answers; ended when the thread did.
    pub answers: Receiver<Answer>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn spawn(make: impl FnOnce() -> Attester + Send + 'static) -> io::Result<Self> {
        let (jobs, todo) = sync_channel::<(Ticket, Job)>(JOBS_MAX);
        let (done, answers) = channel(JOBS_MAX);
        thread::Builder::new().name("tpm".into()).stack_size(STACK_BYTES).spawn(move || {
            let mut attester = make();
            while let Ok((ticket, job)) = todo.recv() {
                let (answer, seed) = attester.run(job);
                if done.blocking_send((ticket, answer, seed)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs, answers })
    }

    /// Takes no more jobs and waits, not for long, until the TPM is closed and nothing of ours is
    /// left in it.
    pub async fn stop(self) {
        let Self { jobs, mut answers } = self;
        drop(jobs);
        let ended = async { while answers.recv().await.is_some() {} };
        // A TPM that hangs is left to the kernel.
        let _ = tokio::time::timeout(STOP, ended).await;
    }

    /// Gives a job; `false` when the thread takes none.
    pub fn give(&self, ticket: Ticket, job: Job) -> bool {
        match self.jobs.try_send((ticket, job)) {
            Ok(()) => true,
            // The deadline of this ticket will say it.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}
