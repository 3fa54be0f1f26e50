//! What is written rather than drawn: the account, the ledger, events, errors, the generator, settings.

use super::super::reading::{PERCENTILES, percentile};
use super::super::report::{Account, Event, Generator, Latency, LedgerCheck, Report};
use super::super::units::{self, count, duration, latency, latency_of, share, short};
use super::{escaped, framed};

/// Events and errors beyond are counted, not shown.
const MOST: usize = 200;

/// Percentiles by name, of requests and of connecting.
pub(super) fn percentiles(report: &Report) -> String {
    let columns: Vec<(&str, &Latency)> = [("requests", &report.latency), ("connect", &report.connect)]
        .into_iter()
        .filter_map(|(name, latency)| Some((name, latency.as_ref()?)))
        .collect();
    if columns.is_empty() {
        return String::new();
    }
    let row = |name: String, of: &dyn Fn(&Latency) -> String| {
        let cells: String = columns.iter().map(|(_, all)| format!("<td>{}</td>", of(all))).collect();
        format!("<tr><th scope=\"row\">{name}</th>{cells}</tr>\n")
    };
    let named = PERCENTILES.iter().map(|p| row(units::percentile(*p), &|all| latency(percentile(all, *p))));
    let others = [
        row("max".into(), &|all| latency(all.max)),
        row("mean".into(), &|all| latency_of(all.mean)),
        row("min".into(), &|all| latency(all.min)),
        row("count".into(), &|all| count(all.count)),
    ];
    let head: String = columns.iter().map(|(name, _)| format!("<th scope=\"col\">{name}</th>")).collect();
    framed(&format!(
        "<table class=\"percentiles\"><caption>Latency</caption>\n<thead><tr><td></td>{head}</tr></thead>\n\
         <tbody>{}{}</tbody></table>\n",
        named.collect::<String>(),
        others.concat()
    ))
}

/// Where each request went, and what became of connections.
pub(super) fn account(account: &Account) -> String {
    let row = |(name, text, n): (&str, &str, u64)| {
        let part = escaped(&share(n, account.sent));
        format!("<tr><th scope=\"row\">{name}<small>{text}</small></th><td>{}</td><td>{part}</td></tr>\n", count(n))
    };
    let mut requests = vec![
        ("Answered", "got the right reply", account.answered),
        ("Failed", "got an ERROR", account.failed),
        ("Safe to retry", "not processed, and the server said so", account.safe),
        ("Unknown", "cut off without a word", account.unknown),
        ("Lost", "accepted, and never answered", account.lost),
    ];
    if account.retried > 0 {
        requests.insert(3, ("Sent again", "cut off without a word, and safe to process twice", account.retried));
    }
    let sum = account.settled();
    let (class, sign) = if sum == account.sent { ("good", "= sent") } else { ("bad", "does not add up") };
    let mut connections = vec![
        ("READY", "connections that were let in", account.connections),
        ("Broken", "closed by reset, or without the announced end", account.broken),
        ("Refused", "or failed to open", account.refused),
        ("Heartbeats", "PINGs of the server answered", account.heartbeats),
        ("Wrong replies", "in seq, command or payload; also lost", account.wrong),
    ];
    let durable = [
        ("Duplicates", "answered with the id of an earlier try", account.duplicates),
        ("Forgotten values", "acknowledged, and their session not resumed", account.forgotten),
    ];
    connections.extend(durable.into_iter().filter(|(_, _, n)| *n > 0));
    let connections = connections.into_iter().map(|(name, text, n)| {
        format!("<tr><th scope=\"row\">{name}<small>{text}</small></th><td>{}</td></tr>\n", count(n))
    });
    let requests = format!(
        "<table><caption>Requests</caption>\n<tbody>\
         <tr class=\"total\"><th scope=\"row\">Sent</th><td>{}</td><td></td></tr>\n{}</tbody>\n\
         <tfoot><tr class=\"total\"><th scope=\"row\">Sum</th><td>{}</td><td class=\"{class}\">{sign}</td></tr></tfoot>\
         </table>\n",
        count(account.sent),
        requests.into_iter().map(row).collect::<String>(),
        count(sum),
    );
    let connections = format!(
        "<table><caption>Connections and replies</caption>\n<tbody>{}</tbody></table>\n",
        connections.collect::<String>()
    );
    pair(&requests, &connections)
}

