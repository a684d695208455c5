//! `doorward service-account …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    confirm::Confirm,
    desk::Desk,
    failure::Failure,
    output,
    secret_file::{SecretFile, Target},
    views::AccountView,
};
use crate::{
    config::duration,
    domain::{
        service_accounts::{self, Administrator, Details, FirstSecret, NewAccount},
        tenants,
    },
    error::Error,
    store::{
        service_accounts::{AccountState, Place, ServiceAccount},
        tenants::Tenant,
    },
    values::ids::ServiceAccountSecretId,
};

/// What to do about service accounts.
#[derive(Debug, Subcommand)]
pub enum ServiceAccountCommand {
    /// Make a service account and its first secret, which is shown this once
    ///
    /// With --tenant it acts in that tenant alone, by its roles there. Without, it is
    /// instance-wide: it acts in no tenant, and holds permissions of Doorward's own.
    #[command(verbatim_doc_comment, after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// List the instance-wide service accounts, or those of a tenant
    #[command(after_help = "Examples:\n  doorward service-account list\n  doorward service-account list --tenant acme --format json")]
    List(Whose),
    /// Show a service account: what it may do, and what proves it
    #[command(after_help = "Example:\n  doorward service-account show shop")]
    Show(Which),
    /// Shut a service account out: its tokens are refused, by running servers too
    ///
    /// Every running server refuses them within `freshness.max_staleness`, one second by default.
    #[command(verbatim_doc_comment, after_help = "Example:\n  doorward service-account disable shop --yes")]
    Disable(Change),
    /// Let a disabled service account in again; tokens of before stay refused
    #[command(after_help = "Example:\n  doorward service-account enable shop")]
    Enable(Change),
    /// Delete a service account for good, with its secrets, certificate names and roles
    #[command(after_help = "Example:\n  doorward service-account delete shop --yes")]
    Delete(Change),
    /// Give a service account one more secret, which is shown this once; the others stay good
    ///
    /// To rotate: add one, give it to the workload, and remove the old one when `show` says that it
    /// is no longer used.
    #[command(verbatim_doc_comment, after_help = ADD_SECRET_EXAMPLES)]
    AddSecret(AddSecret),
    /// Remove a secret: it buys no further token
    ///
    /// What it bought stays good until it expires (`tokens.access_lifetime`, 15 minutes by default).
    /// With --revoke-tokens every token of the account is refused too: for a secret that
    /// became known.
    #[command(verbatim_doc_comment, after_help = REMOVE_SECRET_EXAMPLES)]
    RemoveSecret(RemoveSecret),
    /// Let a name in client certificates stand for a service account
    #[command(after_help = ADD_CERTIFICATE_EXAMPLES)]
    AddCertificate(Certificate),
    /// Take a name in client certificates from a service account
    #[command(after_help = "Example:\n  doorward service-account remove-certificate shop dns:shop.example.org --yes")]
    RemoveCertificate(Certificate),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  doorward service-account create --name shop --secret-file shop.secret
  doorward service-account create --name mailer --permission doorward.deliveries:read
  doorward service-account create --name web --no-secret --certificate spiffe://example.org/web
  doorward service-account create --tenant acme --name robot --role sales --lifetime 90d";
const ADD_SECRET_EXAMPLES: &str = "\
Examples:
  doorward service-account add-secret shop --lifetime 90d --secret-file next.secret
  doorward service-account add-secret robot --tenant acme --format json";
const REMOVE_SECRET_EXAMPLES: &str = "\
Examples:
  doorward service-account remove-secret shop 01980f2e-7c1b-7f00-8000-0123456789ab --yes
  doorward service-account remove-secret shop 01980f2e-7c1b-7f00-8000-0123456789ab --revoke-tokens --yes";
const ADD_CERTIFICATE_EXAMPLES: &str = "\
Examples:
  doorward service-account add-certificate shop spiffe://example.org/ns/shop/sa/web
  doorward service-account add-certificate shop dns:shop.example.org";

/// Whose service accounts.
#[derive(Debug, Args)]
pub struct Whose {
    /// Id or slug of the tenant; without, instance-wide ones are meant
    #[arg(long)]
    tenant: Option<String>,
}

/// A service account that exists.
#[derive(Debug, Args)]
pub struct Which {
    /// Id, or the name where no other one there has it
    account: String,
    #[command(flatten)]
    whose: Whose,
}

/// A change of a service account.
#[derive(Debug, Args)]
pub struct Change {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    confirm: Confirm,
}

/// How long a secret is good.
#[derive(Debug, Args)]
pub struct Lifetime {
    /// How long the secret is good, such as 90d; without, until it is removed
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    lifetime: Option<Duration>,
}

/// What a service account is made of.
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    whose: Whose,
    /// The name to show
    #[arg(long)]
    name: String,
    /// Name of a role of the tenant; may be repeated
    #[arg(long = "role", value_name = "ROLE", num_args = 1..)]
    roles: Vec<String>,
    /// What an instance-wide account may do, as doorward.RESOURCE:ACTION; may be repeated
    #[arg(long = "permission", value_name = "PERMISSION", num_args = 1..)]
    permissions: Vec<String>,
    /// Name in client certificates that stands for it: a URI, or dns: and a name; may be repeated
    #[arg(long = "certificate", value_name = "NAME", num_args = 1..)]
    certificate_names: Vec<String>,
    /// Make no secret
    #[arg(long, conflicts_with_all = ["lifetime", "path"])]
    no_secret: bool,
    #[command(flatten)]
    lifetime: Lifetime,
    #[command(flatten)]
    file: SecretFile,
}

