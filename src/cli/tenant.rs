//! `doorward tenant …`.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use super::{confirm::Confirm, desk::Desk, failure::Failure, output, views::TenantView};
use crate::{
    config::duration,
    domain::tenants::{
        self, NewTenantRequest,
        policy::{self, Lifetimes},
    },
    error::Error,
    store::tenants::Tenant,
};

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
    /// Give a tenant lifetimes of its own, for the sessions that are bound to it
    ///
    /// What is not given stays as it is, or is taken from the configuration. The idle lifetime must
    /// be longer than the access lifetime and 300s together, the absolute one no shorter than the
    /// idle one. Open sessions keep their end; from their next refresh on they have the rest.
    #[command(verbatim_doc_comment, override_usage = POLICY_USAGE, after_help = POLICY_EXAMPLES)]
    SetPolicy(SetPolicy),
}

/// The one that is made of the flags is longer than a line.
const POLICY_USAGE: &str = "\
doorward tenant set-policy [OPTIONS] <TENANT> --access-lifetime|--idle-lifetime|--absolute-lifetime <LENGTH>…
       doorward tenant set-policy [OPTIONS] <TENANT> --clear";
const POLICY_EXAMPLES: &str = "\
Examples:
  doorward tenant set-policy acme --access-lifetime 10m --idle-lifetime 1d --absolute-lifetime 7d --yes
  doorward tenant set-policy acme --clear --yes";

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

/// Lifetimes of a tenant.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("what").args(["access_lifetime", "idle_lifetime", "absolute_lifetime", "clear"]).required(true).multiple(true))]
pub struct SetPolicy {
    /// Id or slug
    tenant: String,
    /// Life of an access token, at most 12h, and never over the configured maximum
    #[arg(long, value_name = "LENGTH", value_parser = duration::parse)]
    access_lifetime: Option<Duration>,
    /// A session that is not refreshed for so long ends
    #[arg(long, value_name = "LENGTH", value_parser = duration::parse)]
    idle_lifetime: Option<Duration>,
    /// A session ends so long after its login, refreshed or not
    #[arg(long, value_name = "LENGTH", value_parser = duration::parse)]
    absolute_lifetime: Option<Duration>,
    /// Back to the lifetimes of the configuration
    #[arg(long, conflicts_with_all = ["access_lifetime", "idle_lifetime", "absolute_lifetime"])]
    clear: bool,
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
        TenantCommand::SetPolicy(request) => set_policy(desk, &request).await,
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

async fn set_policy(desk: &Desk, request: &SetPolicy) -> Result<(), Failure> {
    let tenant = tenants::resolve(&desk.app, &request.tenant).await?;
    let slug = output::quoted(&tenant.slug);
    let lifetimes = if request.clear { None } else { Some(asked(desk, &tenant, request)?) };
    let said = lifetimes.map_or_else(|| "the lifetimes of the configuration".to_owned(), |own| words(&own));
    request.confirm.ask(&format!("gives the tenant {slug} {said}"))?;
    let changed = policy::set(&desk.app, tenant.id, lifetimes, desk.actor()).await?;
    let longest = desk.app.config.tokens.max_access_lifetime;
    if lifetimes.is_some_and(|own| own.access() > longest) {
        output::note(&format!(
            "tokens.max_access_lifetime is {}: until it is raised, the tenant's access tokens live no longer than that",
            duration::write(longest)
        ));
    }
    let text = if changed {
        format!("The tenant {slug} has {said}.")
    } else {
        format!("The tenant {slug} had {said} before: nothing was changed.")
    };
    let now = tenants::resolve(&desk.app, &tenant.id.to_string()).await?;
    output::one(desk.format, &TenantView::from(&now), &text)
}

/// What was given over what the tenant has, over the configuration.
fn asked(desk: &Desk, tenant: &Tenant, request: &SetPolicy) -> Result<Lifetimes, Failure> {
    let SetPolicy { access_lifetime, idle_lifetime, absolute_lifetime, .. } = *request;
    if let (Some(access), Some(idle), Some(absolute)) = (access_lifetime, idle_lifetime, absolute_lifetime) {
        return Ok(Lifetimes::new(access, idle, absolute)?);
    }
    let own = policy::of(tenant).map_err(|error| match error {
        Error::Internal(cause) => Failure::new(format!("{cause}: give all three lifetimes, or --clear")),
        other => other.into(),
    })?;
    let tokens = &desk.app.config.tokens;
    let (access, idle, absolute) = own
        .map_or((tokens.access_lifetime, tokens.idle_lifetime, tokens.absolute_lifetime), |own| (own.access(), own.idle(), own.absolute()));
    Ok(Lifetimes::new(access_lifetime.unwrap_or(access), idle_lifetime.unwrap_or(idle), absolute_lifetime.unwrap_or(absolute))?)
}

fn words(own: &Lifetimes) -> String {
    let [access, idle, absolute] = [own.access(), own.idle(), own.absolute()].map(duration::write);
    format!("access tokens of {access}, sessions that end after {idle} without a refresh and after {absolute} in any case")
}
