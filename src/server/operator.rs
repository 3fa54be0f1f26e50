//! What an operator asks about connections, and does to them.

use std::sync::Arc;

use mio::Waker;

use super::Shared;
use super::worker::Report;
use crate::proto::SessionId;
use crate::reactor::{Disconnected, Inquiry, ListPart, ListQuery};
use crate::session::log_name;

impl Shared {
    /// Asks all workers for their connections. `waker` is woken behind each answer.
    pub(crate) fn list(&self, query: ListQuery, waker: Option<Arc<Waker>>) -> Inquiry<ListPart> {
        Inquiry::list(&self.mailboxes, query, waker)
    }

    /// Has the connection of a session told to go: GOAWAY with reason `operator`.
    pub(crate) fn disconnect(&self, id: SessionId, waker: Option<Arc<Waker>>) -> Inquiry<Option<Disconnected>> {
        Inquiry::disconnect(&self.mailboxes, self.ids.home(&id, self.mailboxes.len()).unwrap_or(u16::MAX), id, waker)
    }

    /// Has it recorded that `by` disconnected a connection. The supervisor writes it: nobody waits
    /// for the disk.
    pub(crate) fn record_disconnect(&self, worker: u16, gone: &Disconnected, by: &str) {
        let info = &gone.info;
        log::info!(
            worker = worker,
            connection = info.connection,
            session = info.session.map(|id| log_name(&id)).as_deref(),
            principal = info.principal.as_deref(),
            peer = info.peer.as_ref().map(log::kv::Value::from_display),
            by = by;
            "a connection was disconnected by {by}"
        );
        // The supervisor has ended, and with it the server.
        let _ = self.reports.send(Report::Disconnected(worker, Box::new(gone.clone()), by.to_owned()));
    }
}
