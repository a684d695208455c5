//! Roles of a tenant, who is a member of it, and who holds which role.
//!
//! A role link carries the tenant and refers to both sides by (tenant, id): another tenant's role cannot be linked.

use sea_orm_migration::{prelude::*, schema::*};

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut roles = Table::create();
        roles
            .table("roles")
            .col(uuid("id").primary_key())
            .col(uuid("tenant_id"))
            .col(text("name"))
            .col(text("description"))
            .col(integer("level"))
            .col(boolean("system"))
            .col(json_binary("attributes"))
            .col(json_binary("permissions"))
            .col(big_integer("created_at"))
            .check(Expr::col("level").between(0, 100))
            .foreign_key(ForeignKey::create().from("roles", "tenant_id").to("tenants", "id"))
            .index(Index::create().name("roles_tenant_id_id_key").col("tenant_id").col("id").unique())
            .index(Index::create().name("roles_tenant_id_name_key").col("tenant_id").col("name").unique());
        manager.create_table(roles).await?;

        let mut memberships = Table::create();
        memberships
            .table("memberships")
            .col(uuid("id").primary_key())
            .col(uuid("tenant_id"))
            .col(uuid("user_id"))
            .col(text("state"))
            .col(text_null("external_id"))
            .col(big_integer("epoch"))
            .col(big_integer("revision"))
            .col(big_integer("created_at"))
            .foreign_key(ForeignKey::create().from("memberships", "tenant_id").to("tenants", "id"))
            .foreign_key(ForeignKey::create().from("memberships", "user_id").to("users", "id"))
            .index(Index::create().name("memberships_tenant_id_id_key").col("tenant_id").col("id").unique())
            .index(Index::create().name("memberships_tenant_id_user_id_key").col("tenant_id").col("user_id").unique());
        manager.create_table(memberships).await?;
        let mut index = Index::create();
        index.name("memberships_user_id_id_idx").table("memberships").col("user_id").col("id");
        manager.create_index(index).await?;

        let mut links = Table::create();
        links
            .table("membership_roles")
            .col(uuid("tenant_id"))
            .col(uuid("membership_id"))
            .col(uuid("role_id"))
            .primary_key(Index::create().col("membership_id").col("role_id"))
            .foreign_key(
                ForeignKey::create().from("membership_roles", ("tenant_id", "membership_id")).to("memberships", ("tenant_id", "id")),
            )
            .foreign_key(ForeignKey::create().from("membership_roles", ("tenant_id", "role_id")).to("roles", ("tenant_id", "id")));
        manager.create_table(links).await?;
        let mut index = Index::create();
        index.name("membership_roles_role_id_idx").table("membership_roles").col("role_id");
        manager.create_index(index).await
    }

    // A failed step would otherwise leave its tables behind on SQLite.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}
