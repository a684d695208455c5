//! The table `changes`: the poll that finds what became visible in it, the wake-up of other replicas, and its purge. One of the three places
//! with two dialects.
//!
//! **PostgreSQL.** Transactions commit in another order than that in which they began, and a sequence counts in yet another: a reader that asks
//! for what comes after the last number that it saw misses whatever commits late. So a poll asks for the rows whose transaction the snapshot
//! of the last poll did not see and that it sees itself, and takes its own snapshot in the same statement. That is exact.
//!
//! **SQLite.** One transaction writes at a time, so the sequence is the order of commits. `PRAGMA data_version` says in no time whether
//! anything was written at all.
//!
//! A poll has a connection of its own: it does not wait for calls, and `data_version` is about other connections. (The keys are read by the
//! pool where they changed.)
//! Where the connection breaks, whoever follows begins anew with everything forgotten: the next connection may lead to another server, which
//! knows nothing of the last snapshot. So do they where calls were given new connections, or the server takes no writes any more: after a
//! failover the old one may go on to answer, and hear of no change.
//!
//! On PostgreSQL a second one listens for wake-ups. They make a change known within milliseconds, and nothing depends on them: where there
//! is no listening (behind a pooler of transactions, say) it is tried again now and then. NOTIFY is sent after the commit and by itself:
//! inside a transaction it would have all commits wait for each other.
//!
//! A machine that was asleep does not know for how long: its clock stood still. So the poll asks the database for the time, and one that is
//! further behind than rows are kept begins anew.

use std::time::{Duration, Instant};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, Statement,
    sqlx::{
        self, Connection, PgConnection, Row, SqliteConnection,
        postgres::{PgListener, PgPoolOptions},
    },
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{
    Db, Once, Reader, Store, errors,
    feed::{Changes, Entity, Feed},
};
use crate::error::{Error, Result};

/// How long a row stays: nobody is behind by as much and goes on.
pub const KEPT: Duration = Duration::from_mins(10);

/// The most changes of one poll that are told one by one.
const MAX_TOLD: usize = 10_000;
/// How long a poll may take; a connection that fell silent says nothing by itself.
const POLL_LIMIT: Duration = Duration::from_secs(1);
/// How long opening a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long after it broke listening is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// Rows that one statement purges.
const PURGED: usize = 5_000;

const LISTEN: &str = "doorward_changes";
const NOTIFY: &str = "NOTIFY doorward_changes";

// What the snapshot of before did not see: what began after it, and what was under way. Of transactions that are not over by now nothing can
// be seen, and they may have written millions of rows, so these are not looked at. A limit above `MAX_TOLD`: more are too many.
const POSTGRES_POLL: &str = "SELECT pg_current_snapshot()::text AS snapshot, \
     (extract(epoch FROM clock_timestamp()))::bigint AS now, pg_postmaster_start_time()::text AS server, \
     current_setting('transaction_read_only') AS is_read_only, c.id IS NOT NULL AS is_row, c.kind, c.entity_id \
     FROM (SELECT 1) one LEFT JOIN changes c \
     ON (c.xid >= pg_snapshot_xmax($1::text::pg_snapshot) AND c.xid < pg_snapshot_xmax(pg_current_snapshot())) \
     OR c.xid = ANY (ARRAY(SELECT xid FROM pg_snapshot_xip($1::text::pg_snapshot) xid WHERE pg_visible_in_snapshot(xid, pg_current_snapshot()))) \
     LIMIT 10001";
// The planner guesses that every poll finds a part of the table, and would read all of a long one.
const BY_INDEX: &str = "SET enable_seqscan = off";
// Where a follower begins.
const SNAPSHOT: &str = "SELECT pg_current_snapshot()::text";
const SEQUENCE: &str = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'changes'";
const SQLITE_POLL: &str = "SELECT kind, entity_id FROM changes WHERE id > ? AND id <= ? LIMIT 10001";

// Also rows of transactions that are still to come: they are of a dump of another database, and would be told for ever.
const POSTGRES_PURGE: &str = "DELETE FROM changes WHERE id IN (SELECT id FROM changes \
     WHERE (xid < pg_snapshot_xmax($1::text::pg_snapshot) AND pg_visible_in_snapshot(xid, $1::text::pg_snapshot)) \
     OR xid >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT $2) RETURNING id";
