//! What an operator may set: one section a file, each with its fields, defaults, checks and docs.
//!
//! Layers, the later over the earlier: defaults < TOML file < environment (`DOORWARD__SECTION__KEY`, all capitals). Two
//! underscores keep out what Kubernetes sets for a service of this name (`DOORWARD_SERVICE_HOST`). A list in the environment
//! is separated by commas. A secret `key` may instead be given as `key_file`, the path of a file that holds it (a list has
//! one entry a line); within one layer only one of the two. An empty value is an error of its key, never "unset".
//!
//! ```text
//! source.rs    file and environment → entries with their origin
//! reader.rs    entries → typed fields; collects problems; what nobody asked for is an unknown key
//! value.rs     the types that a key can have        duration.rs   30s, 15m, 12h, 7d
//! setting.rs   what is known of a key               docs.rs       the example file, the README's table
//! <section>.rs struct, Default, read (one statement a key, with its doc), check (relations between keys)
//! ```
//!
//! A new key is a field, its default and its statement in `read`, all in its section's file. `deploy/config.example.toml` and the
//! README's table are made of that: `DOORWARD_UPDATE_GOLDEN=1 cargo test --test it config` writes them anew.
//!
//! Every problem is reported at once, with key and origin. Values are never quoted in a message: a password in the wrong
//! variable must not end up in a log.

pub mod bootstrap;
pub mod callers;
pub mod database;
pub mod docs;
pub mod duration;
pub mod freshness;
pub mod health;
pub mod log;
pub mod login;
pub mod passwords;
mod problem;
mod reader;
pub mod secrets;
pub mod server;
pub mod setting;
mod source;
pub mod tokens;
mod value;

use std::{net::SocketAddr, path::Path};

pub use bootstrap::Bootstrap;
pub use callers::{Callers, CallersMode};
pub use database::Database;
pub use freshness::Freshness;
pub use health::Health;
pub use log::{Log, LogFormat};
pub use login::Login;
pub use passwords::Passwords;
pub use problem::{Problem, Problems};
pub use secrets::Secrets;
pub use server::Server;
pub use setting::{InForce, Setting, Shown};
pub use tokens::Tokens;

use reader::Reader;

/// The whole configuration. `Debug` redacts secrets. `Default` holds every default and is valid: a server on loopback with
/// its `SQLite` database in the working directory.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `[server]`: listeners, limits and stopping.
    pub server: Server,
    /// `[database]`: where the data is.
    pub database: Database,
    /// `[secrets]`: the root secret.
    pub secrets: Secrets,
    /// `[tokens]`: issuer, audience and lifetimes.
    pub tokens: Tokens,
    /// `[login]`: how logins answer.
    pub login: Login,
    /// `[passwords]`: hashing cost and length.
    pub passwords: Passwords,
    /// `[freshness]`: how old an answer may be.
    pub freshness: Freshness,
    /// `[callers]`: whether calling workloads must be known.
    pub callers: Callers,
    /// `[health]`: what readiness means.
    pub health: Health,
    /// `[bootstrap]`: the first superuser.
    pub bootstrap: Bootstrap,
    /// `[log]`: log lines.
    pub log: Log,
}

impl Config {
    /// The configuration from defaults, `file` and `environment`, checked.
    ///
    /// `environment` is every variable of the process; all but `DOORWARD__…` are passed over. Files that `…_file` keys name
    /// are read here, but for `bootstrap.password_file`, which is read when the first superuser is made, and the files of TLS, which a
    /// server opens.
    ///
    /// # Errors
    /// Every problem of all layers, each with its key and the variable or file that it comes from. Relations between keys
    /// are not judged when the file could not be read: half of them would be false alarms.
    pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, Problems> {
        let (reader, config) = Self::examine(Reader::new(file, environment));
        reader.finish(config).map(|(config, _)| config)
    }

    /// [`Config::load`] for a server, which makes the first superuser where `is_first_start` says so: then `bootstrap.password_file` is
    /// judged with everything else.
    ///
    /// # Errors
    /// Those of [`Config::load`].
    pub fn load_to_serve(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        is_first_start: impl FnOnce(&Self) -> bool,
    ) -> Result<Self, Problems> {
        let (mut reader, config) = Self::examine(Reader::new(file, environment));
        if reader.file_was_read() && is_first_start(&config) {
            config.bootstrap.check_password(&config.passwords, true, &mut reader);
        }
        reader.finish(config).map(|(config, _)| config)
    }

    /// The configuration, and every key with what holds for it and where that comes from, in the order of the sections: what
    /// [`Config::load`] reads, for people.
    ///
    /// # Errors
    /// Those of [`Config::load`], and what a server would refuse for its configuration alone.
    pub fn explain(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<(Self, Vec<Setting>), Problems> {
        let (mut reader, config) = Self::examine(Reader::new(file, environment));
        if reader.file_was_read() {
            config.secrets.check_to_serve(&config.database, &mut reader);
            config.server.check_tls_files(&mut reader);
            config.bootstrap.check_password(&config.passwords, false, &mut reader);
        }
        reader.finish(config)
    }

    fn examine(mut reader: Reader) -> (Reader, Self) {
        let config = Self::read(&mut reader);
        reader.refuse_unknown_keys();
        reader.refuse_near_misses();
        if reader.file_was_read() {
            config.check(&mut reader);
        }
        (reader, config)
    }

    /// `server.ops_addr` alone, for who only asks a server how it is: whatever is wrong with other keys, or with the files that they
    /// name, is the server's to say.
    ///
    /// # Errors
    /// The file cannot be read, or the key's value is no address.
    pub fn load_ops_addr(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Result<SocketAddr, Problems> {
        let mut reader = Reader::new(file, environment);
        let mut addr = Server::default().ops_addr;
        Server::read_ops_addr(&mut reader.section("server"), &mut addr);
        reader.finish(addr).map(|(addr, _)| addr)
    }

    fn read(reader: &mut Reader) -> Self {
        Self {
            server: Server::read(&mut reader.section("server")),
            database: Database::read(&mut reader.section("database")),
            secrets: Secrets::read(&mut reader.section("secrets")),
            tokens: Tokens::read(&mut reader.section("tokens")),
            login: Login::read(&mut reader.section("login")),
            passwords: Passwords::read(&mut reader.section("passwords")),
            freshness: Freshness::read(&mut reader.section("freshness")),
            callers: Callers::read(&mut reader.section("callers")),
            health: Health::read(&mut reader.section("health")),
            bootstrap: Bootstrap::read(&mut reader.section("bootstrap")),
            log: Log::read(&mut reader.section("log")),
        }
    }

    fn check(&self, reader: &mut Reader) {
        self.server.check(reader);
        self.tokens.check(&self.server, &self.secrets, reader);
        self.passwords.check(reader);
        self.login.check(&self.server, reader);
        self.callers.check(&self.server, reader);
        self.bootstrap.check(reader);
    }
}

/// Every key that [`Config::load`] knows, with its doc and default, in the order of the sections.
#[must_use]
pub fn settings() -> Vec<Setting> {
    let mut reader = Reader::new(None, []);
    Config::read(&mut reader);
    reader.into_settings()
}

/// The names of [`settings`].
#[must_use]
pub fn keys() -> Vec<String> {
    settings().into_iter().map(|setting| setting.key).collect()
}
