//! Tenants.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut tenants = Table::create();
        tenants
            .table("tenants")
            .col(uuid("id").primary_key())
            .col(text("slug"))
            .col(text("name"))
            .col(text_null("tax_id"))
            .col(text_null("external_id"))
            .col(text("state"))
            .col(integer_null("seat_limit"))
            .col(json_binary("attributes"))
            .col(json_binary("policy"))
            .col(big_integer("epoch"))
            .col(big_integer("revision"))
            .col(big_integer("created_at"));
        manager.create_table(tenants).await?;
        for column in ["slug", "tax_id", "external_id"] {
            let mut index = Index::create();
            index.name(format!("tenants_{column}_key")).table("tenants").col(column).unique();
            manager.create_index(index).await?;
        }
        Ok(())
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
