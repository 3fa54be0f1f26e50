//! Where the events of a run are written on a chart, so that no two labels meet.

use super::super::report::Event;
use super::super::units::{count, short};

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

/// Marks for events, in order of x. Where those of one kind stand so close that their labels would not
/// have room, only the first has a label, with the number of events.
/// `width` is the plot's; labels may go on for `margin` beyond its right edge.
pub(super) fn marks(events: &[Event], place: impl Fn(f64) -> f64, width: f64, margin: f64) -> Vec<Mark> {
    let mut groups = grouped(events, |event| place(event.at_ms as f64) * width, width);
    shared(&mut groups);
    let mut placed: Vec<Placed> = vec![];
    // From the right: whoever writes over a later line does so above its label.
    let right = width + margin;
    let mut marks: Vec<Mark> =
        groups.iter().rev().map(|group| Mark { x: group.x, label: label(group, &mut placed, right) }).collect();
    marks.reverse();
    marks
}

/// A label that has its place: the line it belongs to, and where its text stands.
struct Placed {
    line: f64,
    lane: usize,
    from: f64,
    to: f64,
}

fn label(group: &Group, placed: &mut Vec<Placed>, right: f64) -> Option<Label> {
    let text = group.text()?;
    let wide = text_width(&text);
    let places = [false, true].into_iter().flat_map(|left| (0..LANES).map(move |lane| (lane, left)));
    let (new, left) = places
        .map(|(lane, left)| {
            let from = if left { group.x - SPACE - wide } else { group.x + SPACE };
            (Placed { line: group.x, lane, from, to: from + wide }, left)
        })
        .find(|(new, _)| new.from >= 0.0 && new.to <= right && placed.iter().all(|old| apart(new, old)))?;
    let lane = new.lane;
    placed.push(new);
    Some(Label { text, lane, left })
}

/// Neither the texts of two labels meet, nor does a line go through a text.
fn apart(new: &Placed, old: &Placed) -> bool {
    let within = |x: f64, text: &Placed| x > text.from && x < text.to + 1.0;
    let texts = new.lane == old.lane && new.from < old.to + SPACE && old.from < new.to + SPACE;
    let crossed = old.lane >= new.lane && within(old.line, new) || new.lane >= old.lane && within(new.line, old);
    !texts && !crossed
}

/// Events of a kind that share a line. Without any, it stands for its line alone.
struct Group<'a> {
    x: f64,
    kind: &'a str,
    count: usize,
}

impl Group<'_> {
    fn text(&self) -> Option<String> {
        let kind = short(self.kind, 18);
        match self.count {
            0 => None,
            1 => Some(kind),
            n => Some(format!("{kind} ×{}", count(n as u64))),
        }
    }
}

/// Groups of one kind next to each other leave their count to the first, as far as its label reaches.
fn shared(groups: &mut [Group<'_>]) {
    let mut first = 0;
    for at in 1..groups.len() {
        let reach = groups[first].x + groups[first].text().map_or(0.0, |text| text_width(&text)) + 3.0 * SPACE;
        if groups[at].kind == groups[first].kind && groups[at].x < reach {
            groups[first].count += std::mem::take(&mut groups[at].count);
        } else {
            first = at;
        }
    }
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
        let marks = marks(&[event(500, "drain")], |ms| ms / 1000.0, 800.0, 0.0);
        assert_eq!(marks.len(), 1);
        assert_eq!(marks[0].x, 400.0);
        assert_eq!(marks[0].label, Some(Label { text: "drain".into(), lane: 0, left: false }));
    }

    #[test]
    fn labels_that_would_meet_go_to_lanes_of_their_own_and_no_line_crosses_them() {
        let events = [event(500, "drain"), event(520, "final"), event(540, "restart"), event(900, "drain")];
        let marks = marks(&events, |ms| ms / 1000.0, 800.0, 0.0);
        let lanes: Vec<usize> = marks.iter().map(|mark| mark.label.as_ref().unwrap().lane).collect();
        assert_eq!(lanes, [2, 1, 0, 0]);
    }

    #[test]
    fn a_label_at_the_end_stands_left_of_its_line_unless_there_is_a_margin() {
        let left = |margin| {
            let marks = marks(&[event(999, "restart")], |ms| ms / 1000.0, 800.0, margin);
            marks[0].label.as_ref().unwrap().left
        };
        assert!(left(0.0));
        assert!(!left(60.0));
    }

    #[test]
    fn many_of_a_kind_become_few_with_a_count() {
        let events: Vec<Event> = (0..5000).map(|n| event(n, "lost connection")).collect();
        let marks = marks(&events, |ms| ms / 5000.0, 800.0, 0.0);
        assert!(marks.len() <= MOST, "{}", marks.len());
        assert!(marks.len() > 4, "{}", marks.len());
        let all: usize = texts(&marks).iter().flatten().map(|text| count_of(text)).sum();
        assert_eq!(all, 5000);
        let labels: Vec<&str> = texts(&marks).into_iter().flatten().collect();
        assert!(labels.len() > 2 && labels.iter().all(|label| label.starts_with("lost connection ×")), "{labels:?}");
    }

    #[test]
    fn a_restart_in_between_is_not_swallowed() {
        let events = [event(100, "drain"), event(101, "restart"), event(102, "drain")];
        let marks = marks(&events, |ms| ms / 1000.0, 800.0, 0.0);
        assert_eq!(texts(&marks), [Some("drain ×2"), Some("restart")]);
    }

    #[test]
    fn no_two_labels_of_a_lane_meet() {
        let kinds = ["drain", "final", "restart", "lost connection", "x"];
        let events: Vec<Event> = (0..40).map(|n| event(n * n, kinds[n as usize % 5])).collect();
        let marks = marks(&events, |ms| ms / 1600.0, 300.0, 0.0);
        let mut spans: Vec<Placed> = vec![];
        for (line, label) in marks.iter().filter_map(|mark| Some((mark.x, mark.label.as_ref()?))) {
            let wide = text_width(&label.text);
            let from = if label.left { line - SPACE - wide } else { line + SPACE };
            let new = Placed { line, lane: label.lane, from, to: from + wide };
            for old in &spans {
                assert!(old.lane != new.lane || new.to <= old.from || old.to <= new.from, "{label:?}");
                assert!(old.lane < new.lane || !(new.from..new.to).contains(&old.line), "{label:?}");
            }
            spans.push(new);
        }
        assert!(spans.len() > 4);
    }

    fn count_of(text: &str) -> usize {
        text.rsplit_once('×').map_or(1, |(_, n)| n.replace(',', "").parse().unwrap())
    }
}
