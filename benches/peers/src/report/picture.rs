//! The report as a picture: one SVG without anything from elsewhere.
//!
//! A panel for each case, a row for each server: a dot at the ratio of its median to the floor's
//! median, a line from its best to its worst round. One logarithmic axis for all panels.

use std::fmt::Write;

use super::{Budgets, Case, Entry, FLOOR, OURS, Report, Row, thousands};

const COLUMNS: usize = 3;
const MARGIN: f64 = 24.0;
const PANEL: f64 = 392.0;
const GAP: f64 = 16.0;
/// Of a panel: room for names, and for numbers.
const NAMES: f64 = 92.0;
const NUMBERS: f64 = 46.0;
const ROW: f64 = 17.0;
const HEAD: f64 = 86.0;
const PANEL_HEAD: f64 = 30.0;
const PANEL_FOOT: f64 = 26.0;

const INK: &str = "#1f2933";
const FAINT: &str = "#6b7785";
const GRID: &str = "#e3e8ee";
const OTHERS: &str = "#7b8794";
const OUR_COLOUR: &str = "#0b6e99";
const BAND: &str = "#dff0e3";

/// The whole picture. `note` says under the title how and where it was measured.
pub fn svg(report: &Report, budgets: &Budgets, note: &str) -> String {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| !row.entries.is_empty()).collect();
    let lines = rows.len().div_ceil(COLUMNS);
    let peers = rows.iter().map(|row| row.entries.len()).max().unwrap_or(0);
    let panel_height = PANEL_HEAD + peers as f64 * ROW + PANEL_FOOT;
    let width = 2.0 * MARGIN + COLUMNS as f64 * PANEL + (COLUMNS - 1) as f64 * GAP;
    let height = HEAD + lines as f64 * (panel_height + GAP) + MARGIN;
    let axis = Axis::of_ratios(&rows);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"11.5\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, MARGIN, 34.0, "start", INK, "19", "Server CPU beside a bare epoll loop");
    let legend = "dot: median of the rounds; line: best to worst round; both as ratios to the floor's median \
                  (log scale, left is cheaper); green: tidegate's budget";
    text(&mut out, MARGIN, 54.0, "start", FAINT, "11.5", legend);
    text(&mut out, MARGIN, 70.0, "start", FAINT, "11.5", note);
    for (index, row) in rows.iter().enumerate() {
        let x = MARGIN + (index % COLUMNS) as f64 * (PANEL + GAP);
        let y = HEAD + (index / COLUMNS) as f64 * (panel_height + GAP);
        match row.case {
            Case::Idle => idle_panel(&mut out, x, y, row),
            _ => panel(&mut out, (x, y), row, &axis, budgets.of(row.case)),
        }
    }
    out += "</svg>\n";
    out
}

/// A logarithmic axis over the width of a panel's plot.
struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Axis {
    fn new(from: f64, to: f64) -> Axis {
        let steps = match to / from {
            wide if wide > 100.0 => &[1.0][..],
            wide if wide > 3.0 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            _ => &[1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5, 8.0, 9.0],
        };
        let decades = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
        let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        Axis { from, to, ticks: ticks.filter(|tick| (from..=to).contains(tick)).collect() }
    }

    fn of_ratios(rows: &[&Row]) -> Axis {
        let (mut from, mut to) = (0.9_f64, 1.3_f64);
        for row in rows.iter().filter(|row| row.case != Case::Idle) {
            let Some(floor) = row.entry(FLOOR) else { continue };
            for entry in &row.entries {
                from = from.min(entry.cost.least / floor.cost.median);
                to = to.max(entry.cost.most / floor.cost.median);
            }
        }
        // One stray round must not press everything else together.
        Axis::new((from * 0.97).max(0.3), (to * 1.03).min(12.0))
    }

    /// Within the plot, whatever the value.
    fn x(&self, value: f64) -> f64 {
        let share = (value.max(self.from * 1e-3) / self.from).ln() / (self.to / self.from).ln();
        NAMES + share.clamp(0.0, 1.0) * (PANEL - NAMES - NUMBERS)
    }
}

