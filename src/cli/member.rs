//! `doorward member …`.

use clap::{Args, Subcommand};

use super::{
    confirm::Confirm,
    desk::Desk,
    failure::Failure,
    output,
    views::{MemberView, user_name},
};
use crate::{
    domain::{memberships, roles, tenants, users},
    error::Error,
    store::tenants::Tenant,
};

/// What to do about members.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Make a user a member of a tenant
    #[command(after_help = "Example:\n  doorward member add --tenant acme --user ann@example.com --role admin sales")]
    Add(Add),
    /// List the members of a tenant with their roles
    #[command(after_help = "Example:\n  doorward member list --tenant acme")]
    List(List),
    /// End a membership; what the member held for this tenant ends with it
    #[command(after_help = "Example:\n  doorward member remove --tenant acme --user ann@example.com --yes")]
    Remove(Remove),
}

/// A new member.
#[derive(Debug, Args)]
pub struct Add {
    /// Id or slug of the tenant
    #[arg(long)]
    tenant: String,
    /// Id, e-mail address or user name
    #[arg(long)]
    user: String,
    /// Name of a role of the tenant; may be repeated
    #[arg(long = "role", value_name = "ROLE", num_args = 1.., default_value = "member")]
    roles: Vec<String>,
}

/// Whose members.
#[derive(Debug, Args)]
pub struct List {
    /// Id or slug of the tenant
    #[arg(long)]
    tenant: String,
}

/// A membership to be ended.
#[derive(Debug, Args)]
pub struct Remove {
    /// Id or slug of the tenant
    #[arg(long)]
    tenant: String,
    /// Id, e-mail address or user name
    #[arg(long)]
    user: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Does it.
///
/// # Errors
/// What `domain::memberships` refuses.
pub async fn run(desk: &Desk, command: MemberCommand) -> Result<(), Failure> {
    match command {
        MemberCommand::Add(request) => add(desk, request).await,
        MemberCommand::List(List { tenant }) => {
            let tenant = tenants::resolve(&desk.app, &tenant).await?;
            let members = memberships::list(&desk.app, tenant.id).await?;
            let views: Vec<_> = members.iter().map(|(membership, user, roles)| MemberView::new(membership, user, roles)).collect();
            output::list(desk.format, &views)
        }
        MemberCommand::Remove(request) => remove(desk, &request).await,
    }
}

async fn add(desk: &Desk, request: Add) -> Result<(), Failure> {
    let tenant = tenants::resolve(&desk.app, &request.tenant).await?;
    let user = users::resolve(&desk.app, &request.user).await?;
    let added = memberships::add(&desk.app, &tenant, &user, request.roles.clone(), desk.actor()).await;
    let (membership, roles) = match added {
        Ok(added) => added,
        Err(Error::NotFound("role")) => return Err(unknown_roles(desk, &tenant, &request.roles).await),
        Err(error) => return Err(Failure::from(error).naming("TENANT", &tenant.slug).naming("USER", &request.user)),
    };
    let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let (who, slug) = (user_name(&user), output::quoted(&tenant.slug));
    let text = format!("The user {who} is a member of the tenant {slug} with the roles {}.", output::quoted(&names.join(", ")));
    output::one(desk.format, &MemberView::new(&membership, &user, &roles), &text)
}

/// Which of the names are no role of the tenant, and which would be one.
async fn unknown_roles(desk: &Desk, tenant: &Tenant, names: &[String]) -> Failure {
    let roles = match roles::list(&desk.app, tenant.id).await {
        Ok(roles) => roles,
        Err(error) => return error.into(),
    };
    let unknown: Vec<String> = names.iter().filter(|name| roles.iter().all(|role| role.name != **name)).map(output::quoted).collect();
    let known: Vec<String> = roles.iter().map(|role| output::quoted(&role.name)).collect();
    let (unknown, known, slug) = (unknown.join(", "), known.join(", "), output::quoted(&tenant.slug));
    Failure::new(format!("the tenant {slug} has no role {unknown}: it has {known}; `doorward role create --tenant TENANT` makes one"))
        .naming("TENANT", &tenant.slug)
}

async fn remove(desk: &Desk, request: &Remove) -> Result<(), Failure> {
    let tenant = tenants::resolve(&desk.app, &request.tenant).await?;
    let user = users::resolve(&desk.app, &request.user).await?;
    let (who, slug) = (user_name(&user), output::quoted(&tenant.slug));
    request.confirm.ask(&format!("ends the membership of the user {who} in the tenant {slug}"))?;
    let removed = memberships::remove(&desk.app, &tenant, &user, desk.actor()).await;
    removed.map_err(|error| Failure::from(error).naming("TENANT", &tenant.slug))?;
    let ended = serde_json::json!({ "tenant_id": tenant.id, "user_id": user.id, "membership_state": "removed" });
    output::one(desk.format, &ended, &format!("The user {who} is no longer a member of the tenant {slug}."))
}
