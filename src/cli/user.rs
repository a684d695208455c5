//! `doorward user …`.

use clap::{Args, Subcommand};

use super::{
    confirm::Confirm,
    desk::Desk,
    failure::Failure,
    output,
    password::{Chosen, PasswordFlags},
    views::{PasswordView, UserView, user_name},
};
use crate::{
    domain::users::{self, NewUserRequest, PasswordState},
    error::Error,
    store::users::{User, UserState},
};

/// What to do about users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user
    ///
    /// Without a flag for the password it is asked for at a terminal; elsewhere one is made,
    /// printed once, and must be changed at the first login.
    #[command(verbatim_doc_comment, after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// List every user, deleted ones too
    #[command(after_help = "Example:\n  doorward user list --format json")]
    List,
    /// Show a user
    #[command(after_help = "Example:\n  doorward user show ann@example.com")]
    Show(Whom),
    /// Shut a user out: no login, and every session ends
    #[command(after_help = "Example:\n  doorward user disable ann@example.com --yes")]
    Disable(Change),
    /// Let a disabled user log in again; ended sessions stay ended
    #[command(after_help = "Example:\n  doorward user enable ann@example.com")]
    Enable(Change),
    /// Delete a user for good: sessions, password and memberships go, the names are free again
    #[command(after_help = "Example:\n  doorward user delete ann@example.com --yes")]
    Delete(Change),
    /// Set a user's password; every session of theirs ends
    ///
    /// Without a flag for the password it is asked for at a terminal; elsewhere one is made,
    /// printed once, and must be changed at the first login.
    #[command(
        verbatim_doc_comment,
        after_help = "Example:\n  doorward user set-password ann@example.com --password-file new.txt --must-change --yes"
    )]
    SetPassword(SetPassword),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  doorward user create --email ann@example.com --full-name 'Ann Example'
  doorward user create --username root --superuser --password-stdin < password.txt";

/// What a user is made of.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("names").args(["email", "username"]).multiple(true).required(true))]
pub struct Create {
    /// E-mail address
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// User name, without @
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// The name to show
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    full_name: String,
    /// Let the user act in every active tenant
    #[arg(long)]
    superuser: bool,
    #[command(flatten)]
    password: PasswordFlags,
    /// Give the user no password: nobody logs in by one
    #[arg(long, conflicts_with_all = ["password_stdin", "password_file", "must_change"])]
    no_password: bool,
}

/// A user that exists.
#[derive(Debug, Args)]
pub struct Whom {
    /// Id, e-mail address or user name
    user: String,
}

/// A change of a user.
#[derive(Debug, Args)]
pub struct Change {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    confirm: Confirm,
}

/// A new password for a user.
#[derive(Debug, Args)]
pub struct SetPassword {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    password: PasswordFlags,
    #[command(flatten)]
    confirm: Confirm,
}

/// Does it.
///
/// # Errors
/// What `domain::users` refuses.
pub async fn run(desk: &Desk, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Create(request) => create(desk, request).await,
        UserCommand::List => {
            let users = users::list(&desk.app).await?;
            output::list(desk.format, &users.iter().map(UserView::from).collect::<Vec<_>>())
        }
        UserCommand::Show(whom) => show(desk, &whom).await,
        UserCommand::Disable(change) => set_state(desk, &change, UserState::Disabled).await,
        UserCommand::Enable(change) => set_state(desk, &change, UserState::Active).await,
        UserCommand::Delete(change) => set_state(desk, &change, UserState::Deleted).await,
        UserCommand::SetPassword(request) => set_password(desk, &request).await,
    }
}

async fn create(desk: &Desk, request: Create) -> Result<(), Failure> {
    let app = &desk.app;
    let (email, username) = (request.email.clone().unwrap_or_default(), request.username.clone().unwrap_or_default());
    let refused = |error: Error| Failure::from(error).naming("ADDRESS", &email).naming("NAME", &username);
    let new = NewUserRequest {
        email: request.email,
        username: request.username,
        full_name: request.full_name,
        superuser: request.superuser,
        password: None,
    };
    // Before a person thinks of a password, and types it twice.
    users::check_names(app, &new).await.map_err(refused)?;
    let chosen = if request.no_password { None } else { Some(request.password.choose(app.config.passwords.min_length, &app.entropy)?) };
    let new = NewUserRequest { password: chosen.as_ref().map(|chosen| (chosen.password.clone(), chosen.must_change)), ..new };
    let user = users::create(app, new, desk.actor()).await.map_err(refused)?;
    let kind = if user.superuser { "superuser" } else { "user" };
    let text = format!("Created the {kind} {} ({}).", user_name(&user), user.id);
    print(desk, &user, text, chosen.as_ref())
}