/// A further secret.
#[derive(Debug, Args)]
pub struct AddSecret {
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    lifetime: Lifetime,
    #[command(flatten)]
    file: SecretFile,
}

/// A secret to be removed.
#[derive(Debug, Args)]
pub struct RemoveSecret {
    #[command(flatten)]
    change: Change,
    /// Id of the secret, as `show` says it
    #[arg(value_parser = secret_id)]
    secret: ServiceAccountSecretId,
    /// Refuse every token that the account has now, whichever secret bought it
    #[arg(long)]
    revoke_tokens: bool,
}

/// A name in client certificates.
#[derive(Debug, Args)]
pub struct Certificate {
    #[command(flatten)]
    change: Change,
    /// A URI as it stands in the certificate, or dns: and a name in lower case
    name: String,
}

fn secret_id(text: &str) -> Result<ServiceAccountSecretId, String> {
    text.parse().map_err(|e| format!("{e}; `doorward service-account show ACCOUNT` shows ids"))
}

/// Does it.
///
/// # Errors
/// What `domain::service_accounts` refuses.
pub async fn run(desk: &Desk, command: ServiceAccountCommand) -> Result<(), Failure> {
    match command {
        ServiceAccountCommand::Create(request) => create(desk, request).await,
        ServiceAccountCommand::List(whose) => {
            let found = service_accounts::list_all(&desk.app, Where::find(desk, &whose).await?.place()).await?;
            output::list(desk.format, &found.iter().map(AccountView::from).collect::<Vec<_>>())
        }
        ServiceAccountCommand::Show(which) => {
            let (account, place) = existing(desk, &which).await?;
            let details = service_accounts::get(&desk.app, &place.by(desk), account.id).await?;
            output::one(desk.format, &AccountView::from(&details), &shown(&details, &place))
        }
        ServiceAccountCommand::Disable(change) => set_state(desk, &change, AccountState::Disabled).await,
        ServiceAccountCommand::Enable(change) => set_state(desk, &change, AccountState::Active).await,
        ServiceAccountCommand::Delete(change) => set_state(desk, &change, AccountState::Deleted).await,
        ServiceAccountCommand::AddSecret(request) => add_secret(desk, &request).await,
        ServiceAccountCommand::RemoveSecret(request) => remove_secret(desk, &request).await,
        ServiceAccountCommand::AddCertificate(request) => add_certificate(desk, request).await,
        ServiceAccountCommand::RemoveCertificate(request) => remove_certificate(desk, request).await,
    }
}

/// Where service accounts are looked for.
struct Where(Option<Tenant>);

impl Where {
    async fn find(desk: &Desk, whose: &Whose) -> Result<Self, Failure> {
        match &whose.tenant {
            Some(tenant) => Ok(Self(Some(tenants::resolve(&desk.app, tenant).await?))),
            None => Ok(Self(None)),
        }
    }

    fn place(&self) -> Place {
        self.0.as_ref().map_or(Place::Instance, |tenant| Place::Tenant(tenant.id))
    }

    fn by(&self, desk: &Desk) -> Administrator {
        Administrator::operator(&desk.app, self.place(), desk.actor())
    }

    /// What an account of here is called in a sentence.
    fn called(&self, name: &str) -> String {
        let name = output::quoted(&name);
        match &self.0 {
            Some(tenant) => format!("the service account {name} of the tenant {}", output::quoted(&tenant.slug)),
            None => format!("the instance-wide service account {name}"),
        }
    }

