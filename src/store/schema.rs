//! The schema: applying migrations one server at a time, and knowing whether the database has what this server needs.
//!
//! *required ⊆ applied*: a server serves when every migration that it knows is applied. A database that has more belongs to a newer
//! version that runs beside this one while a deployment rolls; the migrator itself would fail on it, so it is not asked then.
//!
//! The migrator takes no lock of its own: on PostgreSQL an advisory lock is held by the session that migrates, on SQLite a lock on the
//! file `<database>.lock` beside the database.

use std::{
    collections::BTreeSet,
    fs::{File, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use doorward_migrations::Migrator;
use nix::libc::{ELOOP, O_NOFOLLOW};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use sea_orm_migration::MigratorTrait;
use secrecy::ExposeSecret;

use super::{connect, errors};
use crate::{
    config,
    error::{Error, Result},
};

/// Held by whoever migrates; any constant will do as long as it is this one.
const ADVISORY_LOCK: i64 = 0x646f_6f72_7761_7264;
/// Whoever may open the lock file may hold the lock: nobody else.
const LOCK_MODE: u32 = 0o600;
/// A wait for the lock file that is longer than this is told.
const QUIET: Duration = Duration::from_secs(1);

/// One migration that this version knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationState {
    /// Its name.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
}

/// What the database is, before anything is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No tables at all.
    Empty,
    /// Ours; maybe of another version.
    Ours,
    /// Somebody else's tables.
    Foreign,
}

/// What a database is, and how every migration that this version knows, oldest first, stands to it. By a connection of its own that
/// changes nothing: it may be another program's.
///
/// # Errors
/// [`Error::Unavailable`] where it does not answer or is no database.
pub async fn look(config: &config::Database) -> Result<(Found, Vec<MigrationState>)> {
    let db = connect::looking(config).await?;
    let seen = async { Ok((found(&db).await?, states(&db).await?)) }.await;
    drop(db.close_by_ref().await);
    seen
}

/// Every migration that this version knows, as they stand to a database that does not exist yet.
#[must_use]
pub fn none_applied() -> Vec<MigrationState> {
    Migrator::migrations().iter().map(|m| MigrationState { name: m.name().to_owned(), applied: false }).collect()
}

/// Applies what is missing; answers the names of what was applied. Safe to call from several servers at once.
///
/// # Errors
/// [`Error::Unavailable`] where the database does not answer, [`Error::Internal`] where a migration fails.
pub async fn migrate(config: &config::Database) -> Result<Vec<String>> {
    let db = connect::dedicated(config).await?;
    let lock = lock(&db, config).await?;
    let outcome = apply(&db).await;
    drop(lock);
    drop(db.close_by_ref().await);
    outcome
}

async fn apply(db: &DatabaseConnection) -> Result<Vec<String>> {
    let missing: Vec<String> = states(db).await?.into_iter().filter(|m| !m.applied).map(|m| m.name).collect();
    if !missing.is_empty() {
        Migrator::up(db, None).await.map_err(|e| Error::Internal(format!("a migration failed: {e}")))?;
    }
    Ok(missing)
}

/// Waits for the lock. On PostgreSQL it is the session's and ends with it; the file's ends when it is closed.
async fn lock(db: &DatabaseConnection, config: &config::Database) -> Result<Option<File>> {
    match connect::Target::parse(config.url.expose_secret())? {
        connect::Target::Postgres => {
            let lock = Statement::from_sql_and_values(DbBackend::Postgres, "SELECT pg_advisory_lock($1)", [ADVISORY_LOCK.into()]);
            db.execute_raw(lock).await.map_err(|e| errors::from_db(&e))?;
            Ok(None)
        }
        connect::Target::Sqlite(path) => Ok(Some(lock_file(&path).await?)),
    }
}

/// Holds the lock file beside an SQLite database until it is dropped.
///
/// # Errors
/// [`Error::Unavailable`] where it cannot be had.
pub(super) async fn lock_file(database: &Path) -> Result<File> {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let shown = path.display().to_string();
    let mut locking = tokio::task::spawn_blocking(move || lock_at(&path));
    let locked = if let Ok(locked) = tokio::time::timeout(QUIET, &mut locking).await {
        locked
    } else {
        tracing::warn!("waiting for {shown}, which another process holds");
        locking.await
    };
    locked.map_err(Error::internal)?.map_err(|e| {
        let advice = match e.kind() {
            io::ErrorKind::PermissionDenied => ": it, or its folder, is not writable for this user",
            _ if e.raw_os_error() == Some(ELOOP) => ": it is a symbolic link; remove it",
            _ => "",
        };
        Error::Unavailable(format!("the lock file {shown} cannot be locked: {e}{advice}"))
    })
}

/// A link in the file's place would make a file, or change the rights of one, wherever it leads.
fn lock_at(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).mode(LOCK_MODE).custom_flags(O_NOFOLLOW).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        // Where it is another user's, it is theirs to close.
        drop(file.set_permissions(Permissions::from_mode(LOCK_MODE)));
    }
    file.lock()?;
    Ok(file)
}

async fn states(db: &DatabaseConnection) -> Result<Vec<MigrationState>> {
    let applied = if tables(db).await?.contains("seaql_migrations") { applied(db).await? } else { BTreeSet::new() };
    let known = Migrator::migrations();
    Ok(known.iter().map(|m| MigrationState { name: m.name().to_owned(), applied: applied.contains(m.name()) }).collect())
}

async fn found(db: &DatabaseConnection) -> Result<Found> {
    let tables = tables(db).await?;
    Ok(match (tables.is_empty(), tables.contains("seaql_migrations")) {
        (true, _) => Found::Empty,
        // The migrator's own table may stand alone: a first start that was killed.
        (false, true) if tables.len() == 1 || tables.contains("instance") => Found::Ours,
        (false, _) => Found::Foreign,
    })
}

async fn applied(db: &DatabaseConnection) -> Result<BTreeSet<String>> {
    strings(db, "SELECT version FROM seaql_migrations").await
}

/// The names of all tables. One of the three places with two dialects: each database keeps its catalogue its own way.
async fn tables(db: &DatabaseConnection) -> Result<BTreeSet<String>> {
    let sql = match db.get_database_backend() {
        DbBackend::Postgres => "SELECT tablename::text AS version FROM pg_catalog.pg_tables WHERE schemaname = current_schema()",
        _ => "SELECT name AS version FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    };
    strings(db, sql).await
}

async fn strings(db: &DatabaseConnection, sql: &str) -> Result<BTreeSet<String>> {
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.map_err(|e| errors::from_db(&e))?;
    rows.iter().map(|row| row.try_get::<String>("", "version").map_err(|e| errors::from_db(&e))).collect()
}