/// The user, and the password where it was made here: this is the only time that it is seen.
fn print(desk: &Desk, user: &User, mut text: String, chosen: Option<&Chosen>) -> Result<(), Failure> {
    let made = chosen.filter(|chosen| chosen.made).map(|chosen| chosen.password.as_str());
    if let Some(password) = made {
        text = format!("{text}\nOne-time password, to be changed at the first login: {password}");
    }
    let view = UserView { password: made.map(ToOwned::to_owned), ..UserView::from(user) };
    output::one(desk.format, &view, &text).map_err(|failure| match made {
        Some(_) => Failure::new(format!("{failure}; the password is set and lost: `doorward user set-password` sets another")),
        None => failure,
    })
}

async fn show(desk: &Desk, whom: &Whom) -> Result<(), Failure> {
    let user = users::resolve(&desk.app, &whom.user).await?;
    let state = users::password_state(&desk.app, &user).await?;
    let password = match state {
        PasswordState::Absent => "none",
        PasswordState::Set => "set",
        PasswordState::MustChange => "set, must be changed at the next login",
        PasswordState::ResetRequired => "does not log in, must be set anew",
    };
    let yes = |is_so| if is_so { "yes" } else { "no" }.to_owned();
    let text = output::lines(&[
        ("id", user.id.to_string()),
        ("e-mail", user.email.clone().unwrap_or_default()),
        ("e-mail verified", yes(user.email_verified)),
        ("user name", user.username.clone().unwrap_or_default()),
        ("full name", user.full_name.clone()),
        ("external id", user.external_id.clone().unwrap_or_default()),
        ("state", user.state.as_str().to_owned()),
        ("superuser", yes(user.superuser)),
        ("password", password.to_owned()),
        ("created", user.created_at.to_string()),
    ]);
    let view = UserView { credential: Some(PasswordView::from(state)), ..UserView::from(&user) };
    output::one(desk.format, &view, &text)
}

async fn set_state(desk: &Desk, change: &Change, to: UserState) -> Result<(), Failure> {
    let user = existing(desk, &change.whom).await?;
    let name = user_name(&user);
    match to {
        UserState::Disabled => change.confirm.ask(&format!("shuts out the user {name} and ends every session of theirs"))?,
        UserState::Deleted => {
            let what = format!("deletes the user {name} for good, with password, sessions and memberships");
            change.confirm.ask(&what)?;
        }
        UserState::Active | UserState::Unknown => {}
    }
    users::set_state(&desk.app, &user, to, desk.actor()).await?;
    let now = users::resolve(&desk.app, &user.id.to_string()).await?;
    output::one(desk.format, &UserView::from(&now), &format!("The user {name} is {}.", now.state.as_str()))
}

async fn set_password(desk: &Desk, request: &SetPassword) -> Result<(), Failure> {
    let app = &desk.app;
    let user = existing(desk, &request.whom).await?;
    let name = user_name(&user);
    request.confirm.ask(&format!("replaces the password of the user {name} and ends every session of theirs"))?;
    let chosen = request.password.choose(app.config.passwords.min_length, &app.entropy)?;
    users::set_password(app, &user, &chosen.password, chosen.must_change, desk.actor()).await?;
    print(desk, &user, format!("The user {name} has a new password."), Some(&chosen))
}

/// A user to be changed. Deleted ones still have an id, but nothing that could change.
async fn existing(desk: &Desk, whom: &Whom) -> Result<User, Failure> {
    let user = users::resolve(&desk.app, &whom.user).await?;
    if user.state == UserState::Deleted { Err(Error::NotFound("user").into()) } else { Ok(user) }
}
