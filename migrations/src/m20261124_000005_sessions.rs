//! Sessions, with the epochs that they were opened under and the chain of their refresh tokens.
//!
//! No index names a column that a refresh changes, so that PostgreSQL can update the row in place.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut sessions = Table::create();
        sessions
            .table("sessions")
            .col(uuid("id").primary_key())
            .col(uuid("user_id"))
            .col(uuid_null("tenant_id"))
            .col(text("client_id"))
            .col(text("scope"))
            .col(text("amr"))
            .col(big_integer("instance_epoch"))
            .col(big_integer("user_epoch"))
            .col(big_integer_null("tenant_epoch"))
            .col(big_integer_null("membership_epoch"))
            .col(boolean("must_change"))
            .col(big_integer("created_at"))
            .col(big_integer("last_seen_at"))
            .col(big_integer("idle_expires_at"))
            .col(big_integer("expires_at"))
            .col(text_null("ip_address"))
            .col(text_null("user_agent"))
            .col(text_null("device_name"))
            .col(big_integer_null("revoked_at"))
            .col(text_null("revoked_reason"))
            .col(big_integer("refresh_generation"))
            .col(binary_null("refresh_digest"))
            .col(big_integer("rotated_at"))
            .foreign_key(ForeignKey::create().from("sessions", "user_id").to("users", "id"))
            .foreign_key(ForeignKey::create().from("sessions", "tenant_id").to("tenants", "id"));
        manager.create_table(sessions).await?;
        for column in ["user_id", "tenant_id"] {
            let mut index = Index::create();
            index.name(format!("sessions_{column}_idx")).table("sessions").col(column);
            manager.create_index(index).await?;
        }
        Ok(())
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
