//! The audit trail: append-only, referenced by nothing and referring to nothing, so that it can be partitioned and kept apart.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut events = Table::create();
        events
            .table("audit_events")
            .col(uuid("id").primary_key())
            .col(big_integer("created_at"))
            .col(text("event"))
            .col(text("outcome"))
            .col(text_null("reason"))
            .col(text("actor_kind"))
            .col(text_null("actor_id"))
            .col(text_null("object_kind"))
            .col(text_null("object_id"))
            .col(uuid_null("tenant_id"))
            .col(uuid_null("session_id"))
            .col(text_null("client_id"))
            .col(text_null("ip_address"))
            .col(text_null("request_id"))
            .col(json_binary("details"));
        manager.create_table(events).await?;
        for columns in [["tenant_id", "id"], ["object_id", "id"]] {
            let mut index = Index::create();
            index.name(format!("audit_events_{}_idx", columns.join("_"))).table("audit_events");
            for column in columns {
                index.col(column);
            }
            manager.create_index(index).await?;
        }
        Ok(())
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
