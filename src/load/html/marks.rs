//! Where the events of a run are written on a chart, so that no two labels meet.

use super::super::report::Event;
use super::super::units::short;

/// A vertical line.
#[derive(Debug, PartialEq)]
pub(super) struct Mark {
    /// Pixels from the left edge of the plot.
    pub(super) x: f64,
    /// What is written beside it, if there is room.
    pub(super) label: Option<Label>,
}

/// The writing at the head of a mark.
#[derive(Debug, PartialEq)]
pub(super) struct Label {
    pub(super) text: String,
    /// 0 is the lane next to the plot.
    pub(super) lane: usize,
    /// It ends at the line, and does not begin there.
    pub(super) left: bool,
}

/// Lanes for labels above a plot.
const LANES: usize = 3;
/// More lines than this hide the curve.
const MOST: usize = 18;
/// Between a line and its label, and between labels.
const SPACE: f64 = 4.0;

/// Estimated width of text in a chart, pixels.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().map(|c| if c < '\u{1100}' { 6.5 } else { 12.5 }).sum()
}

/// Marks for events, in order of x; those of one kind that stand too close become one with a count.
pub(super) fn marks(events: &[Event], place: impl Fn(f64) -> f64, width: f64) -> Vec<Mark> {
    let groups = grouped(events, |event| place(event.at_ms as f64) * width, width);
    let mut free = [f64::NEG_INFINITY; LANES];
    let label = |group: &Group, free: &mut [f64; LANES]| {
        let kind = short(group.kind, 18);
        let text = if group.count > 1 { format!("{kind} ×{}", group.count) } else { kind };
        let wide = text_width(&text) + SPACE;
        let left = group.x + wide > width;
        let from = if left { group.x - wide } else { group.x };
        let lane = free.iter().position(|free| *free <= from)?;
        free[lane] = from + wide + SPACE;
        Some(Label { text, lane, left })
    };
    groups.iter().map(|group| Mark { x: group.x, label: label(group, &mut free) }).collect()
}

struct Group<'a> {
    x: f64,
    kind: &'a str,
    count: usize,
}

fn grouped<'a>(events: &'a [Event], x: impl Fn(&Event) -> f64, width: f64) -> Vec<Group<'a>> {
    let mut near = 3.0;
    loop {
        let mut groups: Vec<Group<'a>> = vec![];
        for event in events {
            let at = x(event);
            match groups.iter_mut().rev().find(|group| group.kind == event.kind) {
                Some(group) if at - group.x < near => group.count += 1,
                _ => groups.push(Group { x: at, kind: &event.kind, count: 1 }),
            }
        }
        if groups.len() <= MOST || near > width {
            groups.truncate(MOST);
            return groups;
        }
        near *= 2.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_ms: u64, kind: &str) -> Event {
        Event { at_ms, kind: kind.into(), text: String::new() }
    }

    fn texts(marks: &[Mark]) -> Vec<Option<&str>> {
        marks.iter().map(|mark| mark.label.as_ref().map(|label| label.text.as_str())).collect()
    }

    #[test]
    fn an_event_stands_where_it_happened() {
        let marks = marks(&[event(500, "drain")], |ms| ms / 1000.0, 800.0);
        assert_eq!(marks.len(), 1);
        assert_eq!(marks[0].x, 400.0);
        assert_eq!(marks[0].label, Some(Label { text: "drain".into(), lane: 0, left: false }));
    }

    #[test]
    fn labels_that_would_meet_go_to_lanes_of_their_own() {
        let events = [event(500, "drain"), event(520, "final"), event(540, "restart"), event(900, "drain")];
        let marks = marks(&events, |ms| ms / 1000.0, 800.0);
        let lanes: Vec<usize> = marks.iter().map(|mark| mark.label.as_ref().unwrap().lane).collect();
        assert_eq!(lanes, [0, 1, 2, 0]);
    }

    #[test]
    fn a_label_at_the_end_stands_left_of_its_line() {
        let marks = marks(&[event(999, "restart")], |ms| ms / 1000.0, 800.0);
        assert!(marks[0].label.as_ref().unwrap().left);
    }

    #[test]
    fn many_of_a_kind_become_few_with_a_count() {
        let events: Vec<Event> = (0..5000).map(|n| event(n, "lost connection")).collect();
        let marks = marks(&events, |ms| ms / 5000.0, 800.0);
        assert!(marks.len() <= MOST, "{}", marks.len());
        assert!(marks.len() > 4, "{}", marks.len());
        let all: usize = texts(&marks).iter().flatten().map(|text| count_of(text)).sum();
        assert!(all <= 5000, "{all}");
        assert!(texts(&marks)[0].unwrap().starts_with("lost connection ×"), "{:?}", texts(&marks));
    }

    #[test]
    fn a_restart_in_between_is_not_swallowed() {
        let events = [event(100, "drain"), event(101, "restart"), event(102, "drain")];
        let marks = marks(&events, |ms| ms / 1000.0, 800.0);
        assert_eq!(texts(&marks), [Some("drain ×2"), Some("restart")]);
    }

    #[test]
    fn no_two_labels_of_a_lane_meet() {
        let kinds = ["drain", "final", "restart", "lost connection", "x"];
        let events: Vec<Event> = (0..40).map(|n| event(n * n, kinds[n as usize % 5])).collect();
        let marks = marks(&events, |ms| ms / 1600.0, 300.0);
        let mut spans: Vec<(usize, f64, f64)> = vec![];
        for (x, label) in marks.iter().filter_map(|mark| Some((mark.x, mark.label.as_ref()?))) {
            let wide = text_width(&label.text);
            let from = if label.left { x - SPACE - wide } else { x + SPACE };
            assert!(
                spans.iter().all(|(lane, a, b)| *lane != label.lane || from + wide <= *a || from >= *b),
                "{label:?}"
            );
            spans.push((label.lane, from, from + wide));
        }
        assert!(spans.len() > 4);
    }

    fn count_of(text: &str) -> usize {
        text.rsplit_once('×').map_or(1, |(_, n)| n.parse().unwrap())
    }
}
