//! Workloads with an identity of their own: accounts, what they may do, and what proves them.
//!
//! An account without a tenant is instance-wide and holds permissions of its own; one of a tenant holds roles there, linked like those of a
//! member: another tenant's role cannot be.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut accounts = Table::create();
        accounts
            .table("service_accounts")
            .col(uuid("id").primary_key())
            .col(uuid_null("tenant_id"))
            .col(text("name"))
            .col(text("state"))
            .col(json_binary("permissions"))
            .col(big_integer("epoch"))
            .col(big_integer("revision"))
            .col(big_integer("created_at"))
            .foreign_key(ForeignKey::create().from("service_accounts", "tenant_id").to("tenants", "id"))
            .index(Index::create().name("service_accounts_tenant_id_id_key").col("tenant_id").col("id").unique());
        manager.create_table(accounts).await?;

        let mut links = Table::create();
        links
            .table("service_account_roles")
            .col(uuid("tenant_id"))
            .col(uuid("service_account_id"))
            .col(uuid("role_id"))
            .primary_key(Index::create().col("service_account_id").col("role_id"))
            .foreign_key(
                ForeignKey::create()
                    .from("service_account_roles", ("tenant_id", "service_account_id"))
                    .to("service_accounts", ("tenant_id", "id")),
            )
            .foreign_key(ForeignKey::create().from("service_account_roles", ("tenant_id", "role_id")).to("roles", ("tenant_id", "id")));
        manager.create_table(links).await?;

        // The digest of the secret alone: whoever reads the table cannot present one.
        let mut secrets = Table::create();
        secrets
            .table("service_account_secrets")
            .col(uuid("id").primary_key())
            .col(uuid("service_account_id"))
            .col(binary("digest"))
            .col(big_integer("created_at"))
            .col(big_integer_null("expires_at"))
            .col(big_integer_null("last_used_at"))
            .foreign_key(ForeignKey::create().from("service_account_secrets", "service_account_id").to("service_accounts", "id"));
        manager.create_table(secrets).await?;

        // A name in a certificate is one account's, or none's.
        let mut certificates = Table::create();
        certificates
            .table("service_account_certificates")
            .col(text("name").primary_key())
            .col(uuid("service_account_id"))
            .col(big_integer("created_at"))
            .foreign_key(ForeignKey::create().from("service_account_certificates", "service_account_id").to("service_accounts", "id"));
        manager.create_table(certificates).await?;

        let of_account = ["service_account_secrets", "service_account_certificates"].map(|table| (table, "service_account_id"));
        for (table, column) in of_account.into_iter().chain([("service_account_roles", "role_id")]) {
            let mut index = Index::create();
            index.name(format!("{table}_{column}_idx")).table(table).col(column);
            manager.create_index(index).await?;
        }
        Ok(())
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
