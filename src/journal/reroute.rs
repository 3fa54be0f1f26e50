//! Routes that are not those of the last run: nothing that was to be delivered is forgotten for that.

use super::TopicPattern;
use super::options::{LogRoute, OpenError, Progress};
use super::record::{Kind, View};
use super::recovery::Reading;
use super::retention::Runs;
use super::segment::file_name;
use super::storage::Storage;
use super::survey::{Order, refused, scan};

/// How far each route of today is. A message that its old route had still to deliver is delivered by the one
/// that is its route now, even if that had been further already: it then delivers some once more. A pattern that is
/// new begins at the end, unless there are such messages. `last_id` is that of the last message.
pub(super) fn settle<S: Storage>(
    reading: &mut Reading<'_>,
    storage: &S,
    last_id: u64,
) -> Result<Vec<Progress>, OpenError> {
    let old = &reading.table;
    let routes = &reading.options.routes;
    let delivers = |index: usize| reading.options.delivers(index);
    let known: Vec<Option<&Progress>> = routes
        .iter()
        .enumerate()
        .map(|(index, route)| old.iter().find(|(o, _)| o == route && delivers(index)).map(|(_, progress)| progress))
        .collect();

    let mut starts: Vec<Option<u64>> = vec![None; routes.len()];
    // Of what a route has done beyond its `upto`, that which is still its own.
    let mut beyond: Vec<Vec<u64>> = vec![Vec::new(); routes.len()];
    let mut kept = 0;
    reading.runs = routes.iter().map(|_| Runs::default()).collect();
    let runs = &mut reading.runs;
    let pending = old.iter().filter(|(route, _)| !route.keeps).map(|(_, progress)| progress.upto).min();
    let from = pending.unwrap_or(last_id);
    let later = reading.segments.iter().skip(1).map(|segment| Some(segment.header.first_id)).chain([None]);
    for (segment, next) in reading.segments.iter().zip(later) {
        if next.is_some_and(|next| next <= from + 1) {
            continue;
        }
        let name = file_name(segment.header.number);
        let refused = |source| refused("read", &name, source);
        let file = storage.open(&name).map_err(refused)?;
        scan(file, &segment.header, Some(segment.end), &mut Order::default(), |view| {
            if view.kind != Kind::Message || view.id <= from {
                return;
            }
            let (topic, id) = (view.topic(), view.id);
            let is_due = old.iter().find(|(route, _)| route.pattern.matches(topic));
            let is_due = is_due.is_some_and(|(route, progress)| !route.keeps && !progress.has(id));
            let route = reading.options.route_of(topic);
            if !delivers(route) {
                kept += u64::from(is_due);
                return;
            }
            if let Some(runs) = runs.get_mut(route) {
                runs.push(id);
            }
            // What another route had to deliver is not done, though this one may once have had it.
            let done = known.get(route).copied().flatten().is_some_and(|known| id > known.upto && known.has(id));
            let done = done && !is_due;
            if let Some(beyond) = beyond.get_mut(route).filter(|_| done) {
                beyond.push(id);
            }
            if let Some(start) = starts.get_mut(route).filter(|_| is_due) {
                start.get_or_insert(id);
            }
        })
        .map_err(refused)?;
    }
    if kept > 0 {
        log::warn!(messages = kept; "{kept} messages that were to be delivered stay in the journal alone: their topics' route is none now");
    }
    let known = known.into_iter().zip(beyond).map(|(known, beyond)| known.map(|k| Progress { upto: k.upto, beyond }));
    let settled = starts.iter().zip(known).zip(routes).enumerate();
    let settled: Vec<Progress> = settled
        .map(
            |(index, ((start, known), route))| {
                if delivers(index) { settle_one(route, *start, known, last_id) } else { Progress::default() }
            },
        )
        .collect();
    reading.runs.iter_mut().zip(&settled).for_each(|(runs, progress)| runs.finish(progress.upto));
    Ok(settled)
}

fn settle_one(route: &LogRoute, start: Option<u64>, known: Option<Progress>, last_id: u64) -> Progress {
    let pattern = route.pattern.as_str();
    let upto = start.map(|start| start - 1);
    match (known, upto) {
        (Some(known), Some(upto)) if upto < known.upto => {
            log::warn!(route = pattern, from = upto + 1;
                "the route {pattern} begins again at message {}: it has taken over what another one had left", upto + 1);
            Progress { upto, beyond: Vec::new() }
        }
        (Some(known), _) => known,
        (None, Some(upto)) => {
            log::warn!(route = pattern, from = upto + 1;
                "the route {pattern} is new, and begins at message {}: it has taken over what another one had left", upto + 1);
            Progress { upto, beyond: Vec::new() }
        }
        (None, None) => {
            log::info!(route = pattern, from = last_id + 1;
                "the route {pattern} is new, and begins at message {}, the next one", last_id + 1);
            Progress { upto: last_id, beyond: Vec::new() }
        }
    }
}

/// Whether a table is one of these routes.
pub(super) fn is_of(table: &[(LogRoute, Progress)], routes: &[LogRoute]) -> bool {
    table.iter().map(|(route, _)| route).eq(routes)
}

/// Whether a table that follows another may have left messages to the journal which that one had still to deliver:
/// they are kept for their time, also when a later route takes their topics.
pub(super) fn leaves_some(table: &[(LogRoute, Progress)], before: &[(LogRoute, Progress)]) -> bool {
    let differs = !table.iter().map(|(route, _)| route).eq(before.iter().map(|(route, _)| route));
    let takes_all = table.iter().any(|(route, _)| route.pattern.as_str() == "*");
    differs && (!takes_all || table.iter().any(|(route, _)| route.keeps))
}

/// Keeps the routes as they are while the records go by.
pub(super) fn follow(table: &mut Vec<(LogRoute, Progress)>, view: &View<'_>) {
    match view.kind {
        Kind::Table => *table = view.table().unwrap_or_default(),
        Kind::Progress => {
            let Some((pattern, progress)) = view.progress() else { return };
            let known = table.iter_mut().find(|(route, _)| route.pattern.as_str() == pattern);
            if let Some((_, known)) = known.filter(|(_, known)| progress.upto >= known.upto) {
                *known = progress;
            }
        }
        // The table of the segment before holds; without one, everything is still to be delivered.
        Kind::Lost if table.is_empty() => *table = all_due(),
        Kind::Lost | Kind::Message | Kind::Mark => {}
    }
}

/// A table of which nobody knows what it was: no message is known to be done.
fn all_due() -> Vec<(LogRoute, Progress)> {
    let pattern = TopicPattern::parse("*");
    pattern.into_iter().map(|pattern| (LogRoute { pattern, keeps: false }, Progress::default())).collect()
}
