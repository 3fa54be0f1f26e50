//! Every worker's counters as OpenMetrics text. The workers are not stopped to be read.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use prometheus_client::{collector::Collector, metrics::MetricType};

use super::Control;
use crate::stats::StatKind;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page as it is now.
pub(super) fn render(control: &dyn Control) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(Snapshot::take(control)));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

/// The numbers of one moment.
#[derive(Debug)]
struct Snapshot {
    ready: bool,
    service_id: String,
    stats: Vec<Stat>,
}

#[derive(Debug)]
struct Stat {
    name: &'static str,
    kind: StatKind,
    help: &'static str,
    /// One for each worker.
    values: Vec<u64>,
}

impl Snapshot {
    fn take(control: &dyn Control) -> Snapshot {
        let mut stats: Vec<Stat> = Vec::new();
        for worker in control.workers() {
            for (at, (name, kind, help, value)) in worker.each().enumerate() {
                match stats.get_mut(at) {
                    Some(stat) => stat.values.push(value),
                    None => stats.push(Stat { name, kind, help, values: vec![value] }),
                }
            }
        }
        Snapshot { ready: control.ready().is_ok(), service_id: control.service_id().to_owned(), stats }
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let labels = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("service_id", self.service_id.clone())];
        let info = Info::new(labels.to_vec());
        info.encode(encoder.encode_descriptor("build", "What is running.", None, MetricType::Info)?)?;
        let ready = ConstGauge::new(u32::from(self.ready));
        let help = "1 while new connections are welcome.";
        ready.encode(encoder.encode_descriptor("ready", help, None, MetricType::Gauge)?)?;
        for stat in &self.stats {
            // Counters get their `_total` from the encoder.
            let kind = match stat.kind {
                StatKind::Counter => MetricType::Counter,
                StatKind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(stat.name, stat.help, None, kind)?;
            for (worker, value) in stat.values.iter().enumerate() {
                let labels = [("worker", worker.to_string())];
                let metric = family.encode_family(&labels)?;
                match stat.kind {
                    StatKind::Counter => ConstCounter::new(*value).encode(metric)?,
                    StatKind::Gauge => ConstGauge::new(*value).encode(metric)?,
                }
            }
        }
        Ok(())
    }
}
