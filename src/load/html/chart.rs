//! One chart as SVG, in three sizes of which the page shows the one that fits.

use std::fmt::Write;

use super::super::report::Event;
use super::escaped;
use super::marks::{Mark, marks, text_width};
use super::scale::{Axis, Measure};
use super::thin::{Dot, thinned};

/// What is drawn.
pub(super) struct Chart<'a> {
    /// For readers of the page that do not see it: what it shows, and what is to be seen.
    pub(super) title: &'a str,
    pub(super) description: String,
    pub(super) x: Measure,
    pub(super) y: Measure,
    pub(super) series: Vec<Series<'a>>,
    /// Single points with their labels: x, y.
    pub(super) dots: Vec<(f64, f64, String)>,
    pub(super) events: &'a [Event],
}

/// One curve.
pub(super) struct Series<'a> {
    /// Written at its end, if there is more than one.
    pub(super) name: &'a str,
    /// Chooses colour and dashes: `a`, `b`, `c`, `error`.
    pub(super) class: &'a str,
    pub(super) shape: Shape,
}

/// How it is drawn.
pub(super) enum Shape {
    /// x and y; a line, interrupted where there is no y.
    Line(Vec<(f64, Option<f64>)>),
    /// The same, with the ground under it.
    Area(Vec<(f64, Option<f64>)>),
    /// From, to, and y.
    Bars(Vec<(f64, f64, f64)>),
}

struct Size {
    name: &'static str,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    ticks_x: usize,
    ticks_y: usize,
}

const SIZES: [Size; 3] = [
    Size { name: "wide", width: 1000.0, height: 200.0, left: 58.0, right: 46.0, ticks_x: 12, ticks_y: 4 },
    Size { name: "medium", width: 660.0, height: 200.0, left: 58.0, right: 46.0, ticks_x: 8, ticks_y: 4 },
    Size { name: "narrow", width: 360.0, height: 180.0, left: 54.0, right: 38.0, ticks_x: 5, ticks_y: 4 },
];
/// Of a lane of labels, and the least between the ends of two curves.
const LINE: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;

impl Chart<'_> {
    /// The chart in all sizes. `extra` is added to the height, pixels.
    pub(super) fn svg(&self, extra: f64) -> String {
        SIZES.iter().map(|size| self.sized(size, extra)).collect()
    }

    fn sized(&self, size: &Size, extra: f64) -> String {
        let x = Axis::new(self.x, size.ticks_x);
        let names = self.series.iter().filter(|_| self.series.len() > 1).map(|series| name_width(series.name) + 8.0);
        let right = names.fold(size.right, f64::max);
        let wide = size.width - size.left - right;
        let marks = marks(self.events, |at| x.place(at), wide, right);
        let lanes = marks.iter().filter_map(|mark| mark.label.as_ref()).map(|label| label.lane + 1).max().unwrap_or(0);
        let top = TOP + lanes as f64 * LINE;
        let high = size.height - TOP - BOTTOM + extra;
        let ticks_y = size.ticks_y + (extra / 60.0) as usize;
        let plot = Plot {
            left: size.left,
            margin: right,
            top,
            wide,
            high,
            x,
            y: Axis::new(self.y, ticks_y),
            out: String::new(),
        };
        let (width, height) = (size.width, top + high + BOTTOM);
        format!(
            "<svg class=\"chart {}\" viewBox=\"0 0 {width} {height}\" role=\"img\" data-plot=\"{} {} {} {}\">\
             <title>{}</title><desc>{}</desc>{}</svg>\n",
            size.name,
            size.left,
            size.left + wide,
            top,
            top + high,
            escaped(self.title),
            escaped(&self.description),
            plot.drawn(self, &marks),
        )
    }
}

/// The area between the axes, and what is drawn so far.
struct Plot {
    left: f64,
    /// Right of it, for what is written there.
    margin: f64,
    top: f64,
    wide: f64,
    high: f64,
    x: Axis,
    y: Axis,
    out: String,
}

impl Plot {
    fn drawn(mut self, chart: &Chart<'_>, marks: &[Mark]) -> String {
        self.pauses(chart.events);
        self.grid();
        for series in &chart.series {
            self.series(series);
        }
        self.events(marks);
        let names = if chart.series.len() > 1 { self.names(&chart.series) } else { vec![] };
        self.dots(&chart.dots, names);
        self.out
    }

    fn right(&self) -> f64 {
        self.left + self.wide
    }

    fn bottom(&self) -> f64 {
        self.top + self.high
    }

    fn px(&self, x: f64) -> f64 {
        self.left + self.x.place(x) * self.wide
    }

    fn py(&self, y: f64) -> f64 {
        self.bottom() - self.y.place(y) * self.high
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a String can't fail.
        let _ = self.out.write_fmt(text);
    }

