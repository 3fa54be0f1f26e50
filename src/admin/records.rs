//! What `/metrics` tells of what outlives the process: journal, routes to sinks, session store. Their labels are
//! the operator's own patterns, and closed sets.

use prometheus_client::registry::Unit;

use super::metrics::{Family, Labels, Value};
use crate::stats::{JournalState, JournalView, Overview, RouteView, StoreView};

/// Every family; none of what the server has not.
pub(super) fn all(overview: &Overview) -> Vec<Family> {
    let mut families = overview.journal.as_ref().map(journal).unwrap_or_default();
    if !overview.routes.is_empty() {
        families.extend(routes(&overview.routes));
    }
    families.extend(overview.store.as_ref().map(store).unwrap_or_default());
    families
}

fn journal(view: &JournalView) -> Vec<Family> {
    let help = "1 for the state that the journal is in: open, full (SUBMIT is OVERLOADED), poisoned (SUBMIT is \
                UNAVAILABLE until a restart).";
    let mut state = Family::gauge("tidegate_journal_state", help);
    let now = match view.state {
        JournalState::Open => "open",
        JournalState::Full(_) => "full",
        JournalState::Poisoned(_) => "poisoned",
    };
    for name in ["open", "full", "poisoned"] {
        state = state.with(vec![("state", name.to_owned())], Value::Whole((name == now).into()));
    }
    let counter = |name: &str, help: &str, value| Family::counter(name, help).of(Value::Whole(value));
    let gauge = |name: &str, help: &str, value| Family::gauge(name, help).of(Value::Whole(value));
    let mut families = vec![
        state,
        counter("tidegate_journal_messages", "Messages stored since the start.", view.stored),
        counter(
            "tidegate_journal_duplicates",
            "Retries that were recognised by their idempotency key, and not stored again.",
            view.duplicates,
        ),
        counter("tidegate_journal_refused", "Messages refused for want of room, or of a disk.", view.refused),
        counter("tidegate_journal_written", "Written to the journal's files.", view.written).unit(Unit::Bytes),
        Family::histogram("tidegate_journal_sync", "Each write and its fdatasync. Messages by syncs are the batch.")
            .unit(Unit::Seconds)
            .of(Value::Times(view.sync.clone())),
        gauge("tidegate_journal_queued", "Messages that wait for the disk.", view.queued),
        gauge("tidegate_journal_queued_size", "Memory of those.", view.queued_bytes).unit(Unit::Bytes),
        gauge("tidegate_journal_size", "The journal's files.", view.bytes).unit(Unit::Bytes),
        gauge("tidegate_journal_capacity", "What they may become: TIDEGATE_JOURNAL_MAX_BYTES.", view.capacity)
            .unit(Unit::Bytes),
        gauge("tidegate_journal_segments", "How many files.", view.segments),
        gauge("tidegate_journal_first_id", "The oldest message's id; 0: there has been none.", view.first_id),
        gauge("tidegate_journal_last_id", "The newest durable message's id; 0: there has been none.", view.durable_id),
        gauge("tidegate_journal_keys", "Idempotency keys that are remembered.", view.keys),
        counter(
            "tidegate_journal_keys_forgotten",
            "Idempotency keys forgotten within their time, for want of room: raise TIDEGATE_DEDUP_MAX.",
            view.keys_forgotten,
        ),
        gauge("tidegate_journal_recovered", "Messages that were found unfinished at the start.", view.recovered),
        Family::gauge("tidegate_journal_recovery", "How long the start took to verify the journal.")
            .unit(Unit::Seconds)
            .of(Value::Real(view.recovery.as_secs_f64())),
    ];
    if let Some(free) = view.free {
        families.push(gauge("tidegate_journal_disk_free", "Free on the journal's disk.", free).unit(Unit::Bytes));
    }
    families
}

fn routes(routes: &[RouteView]) -> Vec<Family> {
    let labels =
        |route: &RouteView| -> Labels { vec![("route", route.pattern.clone()), ("sink", route.kind.to_owned())] };
    let each = |family: Family, value: fn(&RouteView) -> Value| {
        routes.iter().fold(family, |family, route| family.with(labels(route), value(route)))
    };
    vec![
        each(Family::gauge("tidegate_sink_up", "1 while the route's sink takes messages."), |route| {
            Value::Whole(route.down.is_none().into())
        }),
        each(Family::counter("tidegate_sink_delivered", "Messages delivered since the start."), |route| {
            Value::Whole(route.delivered)
        }),
        each(Family::counter("tidegate_sink_refused", "Times that a sink refused a message."), |route| {
            Value::Whole(route.refused)
        }),
        each(Family::counter("tidegate_sink_dead_letters", "Messages that have become dead letters."), |route| {
            Value::Whole(route.dead_letters)
        }),
        each(
            Family::counter(
                "tidegate_sink_dropped",
                "Dead letters given up, because their own sink refused them for good.",
            ),
            |route| Value::Whole(route.dropped),
        ),
        each(Family::counter("tidegate_sink_failures", "Times that a sink was down."), |route| {
            Value::Whole(route.failures)
        }),
        each(Family::gauge("tidegate_sink_behind", "Messages that are still to be delivered."), |route| {
            Value::Whole(route.behind)
        }),
        each(
            Family::gauge("tidegate_sink_lag", "How old the oldest message is that is still to be delivered.")
                .unit(Unit::Seconds),
            |route| Value::Real(route.lag.as_secs_f64()),
        ),
        each(
            Family::histogram("tidegate_sink_delivery", "From a message's storage to its delivery.")
                .unit(Unit::Seconds),
            |route| Value::Times(route.latency.clone()),
        ),
    ]
}

fn store(view: &StoreView) -> Vec<Family> {
    let labels = || vec![("store", view.kind.to_owned())];
    let counter = |name: &str, help: &str, value| Family::counter(name, help).with(labels(), Value::Whole(value));
    let gauge = |name: &str, help: &str, value| Family::gauge(name, help).with(labels(), Value::Whole(value));
    vec![
        gauge(
            "tidegate_session_store_up",
            "1 while the session store answers; else state is UNAVAILABLE.",
            view.down.is_none().into(),
        ),
        gauge("tidegate_session_store_queued", "Operations that wait for the session store.", view.queued),
        gauge("tidegate_session_store_queue_capacity", "Operations that may wait.", view.queue),
        counter("tidegate_session_store_writes", "Writes committed.", view.written),
        counter("tidegate_session_store_commits", "Commits that these took.", view.commits),
        counter("tidegate_session_store_claims", "Sessions asked for, to be resumed.", view.claims),
        counter(
            "tidegate_session_store_failures",
            "Operations that failed, or were not tried because the store was down.",
            view.failures,
        ),
        counter("tidegate_session_store_broken", "Times that the store was taken for down.", view.broken),
        gauge(
            "tidegate_session_store_unsaved",
            "Sessions that are in memory alone until the store has them.",
            view.unsaved,
        ),
        counter("tidegate_session_store_lost", "Sessions that another gateway has taken over.", view.lost),
        counter("tidegate_session_store_swept", "Sessions whose time had run out, forgotten by the sweep.", view.swept),
        Family::histogram("tidegate_session_store_operation", "Each commit, and each claim.")
            .unit(Unit::Seconds)
            .with(labels(), Value::Times(view.latency.clone())),
    ]
}
