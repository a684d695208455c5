//! Pools and their settings. The traps that each setting avoids are listed in the module doc of the setting's own crate or in
//! PostgreSQL's manual, chapter 20; the comments name them.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use secrecy::ExposeSecret;

use super::{Store, errors, refusal, schema};
use crate::{
    config,
    error::{Error, Result},
};

/// How long a write on SQLite waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres,
}

impl Target {
    /// Reads `database.url`.
    ///
    /// # Errors
    /// [`Error::InvalidField`] for a URL that is neither, and for SQLite in memory: the service keeps several connections.
    pub fn parse(url: &str) -> Result<Self> {
        config::database::url::check(url).map_err(|flaw| Error::field("database.url", flaw))?;
        if !config::database::url::is_sqlite(url) {
            return Ok(Self::Postgres);
        }
        let options = SqliteConnectOptions::from_str(url).map_err(|_| Error::field("database.url", "is no SQLite URL"))?;
        let path = options.get_filename().to_path_buf();
        Ok(Self::Sqlite(path))
    }
}

/// Opens the pools. An SQLite file is made only where `create` says so.
///
/// # Errors
/// [`Error::Unavailable`] where the database does not answer; of PostgreSQL, a whole sentence that says what to mend.
pub async fn connect(config: &config::Database, create: bool) -> Result<Store> {
    match Target::parse(config.url.expose_secret())? {
        Target::Sqlite(path) => {
            // The switch of a new file to WAL needs the file alone, and the busy timeout does not wait for that: first starts queue here.
            let first = schema::lock_file(&path).await?;
            let writer = open(sqlite(config, 1, create)).await?;
            drop(first);
            let reader = open(sqlite(config, config.max_connections.max(1), false)).await?;
            Ok(Store::new(config.clone(), writer, reader))
        }
        Target::Postgres => {
            let pool = open(postgres(config)).await?;
            Ok(Store::new(config.clone(), pool.clone(), pool))
        }
    }
}

/// A second pool to the same PostgreSQL, which connects when it is used; none on SQLite.
///
/// # Errors
/// [`Error::InvalidField`] for a URL that is none.
pub(super) async fn anew(config: &config::Database) -> Result<Option<DatabaseConnection>> {
    if Target::parse(config.url.expose_secret())? != Target::Postgres {
        return Ok(None);
    }
    let mut options = postgres(config);
    options.connect_lazy(true);
    open(options).await.map(Some)
}

async fn open(options: ConnectOptions) -> Result<DatabaseConnection> {
    match Database::connect(options.clone()).await {
        Ok(pool) => Ok(pool),
        Err(error) if config::database::url::is_sqlite(options.get_url()) => Err(errors::from_db(&error)),
        Err(error) => Err(refusal::explain(&options, &error).await),
    }
}

fn common(config: &config::Database, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(config.url.expose_secret());
    options
        .max_connections(connections)
        .acquire_timeout(config.acquire_timeout)
        // A pool that gives connections back opens them anew under load.
        .idle_timeout(None)
        // Without a lifetime too, the driver starts no task that looks over the idle ones. Its count of them passes through the largest
        // number there is when a connection is given back and taken at one moment (sqlx 0.9, `PoolInner::release`), and a look at that
        // moment goes on for ever on a thread that answers calls.
        .max_lifetime(None)
        // A busy pool pays nothing for it, and after a restart of the database nobody gets a connection that is dead.
        .test_before_acquire_if_idle_for(Duration::from_secs(1))
        // Statements are logged at INFO by default, with their values.
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    options
}

fn sqlite(config: &config::Database, connections: u32, create: bool) -> ConnectOptions {
    let mut options = common(config, connections);
    // The one writer is a queue, not a sign of trouble: its users wait as long as they would for another process's write.
    options.acquire_timeout(config.acquire_timeout.max(BUSY_TIMEOUT));
    options.map_sqlx_sqlite_opts(move |sqlite| {
        sqlite
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
    });
    options
}

fn postgres(config: &config::Database) -> ConnectOptions {
    let mut options = common(config, config.max_connections);
    options.set_application_name("doorward").statement_timeout(config.statement_timeout);
    options.map_sqlx_postgres_opts(|postgres| {
        postgres.options([
            // A transaction that nobody works in (its task died, or the way to it fell silent) holds its rows, and whoever wants them waits:
            // no longer than a recovery may take.
            ("idle_in_transaction_session_timeout", "5s"),
            // A dead flow is noticed by the server's side too.
            ("tcp_keepalives_idle", "30"),
        ])
    });
    options
}

/// A pool of one connection that reads, and leaves a file as it is: WAL too is a change of the file. But for what a program that was killed
/// left half done: only who may write can take that back, and nobody can read before.
pub(super) async fn looking(config: &config::Database) -> Result<DatabaseConnection> {
    let mut options = common(config, 1);
    options.map_sqlx_sqlite_opts(|sqlite| {
        let mut journal = sqlite.get_filename().as_os_str().to_owned();
        journal.push("-journal");
        let is_left = std::path::Path::new(&journal).exists();
        sqlite.read_only(!is_left).create_if_missing(false).busy_timeout(BUSY_TIMEOUT)
    });
    open(options).await
}

/// The same on an SQLite file that is no configured database.
pub(super) async fn looking_at(file: &Path) -> Result<DatabaseConnection> {
    let file = file.to_owned();
    let mut options = common(&config::Database::default(), 1);
    options.map_sqlx_sqlite_opts(move |sqlite| sqlite.filename(&file).read_only(true).busy_timeout(BUSY_TIMEOUT));
    open(options).await
}

/// A pool of one connection for work that belongs to one session of the database: the migration lock. No statement timeout.
pub(super) async fn dedicated(config: &config::Database) -> Result<DatabaseConnection> {
    let mut options = match Target::parse(config.url.expose_secret())? {
        Target::Sqlite(_) => sqlite(config, 1, false),
        Target::Postgres => common(config, 1),
    };
    options.acquire_timeout(Duration::from_secs(10));
    open(options).await
}
