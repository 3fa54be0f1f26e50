//! A strict reader of OpenMetrics text, after its specification, version 1.0.0.

use std::collections::{BTreeMap, BTreeSet};

/// A page of metrics that kept every rule.
#[derive(Debug)]
pub struct Metrics {
    /// Each family's type.
    pub families: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A family in the course of being read.
#[derive(Default)]
struct Family {
    name: String,
    kind: Option<String>,
    help: Option<String>,
    unit: Option<String>,
}

impl Metrics {
    /// Reads a page; one that breaks a rule fails the test.
    pub fn read(page: &str) -> Metrics {
        let body = page.strip_suffix("# EOF\n").expect("the last line is # EOF");
        let mut metrics = Metrics { families: BTreeMap::new(), samples: Vec::new() };
        let mut family = Family::default();
        let mut before = 0;
        for line in body.lines() {
            if let Some(words) = line.strip_prefix("# ") {
                let [word, name, text] = words.splitn(3, ' ').collect::<Vec<_>>().try_into().expect(line);
                if name != family.name {
                    metrics.close(&family, before);
                    family = Family { name: name.to_owned(), ..Family::default() };
                    before = metrics.samples.len();
                }
                assert_eq!(metrics.samples.len(), before, "metadata comes before samples: {line}");
                family.take(word, text);
            } else {
                let sample = Sample::read(line);
                assert!(family.owns(&sample), "it belongs to no family, or to another: {line}");
                metrics.samples.push(sample);
            }
        }
        metrics.close(&family, before);
        let names: BTreeSet<String> = metrics.samples.iter().map(Sample::identity).collect();
        assert_eq!(names.len(), metrics.samples.len(), "a series is there twice");
        metrics
    }

    /// All series with this name and these labels, among others, added up. There must be one.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let of: Vec<f64> = self.select(name, labels).map(|sample| sample.value).collect();
        assert!(!of.is_empty(), "no series {name} with {labels:?}");
        of.iter().sum()
    }

    /// The values of a label of a family.
    pub fn labels(&self, name: &str, label: &str) -> BTreeSet<String> {
        self.select(name, &[]).filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    /// Every series, without its value.
    pub fn series(&self) -> BTreeSet<String> {
        self.samples.iter().map(Sample::identity).collect()
    }

    fn select<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let of = self.samples.iter().filter(move |sample| sample.name == name);
        of.filter(|sample| labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value)))
    }

    /// The family's samples are complete.
    fn close(&mut self, family: &Family, from: usize) {
        if family.name.is_empty() {
            assert!(self.samples.is_empty());
            return;
        }
        let name = &family.name;
        let kind = family.kind.clone().unwrap_or_else(|| panic!("{name} has no TYPE"));
        assert!(family.help.is_some(), "{name} has no HELP");
        if let Some(unit) = &family.unit {
            assert!(name.ends_with(&format!("_{unit}")), "{name} does not end with its unit, {unit}");
        }
        assert!(self.samples.len() > from, "{name} has no sample");
        if kind == "histogram" {
            self.check_histogram(name, from);
        }
        assert!(self.families.insert(name.clone(), kind).is_none(), "{name} is there twice, or in pieces");
    }

    fn check_histogram(&self, name: &str, from: usize) {
        let mut buckets: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in self.samples[from..].iter().filter(|s| s.name.ends_with("_bucket")) {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le").expect("le").parse().expect("a number, or +Inf");
            buckets.entry(labels).or_default().push((bound, sample.value));
        }
        for (labels, buckets) in buckets {
            assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels:?}: {buckets:?}");
            let pairs: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let last = buckets.last().unwrap();
            assert_eq!((last.0, last.1), (f64::INFINITY, self.sum(&format!("{name}_count"), &pairs)));
        }
    }
}

impl Family {
    fn take(&mut self, word: &str, text: &str) {
        let field = match word {
            "HELP" => &mut self.help,
            "TYPE" => &mut self.kind,
            "UNIT" => &mut self.unit,
            _ => panic!("# {word} is no metadata"),
        };
        assert!(!text.is_empty() && field.is_none(), "{word} of {} twice, or empty", self.name);
        assert!(!text.contains(['\\', '"']), "nothing here needs escaping: {text}");
        *field = Some(text.to_owned());
        assert!(is_name(&self.name), "{}", self.name);
        if word == "TYPE" {
            assert!(["counter", "gauge", "histogram", "info"].contains(&text), "{text}");
        }
    }

    fn owns(&self, sample: &Sample) -> bool {
        let suffixes: &[&str] = match self.kind.as_deref() {
            Some("counter") => &["_total"],
            Some("gauge") => &[""],
            Some("histogram") => &["_bucket", "_count", "_sum"],
            Some("info") => &["_info"],
            _ => &[],
        };
        let counts = sample.value.is_finite() && sample.value >= 0.0;
        assert!(counts || self.kind.as_deref() == Some("gauge"), "{sample:?}");
        suffixes.iter().any(|suffix| sample.name.strip_suffix(suffix) == Some(&self.name))
    }
}

impl Sample {
    fn read(line: &str) -> Sample {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect(line));
        let mut labels = BTreeMap::new();
        let mut rest = rest;
        if let Some(mut inside) = rest.strip_prefix('{') {
            loop {
                let (key, after) = inside.split_once("=\"").expect(line);
                assert!(is_name(key) && !key.contains(':'), "{line}");
                let (value, after) = quoted(after);
                assert!(labels.insert(key.to_owned(), value).is_none(), "a label twice: {line}");
                match after.strip_prefix(',') {
                    Some(more) => inside = more,
                    None => {
                        rest = after.strip_prefix('}').expect(line);
                        break;
                    }
                }
            }
        }
        let value = rest.strip_prefix(' ').expect(line).parse().expect(line);
        assert!(is_name(name), "{line}");
        Sample { name: name.to_owned(), labels, value }
    }

    fn identity(&self) -> String {
        format!("{}{:?}", self.name, self.labels)
    }
}

/// A label's value, behind its opening quote, and what follows its closing one.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().expect("an escaped character").1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                other => panic!("\\{other} is no escape"),
            }),
            c => value.push(c),
        }
    }
    panic!("a label's value does not end: {text}")
}

fn is_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit())
}