    /// From a drain to the restart that ends it, the ground is tinted.
    fn pauses(&mut self, events: &[Event]) {
        let mut since = None;
        let mut spans = vec![];
        for event in events {
            match (event.kind.as_str(), since) {
                ("drain", None) => since = Some(event.at_ms as f64),
                ("restart", Some(from)) => {
                    spans.push((self.px(from), self.px(event.at_ms as f64)));
                    since = None;
                }
                _ => {}
            }
        }
        // Hundreds of restarts would only be paint.
        for (from, to) in spans.into_iter().take(50) {
            let (top, high) = (round(self.top), round(self.high));
            let (x, wide) = (round(from), round(to - from));
            self.put(format_args!("<rect class=\"pause\" x=\"{x}\" y=\"{top}\" width=\"{wide}\" height=\"{high}\"/>"));
        }
    }

    fn grid(&mut self) {
        let (left, right, bottom) = (round(self.left), round(self.right()), round(self.bottom()));
        for tick in std::mem::take(&mut self.y.ticks) {
            let y = self.py(tick.value);
            let line = round(y);
            self.put(format_args!("<path class=\"grid\" d=\"M{left} {line}H{right}\"/>"));
            let (x, y) = (round(self.left - 8.0), round(y + 4.0));
            self.put(format_args!(
                "<text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>",
                tick.label
            ));
        }
        self.put(format_args!("<path class=\"base\" d=\"M{left} {bottom}H{right}\"/>"));
        let mut free = f64::NEG_INFINITY;
        for tick in std::mem::take(&mut self.x.ticks) {
            let x = self.px(tick.value);
            let half = text_width(&tick.label) / 2.0;
            let (at, under) = (round(x), round(self.bottom() + 4.0));
            self.put(format_args!("<path class=\"base\" d=\"M{at} {bottom}V{under}\"/>"));
            if x - half >= free && x + half <= self.right() + self.margin {
                free = x + half + 8.0;
                let y = round(self.bottom() + 18.0);
                self.put(format_args!(
                    "<text class=\"tick\" x=\"{at}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                    tick.label
                ));
            }
        }
    }

    fn series(&mut self, series: &Series<'_>) {
        let class = series.class;
        match &series.shape {
            Shape::Bars(bars) => {
                let path: String = bars.iter().filter(|(_, _, y)| *y > 0.0).map(|bar| self.bar(bar)).collect();
                self.put(format_args!("<path class=\"bars {class}\" d=\"{path}\"/>"));
            }
            Shape::Area(points) | Shape::Line(points) => {
                let points = self.thin(points);
                if matches!(series.shape, Shape::Area(_)) {
                    let ground = round(self.bottom());
                    let closed = |run: &[Dot]| {
                        let ends = run.first().zip(run.last()).map(|(first, last)| (self.at(first.0), self.at(last.0)));
                        let (first, last) = ends.unwrap_or_default();
                        format!("{}L{last} {ground}L{first} {ground}Z", self.path(run))
                    };
                    let path: String = runs(&points).filter(|run| run.len() > 1).map(closed).collect();
                    self.put(format_args!("<path class=\"area {class}\" d=\"{path}\"/>"));
                }
                // Alone between gaps, a point would be no more than a speck.
                for (name, lonely) in [("line", false), ("point", true)] {
                    let runs = runs(&points).filter(|run| (run.len() == 1) == lonely);
                    let path: String = runs.map(|run| self.path(run)).collect();
                    if !path.is_empty() {
                        self.put(format_args!("<path class=\"{name} {class}\" d=\"{path}\"/>"));
                    }
                }
            }
        }
    }

    /// x as a share of the axis, y as it is; no more points than can be told apart.
    fn thin(&self, points: &[(f64, Option<f64>)]) -> Vec<Dot> {
        let placed: Vec<Dot> = points.iter().map(|(x, y)| (self.x.place(*x), *y)).collect();
        thinned(&placed, (self.wide / 2.0) as usize)
    }

    fn at(&self, place: f64) -> String {
        round(self.left + place * self.wide)
    }

    /// A line without a gap; a single point is a line of no length, which round ends make a dot.
    fn path(&self, run: &[Dot]) -> String {
        let mut path = String::new();
        for (at, (x, y)) in run.iter().enumerate() {
            let letter = if at == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{} {}", self.at(*x), round(self.py(y.unwrap_or(0.0))));
        }
        if run.len() == 1 {
            path.push_str("h0");
        }
        path
    }

