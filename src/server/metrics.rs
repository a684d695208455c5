//! What there is to say of a server from its first moment, before the service is opened: connections, TLS, health, its version. And the
//! page that has it all.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge, gauge::Gauge, info::Info},
    registry::Registry,
};

use super::{
    health::{HealthState, HealthView},
    tls,
};
use crate::app::App;

/// What a listener counts.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    open: Gauge,
    accepted: Counter,
    /// Connections that were closed at once because the listener was full.
    pub refused: Counter,
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub struct Open(Gauge);

impl Connections {
    /// Counts a connection that is served.
    #[must_use]
    pub fn accept(&self) -> Open {
        self.accepted.inc();
        self.open.inc();
        Open(self.open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealthLabels {
    name: &'static str,
}

/// The page of metrics. Clones are the same one.
#[derive(Clone, Debug)]
pub struct MetricsPage(Arc<Page>);

struct Page {
    registry: Registry,
    open: Family<ListenerLabels, Gauge>,
    accepted: Family<ListenerLabels, Counter>,
    refused: Family<ListenerLabels, Counter>,
    tls: tls::Counters,
    /// The service, once it is opened.
    app: RwLock<Option<Arc<App>>>,
}

impl MetricsPage {
    /// A page of a server that shows `health`.
    #[must_use]
    pub fn new(health: HealthView) -> Self {
        let mut registry = Registry::default();
        let (open, accepted, refused) = (Family::default(), Family::default(), Family::default());
        registry.register("doorward_build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("doorward_connections", "Connections that are open, by listener", open.clone());
        registry.register("doorward_connections_accepted", "Connections that were accepted, by listener", accepted.clone());
        registry.register("doorward_connections_refused", "Connections closed because the listener was full", refused.clone());
        let tls = tls::Counters::register(&mut registry);
        registry.register_collector(Box::new(Health(health)));
        Self(Arc::new(Page { registry, open, accepted, refused, tls, app: RwLock::default() }))
    }

    /// What the connections of a listener are counted with.
    #[must_use]
    pub fn connections(&self, listener: &'static str) -> Connections {
        let labels = ListenerLabels { listener };
        Connections {
            open: self.0.open.get_or_create_owned(&labels),
            accepted: self.0.accepted.get_or_create_owned(&labels),
            refused: self.0.refused.get_or_create_owned(&labels),
        }
    }

    /// What TLS is counted with.
    #[must_use]
    pub fn tls(&self) -> tls::Counters {
        self.0.tls.clone()
    }

    /// Adds what the service counts.
    pub fn add(&self, app: Arc<App>) {
        *self.0.app.write().unwrap_or_else(PoisonError::into_inner) = Some(app);
    }

    /// The page in the OpenMetrics text format.
    ///
    /// # Errors
    /// A metric has no text form: a defect.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode_registry(&mut page, &self.0.registry)?;
        let app = self.0.app.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(app) = app {
            text::encode_registry(&mut page, app.metrics.registry())?;
        }
        text::encode_eof(&mut page)?;
        Ok(page)
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").finish_non_exhaustive()
    }
}

/// What the probes are told, when it is asked for.
#[derive(Debug)]
struct Health(HealthView);

impl Collector for Health {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let state: HealthState = self.0.now();
        let help = "What probes are told: 1 for SERVING, 0 for NOT_SERVING.";
        let mut metric = encoder.encode_descriptor("doorward_health", help, None, MetricType::Gauge)?;
        for (name, is_serving) in [("startup", state.is_started()), ("readiness", state.is_ready()), ("liveness", state.is_live())] {
            ConstGauge::new(u64::from(is_serving)).encode(metric.encode_family(&HealthLabels { name })?)?;
        }
        Ok(())
    }
}
