//! The charts of a report, each with a table of its figures.

use super::super::reading::{self, PERCENTILES};
use super::super::report::{Latency, Point, Report};
use super::super::units::{self, count, counted, duration, latency};
use super::chart::{Chart, Series, Shape};
use super::rows::{Row, per_second, rows};
use super::scale::{Measure, logarithmic, nines};
use super::{escaped, table};

/// Rows of a table that unfolds under a chart.
const ROWS: usize = 60;
/// Places at which the pointer reads a chart out.
const READ_OUTS: usize = 400;
/// Bars that can be told apart on a phone.
const BARS: usize = 120;
/// A distribution has some hundred steps; more come from elsewhere.
const STEPS: usize = 400;

/// One figure of an interval.
type Of = fn(&Point) -> u64;

/// The latency distribution by percentile; nothing if there is none.
pub(super) fn distribution(report: &Report) -> Option<String> {
    let all: Vec<(&str, &str, &Latency)> = [("requests", "a", &report.latency), ("connect", "b", &report.connect)]
        .into_iter()
        .filter_map(|(name, class, latency)| Some((name, class, latency.as_ref()?)))
        .collect();
    let (_, _, main) = all.first()?;
    let most = all.iter().map(|(_, _, latency)| latency.count).max()?;
    let (min, max) = extent(all.iter().flat_map(|(_, _, latency)| steps(latency).map(|(_, ns, _)| *ns)));
    let curve = |latency: &Latency| -> Vec<(f64, Option<f64>)> {
        steps(latency).map(|(p, ns, _)| (nines(*p, latency.count), Some(*ns as f64))).collect()
    };
    let end = nines(100.0, main.count);
    let named = PERCENTILES.iter().map(|p| reading::step(main, *p)).filter(|(p, _)| nines(*p, main.count) < end);
    let mut dots: Vec<_> = named.map(|(p, ns)| (nines(p, main.count), ns as f64, latency(ns))).collect();
    dots.push((end, main.max as f64, format!("max {}", latency(main.max))));
    let measure = Measure::Latency { min, max };
    let chart = Chart {
        title: "Latency by percentile",
        description: described(&all),
        x: Measure::Percentiles { count: most },
        y: measure,
        series: all
            .iter()
            .map(|(name, class, latency)| Series { name, class, shape: Shape::Line(curve(latency)) })
            .collect(),
        dots,
        events: &[],
    };
    let wide = nines(100.0, most).max(1.0);
    let read = steps(main)
        .map(|(p, ns, _)| {
            let connect = report.connect.as_ref().filter(|_| all.len() > 1);
            let connect = connect.map(|c| format!(", connect {}", latency(reading::percentile(c, *p))));
            (
                nines(*p, main.count) / wide,
                format!("{} %: {}{}", units::trimmed(*p), latency(*ns), connect.unwrap_or_default()),
            )
        })
        .collect();
    let tables = all.iter().map(|(name, _, latency)| steps_table(name, latency)).collect();
    let note = format!("of requests and of connecting{}", scale_note(min, max));
    Some(Figure { title: "Latency by percentile", note, chart, extra: 90.0, read, tables }.html())
}

/// All that has time on its x axis, one under the other; nothing without a timeline.
pub(super) fn timeline(report: &Report) -> Vec<String> {
    let Some(span) = Span::of(report) else { return vec![] };
    let mut all = vec![rate(report, span), latencies(report, span), connections(report, span)];
    if report.timeline.iter().any(|point| point.errors > 0) {
        all.push(errors(report, span));
    }
    all
}

fn rate(report: &Report, span: Span) -> String {
    let points: Vec<_> = report.timeline.iter().map(|p| (middle(p), per_second(p))).collect();
    let known = || points.iter().filter_map(|(_, rate)| *rate);
    let (least, most) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
    let description = format!("Between {} and {} replies a second.", units::rate(least), units::rate(most));
    let y = Measure::Amount { max: most, whole: false };
    let shape = Shape::Area(points);
    let read = span.read(report, |row| format!("{} replies/s", units::rate(row.rate)));
    let rows = rows(&report.timeline, ROWS);
    let head = ["until", "replies", "a second", "lowest", "highest"];
    let cells = rows.iter().map(|row| {
        let rates = [row.rate, row.least_rate, row.most_rate].map(units::rate);
        [vec![duration(row.to), count(row.answered)], rates.to_vec()].concat()
    });
    let tables = vec![table("Replies", &head, cells)];
    let chart = span.chart(report, "Rate", description, y, vec![Series { name: "replies", class: "a", shape }]);
    Figure { title: "Rate", note: "replies a second".into(), chart, extra: 0.0, read, tables }.html()
}

