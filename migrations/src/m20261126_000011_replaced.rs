//! SQLite's `UPDATE OR REPLACE` takes away the rows that the new values would meet, without their delete trigger: an update that meets
//! another row announces everything. (An insertion that does is announced already.) What is announced under one name for all of its rows,
//! or would only take away a row of the same owner, needs none.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

#[derive(DeriveMigrationName)]
pub struct Migration;

/// What no two rows of a table have in common.
const UNIQUE: &[(&str, &[&[&str]])] = &[
    ("instance", &[&["id"]]),
    ("users", &[&["id"], &["external_id"], &["email_canonical"], &["username_canonical"]]),
    ("tenants", &[&["id"], &["slug"], &["tax_id"], &["external_id"]]),
    ("roles", &[&["id"], &["tenant_id", "name"]]),
    ("memberships", &[&["id"], &["tenant_id", "user_id"]]),
    ("sessions", &[&["id"]]),
    ("service_accounts", &[&["id"]]),
    ("service_account_secrets", &[&["id"]]),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        if db.get_database_backend() != DbBackend::Sqlite {
            return Ok(());
        }
        for (table, unique) in UNIQUE {
            let columns = unique.concat().join(", ");
            let same =
                |columns: &&[&str]| columns.iter().map(|column| format!("o.{column} = NEW.{column}")).collect::<Vec<_>>().join(" AND ");
            let met = unique.iter().map(same).collect::<Vec<_>>().join(" OR ");
            let trigger = format!(
                "CREATE TRIGGER changes_{table}_replaced BEFORE UPDATE OF {columns} ON {table}
                 WHEN EXISTS (SELECT 1 FROM {table} o WHERE o.rowid <> OLD.rowid AND ({met})) BEGIN
                 INSERT INTO changes (kind, entity_id) VALUES ('everything', NULL); END"
            );
            db.execute_unprepared(&trigger).await?;
        }
        Ok(())
    }

    // A failed step would otherwise leave its triggers behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
