//! The lane: how a PostgreSQL connection goes from one single statement to the next without the pool in between.
//!
//! The driver tests a connection whenever it is given back: an empty message to the database and its answer, in a task of its own, before
//! anybody else may have it. Beside one short statement that is a quarter of what the database does for a call, and for the time of a
//! round trip the connection does nothing while calls wait for it.
//!
//! So a connection that answered well is handed to the unit of work that waits longest here. Where nobody waits, so that little would be
//! gained, it goes back to the pool, and after [`TURNS`] statements it does too: whoever reads or opens a transaction waits for the pool
//! alone. A connection that failed is the pool's to judge. Nobody waits here only: it is the pool's queue, with its patience, and this one,
//! and whichever comes first. So no connection is kept here, and neither a renewal nor the end of the service has to know of it. (To keep
//! one at hand for whoever comes next was tried, and gained nothing that could be measured.)

use std::{
    collections::VecDeque,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::counter::Counter;
use sea_orm::{
    QueryResult, Value, Values,
    sqlx::{self, PgPool, Postgres, pool::PoolConnection},
};
use sea_query_sqlx::SqlxValues;
use tokio::sync::oneshot;

/// Statements that a connection answers before it goes back to the pool.
const TURNS: u32 = 8;

/// One pool's lane. Clones are the same one.
#[derive(Clone)]
pub(super) struct Lane {
    pool: PgPool,
    waiting: Arc<Mutex<VecDeque<oneshot::Sender<Handed>>>>,
    statements: Counter,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("waiting", &self.waiting().len()).finish_non_exhaustive()
    }
}

struct Handed {
    connection: PoolConnection<Postgres>,
    turns: u32,
}

impl Handed {
    const fn first(connection: PoolConnection<Postgres>) -> Self {
        Self { connection, turns: 0 }
    }
}

impl Lane {
    pub(super) fn new(pool: PgPool, statements: Counter) -> Self {
        Self { pool, waiting: Arc::default(), statements }
    }

    /// Runs one statement, which is a transaction by itself.
    pub(super) async fn run(&self, sql: &'static str, values: Vec<Value>) -> Result<Vec<QueryResult>, sqlx::Error> {
        let mut handed = self.take().await?;
        self.statements.inc();
        let rows = sqlx::query_with(sql, SqlxValues(Values(values))).fetch_all(&mut *handed.connection).await?;
        self.pass_on(handed);
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }

    async fn take(&self) -> Result<Handed, sqlx::Error> {
        let mut own = pin!(self.pool.acquire());
        // Whoever makes the pool grow is not to be interrupted by a connection that comes first.
        if self.pool.size() < self.pool.options().get_max_connections() || self.pool.num_idle() > 0 {
            return own.as_mut().await.map(Handed::first);
        }
        let (giver, taker) = oneshot::channel();
        self.wait_with(giver);
        tokio::select! {
            biased;
            Ok(handed) = taker => Ok(handed),
            own = own => own.map(Handed::first),
        }
    }

    fn wait_with(&self, giver: oneshot::Sender<Handed>) {
        let mut waiting = self.waiting();
        // Those who were served by the pool, or gave up: in an outage nobody else would take them out.
        while waiting.front().is_some_and(oneshot::Sender::is_closed) {
            waiting.pop_front();
        }
        waiting.push_back(giver);
    }

    /// To the one who waits longest; to the pool by being dropped.
    fn pass_on(&self, mut handed: Handed) {
        handed.turns += 1;
        while handed.turns < TURNS {
            let Some(next) = self.waiting().pop_front() else { return };
            match next.send(handed) {
                Ok(()) => return,
                Err(back) => handed = back,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<Handed>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