const SQLITE_PURGE: &str = "DELETE FROM changes WHERE id IN (SELECT id FROM changes WHERE id <= CAST(? AS integer) LIMIT ?) \
     RETURNING id";

/// Follows the changes of a database from the moment on in which it was made.
#[derive(Debug)]
pub struct Follower {
    at: At,
    /// When the last completed poll began.
    polled: Instant,
    store: Store,
    /// Since when calls have had the connections that they had when this began.
    since: Instant,
}

#[derive(Debug)]
enum At {
    Postgres(Box<Postgres>),
    Sqlite { connection: SqliteConnection, version: i64, last: i64 },
}

#[derive(Debug)]
struct Postgres {
    connection: PgConnection,
    /// Of the last poll.
    snapshot: String,
    /// Which server it was, and when; none before the first poll.
    seen: Option<(String, i64)>,
    _ears: Ears,
}

/// What listens for wake-ups, until it is dropped.
#[derive(Debug)]
struct Ears(JoinHandle<()>);

impl Drop for Ears {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ears {
    fn open(options: PgConnectOptions, feed: Feed) -> Self {
        #[expect(clippy::disallowed_methods, reason = "it writes nothing, and ends with whoever follows")]
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&options, &feed).await {
                    tracing::debug!(cause = ?errors::from_sqlx(&error), "no wake-ups are heard: changes are found by looking");
                }
                tokio::time::sleep(LISTEN_AGAIN).await;
                // What came meanwhile was not heard.
                feed.demand();
            }
        });
        Self(task)
    }
}

/// Asks for a poll whenever another replica has written, until the connection is gone.
async fn listen(options: &PgConnectOptions, feed: &Feed) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).idle_timeout(None).max_lifetime(None).acquire_timeout(CONNECT_LIMIT);
    let mut listener = PgListener::connect_with(&pool.connect_lazy_with(options.clone())).await?;
    listener.listen(LISTEN).await?;
    while listener.try_recv().await?.is_some() {
        feed.demand();
    }
    Ok(())
}

type PgConnectOptions = sqlx::postgres::PgConnectOptions;

impl Store {
    /// Begins to follow the changes: all that come after this has answered are told by the polls.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database is away.
    pub async fn follow(&self) -> Result<Follower> {
        let (polled, since) = (Instant::now(), self.pools().since);
        let at = within(CONNECT_LIMIT, self.open_feed()).await?;
        Ok(Follower { at, polled, store: self.clone(), since })
    }

    async fn open_feed(&self) -> Result<At, sqlx::Error> {
        let pool = self.pools().writer;
        if pool.get_database_backend() == DbBackend::Postgres {
            let options = pool.get_postgres_connection_pool().connect_options().as_ref().clone();
            let mut connection = PgConnection::connect_with(&options).await?;
            sqlx::query(BY_INDEX).execute(&mut connection).await?;
            let snapshot = sqlx::query_scalar(SNAPSHOT).fetch_one(&mut connection).await?;
            let ears = Ears::open(options, self.feed.clone());
            return Ok(At::Postgres(Box::new(Postgres { connection, snapshot, seen: None, _ears: ears })));
        }
        let mut connection = SqliteConnection::connect_with(&pool.get_sqlite_connection_pool().connect_options()).await?;
        let version = data_version(&mut connection).await?;
        let last = sqlx::query_scalar(SEQUENCE).fetch_one(&mut connection).await?;
        Ok(At::Sqlite { connection, version, last })
    }
}

impl Follower {
    /// What became visible since the last poll.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the database is away, and for a follower that is too far behind: the next one begins anew.
    pub async fn poll(&mut self) -> Result<Changes> {
        let began = Instant::now();
        if began.duration_since(self.polled) > KEPT / 2 {
            return Err(Error::Unavailable("the last look at the changes is too long ago".to_owned()));
        }
        if self.store.pools().since != self.since {
            return Err(Error::Unavailable("the connections to the database were renewed".to_owned()));
        }
        let changes = within(POLL_LIMIT, self.at.poll()).await?;
        self.polled = began;
        Ok(changes)
    }

    /// Makes the other replicas look, if that can be: they look by themselves soon.
    pub async fn wake_others(&mut self) {
        if let At::Postgres(postgres) = &mut self.at {
            drop(within(POLL_LIMIT, sqlx::query(NOTIFY).execute(&mut postgres.connection)).await);
        }
    }
}

