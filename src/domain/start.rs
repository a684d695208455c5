//! Starting: from a configuration to an [`App`] that may serve, or a refusal that says what to do.
//!
//! ```text
//! database there? ─► root secret ─► ours? schema? ─► root secret of this database? ─► signing key ─► hashing threads
//!   (SQLite: made)    (SQLite: made,                      (instance.root_check)         (made once)
//!                      with a new database only)
//! ```
//!
//! Everything here is done by every command that opens the database, so that none works on a database that `serve` would refuse; only
//! [`schema()`], which looks and changes nothing, does less.
//!
//! **The key file** of SQLite, `<database file>.key`, is written whole beside its place and linked there: of two first starts one makes
//! it and the other reads it, and a crash leaves no half of one. A database that has rows but no key is refused: a new key would lock
//! everybody out for good and look like success.
//!
//! **An empty database beside a key** is either a first start that was killed, which goes on, or a copy without its `-wal` file, which is
//! refused. The mark `<database file>.begun` tells them apart: it is there from before the database is made until it is bound to its key.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::unistd::Uid;
use prometheus_client::registry::Registry;
use secrecy::ExposeSecret;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    keys::{self, Needs},
    memory::Memory,
    passwords,
};
use crate::{
    app::App,
    config::{Config, database::url, secrets::NEEDED_ON_POSTGRES},
    error::Error,
    metrics::Metrics,
    store::{
        self, Store, Target, instance,
        schema::{self, Found, MigrationState},
        users,
    },
    values::{
        entropy::Entropy,
        secret::{self, RootSecrets},
        time::Clock,
    },
};

/// What follows the name of an SQLite database in that of its mark while it is made.
const BEGUN: &str = ".begun";

/// Why the service does not start. Each text says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// The database file, or what lies there instead.
    #[error("{0}")]
    Database(String),
    /// The root secret.
    #[error("{0}")]
    RootSecret(String),
    /// Anything that the store or a decision refuses.
    #[error("{}", told(.0))]
    Failed(#[from] Error),
}

/// What the operator is told: also the part that calls keep to the log.
fn told(error: &Error) -> String {
    match error {
        Error::Internal(cause) | Error::Unavailable(cause) => cause.clone(),
        other => other.to_string(),
    }
}

/// Builds the service.
///
/// # Errors
/// See [`StartError`].
pub async fn open(config: Config, clock: Clock, entropy: Entropy) -> Result<App, StartError> {
    build(config, clock, entropy, Needs::ASigner).await
}

/// Builds what commands work with: also where the key that signs is broken, which a command may be there to mend.
///
/// # Errors
/// See [`StartError`].
pub async fn open_to_administer(config: Config, clock: Clock, entropy: Entropy) -> Result<App, StartError> {
    build(config, clock, entropy, Needs::Nothing).await
}

async fn build(config: Config, clock: Clock, entropy: Entropy, needs: Needs) -> Result<App, StartError> {
    // Boxed, here and below: the driver's futures are large, and every caller would carry them along.
    let Prepared { store, roots, .. } = Box::pin(prepare(&config, &clock, &entropy)).await?;
    let keys = Box::pin(keys::ensure(&config, &store, &roots, &entropy, &clock, needs)).await?;
    let parameters = passwords::parameters(&config.passwords)?;
    let threads = config.passwords.hash_threads();
    let hasher = passwords::hasher::Hasher::start(parameters, threads, config.passwords.queue, entropy.clone())?;
    let mut registry = Registry::default();
    store.register(&mut registry);
    hasher.register(&mut registry);
    keys.register(&mut registry);
    let memory = Memory::new(&config.freshness, &mut registry);
    let metrics = Arc::new(Metrics::new(registry));
    Ok(App { config, store, clock, entropy, roots, hasher, keys, memory, metrics })
}

/// Brings the schema up to date, whatever `database.migrate_on_start` says, and answers the names of the migrations that it applied. On
/// a fresh machine it makes what a first start makes, but for the signing key.
///
/// # Errors
/// See [`StartError`].
pub async fn migrate(config: &Config, clock: &Clock, entropy: &Entropy) -> Result<Vec<String>, StartError> {
    let mut config = config.clone();
    config.database.migrate_on_start = Some(true);
    let prepared = prepare(&config, clock, entropy).await?;
    prepared.store.close().await;
    Ok(prepared.applied)
}

