//! People and their passwords.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut users = Table::create();
        users
            .table("users")
            .col(uuid("id").primary_key())
            .col(text_null("external_id"))
            .col(text_null("email"))
            .col(text_null("email_canonical"))
            .col(text_null("username"))
            .col(text_null("username_canonical"))
            .col(text("full_name"))
            .col(text("given_name"))
            .col(text("family_name"))
            .col(text("state"))
            .col(boolean("superuser"))
            .col(boolean("email_verified"))
            .col(json_binary("attributes"))
            .col(big_integer("epoch"))
            .col(big_integer("revision"))
            .col(big_integer("created_at"))
            // A person without a name to log in by can only be a deleted one.
            .check(
                Expr::col("state")
                    .eq("deleted")
                    .or(Expr::col("email_canonical").is_not_null())
                    .or(Expr::col("username_canonical").is_not_null()),
            );
        manager.create_table(users).await?;
        for column in ["external_id", "email_canonical", "username_canonical"] {
            let mut index = Index::create();
            index.name(format!("users_{column}_key")).table("users").col(column).unique();
            manager.create_index(index).await?;
        }

        let mut credentials = Table::create();
        credentials
            .table("password_credentials")
            .col(uuid("user_id").primary_key())
            .col(text("scheme"))
            .col(text("hash"))
            .col(boolean("must_change"))
            .col(boolean("reset_required"))
            .col(big_integer("version"))
            .col(big_integer("changed_at"))
            .foreign_key(ForeignKey::create().from("password_credentials", "user_id").to("users", "id"));
        manager.create_table(credentials).await
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