impl Postgres {
    async fn poll(&mut self) -> Result<Changes, sqlx::Error> {
        let rows = sqlx::query(POSTGRES_POLL).bind(self.snapshot.as_str()).fetch_all(&mut self.connection).await?;
        let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let (server, now): (String, i64) = (first.try_get("server")?, first.try_get("now")?);
        let too_long = KEPT.as_secs().cast_signed() / 2;
        let is_another = self.seen.as_ref().is_some_and(|(before, at)| *before != server || now.saturating_sub(*at) > too_long);
        if is_another || first.try_get::<String, _>("is_read_only")? == "on" {
            return Err(sqlx::Error::WorkerCrashed);
        }
        self.seen = Some((server, now));
        self.snapshot = first.try_get("snapshot")?;
        let is_row = |row: &sqlx::postgres::PgRow| row.try_get("is_row").unwrap_or(true);
        read(rows.iter().filter(|row| is_row(row)).map(|row| Ok((row.try_get("kind")?, row.try_get("entity_id")?))))
    }
}

impl At {
    async fn poll(&mut self) -> Result<Changes, sqlx::Error> {
        match self {
            Self::Postgres(postgres) => postgres.poll().await,
            Self::Sqlite { connection, version, last } => {
                let now = data_version(connection).await?;
                if now == *version {
                    return Ok(Changes::Of(Vec::new()));
                }
                // After the version: what comes between is told now, and looked for again.
                let until: i64 = sqlx::query_scalar(SEQUENCE).fetch_one(&mut *connection).await?;
                let rows = sqlx::query(SQLITE_POLL).bind(*last).bind(until).fetch_all(&mut *connection).await?;
                let is_reset = until < *last;
                (*version, *last) = (now, until);
                if is_reset {
                    return Ok(Changes::Everything);
                }
                read(rows.iter().map(|row| Ok((row.try_get("kind")?, row.try_get("entity_id")?))))
            }
        }
    }
}

fn read(rows: impl Iterator<Item = Result<(String, Option<Uuid>), sqlx::Error>>) -> Result<Changes, sqlx::Error> {
    let mut entities = Vec::new();
    for row in rows {
        let (kind, id) = row?;
        match Entity::read(&kind, id) {
            Some(entity) if entities.len() < MAX_TOLD => entities.push(entity),
            _ => return Ok(Changes::Everything),
        }
    }
    Ok(Changes::Of(entities))
}

async fn data_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await
}

async fn within<T>(limit: Duration, statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T> {
    let late = |_| Error::Unavailable("the database did not tell its changes in time".to_owned());
    tokio::time::timeout(limit, statement).await.map_err(late)?.map_err(|e| errors::from_sqlx(&e))
}

/// Makes all replicas look, from a process that follows nothing itself.
pub(super) async fn wake(pool: DatabaseConnection) -> Result<()> {
    if pool.get_database_backend() == DbBackend::Postgres {
        let waking = pool.execute_unprepared(NOTIFY);
        let late = |_| Error::Unavailable("the database did not take a wake-up in time".to_owned());
        tokio::time::timeout(POLL_LIMIT, waking).await.map_err(late)?.map_err(|e| errors::from_db(&e))?;
    }
    Ok(())
}

/// Where the changes are now, for [`purge`].
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn mark(db: &Reader) -> Result<String> {
    let executor = db.executor();
    let sql = match executor.get_database_backend() {
        DbBackend::Postgres => "SELECT pg_current_snapshot()::text AS mark",
        _ => "SELECT CAST(coalesce(max(seq), 0) AS text) AS mark FROM sqlite_sequence WHERE name = 'changes'",
    };
    let row =
        executor.query_one_raw(Statement::from_string(executor.get_database_backend(), sql)).await.map_err(|e| errors::from_db(&e))?;
    let row = row.ok_or_else(|| Error::internal("no mark"))?;
    row.try_get("", "mark").map_err(|e| errors::from_db(&e))
}

/// Takes away a batch of the changes that were visible at a mark of [`KEPT`] ago. Answers whether there can be more.
///
/// # Errors
/// [`Error::Unavailable`] where the database is away.
pub async fn purge(db: Once, mark: String) -> Result<bool> {
    let sql = if db.is_postgres() { POSTGRES_PURGE } else { SQLITE_PURGE };
    let limit = i64::try_from(PURGED).map_err(Error::internal)?;
    let purged = db.run(sql, vec![mark.into(), limit.into()]).await?;
    Ok(purged.len() >= PURGED)
}
