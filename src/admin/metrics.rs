//! `/metrics`: families of numbers as OpenMetrics text. What the families are is in [`super::families`].

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Control, families};
use crate::stats::Latency;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page as it is now.
pub(super) fn render(control: &dyn Control) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(families::all(control))));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

/// One family: a name, and series that differ in their labels.
#[derive(Debug)]
pub(super) struct Family {
    /// Without its unit, and without `_total`.
    pub name: String,
    pub help: String,
    pub unit: Option<Unit>,
    pub kind: MetricType,
    pub series: Vec<(Labels, Value)>,
}

pub(super) type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Times(Latency),
}

impl Family {
    pub fn counter(name: impl Into<String>, help: &str) -> Family {
        Family { name: name.into(), help: help.to_owned(), unit: None, kind: MetricType::Counter, series: Vec::new() }
    }

    pub fn gauge(name: impl Into<String>, help: &str) -> Family {
        Family { kind: MetricType::Gauge, ..Family::counter(name, help) }
    }

    pub fn histogram(name: impl Into<String>, help: &str) -> Family {
        Family { kind: MetricType::Histogram, ..Family::counter(name, help) }
    }

    pub fn info(name: impl Into<String>, help: &str) -> Family {
        Family { kind: MetricType::Info, ..Family::counter(name, help) }
    }

    pub fn unit(self, unit: Unit) -> Family {
        Family { unit: Some(unit), ..self }
    }

    pub fn with(mut self, labels: Labels, value: Value) -> Family {
        self.series.push((labels, value));
        self
    }

    /// With this one series, which has no labels.
    pub fn of(self, value: Value) -> Family {
        self.with(Vec::new(), value)
    }

    fn encode(&self, mut family: MetricEncoder<'_>) -> fmt::Result {
        for (labels, value) in &self.series {
            if matches!(self.kind, MetricType::Info) {
                family.encode_info(labels)?;
            } else if labels.is_empty() {
                value.encode(family, self.kind)?;
                return Ok(());
            } else {
                value.encode(family.encode_family(labels)?, self.kind)?;
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, mut to: MetricEncoder<'_>, kind: MetricType) -> fmt::Result {
        match (self, kind) {
            (Value::Whole(n), MetricType::Counter) => ConstCounter::new(*n).encode(to),
            (Value::Real(x), MetricType::Counter) => ConstCounter::new(*x).encode(to),
            (Value::Whole(n), _) => ConstGauge::new(*n).encode(to),
            (Value::Real(x), _) => ConstGauge::new(*x).encode(to),
            (Value::Times(times), _) => {
                let bounds = Latency::bounds_s().chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = bounds.zip(times.counts).collect();
                to.encode_histogram::<NoLabelSet>(times.sum_s(), times.count(), &buckets, None)
            }
        }
    }
}

#[derive(Debug)]
struct Page(Vec<Family>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.0.iter().filter(|family| !family.series.is_empty()) {
            let of = encoder.encode_descriptor(&family.name, &family.help, family.unit.as_ref(), family.kind)?;
            family.encode(of)?;
        }
        Ok(())
    }
}
