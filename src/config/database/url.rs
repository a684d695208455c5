//! `database.url`: what it may be, and what of it may be shown. The drivers read it once more; here it is judged without them, before
//! anything is opened, and without repeating any of it.

use std::net::IpAddr;

use crate::config::setting::{InForce, Shown};

/// The starts of URLs.
const SQLITE: &str = "sqlite:";
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];
/// What may stand behind the `?` of a PostgreSQL URL. The driver passes over what it does not know, and a misspelt `sslmode` would be a
/// connection without TLS.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];
/// What the driver takes for an `sslmode`, in whatever case.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/// Those that name a file with certificates.
const CERTIFICATES: [&str; 5] = ["sslrootcert", "ssl-root-cert", "ssl-ca", "sslcert", "ssl-cert"];
/// Those whose values are no secret, whatever is meant by them. (`sslkey` may be the key itself.)
const OPEN_PARAMETERS: [&str; 8] = ["sslmode", "ssl-mode", "host", "hostaddr", "port", "dbname", "user", "application_name"];
/// What may stand behind the `?` of an SQLite URL, besides `vfs=…`: the service writes.
const SQLITE_PAIRS: [&str; 4] = ["mode=rw", "mode=rwc", "cache=private", "cache=shared"];
/// In place of what is not shown.
const REDACTED: &str = "***";

/// Whether the data is in an SQLite file (else on PostgreSQL).
#[must_use]
pub fn is_sqlite(url: &str) -> bool {
    url.starts_with(SQLITE)
}

/// Whether an SQLite file may be made where there is none: not where the URL says that it is there.
#[must_use]
pub fn may_be_made(url: &str) -> bool {
    pairs(url.split_once('?').map_or("", |(_, query)| query)).all(|pair| pair != ("mode", "rw"))
}

/// Whether this names a database: the error is the rest of a sentence that starts with the key.
///
/// # Errors
/// Anything but an SQLite file or a PostgreSQL database.
pub fn check(url: &str) -> Result<(), &'static str> {
    const NEITHER: &str = "must be sqlite://FILE, postgres://… or postgresql://…";
    if let Some(file) = url.strip_prefix(SQLITE) {
        let file = file.strip_prefix("//").unwrap_or(file);
        return if file.is_empty() { Err(NEITHER) } else { check_sqlite(file) };
    }
    match POSTGRES.iter().find_map(|scheme| url.strip_prefix(scheme)) {
        Some(rest) if !rest.trim_start_matches('/').is_empty() => check_postgres(rest),
        _ => Err(NEITHER),
    }
}

/// The service keeps several connections, which in memory would be several databases.
fn check_sqlite(file: &str) -> Result<(), &'static str> {
    let (path, query) = file.split_once('?').unwrap_or((file, ""));
    if path.contains(":memory:") || query.contains("mode=memory") {
        return Err("SQLite in memory is not supported: name a file");
    }
    if path.is_empty() || path.ends_with('/') {
        return Err("must name a file behind sqlite://");
    }
    if file.chars().any(char::is_whitespace) {
        return Err("must not hold blanks: write %20 for each");
    }
    let mut pairs = query.split('&').filter(|pair| !pair.is_empty());
    if pairs.all(|pair| SQLITE_PAIRS.contains(&pair) || pair.starts_with("vfs=")) {
        return Ok(());
    }
    Err("has a parameter behind its ? that this SQLite database cannot have; there are mode=rw, mode=rwc, cache and vfs")
}

