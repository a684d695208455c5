//! The schema of Doorward's database, one change a file, oldest first.
//!
//! Nothing of the service is imported here: a migration says in its own words what it does, so that it means the same for ever.
//! Conventions: ids are UUIDs (16-byte blobs on SQLite); times are whole seconds since the Unix epoch (`…_at`, big integers, compared
//! alike on both databases); states are lower-case words; digests and sealed keys are bytes.
//!
//! To add a change: a new file `m<date>_<number>_<what>.rs`, its module here, its line in [`Migrator::migrations`]. An applied file is
//! never edited. An old server must be able to go on with the new schema, since both run side by side while a deployment rolls.

use sea_orm_migration::prelude::*;

mod m20261124_000001_instance;
mod m20261124_000002_users;
mod m20261124_000003_tenants;
mod m20261124_000004_memberships;
mod m20261124_000005_sessions;
mod m20261124_000006_signing_keys;
mod m20261124_000007_audit_events;
mod m20261126_000008_service_accounts;
mod m20261126_000009_live_sessions;
mod m20261126_000010_changes;
mod m20261126_000011_replaced;

/// Every change, in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261124_000001_instance::Migration),
            Box::new(m20261124_000002_users::Migration),
            Box::new(m20261124_000003_tenants::Migration),
            Box::new(m20261124_000004_memberships::Migration),
            Box::new(m20261124_000005_sessions::Migration),
            Box::new(m20261124_000006_signing_keys::Migration),
            Box::new(m20261124_000007_audit_events::Migration),
            Box::new(m20261126_000008_service_accounts::Migration),
            Box::new(m20261126_000009_live_sessions::Migration),
            Box::new(m20261126_000010_changes::Migration),
            Box::new(m20261126_000011_replaced::Migration),
        ]
    }
}