    /// The list in which they stand, as it is typed.
    fn list(&self) -> String {
        let flag = self.0.as_ref().map(|tenant| format!(" --tenant {}", output::quoted(&tenant.slug)));
        format!("`doorward service-account list{}`", flag.unwrap_or_default())
    }
}

/// The one account that is meant. Of several with one name none is: whoever guessed would change another's.
async fn existing(desk: &Desk, which: &Which) -> Result<(ServiceAccount, Where), Failure> {
    let place = Where::find(desk, &which.whose).await?;
    let mut found = service_accounts::named(&desk.app, place.place(), &which.account).await?;
    match (found.pop(), found.len()) {
        (Some(account), 0) => Ok((account, place)),
        (Some(last), _) => {
            let ids: Vec<String> = found.iter().chain([&last]).map(|account| account.id.to_string()).collect();
            Err(Failure::new(format!("several service accounts have this name: say which by its id, {}", ids.join(", "))))
        }
        (None, _) => {
            let hint = if place.0.is_none() { "; those of a tenant need --tenant TENANT" } else { "" };
            Err(Failure::new(format!("there is no service account of this id or name here: see {}{hint}", place.list())))
        }
    }
}

async fn create(desk: &Desk, request: Create) -> Result<(), Failure> {
    let Create { whose, name, roles, permissions, certificate_names, no_secret, lifetime, file } = request;
    let place = Where::find(desk, &whose).await?;
    let target = file.make()?;
    let secret = (!no_secret).then(|| FirstSecret { expires_at: lifetime.lifetime.map(|time| desk.app.clock.now().plus(time)) });
    let names = certificate_names.clone();
    let new = NewAccount { name, roles, permissions, certificate_names, secret };
    let (details, secret) = match service_accounts::create(&desk.app, place.by(desk), new).await {
        Ok(made) => made,
        Err(Error::NotFound("role")) => return Err(unknown_role(&place)),
        Err(error) => return Err(refused_certificate(desk, error, &names).await),
    };
    let account = &details.account;
    let text = format!("Created {} ({}).", place.called(&account.name), account.id);
    hand_out(desk, AccountView::from(&details), &text, secret, target)
}

fn unknown_role(place: &Where) -> Failure {
    let slug = place.0.as_ref().map(|tenant| tenant.slug.clone()).unwrap_or_default();
    Failure::from(Error::NotFound("role")).naming("TENANT", &slug)
}

/// What was made, with its secret, which nobody can be told a second time.
fn hand_out(desk: &Desk, view: AccountView, text: &str, secret: Option<SecretString>, target: Option<Target>) -> Result<(), Failure> {
    let Some(secret) = secret else { return output::one(desk.format, &view, text) };
    let lost = |failure: Failure| {
        Failure::new(format!(
            "{failure}; the secret is made and lost: `doorward service-account remove-secret` removes it, and `add-secret` makes another"
        ))
    };
    if let Some(target) = target {
        let path = target.path().to_path_buf();
        target.fill(secret.expose_secret()).map_err(lost)?;
        return output::one(desk.format, &view, &format!("{text}\nIts secret is in {}.", path.display()));
    }
    let text = format!("{text}\nIts secret, which is shown this once: {}", secret.expose_secret());
    output::one(desk.format, &view.with_secret(secret.expose_secret()), &text).map_err(lost)
}

async fn set_state(desk: &Desk, change: &Change, to: AccountState) -> Result<(), Failure> {
    let (account, place) = existing(desk, &change.which).await?;
    let who = place.called(&account.name);
    match to {
        AccountState::Disabled => change.confirm.ask(&format!("shuts out {who} and ends every token of it"))?,
        AccountState::Deleted => {
            change.confirm.ask(&format!("deletes {who} for good, with its secrets, certificate names and roles"))?;
        }
        AccountState::Active | AccountState::Unknown => {}
    }
    let account = service_accounts::set_state(&desk.app, place.by(desk), account.id, to).await?;
    let text = format!("{} is {}.", capitalized(&who), account.state.as_str());
    output::one(desk.format, &AccountView::from(&account), &text)
}

