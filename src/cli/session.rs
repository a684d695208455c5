//! `doorward session …`.

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;

use super::{
    confirm::Confirm,
    desk::{Desk, running_servers},
    failure::Failure,
    output::{self, View},
    views::user_name,
};
use crate::{
    domain::{
        revocation::{self, SessionState},
        tenants, users,
    },
    store::facts::{Facts, Whose},
    values::ids::SessionId,
};

/// What to do about sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List the sessions of a user, those that are bound to a tenant, or with both a member's
    ///
    /// A session is bound to a tenant where the login named one. A session that is suspended is
    /// refused as long as its tenant or membership is, and good again afterwards.
    #[command(verbatim_doc_comment, after_help = LIST_EXAMPLES)]
    List(List),
    /// End sessions: their access and refresh tokens are refused, by running servers too
    ///
    /// Every running server refuses them within `freshness.max_staleness`, one second by default.
    /// With --everything also after a backup was restored, which brings back what was ended since.
    /// Whoever is shut out can log in again: to keep them out, disable the user.
    #[command(verbatim_doc_comment, after_help = REVOKE_EXAMPLES)]
    Revoke(Revoke),
}

const LIST_EXAMPLES: &str = "\
Examples:
  doorward session list --user ann@example.com
  doorward session list --user ann@example.com --tenant acme
  doorward session list --tenant acme --all --format json";
const REVOKE_EXAMPLES: &str = "\
Examples:
  doorward session revoke 01980f2e-7c1b-7f00-8000-0123456789ab --yes
  doorward session revoke --user ann@example.com --yes
  doorward session revoke --user ann@example.com --tenant acme --yes
  doorward session revoke --everything --yes";

/// Whose sessions.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("whose").args(["user", "tenant"]).required(true).multiple(true))]
pub struct List {
    /// Id, e-mail address or user name
    #[arg(long)]
    user: Option<String>,
    /// Id or slug of the tenant
    #[arg(long)]
    tenant: Option<String>,
    /// List those that are over too
    #[arg(long)]
    all: bool,
}

/// Which sessions.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("which").args(["session", "user", "tenant", "everything"]).required(true).multiple(true))]
pub struct Revoke {
    /// Id of one session
    #[arg(value_parser = session_id, conflicts_with_all = ["user", "tenant", "everything"])]
    session: Option<SessionId>,
    /// Every session of a user: id, e-mail address or user name; with --tenant only those there
    #[arg(long)]
    user: Option<String>,
    /// Every session that is bound to a tenant: id or slug
    #[arg(long)]
    tenant: Option<String>,
    /// Every session of everybody
    #[arg(long, conflicts_with_all = ["user", "tenant"])]
    everything: bool,
    #[command(flatten)]
    confirm: Confirm,
}

fn session_id(text: &str) -> Result<SessionId, String> {
    text.parse().map_err(|e| format!("{e}; `doorward session list` shows ids"))
}

/// A session, with the names of the proto's `Session` and those that only operators see.
#[derive(Debug, Serialize)]
struct SessionView {
    id: String,
    state: &'static str,
    user_id: String,
    user: String,
    tenant_id: Option<String>,
    tenant: Option<String>,
    client_id: String,
    create_time: String,
    last_seen_time: String,
    idle_expire_time: String,
    expire_time: String,
    ip_address: Option<String>,
    user_agent: Option<String>,
    device_name: Option<String>,
}

impl SessionView {
    fn new(facts: &Facts, state: SessionState) -> Self {
        let session = &facts.session;
        Self {
            id: session.id.to_string(),
            state: state.as_str(),
            user_id: session.user_id.to_string(),
            user: user_name(&facts.user),
            tenant_id: session.tenant_id.map(|id| id.to_string()),
            tenant: facts.standing.as_ref().map(|standing| standing.tenant.slug.clone()),
            client_id: session.client_id.clone(),
            create_time: session.created_at.to_string(),
            last_seen_time: session.last_seen_at.to_string(),
            idle_expire_time: session.idle_expires_at.to_string(),
            expire_time: session.expires_at.to_string(),
            ip_address: session.device.ip_address.clone(),
            user_agent: session.device.user_agent.clone(),
            device_name: session.device.device_name.clone(),
        }
    }

    /// What a person would know the device by.
    fn device(&self) -> String {
        let known = self.device_name.as_ref().or(self.user_agent.as_ref());
        known.into_iter().chain(&self.ip_address).cloned().collect::<Vec<_>>().join(" ")
    }
}

