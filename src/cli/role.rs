//! `doorward role …`.

use clap::{Args, Subcommand};

use super::{desk::Desk, failure::Failure, output, views::RoleView};
use crate::domain::{
    roles::{self, NewRoleRequest},
    tenants,
};

/// What to do about roles.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Make a role in a tenant
    #[command(after_help = "Example:\n  doorward role create --tenant acme --name sales --level 30 --permission sales:read sales:write")]
    Create(Create),
    /// List the roles of a tenant, the highest level first
    #[command(after_help = "Example:\n  doorward role list --tenant acme")]
    List(List),
}

/// What a role is made of.
#[derive(Debug, Args)]
pub struct Create {
    /// Id or slug of the tenant
    #[arg(long)]
    tenant: String,
    /// Name, unique in the tenant
    #[arg(long)]
    name: String,
    /// What the role is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    /// 0 to 100; who grants roles must stand higher than those they grant
    #[arg(long, allow_negative_numbers = true)]
    level: i32,
    /// What the role allows, as resource:action; * for any of either; may be repeated
    #[arg(long = "permission", value_name = "PERMISSION", num_args = 1..)]
    permissions: Vec<String>,
}

/// Whose roles.
#[derive(Debug, Args)]
pub struct List {
    /// Id or slug of the tenant
    #[arg(long)]
    tenant: String,
}

/// Does it.
///
/// # Errors
/// What `domain::roles` refuses.
pub async fn run(desk: &Desk, command: RoleCommand) -> Result<(), Failure> {
    match command {
        RoleCommand::Create(request) => create(desk, request).await,
        RoleCommand::List(List { tenant }) => {
            let tenant = tenants::resolve(&desk.app, &tenant).await?;
            let roles = roles::list(&desk.app, tenant.id).await?;
            output::list(desk.format, &roles.iter().map(RoleView::from).collect::<Vec<_>>())
        }
    }
}

async fn create(desk: &Desk, request: Create) -> Result<(), Failure> {
    let Create { tenant, name, description, level, permissions } = request;
    let tenant = tenants::resolve(&desk.app, &tenant).await?;
    let new = NewRoleRequest { name, level, permissions, description };
    let created = roles::create(&desk.app, &tenant, new, desk.actor()).await;
    let role = created.map_err(|error| Failure::from(error).naming("TENANT", &tenant.slug))?;
    let text = format!("Created the role {} of the tenant {} ({}).", output::quoted(&role.name), output::quoted(&tenant.slug), role.id);
    output::one(desk.format, &RoleView::from(&role), &text)
}