async fn add_secret(desk: &Desk, request: &AddSecret) -> Result<(), Failure> {
    let (account, place) = existing(desk, &request.change.which).await?;
    let target = request.file.make()?;
    let expires_at = request.lifetime.lifetime.map(|time| desk.app.clock.now().plus(time));
    let (made, secret) = service_accounts::add_secret(&desk.app, place.by(desk), account.id, expires_at).await?;
    let details = service_accounts::get(&desk.app, &place.by(desk), account.id).await?;
    let text = format!("Added the secret {} to {}.", made.id, place.called(&account.name));
    hand_out(desk, AccountView::from(&details), &text, Some(secret), target)
}

async fn remove_secret(desk: &Desk, request: &RemoveSecret) -> Result<(), Failure> {
    let (account, place) = existing(desk, &request.change.which).await?;
    let (who, secret) = (place.called(&account.name), request.secret);
    let tokens = if request.revoke_tokens { ", and ends every token of it" } else { "" };
    request.change.confirm.ask(&format!("removes the secret {secret} of {who}{tokens}"))?;
    let removed = service_accounts::remove_secret(&desk.app, place.by(desk), account.id, secret, request.revoke_tokens).await;
    removed.map_err(|error| Failure::from(error).naming("ACCOUNT", &account.id.to_string()))?;
    answer_details(desk, &place, &account, &format!("Removed the secret {secret} of {who}{}.", tokens.replace("ends", "ended"))).await
}

async fn add_certificate(desk: &Desk, request: Certificate) -> Result<(), Failure> {
    let (account, place) = existing(desk, &request.change.which).await?;
    let name = request.name;
    if let Err(error) = service_accounts::add_certificate(&desk.app, place.by(desk), account.id, name.clone()).await {
        return Err(refused_certificate(desk, error, &[name]).await);
    }
    let text = format!("The certificate name {} stands for {}.", output::quoted(&name), place.called(&account.name));
    answer_details(desk, &place, &account, &text).await
}

/// A refused name in certificates that is another account's, with whose: operators may know.
async fn refused_certificate(desk: &Desk, error: Error, names: &[String]) -> Failure {
    let is_about_names = matches!(&error, Error::InvalidField(violations) if violations.iter().any(|violation| violation.field.starts_with("certificate_names")));
    for name in names.iter().filter(|_| is_about_names) {
        if let Ok(Some(holder)) = service_accounts::holder_of_certificate(&desk.app, name).await {
            let tenant = holder.tenant_id.map(|id| format!(" of the tenant {id}")).unwrap_or_default();
            let (name, called) = (output::quoted(name), output::quoted(&holder.name));
            return Failure::new(format!("the certificate name {name} stands for the service account {called} ({}){tenant}", holder.id));
        }
    }
    error.into()
}

async fn remove_certificate(desk: &Desk, request: Certificate) -> Result<(), Failure> {
    let (account, place) = existing(desk, &request.change.which).await?;
    let (who, name) = (place.called(&account.name), output::quoted(&request.name));
    request.change.confirm.ask(&format!("takes the certificate name {name} from {who}"))?;
    let removed = service_accounts::remove_certificate(&desk.app, place.by(desk), account.id, request.name).await;
    removed.map_err(|error| Failure::from(error).naming("ACCOUNT", &account.id.to_string()))?;
    answer_details(desk, &place, &account, &format!("The certificate name {name} no longer stands for {who}.")).await
}

async fn answer_details(desk: &Desk, place: &Where, account: &ServiceAccount, text: &str) -> Result<(), Failure> {
    let details = service_accounts::get(&desk.app, &place.by(desk), account.id).await?;
    output::one(desk.format, &AccountView::from(&details), text)
}

/// All that is known of an account, a line each.
fn shown(details: &Details, place: &Where) -> String {
    let Details { account, roles, certificate_names, secrets } = details;
    let roles: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let mut pairs = vec![
        ("id", account.id.to_string()),
        ("name", account.name.clone()),
        ("tenant", place.0.as_ref().map_or_else(|| "none: instance-wide".to_owned(), |tenant| tenant.slug.clone())),
        ("state", account.state.as_str().to_owned()),
        ("created", account.created_at.to_string()),
        ("roles", roles.join(", ")),
        ("permissions", account.permissions.to_strings().join(" ")),
        ("certificates", certificate_names.join(" ")),
    ];
    pairs.extend(secrets.iter().map(|secret| {
        let expires = secret.expires_at.map_or_else(|| "does not expire".to_owned(), |time| format!("expires {time}"));
        let used = secret.last_used_at.map_or_else(|| "never used".to_owned(), |time| format!("last used {time}"));
        ("secret", format!("{}, made {}, {expires}, {used}", secret.id, secret.created_at))
    }));
    output::lines(&pairs)
}

fn capitalized(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