impl View for SessionView {
    const PLURAL: &'static str = "sessions";
    const COLUMNS: &'static [&'static str] = &["ID", "USER", "TENANT", "CLIENT", "CREATED", "LAST SEEN", "STATE", "DEVICE"];

    fn row(&self) -> Vec<String> {
        vec![
            self.id.clone(),
            self.user.clone(),
            self.tenant.clone().unwrap_or_default(),
            self.client_id.clone(),
            self.create_time.clone(),
            self.last_seen_time.clone(),
            self.state.to_owned(),
            self.device(),
        ]
    }
}

/// Does it.
///
/// # Errors
/// What `domain::revocation` refuses.
pub async fn run(desk: &Desk, command: SessionCommand) -> Result<(), Failure> {
    match command {
        SessionCommand::List(List { user, tenant, all }) => {
            let (whose, _) = named(desk, user.as_deref(), tenant.as_deref()).await?;
            let sessions = revocation::list(&desk.app, whose, all).await?;
            output::list(desk.format, &sessions.iter().map(|(facts, state)| SessionView::new(facts, *state)).collect::<Vec<_>>())
        }
        SessionCommand::Revoke(Revoke { session: Some(id), confirm, .. }) => revoke_one(desk, id, confirm).await,
        SessionCommand::Revoke(Revoke { user, tenant, confirm, .. }) => revoke_all(desk, user.as_deref(), tenant.as_deref(), confirm).await,
    }
}

/// Whose sessions are named, and what they are called in a sentence. Both: a member's; neither: everybody's.
async fn named(desk: &Desk, user: Option<&str>, tenant: Option<&str>) -> Result<(Whose, String), Failure> {
    let user = match user {
        Some(name) => Some(users::resolve(&desk.app, name).await?),
        None => None,
    };
    let tenant = match tenant {
        Some(name) => Some(tenants::resolve(&desk.app, name).await?),
        None => None,
    };
    Ok(match (user, tenant) {
        (Some(user), Some(tenant)) => {
            let owner = format!("of the user {} in the tenant {}", user_name(&user), output::quoted(&tenant.slug));
            (Whose::Member { user: user.id, tenant: tenant.id }, owner)
        }
        (Some(user), None) => (Whose::User(user.id), format!("of the user {}", user_name(&user))),
        (None, Some(tenant)) => (Whose::Tenant(tenant.id), format!("of the tenant {}", output::quoted(&tenant.slug))),
        (None, None) => (Whose::Everybody, "of everybody".to_owned()),
    })
}

async fn revoke_one(desk: &Desk, id: SessionId, confirm: Confirm) -> Result<(), Failure> {
    let (facts, state) = revocation::get(&desk.app, id).await?;
    let who = user_name(&facts.user);
    if !state.is_over() {
        let place = facts.standing.as_ref().map(|standing| format!(" in the tenant {}", output::quoted(&standing.tenant.slug)));
        let since = facts.session.created_at;
        confirm.ask(&format!("ends the session {id} of the user {who}{}, open since {since}", place.unwrap_or_default()))?;
    }
    let ended = revocation::revoke(&desk.app, id, desk.actor()).await?;
    let text = if ended {
        format!("Ended the session {id} of the user {who}: its tokens are refused, {}.", running_servers(&desk.app.config))
    } else {
        format!("The session {id} of the user {who} was over before: nothing was changed.")
    };
    let (facts, state) = revocation::get(&desk.app, id).await?;
    output::one(desk.format, &SessionView::new(&facts, state), &text)
}

async fn revoke_all(desk: &Desk, user: Option<&str>, tenant: Option<&str>, confirm: Confirm) -> Result<(), Failure> {
    let (whose, owner) = named(desk, user, tenant).await?;
    let live = revocation::count(&desk.app, whose).await?;
    confirm.ask(&format!("ends every session {owner}: {live} now"))?;
    let ended = revocation::revoke_all(&desk.app, whose, desk.actor()).await?;
    let sessions = if ended == 1 { "session" } else { "sessions" };
    let text = format!(
        "Ended every session {owner} ({ended} {sessions}): all tokens of before are refused, {}. New logins are good.",
        running_servers(&desk.app.config)
    );
    let (user_id, tenant_id) = match whose {
        Whose::User(id) => (Some(id.to_string()), None),
        Whose::Tenant(id) => (None, Some(id.to_string())),
        Whose::Member { user, tenant } => (Some(user.to_string()), Some(tenant.to_string())),
        Whose::Everybody => (None, None),
    };
    output::one(desk.format, &serde_json::json!({ "user_id": user_id, "tenant_id": tenant_id, "revoked_sessions": ended }), &text)
}
