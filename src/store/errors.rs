//! What the driver says, in the words of the house. Nothing of the driver's own text leaves: it can hold values of rows.

use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};

use crate::error::{Error, Taken};

/// A driver error as one of ours. Lost races become [`Error::Conflict`], which `Store::write` repeats.
pub(super) fn from_db(error: &DbErr) -> Error {
    match error {
        DbErr::ConnectionAcquire(cause) => Error::Unavailable(format!("no database connection: {cause}")),
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => from_sqlx(cause),
        DbErr::Conn(_) => Error::Unavailable("no database connection".to_owned()),
        _ => Error::Internal(format!("the database layer failed: {}", variant(error))),
    }
}

/// A row that does not say what it should: someone wrote to it by hand, or a newer version did.
pub(super) fn bad_row(table: &'static str, column: &'static str, row: impl std::fmt::Display) -> Error {
    Error::Internal(format!("bad row: {table}.{column} of {row} cannot be read"))
}

/// Which unique name a failed insert or update hit, if any of `columns` (`table.column`), else the error as [`from_db`] reads it.
///
/// PostgreSQL names the index (`users_email_canonical_key`), SQLite the columns (`users.email_canonical`): indexes are named after their
/// columns so that one table serves both.
pub(super) fn taken(error: &DbErr, columns: &[(&str, Taken)]) -> Error {
    if let Some(SqlErr::UniqueConstraintViolation(text)) = error.sql_err() {
        let hit = columns.iter().find(|(column, _)| text.contains(column) || text.contains(&format!("{}_key", column.replace('.', "_"))));
        if let Some((_, taken)) = hit {
            return Error::Taken(*taken);
        }
    }
    from_db(error)
}

fn from_sqlx(error: &sqlx::Error) -> Error {
    let sqlx::Error::Database(cause) = error else {
        return match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
                Error::Unavailable("the database connection broke".to_owned())
            }
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Error::Unavailable("no database connection".to_owned())
            }
            _ => Error::Internal("the database driver failed".to_owned()),
        };
    };
    let code = cause.code().unwrap_or_default();
    match code.as_ref() {
        // PostgreSQL: serialization failure, deadlock, lock not available. SQLite: BUSY, LOCKED, BUSY_RECOVERY, BUSY_SNAPSHOT.
        "40001" | "40P01" | "55P03" | "5" | "6" | "261" | "517" => Error::Conflict,
        // PostgreSQL: statement or idle timeout, read-only after a failover, too many connections, shutting down or starting.
        "57014" | "25P03" | "25006" | "53300" | "57P01" | "57P02" | "57P03"
        // PostgreSQL: no such user, wrong password, no such database. The operator mends it, not we.
        | "28000" | "28P01" | "3D000"
        // SQLite: READONLY and its kin, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB.
        | "8" | "264" | "776" | "1032" | "1544" | "10" | "11" | "13" | "14" | "26" => Error::Unavailable(format!("database error {code}")),
        other if other.starts_with("08") || other.starts_with("53") => Error::Unavailable(format!("database error {code}")),
        _ => Error::Internal(format!("database error {code} {}", cause.constraint().unwrap_or_default())),
    }
}

const fn variant(error: &DbErr) -> &'static str {
    match error {
        DbErr::Type(_) => "a column has another type",
        DbErr::Json(_) => "a column holds bad JSON",
        DbErr::RecordNotFound(_) | DbErr::RecordNotInserted | DbErr::RecordNotUpdated => "a row is missing",
        DbErr::Migration(_) => "a migration failed",
        _ => "unexpected",
    }
}