fn latencies(report: &Report, span: Span) -> String {
    let names: [(&str, &str, Of); 3] = [("p50", "a", |p| p.p50), ("p99", "b", |p| p.p99), ("max", "c", |p| p.max)];
    let (min, max) = extent(report.timeline.iter().flat_map(|p| [p.p50, p.p99, p.max]).filter(|ns| *ns > 0));
    let series = names.map(|(name, class, of)| {
        let points = report.timeline.iter().map(|p| (middle(p), Some(of(p) as f64).filter(|ns| *ns > 0.0)));
        Series { name, class, shape: Shape::Line(points.collect()) }
    });
    let description = names.map(|(name, _, of)| {
        let (min, max) = extent(report.timeline.iter().map(of).filter(|ns| *ns > 0));
        format!("{name} between {} and {}.", units::latency_of(min), units::latency_of(max))
    });
    let known = |ns: u64| if ns == 0 { "–".into() } else { latency(ns) };
    let read = span.read(report, |row| {
        if row.max == 0 {
            return "nothing was answered".into();
        }
        format!("p50 {}, p99 {}, max {}", known(row.p50), known(row.p99), known(row.max))
    });
    let rows = rows(&report.timeline, ROWS);
    let cells = rows.iter().map(|row| vec![duration(row.to), known(row.p50), known(row.p99), known(row.max)]);
    let caption = if rows.len() < report.timeline.len() { "Latency: the greatest in each row" } else { "Latency" };
    let tables = vec![table(caption, &["until", "p50", "p99", "max"], cells)];
    let y = Measure::Latency { min, max };
    let chart = span.chart(report, "Latency over time", description.join(" "), y, series.into());
    let note = format!("of each interval{}", scale_note(min, max));
    Figure { title: "Latency", note, chart, extra: 60.0, read, tables }.html()
}

fn connections(report: &Report, span: Span) -> String {
    let points: Vec<_> = report.timeline.iter().map(|p| (p.at_ms as f64, Some(p.connections as f64))).collect();
    let (least, most) = extent(report.timeline.iter().map(|p| p.connections));
    let description = format!("Between {} and {} connections.", count(least as u64), count(most as u64));
    let y = Measure::Amount { max: most, whole: true };
    let shape = Shape::Area(points);
    let read = span.read(report, |row| counted(row.connections, "connection"));
    let rows = rows(&report.timeline, ROWS);
    let cells =
        rows.iter().map(|row| vec![duration(row.to), count(row.connections), count(row.least), count(row.most)]);
    let tables = vec![table("Connections", &["at", "connections", "fewest", "most"], cells)];
    let series = vec![Series { name: "connections", class: "a", shape }];
    let chart = span.chart(report, "Connections", description, y, series);
    Figure { title: "Connections", note: "open and READY".into(), chart, extra: -40.0, read, tables }.html()
}

fn errors(report: &Report, span: Span) -> String {
    let bars = rows(&report.timeline, BARS);
    let (_, most) = extent(bars.iter().map(|row| row.errors));
    let all = bars.iter().map(|row| row.errors).fold(0, u64::saturating_add);
    let length = bars.first().map_or(0, |row| row.to - row.from);
    let note = format!("requests not answered and connections that failed, in each {}", duration(length));
    let shape = Shape::Bars(bars.iter().map(|row| (row.from as f64, row.to as f64, row.errors as f64)).collect());
    let read = span.read(report, |row| counted(row.errors, "error"));
    let rows = rows(&report.timeline, ROWS);
    let cells = rows.iter().filter(|row| row.errors > 0).map(|row| vec![duration(row.to), count(row.errors)]);
    let tables = vec![table("Errors, where there were any", &["until", "errors"], cells)];
    let description = format!("{} in all, at most {} in one bar.", counted(all, "error"), count(most as u64));
    let y = Measure::Amount { max: most, whole: true };
    let chart = span.chart(report, "Errors", description, y, vec![Series { name: "errors", class: "error", shape }]);
    Figure { title: "Errors", note, chart, extra: -40.0, read, tables }.html()
}