fn check_postgres(rest: &str) -> Result<(), &'static str> {
    const ENCODE: &str = "is no PostgreSQL URL: write characters such as @ : / ? # of user and password as %40 %3A %2F %3F %23";
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let port = host.rsplit_once(']').map_or(host, |(_, port)| port).rsplit_once(':').map(|(_, port)| port);
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    // What stands in a wrong place is mostly the rest of a password.
    let is_broken = userinfo.contains('@') || userinfo.matches(':').count() > 1 || path.contains('@') || rest.contains('#');
    if is_broken || !port.is_none_or(is_port) || rest.chars().any(char::is_whitespace) {
        return Err(ENCODE);
    }
    if !pairs(query).all(|(name, _)| PARAMETERS.contains(&name) || name.starts_with("options[")) {
        return Err("has a parameter behind its ? that PostgreSQL connections do not know");
    }
    pairs(query).try_for_each(|(name, value)| check_value(name, &decoded(value)))
}

/// Of the values that the driver reads as something else than text. It would refuse them when the database is opened.
fn check_value(name: &str, value: &str) -> Result<(), &'static str> {
    match name {
        "sslmode" | "ssl-mode" if !SSL_MODES.contains(&value.to_ascii_lowercase().as_str()) => {
            Err("has an sslmode that PostgreSQL connections do not know: write disable, allow, prefer, require, verify-ca or verify-full")
        }
        "hostaddr" if value.parse::<IpAddr>().is_err() => Err("has a hostaddr behind its ? that is no IP address"),
        "port" if value.parse::<u16>().is_err() => Err("has a port behind its ? that is no number from 0 to 65535"),
        "statement-cache-capacity" if value.parse::<usize>().is_err() => {
            Err("has a statement-cache-capacity behind its ? that is no whole number")
        }
        _ => Ok(()),
    }
}

/// Names and values behind the `?`.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A value as the driver reads it: `+` is a space, and `%41` a letter.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|hex| *first == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let byte = hex.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if byte.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The files of certificates that a PostgreSQL URL names, each with its parameter. (That of `sslkey` is left out: the key itself may stand
/// there.)
#[must_use]
pub fn certificate_files(url: &str) -> Vec<(&str, String)> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let files = pairs(query).filter(|(name, _)| CERTIFICATES.contains(name)).map(|(name, value)| (name, decoded(value)));
    // The driver takes what begins so for the certificate itself.
    files.filter(|(_, value)| !value.trim().starts_with("-----BEGIN")).collect()
}

/// A good URL without what may be a secret.
pub(in crate::config) fn show(url: &str) -> InForce {
    let Some((scheme, rest)) = POSTGRES.iter().find_map(|scheme| Some((scheme, url.strip_prefix(scheme)?))) else {
        // With an @ it was meant for PostgreSQL.
        return if url.contains('@') {
            InForce::Hidden(format!("{SQLITE}{REDACTED}"))
        } else {
            InForce::Shown(Shown::Text(url.to_owned()))
        };
    };
    // Whatever is not plainly what it should be may be a secret in a wrong place.
    let plain = |text: &str, others: &[u8]| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte));
    let shown = |text: &str, others: &[u8]| if plain(text, others) { text.to_owned() } else { REDACTED.to_owned() };
    let server = |text: &str| match text.split_once('/') {
        Some((host, database)) => format!("{}/{}", shown(host, b".-:[]"), shown(database, b"._-")),
        None => shown(text, b".-:[]"),
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let place = match place.rsplit_once('@') {
        Some((userinfo, host)) => match userinfo.split_once(':') {
            Some((user, _)) => format!("{}:{REDACTED}@{}", shown(user, b"._-"), server(host)),
            None => format!("{}@{}", shown(userinfo, b"._-"), server(host)),
        },
        None => server(place),
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
        Some((name, value)) if OPEN_PARAMETERS.contains(&name) && plain(value, b"._-/") => pair.to_owned(),
        Some((name, _)) => format!("{}={REDACTED}", shown(name, b"_-")),
        None => REDACTED.to_owned(),
    });
    let query = pairs.collect::<Vec<_>>().join("&");
    let shown = format!("{scheme}{place}{}{query}", if query.is_empty() { "" } else { "?" });
    if shown == url { InForce::Shown(Shown::Text(shown)) } else { InForce::Hidden(shown) }
}
