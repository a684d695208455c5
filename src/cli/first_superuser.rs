//! Whom a fresh instance can be entered by.
//!
//! ```text
//! is there a user? ── yes ─► done
//!       │ no
//! bootstrap.* set? ── yes ─► made with the password of bootstrap.password_file
//!       │ no
//! standard output is a terminal, gRPC on loopback? ── yes ─► `admin` with a one-time password, printed there
//!       │ no
//!       └─► nobody; the log names the command that makes one
//! ```
//!
//! A made password never goes to a log, a file or a pipe: those are kept and read by others. In both cases it must be changed at the
//! first login.

use std::{
    io::{self, IsTerminal as _},
    net::SocketAddr,
};

use serde_json::json;

use super::{failure::Failure, grpcurl, output, password, views::user_name};
use crate::{
    app::App,
    config,
    domain::users::{self, NewUserRequest},
    error::{Error, FieldViolation},
    store::users::User,
    values::secret::Password,
};

/// The user name where none is configured.
const USERNAME: &str = "admin";

/// Makes the first superuser where there is nobody and it may be made. `grpc_addr` is where the server listens.
///
/// # Errors
/// The configured names or password are not acceptable.
pub async fn ensure(app: &App, grpc_addr: SocketAddr) -> Result<(), Failure> {
    if users::has_any(app).await? {
        return Ok(());
    }
    let bootstrap = &app.config.bootstrap;
    let made = if let Some(path) = &bootstrap.password_file {
        let password = password::read_file(path)?;
        let user = make(app, bootstrap.email.clone(), bootstrap.username.clone(), &password).await.map_err(configured)?;
        if let Some(user) = &user {
            tracing::info!(user_id = %user.id, "the first superuser was made from bootstrap.*; the password must be changed at the first login");
        }
        user.is_some()
    } else if io::stdout().is_terminal() && app.config.server.grpc_is_on_loopback() {
        let password = password::make(app.config.passwords.min_length, &app.entropy);
        let user = make(app, None, Some(USERNAME.to_owned()), &password).await?;
        if let Some(user) = &user {
            output::print(&welcome(user, &password, &app.config.server, grpc_addr))?;
        }
        user.is_some()
    } else {
        false
    };
    if !made {
        tracing::warn!("there is no user yet: make the first one with `doorward user create --superuser --email ADDRESS`");
    }
    Ok(())
}

async fn make(app: &App, email: Option<String>, username: Option<String>, password: &Password) -> Result<Option<User>, Error> {
    let password = Some((password.clone(), true));
    users::bootstrap(app, NewUserRequest { email, username, full_name: String::new(), superuser: true, password }).await
}

/// What is wrong, under the names of the configuration.
fn configured(error: Error) -> Failure {
    let describe = |violation: &FieldViolation| match violation.field.as_str() {
        "password" => format!("the password in bootstrap.password_file {}", violation.description),
        field => format!("bootstrap.{field}: {}", violation.description),
    };
    match error {
        Error::InvalidField(violations) | Error::PasswordRejected(violations) => {
            Failure::new(violations.iter().map(describe).collect::<Vec<_>>().join("; "))
        }
        other => other.into(),
    }
}

fn welcome(user: &User, password: &Password, server: &config::Server, grpc_addr: SocketAddr) -> String {
    let name = user_name(user);
    let password = password.as_str();
    let login = json!({ "identifier": name, "password": password });
    // Too short to be taken as it stands: who pastes it is told so, and does not get a password that everybody knows.
    let change = json!({ "current_password": password, "new_password": "NEW_PASSWORD" });
    let entering = grpcurl::command(server, grpc_addr, &format!("-d '{login}'"));
    let bearer = "-H 'authorization: Bearer ACCESS_TOKEN'";
    let changing = grpcurl::command(server, grpc_addr, &format!("{bearer} -d '{change}'"));
    format!(
        "\nThis instance is new. Its first superuser:\n\n  \
         user name:          {name}\n  \
         one-time password:  {password}\n\n\
         It is shown only now and must be changed at the first login:\n\n  \
         {entering} doorward.v1.AuthService/Login\n  \
         {changing} doorward.v1.AuthService/ChangePassword\n\n\
         Lost it? `doorward user set-password {name}` sets another.\n\n"
    )
}