/// The time that all charts show.
#[derive(Clone, Copy)]
struct Span {
    from: f64,
    to: f64,
}

impl Span {
    fn of(report: &Report) -> Option<Span> {
        let first = report.timeline.first()?;
        let events = report.events.iter().map(|event| event.at_ms);
        let to = report.timeline.iter().map(|point| point.at_ms).chain(events.clone()).max()?;
        let from = events.chain([first.at_ms.saturating_sub(first.length_ms)]).min()?;
        Some(Span { from: from as f64, to: (to as f64).max(from as f64 + 1.0) })
    }

    fn chart<'a>(
        self,
        report: &'a Report,
        title: &'a str,
        description: String,
        y: Measure,
        series: Vec<Series<'a>>,
    ) -> Chart<'a> {
        let x = Measure::Time { from: self.from, to: self.to };
        Chart { title, description, x, y, series, dots: vec![], events: &report.events }
    }

    /// What is read out where the pointer is.
    fn read(self, report: &Report, text: impl Fn(&Row) -> String) -> Vec<(f64, String)> {
        let rows = rows(&report.timeline, READ_OUTS);
        let share = |row: &Row| ((row.from as f64 + row.to as f64) / 2.0 - self.from) / (self.to - self.from);
        rows.iter().map(|row| (share(row), format!("{}: {}", duration(row.to), text(row)))).collect()
    }
}

/// A chart with its heading, what is read out of it, and its tables.
struct Figure<'a> {
    title: &'a str,
    note: String,
    chart: Chart<'a>,
    /// Height beyond the usual, pixels.
    extra: f64,
    /// At which share of the x axis, and what.
    read: Vec<(f64, String)>,
    tables: Vec<String>,
}

impl Figure<'_> {
    fn html(&self) -> String {
        let Figure { title, note, chart, extra, read, tables } = self;
        let read: Vec<(f64, &String)> = read.iter().map(|(x, text)| ((x * 1e4).round() / 1e4, text)).collect();
        // Numbers that are none are no JSON either, and have no place on an axis.
        let read = serde_json::to_string(&read).unwrap_or_else(|_| "[]".into());
        format!(
            "<figure data-read=\"{}\">\n<figcaption><h3>{}</h3><span class=\"note\">{}</span>\
             <span class=\"read\" aria-hidden=\"true\"></span></figcaption>\n{}\
             <details><summary>{} in figures</summary>\n{}</details>\n</figure>\n",
            escaped(&read),
            escaped(title),
            escaped(note),
            chart.svg(*extra),
            escaped(title),
            tables.concat()
        )
    }
}

fn steps(latency: &Latency) -> impl Iterator<Item = &(f64, u64, u64)> {
    latency.percentiles.iter().take(STEPS)
}

fn steps_table(name: &str, latency: &Latency) -> String {
    let cells = steps(latency)
        .map(|(p, ns, up_to)| vec![format!("{} %", units::trimmed(*p)), units::latency(*ns), count(*up_to)]);
    let what = if name == "connect" { "From connect to READY" } else { "Requests" };
    table(what, &["percentile", "latency", "up to it"], cells)
}

fn described(all: &[(&str, &str, &Latency)]) -> String {
    let each = all.iter().map(|(name, _, latency)| {
        let named = PERCENTILES
            .iter()
            .map(|p| format!("{} {}", units::percentile(*p), units::latency(reading::percentile(latency, *p))));
        format!("{name}: {}, max {}.", named.collect::<Vec<_>>().join(", "), units::latency(latency.max))
    });
    each.collect::<Vec<_>>().join(" ")
}

fn scale_note(min: f64, max: f64) -> &'static str {
    if logarithmic(min, max) { ", log scale" } else { "" }
}

fn extent(all: impl Iterator<Item = u64>) -> (f64, f64) {
    let (min, max) = all.fold((u64::MAX, 0), |(min, max), n| (min.min(n), max.max(n)));
    (min.min(max) as f64, max as f64)
}

/// What is of an interval stands in its middle.
fn middle(point: &Point) -> f64 {
    point.at_ms as f64 - point.length_ms as f64 / 2.0
}
