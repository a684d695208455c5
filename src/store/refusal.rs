//! Why a PostgreSQL cannot be opened: the cause behind what the pool says, in a sentence that tells the operator what to mend.
//!
//! A pool that gets no connection tries again until its time is up, and then says only that. So where it gave up, one connection is
//! tried past it, and what that meets is told. Names of hosts and databases are told, and neither user nor password.

use std::{fs::File, io, time::Duration};

use sea_orm::{
    ConnectOptions, DbErr, RuntimeErr,
    sqlx::{self, ConnectOptions as _, postgres::PgConnectOptions},
};

use super::errors;
use crate::{config::database::url, error::Error};

/// How long the connection past the pool may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is told of `error`, which opening with `options` has met.
pub(super) async fn explain(options: &ConnectOptions, error: &DbErr) -> Error {
    let (Ok(server), DbErr::Conn(RuntimeErr::SqlxError(cause))) = (options.get_url().parse::<PgConnectOptions>(), error) else {
        return errors::from_db(error);
    };
    let place = place(&server);
    if !matches!(cause.as_ref(), sqlx::Error::PoolTimedOut) {
        return explained(options.get_url(), &server, &place, cause);
    }
    match tokio::time::timeout(PATIENCE, server.connect()).await {
        Ok(Err(cause)) => explained(options.get_url(), &server, &place, &cause),
        Ok(Ok(_)) => silent(&place, "it answers, but not in database.acquire_timeout"),
        Err(_) => silent(&place, "no answer in time"),
    }
}

fn explained(url: &str, server: &PgConnectOptions, place: &str, cause: &sqlx::Error) -> Error {
    match cause {
        sqlx::Error::Database(refusal) => refused(server, place, &refusal.code().unwrap_or_default(), cause),
        // Of TLS, whose words come as those of the system too.
        sqlx::Error::Io(cause) if cause.kind() == io::ErrorKind::InvalidData => no_trust(url, place, &cause.to_string()),
        sqlx::Error::Tls(cause) => no_trust(url, place, &cause.to_string()),
        sqlx::Error::Io(cause) => unreadable_certificates(url).unwrap_or_else(|| silent(place, &cause.to_string())),
        other => errors::from_sqlx(other),
    }
}

fn refused(server: &PgConnectOptions, place: &str, code: &str, cause: &sqlx::Error) -> Error {
    let text = match code {
        "3D000" => {
            let name = server.get_database().unwrap_or_else(|| server.get_username());
            format!("the PostgreSQL server {place} has no database {name:?} ({code}): make it there, or name another one in database.url")
        }
        "28000" | "28P01" => {
            format!("the PostgreSQL server {place} refuses the user or the password ({code}): check both in database.url")
        }
        "42501" => format!("the PostgreSQL server {place} keeps this user out of the database ({code}): grant CONNECT on it"),
        "53300" => format!(
            "the PostgreSQL server {place} has no connection to spare ({code}): raise its max_connections, or lower database.max_connections"
        ),
        "57P03" => format!("the PostgreSQL server {place} takes no connections yet ({code}): it is starting or stopping; try again"),
        _ => return errors::from_sqlx(cause),
    };
    Error::Unavailable(text)
}

/// Few databases have a certificate of an authority that everybody trusts.
fn no_trust(url: &str, place: &str, cause: &str) -> Error {
    let is_unknown = cause.contains("UnknownIssuer");
    let advice = if is_unknown && url::certificate_files(url).is_empty() {
        "add sslrootcert=FILE to database.url, a file with the certificate of the authority that issued the server's"
    } else if is_unknown {
        "put the certificate of the authority that issued the server's into the file that sslrootcert of database.url names"
    } else {
        "check host, sslmode and sslrootcert of database.url"
    };
    Error::Unavailable(format!("no TLS to the PostgreSQL server {place} ({cause}): {advice}"))
}

/// The first file of certificates that cannot be read, if there is one: the driver says only that something cannot.
fn unreadable_certificates(url: &str) -> Option<Error> {
    let files = url::certificate_files(url);
    let unread = files.iter().find_map(|(name, path)| Some((name, path, File::open(path).err()?)));
    let text = |(name, path, cause)| format!("{name} of database.url names the file {path:?}, which cannot be read: {cause}");
    unread.map(text).map(Error::Unavailable)
}

fn silent(place: &str, cause: &str) -> Error {
    let advice = "check that PostgreSQL runs there, and host and port in database.url";
    Error::Unavailable(format!("the database does not answer at {place} ({cause}): {advice}"))
}

/// Host and port, or the folder of the socket.
fn place(server: &PgConnectOptions) -> String {
    let (host, port) = (server.get_host(), server.get_port());
    match server.get_socket() {
        Some(folder) => format!("{} (port {port})", folder.display()),
        None => format!("{host}:{port}"),
    }
    .escape_debug()
    .to_string()
}
