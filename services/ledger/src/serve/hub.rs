//! What sessions share: the way to the loop, the head, the store to read from.

use std::cell::Cell;

use hookprobe_wire::{
    Event, Seq,
    ledger::{Reply, RequestId},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::store::Shared;

/// What sessions ask of the loop.
pub(super) enum Ask {
    Append { uid: u32, id: RequestId, event: Event, answer: oneshot::Sender<Reply> },
    Head { answer: oneshot::Sender<Reply> },
    Damaged(String),
}

/// What sessions hold.
pub(super) struct Hub {
    pub(super) store: Shared,
    pub(super) inbox: mpsc::Sender<Ask>,
    pub(super) published: watch::Sender<Seq>,
    pub(super) stopping: watch::Sender<bool>,
    /// Readers that were disconnected because they did not read.
    pub(super) slow: Cell<u64>,
}

impl Hub {
    /// Waits for room in the inbox, not for the answer. A loop that is gone drops the sender, which
    /// the session answers as stopping.
    pub(super) async fn append(
        &self,
        uid: u32,
        id: RequestId,
        event: Event,
    ) -> oneshot::Receiver<Reply> {
        let (answer, receiver) = oneshot::channel();
        let ask = Ask::Append { uid, id, event, answer };
        let _ = self.inbox.send(ask).await;
        receiver
    }

    pub(super) async fn head(&self) -> oneshot::Receiver<Reply> {
        let (answer, receiver) = oneshot::channel();
        let _ = self.inbox.send(Ask::Head { answer }).await;
        receiver
    }

    /// When the inbox is full the next reader says it again.
    pub(super) fn damaged(&self, why: &str) {
        let _ = self.inbox.try_send(Ask::Damaged(why.to_owned()));
    }
}
