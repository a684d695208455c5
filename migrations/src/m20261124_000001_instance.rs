//! One row of facts about the instance: whether its first superuser was made, the epoch of everything, and which root secret it belongs to.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut table = Table::create();
        table
            .table("instance")
            .col(integer("id").primary_key())
            .col(boolean("bootstrapped").default(false))
            .col(big_integer("epoch").default(0))
            .col(text_null("root_check"))
            .col(big_integer("created_at"))
            .check(Expr::col("id").eq(1));
        manager.create_table(table).await
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
