//! `doorward tenant …`.

use clap::{Args, Subcommand};

use super::{confirm::Confirm, desk::Desk, failure::Failure, output, views::TenantView};
use crate::domain::tenants::{self, NewTenantRequest};

/// What to do about tenants.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Make a tenant with its roles owner, admin and member
    #[command(after_help = "Example:\n  doorward tenant create --slug acme --name 'Acme Ltd' --seat-limit 50")]
    Create(Create),
    /// List every tenant
    #[command(after_help = "Example:\n  doorward tenant list --format json")]
    List,
    /// Suspend a tenant: nobody may act in it
    #[command(after_help = "Example:\n  doorward tenant suspend acme --yes")]
    Suspend(Change),
    /// Activate a suspended tenant again
    #[command(after_help = "Example:\n  doorward tenant activate acme")]
    Activate(Change),
}

/// What a tenant is made of.
#[derive(Debug, Args)]
pub struct Create {
    /// Short name: letters a to z, digits and hyphens
    #[arg(long)]
    slug: String,
    /// The name to show
    #[arg(long)]
    name: String,
    /// Tax number
    #[arg(long)]
    tax_id: Option<String>,
    /// The id in another system
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// Members at most; 0 for none, left out for no limit
    #[arg(long, value_name = "SEATS", allow_negative_numbers = true)]
    seat_limit: Option<i32>,
}

/// A change of a tenant that exists.
#[derive(Debug, Args)]
pub struct Change {
    /// Id or slug
    tenant: String,
    #[command(flatten)]
    confirm: Confirm,
}

/// Does it.
///
/// # Errors
/// What `domain::tenants` refuses.
pub async fn run(desk: &Desk, command: TenantCommand) -> Result<(), Failure> {
    match command {
        TenantCommand::Create(request) => create(desk, request).await,
        TenantCommand::List => {
            let tenants = tenants::list_all(&desk.app).await?;
            output::list(desk.format, &tenants.iter().map(TenantView::from).collect::<Vec<_>>())
        }
        TenantCommand::Suspend(change) => set_suspended(desk, &change, true).await,
        TenantCommand::Activate(change) => set_suspended(desk, &change, false).await,
    }
}

async fn create(desk: &Desk, request: Create) -> Result<(), Failure> {
    let Create { slug, name, tax_id, external_id, seat_limit } = request;
    let new = NewTenantRequest { slug, name, tax_id, external_id, seat_limit };
    let tenant = tenants::create(&desk.app, new, desk.actor()).await?;
    let text = format!("Created the tenant {} ({}).", tenant.slug, tenant.id);
    output::one(desk.format, &TenantView::from(&tenant), &text)
}

async fn set_suspended(desk: &Desk, change: &Change, suspended: bool) -> Result<(), Failure> {
    let tenant = tenants::resolve(&desk.app, &change.tenant).await?;
    let slug = output::quoted(&tenant.slug);
    if suspended {
        change.confirm.ask(&format!("suspends the tenant {slug}: nobody can act in it until it is activated again"))?;
    }
    tenants::set_suspended(&desk.app, &tenant, suspended, desk.actor()).await?;
    let now = tenants::resolve(&desk.app, &tenant.id.to_string()).await?;
    output::one(desk.format, &TenantView::from(&now), &format!("The tenant {slug} is {}.", now.state.as_str()))
}
