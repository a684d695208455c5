//! Keys that sign access tokens; the private half is sealed under the root secret.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut keys = Table::create();
        keys.table("signing_keys")
            .col(uuid("id").primary_key())
            .col(text("kid"))
            .col(text("algorithm"))
            .col(text("state"))
            .col(binary("sealed_private_key"))
            .col(big_integer("created_at"))
            .col(big_integer_null("activated_at"))
            .col(big_integer_null("retired_at"))
            .col(big_integer_null("revoked_at"))
            .index(Index::create().name("signing_keys_kid_key").col("kid").unique());
        manager.create_table(keys).await
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
