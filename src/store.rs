//! The one door to the database: every statement of the service is in this module, and nothing outside names sea-orm.
//!
//! - [`Store::write`] runs a named unit of work in one transaction, immediate on SQLite, and repeats it a few times where it lost a
//!   race. A unit must not do anything but talk to its [`Tx`]: it may run more than once.
//! - [`Store::write_once`] runs a named unit of work that is one statement, which needs no transaction around it.
//! - [`Store::read`] runs a named read.
//!
//! All run in a task of their own. tonic drops a handler when its caller hangs up; a drop while `BEGIN` is on the wire would give the
//! connection back to the pool inside an open transaction, and the next borrower would work in it.
//!
//! One call holds at most one pooled connection. SQLite has one writer and several readers; PostgreSQL one pool, which [`Store::renew`]
//! replaces when its connections have fallen silent.
//!
//! | file | what |
//! |---|---|
//! | `connect.rs` | pools and their settings |
//! | `lane.rs` | connections that go from one single statement to the next |
//! | `schema.rs` | migrations under a lock, the check *required ⊆ applied* |
//! | `backup.rs` | a copy of an SQLite database |
//! | `errors.rs` | driver errors in the words of the house |
//! | `refusal.rs` | why a PostgreSQL cannot be opened |
//! | `metrics.rs` | what is counted |
//! | `feed.rs`, `changes.rs` | what changed in the database, whoever changed it: what is known of it, and the poll |
//! | `facts.rs` | everything that a decision about a session needs, in one statement |
//! | `account_facts.rs` | the same about a service account |
//! | `rotation.rs` | the one conditional update that moves a refresh token on |
//! | `logins.rs` | everything that a login is decided by before its password is verified, in one statement |
//! | one file per table | records, finders and writers |
//!
//! **A new table**: a migration, an entity, and a file here with its record and functions over [`Db`].

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseExecutor, DatabaseTransaction, DbBackend, QueryResult, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait, Value,
};

use crate::{
    config,
    error::{Error, Result},
};

pub mod account_facts;
pub mod audit_events;
pub mod backup;
pub mod changes;
mod connect;
pub mod credentials;
mod entity;
mod errors;
pub mod facts;
pub mod feed;
pub mod instance;
mod lane;
pub mod logins;
pub mod memberships;
mod metrics;
mod refusal;
pub mod roles;
pub mod rotation;
pub mod schema;
pub mod service_account_secrets;
pub mod service_accounts;
pub mod sessions;
pub mod signing_keys;
pub mod tenants;
pub mod users;

use feed::Feed;
use lane::Lane;

pub use connect::{Target, connect};

/// How often a unit of work is tried before its lost races are the caller's.
const ATTEMPTS: u32 = 6;
/// Connections that are younger than this are not given up: a thousand calls that fail at once are one reason.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);

/// The database. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Store {
    config: Arc<config::Database>,
    pools: Arc<RwLock<Pools>>,
    /// Units of work that the database answered, in whatever way.
    answered: Arc<AtomicU64>,
    counted: metrics::Counted,
    feed: Feed,
}

#[derive(Clone, Debug)]
struct Pools {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    /// On PostgreSQL.
    lane: Option<Lane>,
    since: Instant,
}

impl Pools {
    /// Pools whose statements are counted.
    fn new(mut writer: DatabaseConnection, mut reader: DatabaseConnection, counted: &metrics::Counted) -> Self {
        counted.watch(&mut writer);
        counted.watch(&mut reader);
        let lane = (writer.get_database_backend() == DbBackend::Postgres)
            .then(|| Lane::new(writer.get_postgres_connection_pool().clone(), counted.statements()));
        Self { writer, reader, lane, since: Instant::now() }
    }
}

/// Whatever the finders read from: a [`Tx`] or a [`Reader`].
pub trait Db: Send + Sync {
    /// The connection, for the files of this module alone.
    #[doc(hidden)]
    fn executor(&self) -> DatabaseExecutor<'_>;
}

/// A transaction that is open for one unit of work. Clones are the same transaction.
#[derive(Clone, Debug)]
pub struct Tx(Arc<DatabaseTransaction>);

impl Db for Tx {
    fn executor(&self) -> DatabaseExecutor<'_> {
        DatabaseExecutor::Transaction(&self.0)
    }
}

/// A connection for reads, outside any transaction: each statement sees the database of its own moment.
#[derive(Clone, Debug)]
pub struct Reader(DatabaseConnection);

impl Db for Reader {
    fn executor(&self) -> DatabaseExecutor<'_> {
        DatabaseExecutor::Connection(&self.0)
    }
}

/// The right to run one statement that writes, and no second one.
#[derive(Debug)]
pub struct Once(Pools);

