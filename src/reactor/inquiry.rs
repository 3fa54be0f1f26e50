//! Questions to the workers, asked by letter and answered when they come to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use mio::Waker;

use super::inspect::{Back, ConnectionInfo, Disconnected, ListPart, ListQuery};
use super::mailbox::{Letter, Mailbox};
use crate::proto::SessionId;

/// A question to one or all workers, and what they have answered so far. Dropped, it is withdrawn.
#[derive(Debug)]
pub struct Inquiry<T> {
    answers: Receiver<(u16, T)>,
    /// Workers that have the question and have not answered it.
    awaited: Vec<u16>,
    /// Workers that could not be asked: they have ended, or their mailbox is full.
    deaf: Vec<u16>,
    got: VecDeque<(u16, T)>,
    list: Option<Arc<ListQuery>>,
    /// One answer is wanted, whoever gives it.
    one: bool,
}

impl<T> Inquiry<T> {
    /// Takes what has come. Returns whether nothing more is to come.
    pub fn poll(&mut self) -> bool {
        while let Ok((worker, answer)) = self.answers.try_recv() {
            self.take(worker, answer);
        }
        self.awaited.is_empty()
    }

    /// Waits until all have answered, or until `timeout` has passed.
    pub fn wait(&mut self, timeout: Duration) {
        let end = Instant::now() + timeout;
        while !self.awaited.is_empty() {
            match self.answers.recv_deadline(end) {
                Ok((worker, answer)) => self.take(worker, answer),
                Err(_) => return,
            }
        }
    }

    /// The answers so far, each with its worker, and the workers that gave none.
    pub fn finish(mut self) -> (Vec<(u16, T)>, Vec<u16>) {
        let silent = self.awaited.iter().chain(&self.deaf).copied().collect();
        (self.got.drain(..).collect(), silent)
    }

    fn take(&mut self, worker: u16, answer: T) {
        if self.one {
            self.awaited.clear();
        } else {
            self.awaited.retain(|awaited| *awaited != worker);
        }
        self.got.push_back((worker, answer));
    }
}

impl Inquiry<ListPart> {
    /// Asks all workers for their connections. `waker` is woken behind each answer.
    pub(crate) fn list(workers: &[Arc<Mailbox>], query: ListQuery, waker: Option<Arc<Waker>>) -> Inquiry<ListPart> {
        let (answers, answers_in) = unbounded();
        let (query, back) = (Arc::new(query), Back { answers, waker });
        let letter = || Letter::List { query: Arc::clone(&query), back: back.clone() };
        let all = 0..workers.len() as u16;
        let (awaited, deaf) = all.partition(|worker| workers[usize::from(*worker)].send(letter()).is_ok());
        Inquiry { answers: answers_in, awaited, deaf, got: VecDeque::new(), list: Some(query), one: false }
    }
}

impl Inquiry<Option<Disconnected>> {
    /// Has the connection of a session, which lives on the worker `home`, told to go: GOAWAY with reason
    /// `operator`.
    pub(crate) fn disconnect(
        workers: &[Arc<Mailbox>],
        home: u16,
        id: SessionId,
        waker: Option<Arc<Waker>>,
    ) -> Inquiry<Option<Disconnected>> {
        let (answers, answers_in) = unbounded();
        let (awaited, deaf, got) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut inquiry = Inquiry { answers: answers_in, awaited, deaf, got, list: None, one: true };
        match workers.get(usize::from(home)) {
            None => inquiry.got.push_back((home, None)), // an id of another server's
            Some(mailbox) => {
                let sent = mailbox.send(Letter::Disconnect { id, back: Back { answers, waker } }).is_ok();
                if sent { &mut inquiry.awaited } else { &mut inquiry.deaf }.push(home);
            }
        }
        inquiry
    }
}

#[cfg(all(test, feature = "admin"))]
impl<T> Inquiry<T> {
    /// One whose answers come through this channel, from these workers.
    pub(crate) fn fake(answers: Receiver<(u16, T)>, awaited: Vec<u16>) -> Inquiry<T> {
        Inquiry { answers, awaited, deaf: Vec::new(), got: VecDeque::new(), list: None, one: false }
    }
}

impl<T> Drop for Inquiry<T> {
    fn drop(&mut self) {
        if let Some(list) = &self.list {
            list.cancel();
        }
    }
}

/// Connections that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Each with its worker.
    pub connections: Vec<(u16, ConnectionInfo)>,
    /// There are more, over the limit.
    pub truncated: bool,
    /// Workers that did not answer in time; their connections are missing.
    pub silent: Vec<u16>,
}

impl Connections {
    /// What an inquiry has found.
    pub fn of(inquiry: Inquiry<ListPart>) -> Connections {
        let (mut parts, silent) = inquiry.finish();
        parts.sort_by_key(|(worker, _)| *worker);
        let truncated = parts.iter().any(|(_, part)| part.truncated);
        let rows = |(worker, part): (u16, ListPart)| part.connections.into_iter().map(move |info| (worker, info));
        Connections { connections: parts.into_iter().flat_map(rows).collect(), truncated, silent }
    }
}
