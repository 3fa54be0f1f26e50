//! A run as one page: no request to anywhere, complete without a script, light and dark, on paper too.

mod chart;
mod figures;
mod marks;
mod rows;
mod scale;
mod sections;
mod thin;

use super::reading::{Grade, Verdict, percentile, verdict};
use super::report::{Latency, Report};
use super::units::{self, clean, count, duration, latency, short};

/// The report as an HTML document that needs nothing but a browser. All text in it is escaped.
pub fn page(report: &Report) -> String {
    let verdict = verdict(report);
    let title = format!("{}: {} on {}", verdict.headline, report.shape, report.address);
    let title = short(&title, 120);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{}</main>\n<script>\n{}</script>\n\
         </body>\n</html>\n",
        escaped(&title),
        concat!(include_str!("../../palette.css"), include_str!("report.css")),
        body(report, &verdict),
        include_str!("report.js"),
    )
}

/// Text from anywhere, for an element or an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A table that can be moved sideways where it is wider than the page.
fn framed(table: &str) -> String {
    format!("<div class=\"frame\">{table}</div>\n")
}

/// A table of figures, the first column its rows' names.
fn table(caption: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head: String = head.iter().map(|name| format!("<th scope=\"col\">{}</th>", escaped(name))).collect();
    let row = |cells: Vec<String>| {
        let mut cells = cells.iter().map(|cell| escaped(cell));
        let name = cells.next().unwrap_or_default();
        let cells: String = cells.map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr><th scope=\"row\">{name}</th>{cells}</tr>\n")
    };
    format!(
        "<div class=\"scroll\"><table><caption>{}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{}</tbody></table></div>\n",
        escaped(caption),
        rows.map(row).collect::<String>()
    )
}

fn body(report: &Report, verdict: &Verdict) -> String {
    let mut out = header(report) + &verdict_box(verdict) + &tiles(report);
    if let Some(distribution) = figures::distribution(report) {
        let content = format!(
            "<div class=\"beside\" data-linked>\n{distribution}<aside>\n{}</aside>\n</div>\n",
            sections::percentiles(report)
        );
        out += &section("latency", "Latency", &content);
    }
    let timeline = figures::timeline(report);
    if !timeline.is_empty() {
        out += &section("time", "Over time", &format!("<div data-linked>\n{}</div>\n", timeline.concat()));
    }
    if !report.events.is_empty() {
        out += &section("events", "Events", &sections::events(&report.events));
    }
    out += &section("account", "Account", &sections::account(&report.account));
    if let Some(ledger) = &report.ledger {
        out += &section("ledger", "Ledger", &sections::ledger(ledger, &report.account));
    }
    if !report.errors.is_empty() {
        out += &section("errors", "Errors", &sections::errors(&report.errors));
    }
    out += &section("generator", "Generator", &sections::generator(&report.generator, report.duration_ms));
    if !report.settings.is_empty() {
        out += &section("settings", "Settings", &sections::pairs(&report.settings));
    }
    out + &format!("<footer>Written by tidegate {} load. Times are of the run.</footer>\n", escaped(&report.version))
}

fn section(id: &str, title: &str, content: &str) -> String {
    format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{content}</section>\n")
}

fn header(report: &Report) -> String {
    format!(
        "<header>\n<p class=\"kicker\">tidegate load</p>\n<h1>{} <span>on</span> {}</h1>\n\
         <p class=\"note\">{}, {} measured</p>\n</header>\n",
        escaped(&short(&report.shape, 40)),
        escaped(&short(&report.address, 120)),
        escaped(&short(&report.started, 40)),
        duration(report.duration_ms)
    )
}

fn verdict_box(verdict: &Verdict) -> String {
    // Not by colour alone: a tick, an exclamation mark, a cross.
    let (class, name, sign) = match verdict.grade {
        Grade::Good => ("good", "Passed", "M6 12.5l4 4 8-9"),
        Grade::Doubtful => ("doubtful", "In doubt", "M12 6v7.5M12 17.4v.1"),
        Grade::Bad => ("bad", "Failed", "M7.5 7.5l9 9M16.5 7.5l-9 9"),
    };
    let notes: String = verdict.notes.iter().map(|note| format!("<li>{}</li>\n", escaped(note))).collect();
    let notes = if notes.is_empty() { notes } else { format!("<ul>\n{notes}</ul>\n") };
    format!(
        "<section class=\"verdict {class}\">\n<svg viewBox=\"0 0 24 24\" role=\"img\"><title>{name}</title>\
         <circle cx=\"12\" cy=\"12\" r=\"11\"/><path d=\"{sign}\"/></svg>\n<div>\n<h2>{}</h2>\n<p>{}</p>\n{notes}</div>\n\
         </section>\n",
        escaped(&verdict.headline),
        escaped(&sentence(&verdict.detail))
    )
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).chain(['.']).collect())
}

fn tiles(report: &Report) -> String {
    let connecting = report.shape == "connect";
    let of = if connecting { report.connect.as_ref() } else { report.latency.as_ref() };
    let at = |p: f64| of.map_or("–".into(), |all: &Latency| latency(percentile(all, p)));
    let what = if connecting { "connections/s" } else { "replies/s" };
    let mut all = vec![
        (what, units::rate(report.rate)),
        ("p50", at(50.0)),
        ("p99", at(99.0)),
        ("p99.9", at(99.9)),
        ("max", at(100.0)),
        ("connections", count(report.account.connections)),
    ];
    if report.account.lost > 0 {
        all.insert(0, ("lost", count(report.account.lost)));
    }
    let tiles = all.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"));
    format!("<dl class=\"tiles\">\n{}</dl>\n", tiles.collect::<String>())
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
