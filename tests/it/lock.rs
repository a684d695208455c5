//! A lock that the test holds, so that whatever writes must wait: SQLite's write lock, or the rows of all users and sessions
//! on PostgreSQL.

use sea_orm::{ConnectionTrait, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};

use crate::harness::*;

/// Held until it is released.
pub struct Lock(DatabaseTransaction);

impl Lock {
    /// Takes the lock.
    pub async fn hold(world: &World) -> Self {
        let db = connection(database_url(&world.config)).await;
        let options = TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
        let transaction = db.begin_with_options(options).await.unwrap();
        if world.backend == Backend::Postgres {
            for rows in ["SELECT id FROM users FOR UPDATE", "SELECT id FROM sessions FOR UPDATE"] {
                transaction.execute_unprepared(rows).await.unwrap();
            }
        }
        Self(transaction)
    }

    /// Lets go.
    pub async fn release(self) {
        self.0.rollback().await.unwrap();
    }

    /// Waits until nobody works in a transaction any more.
    pub async fn settled(world: &World) {
        // On SQLite whatever waited is before this one in the queue for the one connection.
        world.app().store.write("probe", (), |_, ()| async { Ok(()) }).await.unwrap();
        if world.backend == Backend::Postgres {
            let sql = world.sql().await;
            let busy = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                        AND state <> 'idle' AND backend_type = 'client backend'";
            while sql.count(busy).await > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}