/// Every migration that this version knows and whether the database has it. Makes nothing; needs no root secret.
///
/// # Errors
/// [`StartError::Database`] for what is no database, or is another program's.
pub async fn schema(config: &Config) -> Result<Vec<MigrationState>, StartError> {
    let shown = match Target::parse(config.database.url.expose_secret())? {
        Target::Sqlite(path) if !database_exists(&path)? => return Ok(schema::none_applied()),
        Target::Sqlite(path) => {
            check_database_file(&path)?;
            path.display().to_string()
        }
        Target::Postgres => "of database.url".to_owned(),
    };
    look(config, &shown).await
}

/// What this version's migrations are to the database, if it is ours or empty.
async fn look(config: &Config, shown: &str) -> Result<Vec<MigrationState>, StartError> {
    let seen = Box::pin(schema::look(&config.database)).await;
    let (found, states) = seen.map_err(|e| if config.database.is_sqlite() { not_a_database(shown, e) } else { not_open(e) })?;
    if found == Found::Foreign {
        let text = format!(
            "the database {shown} holds tables that are not Doorward's: it is another program's database; give Doorward a database of its own"
        );
        return Err(StartError::Database(text));
    }
    Ok(states)
}

/// Whether there is a database to open, or an SQLite file would have to be made.
///
/// # Errors
/// [`StartError::Database`] where that cannot be seen.
pub fn has_database(config: &Config) -> Result<bool, StartError> {
    match Target::parse(config.database.url.expose_secret())? {
        Target::Sqlite(path) => database_exists(&path),
        Target::Postgres => Ok(true),
    }
}

/// The file of an SQLite database; none on PostgreSQL.
///
/// # Errors
/// [`StartError::Failed`] for a URL that is neither.
pub fn database_file(config: &Config) -> Result<Option<PathBuf>, StartError> {
    Ok(match Target::parse(config.database.url.expose_secret())? {
        Target::Sqlite(path) => Some(path),
        Target::Postgres => None,
    })
}

/// That the folder of an SQLite database is missing.
#[must_use]
pub fn no_folder(folder: &Path) -> StartError {
    StartError::Database(format!("the folder {} of the database does not exist: make it first", folder.display()))
}

/// Why a file cannot be made, and, where it is the folder's rights, who has to get them. In a container the folder is a volume, which
/// belongs to root unless somebody says otherwise.
fn unmade(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let (folder, user) = (folder.display(), Uid::effective());
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            ". The folder {folder} is not writable for this user (id {user}): give it to that user (in a container: make {user} the owner \
             of the volume), or name another folder in database.url"
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!(". The folder {folder} is on a read-only file system: mount it writable, or name another folder in database.url")
        }
        _ => String::new(),
    };
    format!("{error}{advice}")
}

/// That an SQLite file is there, and a database of ours. Changes nothing, and needs no root secret.
///
/// # Errors
/// [`StartError::Database`].
pub(super) async fn check_ours(config: &Config, path: &Path) -> Result<(), StartError> {
    let shown = path.display().to_string();
    if !database_exists(path)? {
        return Err(StartError::Database(format!("there is no database {shown}: say in database.url which one is meant")));
    }
    check_database_file(path)?;
    look(config, &shown).await.map(drop)
}

/// A database that is there, is ours, has its schema and belongs to these roots.
struct Prepared {
    store: Store,
    roots: RootSecrets,
    /// The migrations that this start applied.
    applied: Vec<String>,
}

async fn prepare(config: &Config, clock: &Clock, entropy: &Entropy) -> Result<Prepared, StartError> {
    let target = Target::parse(config.database.url.expose_secret())?;
    let prepared = match &target {
        Target::Sqlite(path) => Box::pin(open_sqlite(config, path, entropy)).await?,
        Target::Postgres => Box::pin(open_postgres(config)).await?,
    };
    claim(&prepared.store, &prepared.roots, clock).await?;
    if let Target::Sqlite(path) = &target {
        // Mostly there is none.
        drop(fs::remove_file(with_suffix(path, BEGUN)));
    }
    Ok(prepared)
}

fn database_exists(path: &Path) -> Result<bool, StartError> {
    path.try_exists().map_err(|e| StartError::Database(format!("the database {} cannot be looked at: {e}", path.display())))
}

