//! What the store counts: units of work by name and outcome, statements, and how full the pools are.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use sea_orm::{DatabaseConnection, DbBackend};

use super::{Pools, Store};
use crate::{
    error::{Error, Result},
    metrics::seconds,
};

/// The handles. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    units: Family<UnitLabels, Histogram, fn() -> Histogram>,
    retries: Counter,
    statements: Counter,
    renewals: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UnitLabels {
    unit: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: &'static str,
    state: &'static str,
}

impl Default for Counted {
    fn default() -> Self {
        let units = Family::new_with_constructor(seconds as fn() -> Histogram);
        Self { units, retries: Counter::default(), statements: Counter::default(), renewals: Counter::default() }
    }
}

impl Counted {
    /// A unit of work is over.
    pub(super) fn unit<T>(&self, unit: &'static str, took: std::time::Duration, outcome: &Result<T>) {
        let outcome = match outcome {
            Ok(_) => "ok",
            Err(Error::Conflict) => "conflict",
            Err(Error::Unavailable(_)) => "unavailable",
            Err(Error::Internal(_)) => "internal",
            Err(_) => "refused",
        };
        self.units.get_or_create(&UnitLabels { unit, outcome }).observe(took.as_secs_f64());
    }

    /// A unit of work lost a race and is tried again.
    pub(super) fn retry(&self) {
        self.retries.inc();
    }

    /// The connections were given up for new ones.
    pub(super) fn renewal(&self) {
        self.renewals.inc();
    }

    /// Counts the statements of a new pool.
    pub(super) fn watch(&self, pool: &mut DatabaseConnection) {
        let statements = self.statements.clone();
        pool.set_metric_callback(move |_| {
            statements.inc();
        });
    }

    /// The counter of statements, for what goes past sea-orm's pool.
    pub(super) fn statements(&self) -> Counter {
        self.statements.clone()
    }
}

impl Store {
    /// Gives what is counted here its names.
    pub fn register(&self, registry: &mut Registry) {
        let counted = &self.counted;
        let units = counted.units.clone();
        registry.register_with_unit("doorward_store_unit", "Units of work on the database, by name and outcome", Unit::Seconds, units);
        registry.register("doorward_store_retries", "Units of work that lost a race and were tried again", counted.retries.clone());
        registry.register(
            "doorward_store_statements",
            "Statements sent to the database, but for the probe of readiness",
            counted.statements.clone(),
        );
        registry.register("doorward_store_renewals", "Times that the connections were given up for new ones", counted.renewals.clone());
        registry.register_collector(Box::new(PoolSizes(self.clone())));
        self.feed.register(registry);
    }

    /// How many statements were sent to the database; beginning and ending a transaction, and [`Store::ping`], are none.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.counted.statements.get()
    }
}

/// Looks at the pools when it is asked.
struct PoolSizes(Store);

impl fmt::Debug for PoolSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolSizes")
    }
}

impl Collector for PoolSizes {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Pools { writer, reader, .. } = self.0.pools();
        // On PostgreSQL they are one and the same.
        let pools = match writer.get_database_backend() {
            DbBackend::Sqlite => vec![("writer", &writer), ("reader", &reader)],
            _ => vec![("all", &writer)],
        };
        let help = "Connections to the database.";
        let mut metric = encoder.encode_descriptor("doorward_store_connections", help, None, MetricType::Gauge)?;
        for (pool, connection) in pools {
            let (open, idle) = sizes(connection);
            for (state, count) in [("busy", open.saturating_sub(idle)), ("idle", idle)] {
                let labels = PoolLabels { pool, state };
                ConstGauge::new(u64::from(count)).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Connections that are open, and those of them that are idle.
fn sizes(connection: &DatabaseConnection) -> (u32, u32) {
    let (open, idle) = match connection.get_database_backend() {
        DbBackend::Sqlite => {
            let pool = connection.get_sqlite_connection_pool();
            (pool.size(), pool.num_idle())
        }
        DbBackend::Postgres => {
            let pool = connection.get_postgres_connection_pool();
            (pool.size(), pool.num_idle())
        }
        _ => (0, 0),
    };
    // The driver's count passes through the largest number there is when one is given back and taken at one moment.
    (open, u32::try_from(idle).ok().filter(|idle| *idle <= open).unwrap_or(0))
}
