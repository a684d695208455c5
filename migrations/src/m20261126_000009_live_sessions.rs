//! An index of a user's sessions that are not ended, by when they end: logins count them and people list them, also where years of old
//! ones lie beside.
//!
//! It names no column that a refresh changes.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut index = Index::create();
        index
            .name("sessions_live_user_id_expires_at_idx")
            .table("sessions")
            .col("user_id")
            .col("expires_at")
            .and_where(Expr::col("revoked_at").is_null());
        manager.create_index(index).await
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