async fn open_sqlite(config: &Config, path: &Path, entropy: &Entropy) -> Result<Prepared, StartError> {
    let shown = path.display();
    let exists = database_exists(path)?;
    if exists {
        check_database_file(path)?;
        let may_be_rest = may_be_rest(path);
        look(config, &shown.to_string()).await?;
        if may_be_rest {
            check_whole(config, path).await?;
        }
    } else if !url::may_be_made(config.database.url.expose_secret()) {
        return Err(StartError::Database(format!("there is no database {shown}, and mode=rw in database.url says not to make one")));
    } else if !config.database.migrate_on_start() {
        let hint = "database.migrate_on_start is off: run `doorward migrate up` first";
        return Err(StartError::Database(format!("there is no database {shown}, and {hint}")));
    } else if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        return Err(no_folder(folder));
    }
    // The key comes first: a crash between the two leaves a key without a database, which the next start uses.
    let configured = configured_roots(config)?;
    let roots = match configured {
        Some(roots) => roots,
        None => key_file(path, exists, entropy)?,
    };
    if !exists {
        // The mark stays until the database is bound to its key: whoever finds it empty knows why.
        make_file(&with_suffix(path, BEGUN))
            .and_then(|()| make_file(path))
            .map_err(|e| StartError::Database(format!("the database {shown} cannot be made: {}", unmade(path, &e))))?;
    }
    let store = store::connect(&config.database, false).await.map_err(|e| not_a_database(&shown.to_string(), e))?;
    let applied = check_schema(config, &shown.to_string()).await?;
    Ok(Prepared { store, roots, applied })
}

/// What may be left of a database that was copied without its `-wal` file, which holds the latest changes (all of them, of a young one): the
/// key is there, and no changes beside it. To be asked before the database is opened, which makes an empty `-wal`. A first start that was
/// killed leaves the same, and its mark.
fn may_be_rest(path: &Path) -> bool {
    let size = |suffix| fs::metadata(with_suffix(path, suffix)).map_or(0, |file| file.len());
    !with_suffix(path, BEGUN).exists() && size("") > 0 && size(".key") > 0 && size("-wal") == 0
}

/// Refuses such a rest: to begin anew in it would look like success, and lose everything.
async fn check_whole(config: &Config, path: &Path) -> Result<(), StartError> {
    let (found, _) = Box::pin(schema::look(&config.database)).await.map_err(|e| not_a_database(&path.display().to_string(), e))?;
    if found != Found::Empty {
        return Ok(());
    }
    let shown = path.display();
    Err(StartError::Database(format!(
        "the database {shown} is empty, but its key file is there: was it copied without {shown}-wal, which holds the latest changes? Put the \
         whole database back (`doorward backup` makes copies that are whole), or remove {shown} to begin anew"
    )))
}

/// For nobody else to read: the database has hashes of passwords and addresses of people. SQLite gives the files beside it the same rights.
fn make_file(path: &Path) -> std::io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome.map(drop),
    }
}

async fn open_postgres(config: &Config) -> Result<Prepared, StartError> {
    let roots = configured_roots(config)?.ok_or_else(|| StartError::RootSecret(format!("secrets.root {NEEDED_ON_POSTGRES}")))?;
    let store = store::connect(&config.database, false).await.map_err(not_open)?;
    let applied = check_schema(config, "of database.url").await?;
    Ok(Prepared { store, roots, applied })
}

/// Applies migrations where that is allowed, and answers which; otherwise the database must have every one that this version needs.
async fn check_schema(config: &Config, shown: &str) -> Result<Vec<String>, StartError> {
    let missing: Vec<String> = look(config, shown).await?.into_iter().filter(|m| !m.applied).map(|m| m.name).collect();
    if missing.is_empty() {
        return Ok(missing);
    }
    if !config.database.migrate_on_start() {
        let list = missing.join(", ");
        return Err(StartError::Database(format!("the database lacks migrations ({list}): run `doorward migrate up` first")));
    }
    let applied = schema::migrate(&config.database).await?;
    tracing::info!(count = applied.len(), "the schema was brought up to date");
    Ok(applied)
}

/// Binds the database to its root secret at the first start, and holds it to it ever after.
async fn claim(store: &Store, roots: &RootSecrets, clock: &Clock) -> Result<(), StartError> {
    let input = (roots.first().check(), clock.now());
    let stored = store
        .write("claim_database", input, |tx, (check, now)| async move {
            instance::insert_if_absent(&tx, now).await?;
            let known = instance::lock(&tx).await?.root_check;
            if known.is_none() && users::list(&tx, None, 1).await?.is_empty() {
                instance::set_root_check(&tx, &check).await?;
                return Ok(Some(check));
            }
            Ok(known)
        })
        .await?;
    if stored.is_some_and(|check| roots.accepts_check(&check)) {
        return Ok(());
    }
    let text = "the database belongs to another root secret: give the one it was made with in secrets.root or, for SQLite, put its \
                key file back beside it";
    Err(StartError::RootSecret(text.to_owned()))
}

