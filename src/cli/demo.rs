//! `doorward demo`.

use clap::Args;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::json;

use super::{
    desk::Desk,
    failure::Failure,
    grpcurl, output,
    password::{self, PasswordFlags},
    views::{RoleView, TenantView, UserView},
};
use crate::{
    config::Database,
    domain::demo::{self, Demo},
    values::secret::Password,
};

/// For the help text.
pub(super) const EXAMPLES: &str = "\
Examples:
  DOORWARD__DATABASE__URL=sqlite://demo.db doorward demo
  DOORWARD__DATABASE__URL=sqlite://demo.db doorward serve
  doorward demo --format json --password-stdin < password.txt";

/// How the people get in.
#[derive(Debug, Args)]
pub struct DemoFlags {
    /// Read one password for all five from standard input; without it one is made and shown once
    #[arg(long)]
    password_stdin: bool,
}

/// What was made, for programs.
#[derive(Serialize)]
struct DemoView {
    tenants: Vec<TenantView>,
    users: Vec<UserView>,
    memberships: Vec<MembershipView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

#[derive(Serialize)]
struct MembershipView {
    id: String,
    tenant_id: String,
    user_id: String,
    membership_state: &'static str,
    roles: Vec<RoleView>,
}

/// Does it.
///
/// # Errors
/// The database is not empty; what `domain::demo` refuses.
pub async fn run(desk: &Desk, flags: &DemoFlags) -> Result<(), Failure> {
    // Before a password is read or hashed for nothing.
    if !demo::is_empty(&desk.app).await? {
        return Err(not_empty());
    }
    let (password, made) = choose(desk, flags)?;
    let demo = demo::fill(&desk.app, &password, &desk.actor()).await?.ok_or_else(not_empty)?;
    let made = made.then(|| password.as_str());
    output::one(desk.format, &view(&demo, made), &text(desk, &demo, made)).map_err(|failure| match made {
        Some(_) => Failure::new(format!("{failure}; the password is set and lost: `doorward user set-password USER` sets another")),
        None => failure,
    })
}

fn not_empty() -> Failure {
    Failure::new(
        "the database has users or tenants, and the demo is for an empty one: nothing was changed. Name a new file, \
         as in `DOORWARD__DATABASE__URL=sqlite://demo.db doorward demo`, and start the server on it",
    )
}

/// The password, and whether it was made here.
fn choose(desk: &Desk, flags: &DemoFlags) -> Result<(Password, bool), Failure> {
    let app = &desk.app;
    if flags.password_stdin {
        let given = PasswordFlags { password_stdin: true, password_file: None, must_change: false };
        return Ok((given.choose(app.config.passwords.min_length, &app.entropy)?.password, false));
    }
    Ok((password::make(app.config.passwords.min_length, &app.entropy), true))
}

fn view(demo: &Demo, password: Option<&str>) -> DemoView {
    let membership = |(membership, roles): &(crate::store::memberships::Membership, Vec<crate::store::roles::Role>)| MembershipView {
        id: membership.id.to_string(),
        tenant_id: membership.tenant_id.to_string(),
        user_id: membership.user_id.to_string(),
        membership_state: membership.state.as_str(),
        roles: roles.iter().map(RoleView::from).collect(),
    };
    DemoView {
        tenants: demo.tenants.iter().map(TenantView::from).collect(),
        users: demo.users.iter().map(UserView::from).collect(),
        memberships: demo.members.iter().map(membership).collect(),
        password: password.map(ToOwned::to_owned),
    }
}

/// Who is who, and what to type next.
fn text(desk: &Desk, demo: &Demo, password: Option<&str>) -> String {
    let tenants = demo.tenants.iter().map(|tenant| {
        let seats = tenant.seat_limit.map_or_else(|| "any number of".to_owned(), |limit| limit.to_string());
        format!("  {:8} {} (tax id {}, {seats} seats), id {}", tenant.slug, tenant.name, tenant.tax_id.as_deref().unwrap_or("-"), tenant.id)
    });
    let people = demo.users.iter().map(|user| {
        let places = demo.members.iter().filter(|(membership, _)| membership.user_id == user.id).map(|(membership, roles)| {
            let slug = demo.tenants.iter().find(|tenant| tenant.id == membership.tenant_id).map_or("", |tenant| &tenant.slug);
            let roles: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
            let state = membership.state.as_str();
            let state = if state == "active" { String::new() } else { format!(" ({state})") };
            format!("{} in {slug}{state}", roles.join(", "))
        });
        format!("  {:22} {}", user.email.as_deref().unwrap_or_default(), places.collect::<Vec<_>>().join("; "))
    });
    let (tenants, people) = (tenants.collect::<Vec<_>>().join("\n"), people.collect::<Vec<_>>().join("\n"));
    let shown = match password {
        Some(password) => format!("The password of all five, shown only now: {password}"),
        None => "The password of all five is the given one.".to_owned(),
    };
    let login = json!({ "identifier": "sam@acme.example", "password": password.unwrap_or("PASSWORD") });
    let server = &desk.app.config.server;
    let entering = grpcurl::command(server, server.grpc_addr, &format!("-d '{login}'"));
    let on = here(&desk.app.config.database);
    format!(
        "Made two tenants and five people, for trying things out only.\n\n{tenants}\n\n{people}\n\n{shown}\n\n\
         With a server on this database (`{on}doorward serve`), log in:\n\n  \
         {entering} doorward.v1.AuthService/Login\n\n\
         Nobody of them is a superuser: `{on}doorward user create --superuser --username root` makes one."
    )
}

/// What has to stand before a command so that it is about this database and not about the default one. A PostgreSQL's URL may hold a
/// password, and was not set for one command alone.
fn here(database: &Database) -> String {
    let url = database.url.expose_secret();
    let is_default = url == Database::default().url.expose_secret();
    if is_default || !database.is_sqlite() {
        return String::new();
    }
    format!("DOORWARD__DATABASE__URL='{}' ", url.replace('\'', "'\\''"))
}