/// The servers' ledger beside the clients' account.
pub(super) fn ledger(ledger: &LedgerCheck, account: &Account) -> String {
    let servers = [
        ("Accepted", ledger.accepted),
        ("Answered", ledger.answered),
        ("Failed", ledger.failed),
        ("Cut", ledger.cut),
        ("Undelivered", ledger.undelivered),
    ];
    let clients = [
        ("Sent", account.sent),
        ("Answered", account.answered),
        ("Failed", account.failed),
        ("Safe to retry", account.safe),
        ("Unknown or lost", account.unknown.saturating_add(account.lost)),
    ];
    let rows = |all: [(&str, u64); 5]| {
        all.map(|(name, n)| format!("<tr><th scope=\"row\">{name}</th><td>{}</td></tr>\n", count(n))).concat()
    };
    let verdict = if ledger.differences.is_empty() {
        "<p class=\"note-box good\"><strong>They agree.</strong> Each request that a server accepted is accounted for \
         on both sides.</p>\n"
            .into()
    } else {
        let all: String =
            ledger.differences.iter().take(MOST).map(|text| format!("<li>{}</li>\n", escaped(text))).collect();
        format!("<div class=\"note-box bad\"><strong>They differ.</strong><ul>{all}</ul></div>\n")
    };
    let times = if ledger.ledgers == 1 { "once".into() } else { format!("{} times", count(ledger.ledgers)) };
    let servers =
        format!("<table><caption>By the server, drained {times}</caption>\n<tbody>{}</tbody></table>\n", rows(servers));
    let clients = format!("<table><caption>By the clients</caption>\n<tbody>{}</tbody></table>\n", rows(clients));
    verdict
        + &pair(&servers, &clients)
        + "<p class=\"note\">The two count differently: a refusal that is safe to retry is a failed request to the server, \
           and one that it never read is in no ledger.</p>\n"
}

/// What happened, as a list with its time.
pub(super) fn events(events: &[Event]) -> String {
    let rows = events.iter().take(MOST).map(|event| {
        let (at, kind, text) = (duration(event.at_ms), escaped(&short(&event.kind, 20)), escaped(&event.text));
        format!("<tr><td>{at}</td><th scope=\"row\">{kind}</th><td class=\"text\">{text}</td></tr>\n")
    });
    listed("events", rows, events.len())
}

/// What went wrong, and how often.
pub(super) fn errors(errors: &[(String, u64)]) -> String {
    let rows = errors.iter().take(MOST).map(|(text, n)| {
        format!("<tr><td>{}</td><th scope=\"row\" class=\"text\">{}</th></tr>\n", count(*n), escaped(text))
    });
    listed("errors", rows, errors.len())
}

/// Its own effort, with a warning where that is what was measured.
pub(super) fn generator(generator: &Generator, duration_ms: u64) -> String {
    let mut cells = vec![
        ("Processes", count(generator.processes)),
        ("CPU time", duration(generator.cpu_ms)),
        ("Busiest process", format!("{} of the time", units::percent(generator.busiest))),
    ];
    if duration_ms > 0 {
        let cores = generator.cpu_ms as f64 / duration_ms as f64;
        cells.push(("CPUs used", format!("{} on average", units::rate(cores))));
    }
    if generator.latest > 0 {
        cells.push(("Latest send", format!("{} after its time", latency(generator.latest))));
    }
    let warning = generator.saturated.as_ref().map_or(String::new(), |why| {
        format!(
            "<p class=\"note-box doubtful\"><strong>The generator was saturated.</strong> Rate and latency are its own, \
             not the server's: {}</p>\n",
            escaped(why)
        )
    });
    let cells: Vec<(String, String)> = cells.into_iter().map(|(name, value)| (name.into(), value)).collect();
    warning + &pairs(&cells)
}

/// Names and values.
pub(super) fn pairs(all: &[(String, String)]) -> String {
    let cells = all.iter().map(|(name, value)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escaped(name), escaped(value)) //
    });
    format!("<dl class=\"pairs\">\n{}</dl>\n", cells.collect::<String>())
}

/// Two tables side by side, where there is room.
fn pair(left: &str, right: &str) -> String {
    format!("<div class=\"pair\">\n{}{}</div>\n", framed(left), framed(right))
}

fn listed(class: &str, rows: impl Iterator<Item = String>, all: usize) -> String {
    let more = all.saturating_sub(MOST);
    let more =
        if more > 0 { format!("<p class=\"note\">and {} more</p>\n", count(more as u64)) } else { String::new() };
    framed(&format!("<table class=\"{class}\"><tbody>\n{}</tbody></table>\n", rows.collect::<String>())) + &more
}