fn panel(out: &mut String, (x, y): (f64, f64), row: &Row, axis: &Axis, budget: Option<f64>) {
    let bottom = PANEL_HEAD + row.entries.len() as f64 * ROW;
    open(out, x, y);
    text(out, 0.0, 14.0, "start", INK, "12.5", &row.case.to_string());
    if let Some(budget) = budget {
        let (from, to) = (axis.x(axis.from), axis.x(budget));
        rectangle(out, from, PANEL_HEAD - 6.0, to - from, bottom - PANEL_HEAD + 8.0, BAND);
    }
    for tick in &axis.ticks {
        let at = axis.x(*tick);
        let colour = if (*tick - 1.0).abs() < 1e-9 { FAINT } else { GRID };
        stroke(out, (at, PANEL_HEAD - 6.0), (at, bottom + 2.0), colour, 1.0);
        text(out, at, bottom + 15.0, "middle", FAINT, "10", &short(*tick));
    }
    let floor = row.entry(FLOOR).map_or(f64::NAN, |floor| floor.cost.median);
    for (index, entry) in row.entries.iter().enumerate() {
        let ratio = |value: f64| value / floor;
        let cost = &entry.cost;
        let label = format!("{:.2}", ratio(cost.median));
        dot_row(out, index, entry, [cost.least, cost.median, cost.most].map(ratio).map(|v| axis.x(v)), &label);
    }
    *out += "</g>\n";
}

/// Memory is told in bytes, not beside the floor's few.
fn idle_panel(out: &mut String, x: f64, y: f64, row: &Row) {
    let most = row.entries.iter().map(|entry| entry.cost.median).fold(200.0, f64::max);
    let axis = Axis::new(10.0, most * 1.2);
    let bottom = PANEL_HEAD + row.entries.len() as f64 * ROW;
    open(out, x, y);
    text(out, 0.0, 14.0, "start", INK, "12.5", &format!("{}, bytes", row.case));
    for tick in &axis.ticks {
        let at = axis.x(*tick);
        stroke(out, (at, PANEL_HEAD - 6.0), (at, bottom + 2.0), GRID, 1.0);
        text(out, at, bottom + 15.0, "middle", FAINT, "10", &thousands(*tick));
    }
    for (index, entry) in row.entries.iter().enumerate() {
        let at = axis.x(entry.cost.median);
        dot_row(out, index, entry, [at, at, at], &thousands(entry.cost.median));
    }
    *out += "</g>\n";
}

fn dot_row(out: &mut String, index: usize, entry: &Entry, [least, median, most]: [f64; 3], label: &str) {
    let y = PANEL_HEAD + (index as f64 + 0.5) * ROW - 2.0;
    let (colour, weight) = match entry.peer.as_str() {
        OURS => (OUR_COLOUR, "600"),
        FLOOR => (INK, "400"),
        _ => (OTHERS, "400"),
    };
    let ink = if colour == OTHERS { INK } else { colour };
    weighted(out, NAMES - 8.0, y + 4.0, "end", (ink, weight), "11.5", &entry.peer);
    stroke(out, (least, y), (most, y), colour, 2.0);
    // Writing to a String does not fail.
    let _ = writeln!(out, "<circle cx=\"{median:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
    weighted(out, PANEL - 2.0, y + 4.0, "end", (ink, weight), "11", label);
}

fn open(out: &mut String, x: f64, y: f64) {
    let _ = writeln!(out, "<g transform=\"translate({x:.1} {y:.1})\">");
}

fn rectangle(out: &mut String, x: f64, y: f64, width: f64, height: f64, fill: &str) {
    let _ =
        writeln!(out, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"/>");
}

fn stroke(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, fill: &str, size: &str, text: &str) {
    weighted(out, x, y, anchor, (fill, if size == "19" { "600" } else { "400" }), size, text);
}

fn weighted(out: &mut String, x: f64, y: f64, anchor: &str, (fill, weight): (&str, &str), size: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\" font-size=\"{size}\" font-weight=\"{weight}\">{text}</text>"
    );
}

fn short(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