impl Once {
    const fn is_postgres(&self) -> bool {
        self.0.lane.is_some()
    }

    /// Runs it to its very end. Who takes the first row and leaves has not heard of the commit yet: it comes after the rows, and SQLite's
    /// driver would not tell that it failed.
    async fn run(self, sql: &'static str, values: Vec<Value>) -> Result<Vec<QueryResult>> {
        let Self(Pools { writer, lane, .. }) = self;
        if let Some(lane) = lane {
            return lane.run(sql, values).await.map_err(|e| errors::from_sqlx(&e));
        }
        let statement = Statement::from_sql_and_values(writer.get_database_backend(), sql, values);
        writer.query_all_raw(statement).await.map_err(|e| errors::from_db(&e))
    }
}

impl Store {
    fn new(config: config::Database, writer: DatabaseConnection, reader: DatabaseConnection) -> Self {
        let counted = metrics::Counted::default();
        let pools = Pools::new(writer, reader, &counted);
        Self { config: Arc::new(config), pools: Arc::new(RwLock::new(pools)), answered: Arc::default(), counted, feed: Feed::default() }
    }

    /// What is known of the changes in the database.
    #[must_use]
    pub const fn feed(&self) -> &Feed {
        &self.feed
    }

    fn pools(&self) -> Pools {
        self.pools.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reader(&self) -> DatabaseConnection {
        self.pools().reader
    }

    /// Runs `work` in one transaction and commits it if it answers `Ok`; anything else leaves no trace. What was committed is seen by
    /// whatever this replica remembers by the time that it answers.
    ///
    /// `input` is cloned for every attempt. A commit whose outcome is unknown is never repeated; one that the database refused for a race
    /// is a lost race.
    ///
    /// # Errors
    /// What `work` answers; [`Error::Conflict`] after the last lost race; [`Error::Unavailable`] where the database is away.
    pub async fn write<I, T, F, Fut>(&self, name: &'static str, input: I, work: F) -> Result<T>
    where
        I: Clone + Send + Sync + 'static,
        T: Send + 'static,
        F: Fn(Tx, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        self.write_then(name, input, work, |_| {}).await
    }

    /// Lets this replica see what was committed before anybody is told that it was, and other ones soon. A process that follows no changes
    /// has nothing to see, and tells the others itself; should that fail, they look four times in `freshness.max_staleness` anyway.
    async fn announce(&self) {
        if !self.feed.committed().await {
            drop(changes::wake(self.pools().writer).await);
        }
    }

    /// [`Store::write`], which tells `then` what came of it in the unit's own task: also where the caller is gone by then.
    ///
    /// # Errors
    /// Those of [`Store::write`].
    pub async fn write_then<I, T, F, Fut>(
        &self,
        name: &'static str,
        input: I,
        work: F,
        then: impl FnOnce(&Result<T>) + Send + 'static,
    ) -> Result<T>
    where
        I: Clone + Send + Sync + 'static,
        T: Send + 'static,
        F: Fn(Tx, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let (work, store) = (Arc::new(work), self.clone());
        let attempt = move |pools: Pools| {
            let (store, unit) = (store.clone(), transaction(pools.writer, input.clone(), Arc::clone(&work)));
            async move {
                let outcome = unit.await;
                if outcome.is_ok() {
                    store.announce().await;
                }
                outcome
            }
        };
        self.repeated(name, attempt, then).await
    }

    /// Runs `work`, which is one statement, and tells `then` like [`Store::write_then`]. Each statement is a transaction by itself: it is
    /// whole or absent without BEGIN and COMMIT, and what is between two statements of a transaction, locks that are held over a round trip
    /// above all, does not exist. For the steps that are one conditional update and decide everything in it.
    ///
    /// `input` is cloned for every attempt. Where the connection breaks before the answer, whether the statement took effect is unknown:
    /// that is [`Error::Unavailable`], and is never repeated here. What the database refused for a race is repeated as in [`Store::write`].
    ///
    /// # Errors
    /// Those of [`Store::write`].
    pub async fn write_once<I, T, F, Fut>(
        &self,
        name: &'static str,
        input: I,
        work: F,
        then: impl FnOnce(&Result<T>) + Send + 'static,
    ) -> Result<T>
    where
        I: Clone + Send + Sync + 'static,
        T: Send + 'static,
        F: Fn(Once, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let attempt = move |pools| work(Once(pools), input.clone());
        self.repeated(name, attempt, then).await
    }

    /// Runs a unit of work that writes until it loses no race any more, a few times at most.
    async fn repeated<T, F, Fut>(&self, name: &'static str, attempt: F, then: impl FnOnce(&Result<T>) + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(Pools) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let (store, pools) = (self.clone(), self.pools());
        let unit = async move {
            let mut attempts = 1;
            loop {
                match attempt(pools.clone()).await {
                    Err(Error::Conflict) if attempts < ATTEMPTS => {
                        store.counted.retry();
                        tracing::debug!(unit = name, attempts, "a unit of work lost a race and is tried again");
                        // Spread by the attempt's number: those who collided once should not meet again at the same moment.
                        tokio::time::sleep(Duration::from_millis(u64::from(attempts * attempts) * 3)).await;
                        attempts += 1;
                    }
                    outcome => {
                        // The connections lead to a server that no longer takes writes; the next ones may lead to the one that does.
                        if errors::is_read_only(&outcome) && store.renew().await.unwrap_or(false) {
                            tracing::warn!("the database is read-only: its connections are given up for new ones");
                        }
                        then(&outcome);
                        return outcome;
                    }
                }
            }
        };
        // Its type ends here: futures of futures down to the driver are deeper than the compiler looks.
        let unit: Pin<Box<dyn Future<Output = Result<T>> + Send>> = Box::pin(unit);
        self.detached(name, unit).await
    }

    /// Runs a read.
    ///
    /// # Errors
    /// What `work` answers; [`Error::Unavailable`] where the database is away.
    pub async fn read<I, T, F, Fut>(&self, name: &'static str, input: I, work: F) -> Result<T>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: FnOnce(Reader, I) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let reader = Reader(self.reader());
        self.detached(name, async move { work(reader, input).await }).await
    }

    /// Runs a unit in a task of its own, which goes on to its end when the caller hangs up.
    async fn detached<T: Send + 'static>(&self, name: &'static str, unit: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let (answered, counted, start) = (Arc::clone(&self.answered), self.counted.clone(), Instant::now());
        let unit = async move {
            let outcome = unit.await;
            counted.unit(name, start.elapsed(), &outcome);
            if !matches!(outcome, Err(Error::Unavailable(_))) {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            outcome
        };
        #[expect(clippy::disallowed_methods, reason = "this is the one place where units of work get their task")]
        let task = tokio::spawn(unit);
        if let Ok(outcome) = task.await {
            return outcome;
        }
        let outcome = Err(Error::Internal(format!("the unit of work {name} panicked")));
        self.counted.unit(name, start.elapsed(), &outcome);
        outcome
    }

    /// How many units of work the database has answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Gives up the connections to a database that has fallen silent, and takes new ones.
    ///
    /// A connection whose peer is gone without a word (a failed-over machine, a firewall that forgot the flow) is noticed by the kernel
    /// after a quarter of an hour, and until then holds its place in the pool. Whatever still works on the old connections goes on to its
    /// end. On SQLite there is nothing to renew, and right after one renewal none; then the answer is no.
    ///
    /// # Errors
    /// [`Error::InvalidField`] for a URL that never was one; new connections are made when they are asked for, not here.
    pub async fn renew(&self) -> Result<bool> {
        if self.pools().since.elapsed() < RENEWAL_PAUSE {
            return Ok(false);
        }
        let Some(fresh) = connect::anew(&self.config).await? else { return Ok(false) };
        self.counted.renewal();
        *self.pools.write().unwrap_or_else(PoisonError::into_inner) = Pools::new(fresh.clone(), fresh, &self.counted);
        Ok(true)
    }

    /// Whether the database answers, through the pools that calls use, so that an exhausted pool shows.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it does not.
    pub async fn ping(&self) -> Result<()> {
        self.read("ping", (), |db, ()| async move {
            db.executor().execute_unprepared("SELECT 1").await.map(drop).map_err(|e| errors::from_db(&e))
        })
        .await
    }

    /// Closes the pools; calls under way finish first.
    pub async fn close(&self) {
        // The pools may be one and the same; closing is idempotent, and there is nobody left to tell of a failure.
        let Pools { writer, reader, .. } = self.pools();
        drop(reader.close_by_ref().await);
        drop(writer.close_by_ref().await);
    }
}

async fn transaction<I, T, F, Fut>(writer: DatabaseConnection, input: I, work: Arc<F>) -> Result<T>
where
    F: Fn(Tx, I) -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let options = TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..TransactionOptions::default() };
    let transaction = Arc::new(writer.begin_with_options(options).await.map_err(|e| errors::from_db(&e))?);
    let outcome = work(Tx(Arc::clone(&transaction)), input).await;
    let transaction = Arc::try_unwrap(transaction).map_err(|_| Error::internal("a unit of work kept its transaction"))?;
    match outcome {
        Ok(value) => {
            transaction.commit().await.map_err(|e| errors::from_db(&e))?;
            Ok(value)
        }
        Err(error) => {
            // A failed rollback closes the connection; the unit's own error says more.
            drop(transaction.rollback().await);
            Err(error)
        }
    }
}