fn configured_roots(config: &Config) -> Result<Option<RootSecrets>, StartError> {
    if config.secrets.root.is_empty() {
        return Ok(None);
    }
    let roots: Vec<&str> = config.secrets.root.iter().map(ExposeSecret::expose_secret).collect();
    RootSecrets::parse(&roots).map(Some).map_err(|e| StartError::RootSecret(format!("secrets.root: {e}")))
}

/// The key file beside an SQLite database: made with a new database, read with an existing one.
fn key_file(database: &Path, database_exists: bool, entropy: &Entropy) -> Result<RootSecrets, StartError> {
    let path = with_suffix(database, ".key");
    let shown = path.display();
    let is_bound = database_exists && fs::metadata(database).is_ok_and(|file| file.len() > 0);
    if !path.exists() {
        if is_bound {
            let other = "if its root secret is kept elsewhere, give it in secrets.root";
            let text = format!("the database {} is there, but its key file {shown} is not: put it back, or, {other}", database.display());
            return Err(StartError::RootSecret(text));
        }
        let unmade = |e| StartError::RootSecret(format!("the key file {shown} cannot be made: {}", unmade(&path, &e)));
        make_key_file(&path, entropy).map_err(unmade)?;
    }
    let put_back = if is_bound { ". Put it back as it was: no other opens this database" } else { "" };
    let unreadable = |e: std::io::Error| StartError::RootSecret(format!("the key file {shown} cannot be read: {e}{put_back}"));
    let mode = fs::metadata(&path).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        let text = format!("the key file {shown} is open to others (mode {:o}): run chmod 600 {shown}", mode & 0o777);
        return Err(StartError::RootSecret(text));
    }
    let text = Zeroizing::new(fs::read_to_string(&path).map_err(unreadable)?);
    let roots: Vec<&str> = text.split_whitespace().collect();
    RootSecrets::parse(&roots).map_err(|e| StartError::RootSecret(format!("the key file {shown}: {e}{put_back}")))
}

/// Writes the whole key beside its place, then links it there: the link fails where another start was first, whose key then counts.
fn make_key_file(path: &Path, entropy: &Entropy) -> std::io::Result<()> {
    let root = Zeroizing::new(secret::generate_root(entropy));
    let suffix = secret::hex(&entropy.bytes::<8>());
    let draft = with_suffix(path, &format!(".{suffix}"));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = file.write_all(root.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    });
    fs::remove_file(&draft)?;
    linked?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::File::open(folder)?.sync_all()
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What can be said of the file before SQLite is asked.
fn check_database_file(path: &Path) -> Result<(), StartError> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let shown = path.display();
    let unreadable = |e: std::io::Error| StartError::Database(format!("the database {shown} cannot be read: {e}"));
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(StartError::Database(format!("{shown} is no file: name an SQLite database in database.url")));
    }
    // SQLite tells its own files (`-wal`, `-shm`) by the database's name: of two hard links to one, each has its own, and what is written
    // by both is lost (sqlite.org/howtocorrupt.html, 2.5).
    if metadata.nlink() > 1 {
        let names = metadata.nlink();
        return Err(StartError::Database(format!(
            "the database {shown} has {names} names (hard links), and SQLite loses what is written by different ones: leave it one"
        )));
    }
    if metadata.permissions().readonly() {
        return Err(StartError::Database(format!("the database {shown} is read-only: make it writable for this user")));
    }
    let mut head = Vec::with_capacity(MAGIC.len());
    fs::File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head)).map_err(unreadable)?;
    if !head.is_empty() && head != MAGIC {
        return Err(StartError::Database(format!("{shown} is no SQLite database: name another file in database.url")));
    }
    Ok(())
}

/// Of PostgreSQL it is a whole sentence already.
fn not_open(error: Error) -> StartError {
    match error {
        Error::Unavailable(cause) => StartError::Database(cause),
        other => StartError::Failed(other),
    }
}

fn not_a_database(shown: &str, error: Error) -> StartError {
    match error {
        Error::Unavailable(cause) => StartError::Database(format!("the database {shown} cannot be opened ({cause})")),
        other => StartError::Failed(other),
    }
}
