//! What is promised of a chart's SVG.

use super::*;

fn chart<'a>(points: Vec<(f64, Option<f64>)>, events: &'a [Event]) -> Chart<'a> {
    Chart {
        title: "Rate <of> replies",
        description: "d".into(),
        x: Measure::Time { from: 0.0, to: 1000.0 },
        y: Measure::Amount { max: 100.0, whole: true },
        series: vec![Series { name: "n", class: "a", shape: Shape::Line(points) }],
        dots: vec![],
        events,
    }
}

/// The values of an attribute, in order.
fn attributes<'a>(svg: &'a str, start: &str, name: &str) -> Vec<&'a str> {
    let name = format!(" {name}=\"");
    let tags = svg.split(start).skip(1).filter_map(|rest| rest.split('>').next());
    tags.filter_map(|tag| tag.split(&name).nth(1)?.split('"').next()).collect()
}

#[test]
fn there_is_one_for_each_width_of_page_with_title_and_description() {
    let svg = chart(vec![], &[]).svg(0.0);
    for part in ["chart wide", "chart medium", "chart narrow"] {
        assert_eq!(svg.matches(part).count(), 1, "{part}");
    }
    assert_eq!(svg.matches("<title>Rate &lt;of&gt; replies</title><desc>d</desc>").count(), 3);
}

#[test]
fn a_line_goes_from_corner_to_corner_of_the_plot() {
    let svg = chart(vec![(0.0, Some(0.0)), (1000.0, Some(100.0))], &[]).svg(0.0);
    let [left, right, top, bottom] = attributes(&svg, "<svg", "data-plot")[0].split(' ').collect::<Vec<_>>()[..] else {
        panic!("{svg}");
    };
    assert_eq!(attributes(&svg, "<path class=\"line a\"", "d")[0], format!("M{left} {bottom}L{right} {top}"));
}

#[test]
fn a_gap_interrupts_the_line_and_a_lonely_point_is_a_dot() {
    let points = vec![(0.0, Some(1.0)), (100.0, Some(2.0)), (200.0, None), (500.0, Some(3.0)), (600.0, None)];
    let svg = chart(points, &[]).svg(0.0);
    let path = attributes(&svg, "<path class=\"line a\"", "d")[0];
    assert_eq!((path.matches('M').count(), path.matches('L').count()), (1, 1), "{path}");
    let lonely = attributes(&svg, "<path class=\"point a\"", "d")[0];
    assert!(lonely.starts_with('M') && lonely.ends_with("h0"), "{lonely}");
}

#[test]
fn a_hundred_thousand_points_become_some_hundred_and_the_peak_stays() {
    let mut points: Vec<(f64, Option<f64>)> = (0..100_000).map(|n| (n as f64 / 100.0, Some(10.0))).collect();
    points[43_210].1 = Some(100.0);
    let svg = chart(points, &[]).svg(0.0);
    assert!(svg.len() < 60_000, "{}", svg.len());
    let top = attributes(&svg, "<svg", "data-plot")[0].split(' ').nth(2).unwrap();
    let path = attributes(&svg, "<path class=\"line a\"", "d")[0];
    assert!(path.contains(&format!(" {top}L")), "no point at the top, {top}");
}

#[test]
fn every_event_has_a_line_at_its_time_and_a_label() {
    let event = |at_ms, kind: &str| Event { at_ms, kind: kind.into(), text: String::new() };
    let events = [event(250, "drain"), event(500, "<restart>")];
    let svg = chart(vec![(0.0, Some(1.0))], &events).svg(0.0);
    let svg = svg.split("</svg>").next().unwrap();
    let plot: Vec<f64> = attributes(svg, "<svg", "data-plot")[0].split(' ').map(|n| n.parse().unwrap()).collect();
    let at = |share: f64| format!("M{} ", round(plot[0] + share * (plot[1] - plot[0])));
    let marks = attributes(svg, "<path class=\"mark\"", "d");
    assert_eq!(marks.len(), 2);
    assert!(marks[0].starts_with(&at(0.25)) && marks[1].starts_with(&at(0.5)), "{marks:?}");
    assert!(svg.contains(">drain</text>") && svg.contains(">&lt;restart&gt;</text>"), "{svg}");
}

#[test]
fn the_time_from_drain_to_restart_is_tinted() {
    let event = |at_ms, kind: &str| Event { at_ms, kind: kind.into(), text: String::new() };
    let events = [event(250, "drain"), event(260, "final"), event(500, "restart"), event(700, "drain")];
    assert_eq!(chart(vec![], &events).svg(0.0).matches("class=\"pause\"").count(), 3);
    assert_eq!(chart(vec![], &events[..2]).svg(0.0).matches("class=\"pause\"").count(), 0);
}

#[test]
fn names_at_the_end_of_curves_do_not_meet() {
    let mut chart = chart(vec![(1000.0, Some(50.0))], &[]);
    for (name, y) in [("m", 50.5), ("o", 49.0)] {
        chart.series.push(Series { name, class: "b", shape: Shape::Line(vec![(1000.0, Some(y))]) });
    }
    let svg = chart.svg(0.0);
    let svg = svg.split("</svg>").next().unwrap();
    let mut lines: Vec<f64> = attributes(svg, "<text class=\"name", "y").iter().map(|y| y.parse().unwrap()).collect();
    lines.sort_by(f64::total_cmp);
    assert_eq!(lines.len(), 3);
    assert!(lines.windows(2).all(|pair| pair[1] - pair[0] >= LINE - 1.0), "{lines:?}");
}

#[test]
fn labels_of_an_axis_do_not_meet() {
    let mut chart = chart(vec![], &[]);
    chart.x = Measure::Percentiles { count: u64::MAX };
    for svg in chart.svg(0.0).split("</svg>").filter(|svg| svg.contains("<svg")) {
        let ends: Vec<(f64, f64)> = svg
            .split("<text class=\"tick\"")
            .filter(|tag| tag.contains("\"middle\""))
            .map(|tag| {
                let x: f64 = tag.split('"').nth(1).unwrap().parse().unwrap();
                let half = text_width(tag.split(['>', '<']).nth(1).unwrap()) / 2.0;
                (x - half, x + half)
            })
            .collect();
        assert!(ends.len() >= 3, "{ends:?}");
        assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ends:?}");
        let width: f64 = attributes(svg, "<svg", "viewBox")[0].split(' ').nth(2).unwrap().parse().unwrap();
        assert!(ends.iter().all(|(from, to)| *from >= 0.0 && *to <= width), "{ends:?}");
    }
}

#[test]
fn a_bar_of_next_to_nothing_is_seen_and_one_of_nothing_is_not() {
    let mut chart = chart(vec![], &[]);
    chart.series[0].shape = Shape::Bars(vec![(0.0, 100.0, 0.001), (100.0, 200.0, 0.0), (200.0, 300.0, 50.0)]);
    let svg = chart.svg(0.0);
    let path = attributes(&svg, "<path class=\"bars a\"", "d")[0];
    assert_eq!(path.matches('M').count(), 2, "{path}");
    let bottom: f64 = attributes(&svg, "<svg", "data-plot")[0].split(' ').nth(3).unwrap().parse().unwrap();
    let first: f64 = path.split(['V', 'h']).nth(1).unwrap().parse().unwrap();
    assert!(bottom - first >= 1.0, "{path}");
}