    fn bar(&self, (from, to, y): &(f64, f64, f64)) -> String {
        let (from, to) = (self.px(*from), self.px(*to));
        // A pixel of space between bars, as long as they are wide enough for it.
        let wide = (to - from - 1.0).max(1.5);
        // What there is must be seen, however small.
        let y = self.py(*y).min(self.bottom() - 1.5);
        format!("M{} {}V{}h{}V{}Z", round(from), round(self.bottom()), round(y), round(wide), round(self.bottom()))
    }

    fn events(&mut self, marks: &[Mark]) {
        for mark in marks {
            let x = self.left + mark.x;
            let lane = mark.label.as_ref().map_or(0, |label| label.lane);
            let head = self.top - lane as f64 * LINE - if mark.label.is_some() { LINE - 2.0 } else { 0.0 };
            let (at, from, to) = (round(x), round(head), round(self.bottom()));
            self.put(format_args!("<path class=\"mark\" d=\"M{at} {from}V{to}\"/>"));
            if let Some(label) = &mark.label {
                let (x, anchor) = if label.left { (x - 4.0, "end") } else { (x + 4.0, "start") };
                let (x, y, text) = (round(x), round(head + 9.0), escaped(&label.text));
                self.put(format_args!(
                    "<text class=\"event\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>"
                ));
            }
        }
    }

    /// Each curve's name where it ends, moved apart where the ends are close; returns where they stand.
    fn names(&mut self, all: &[Series<'_>]) -> Vec<Text> {
        let end = |series: &Series<'_>| match &series.shape {
            Shape::Line(points) | Shape::Area(points) => points.iter().rev().find_map(|(x, y)| Some((*x, (*y)?))),
            Shape::Bars(_) => None,
        };
        let mut ends: Vec<(f64, f64, usize)> = vec![];
        for (at, series) in all.iter().enumerate() {
            if let Some((x, y)) = end(series) {
                ends.push((self.px(x) + 6.0, self.py(y) + 4.0, at));
            }
        }
        ends.sort_by(|a, b| b.1.total_cmp(&a.1));
        // From the lowest upwards: there is more room at the top of a chart.
        for at in 1..ends.len() {
            let below = ends[..at].iter().filter(|other| (other.0 - ends[at].0).abs() < 60.0).map(|other| other.1);
            let limit = below.fold(f64::INFINITY, f64::min) - LINE + 1.0;
            ends[at].1 = ends[at].1.min(limit);
        }
        for (x, y, at) in &ends {
            let (class, name) = (all[*at].class, escaped(all[*at].name));
            let (x, y) = (round(*x), round(*y));
            self.put(format_args!("<text class=\"name {class}\" x=\"{x}\" y=\"{y}\">{name}</text>"));
        }
        ends.iter().map(|(x, y, at)| Text { from: *x, to: x + name_width(all[*at].name), base: *y }).collect()
    }

    /// Points, with those of their labels that have room beside what is `taken`.
    fn dots(&mut self, dots: &[(f64, f64, String)], mut taken: Vec<Text>) {
        for (x, y, text) in dots {
            let (x, y) = (self.px(*x), self.py(*y));
            let (cx, cy) = (round(x), round(y));
            self.put(format_args!("<circle class=\"dot\" cx=\"{cx}\" cy=\"{cy}\" r=\"3.5\"/>"));
            // Above and to the left: a distribution never falls.
            let (from, base) = ((x + 3.0 - text_width(text)).max(self.left + 4.0), (y - 9.0).max(LINE - 3.0));
            let end = from + text_width(text);
            let new = Text { from: from - 2.0, to: end + 2.0, base };
            if taken.iter().all(|other| new.apart(other)) {
                taken.push(new);
                let (end, base, text) = (round(end), round(base), escaped(text));
                self.put(format_args!(
                    "<text class=\"value\" x=\"{end}\" y=\"{base}\" text-anchor=\"end\">{text}</text>"
                ));
            }
        }
    }
}

/// Where something is written, pixels.
struct Text {
    from: f64,
    to: f64,
    base: f64,
}

impl Text {
    fn apart(&self, other: &Text) -> bool {
        self.to < other.from || self.from > other.to || (self.base - other.base).abs() >= LINE
    }
}

/// Names are bold.
fn name_width(name: &str) -> f64 {
    text_width(name) * 1.15
}

/// The stretches without a gap.
fn runs(points: &[Dot]) -> impl Iterator<Item = &[Dot]> {
    points.split(|(_, y)| y.is_none()).filter(|run| !run.is_empty())
}

/// A coordinate, to a tenth of a pixel.
fn round(value: f64) -> String {
    let tenths = (value * 10.0).round() / 10.0;
    // Not "-0".
    format!("{}", if tenths == 0.0 { 0.0 } else { tenths })
}

#[cfg(test)]
#[path = "chart_tests.rs"]
mod tests;
