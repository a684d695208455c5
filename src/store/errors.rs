//! What the driver says, in the words of the house. Nothing of the driver's own text leaves: it can hold values of rows.

use sea_orm::{DbErr, FromQueryResult, QueryResult, RuntimeErr, SqlErr, sqlx};
use uuid::Uuid;

use crate::error::{Error, Result, Taken};

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
pub(super) fn bad_row(table: &'static str, row: impl std::fmt::Display) -> Error {
    Error::Internal(format!("bad row: {table} {row} cannot be read"))
}

/// The part of a row that a left join may have left empty: none where its `key` is null. sea-orm's own reader takes a part that cannot be
/// read for one that is not there, and a membership that is not there is another answer than one that is broken.
pub(super) fn joined<M: FromQueryResult>(row: &QueryResult, prefix: &str, key: &str, table: &'static str) -> Result<Option<M>> {
    let Some(id) = row.try_get::<Option<Uuid>>(prefix, key).map_err(|e| from_db(&e))? else { return Ok(None) };
    M::from_query_result(row, prefix).map(Some).map_err(|_| bad_row(table, id))
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

/// A reference to a row (a noun) that is not there, or is another tenant's, else the error as [`from_db`] reads it.
pub(super) fn missing(error: &DbErr, noun: &'static str) -> Error {
    match error.sql_err() {
        Some(SqlErr::ForeignKeyConstraintViolation(_)) => Error::NotFound(noun),
        _ => from_db(error),
    }
}

/// See [`from_db`].
pub(super) fn from_sqlx(error: &sqlx::Error) -> Error {
    let sqlx::Error::Database(cause) = error else {
        return match error {
            // The system's words and those of TLS hold nothing of the data.
            sqlx::Error::Io(cause) => Error::Unavailable(format!("the database connection broke: {cause}")),
            sqlx::Error::Tls(cause) => Error::Unavailable(format!("no TLS to the database: {cause}")),
            sqlx::Error::Protocol(_) => Error::Unavailable("the database connection broke".to_owned()),
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Error::Unavailable("no database connection".to_owned())
            }
            sqlx::Error::Configuration(_) => Error::field("database.url", "has a part that the driver does not understand"),
            _ => Error::Internal("the database driver failed".to_owned()),
        };
    };
    let code = cause.code().unwrap_or_default();
    let is_postgres = code.len() == SQLSTATE_LEN;
    match if is_postgres { judge_postgres(&code) } else { judge_sqlite(&code) } {
        Blame::Race => Error::Conflict,
        Blame::Database if code == READ_ONLY => Error::Unavailable(READ_ONLY_CAUSE.to_owned()),
        Blame::Database => Error::Unavailable(match code.as_ref() {
            "28000" | "28P01" => format!("the database refuses the user or the password ({code})"),
            "3D000" => format!("the server has no database of that name ({code})"),
            _ if is_unwritable(&code) => {
                format!("the file, its folder or a file beside it is not writable for this user: database error {code}")
            }
            _ => format!("database error {code}"),
        }),
        Blame::Us => Error::Internal(format!("database error {code} {}", cause.constraint().unwrap_or_default())),
    }
}

/// PostgreSQL's codes have five characters, SQLite's are numbers of at most four digits.
const SQLSTATE_LEN: usize = 5;
/// A transaction on a server that is no longer (or not yet) the one that takes writes.
const READ_ONLY: &str = "25006";
const READ_ONLY_CAUSE: &str = "the database is read-only (25006)";

/// Whether the database answered as a standby does: after a failover the connections lead to the wrong server.
pub(super) fn is_read_only<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Unavailable(cause)) if cause == READ_ONLY_CAUSE)
}

/// Whose a failed statement is.
enum Blame {
    /// Another transaction was in the way.
    Race,
    /// The database is away, full, broken, or does not let us in.
    Database,
    /// The statement is wrong.
    Us,
}

fn judge_postgres(code: &str) -> Blame {
    match code {
        // Serialization failure, deadlock, lock not available.
        "40001" | "40P01" | "55P03" => Blame::Race,
        // Statement or idle timeout, read-only; no such user, wrong password, no such database: the operator mends it, not we.
        "57014" | "25P03" | READ_ONLY | "28000" | "28P01" | "3D000" => Blame::Database,
        // Connection, resources, operator's intervention (shutting down, starting), system (I/O).
        other if ["08", "53", "57P", "58"].iter().any(|class| other.starts_with(class)) => Blame::Database,
        _ => Blame::Us,
    }
}

fn judge_sqlite(code: &str) -> Blame {
    // The driver answers extended codes; the first eight bits say the kind.
    match code.parse::<u32>().map(|code| code & 0xff) {
        // BUSY, LOCKED, PROTOCOL: whatever their detail.
        Ok(5 | 6 | 15) => Blame::Race,
        // NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB.
        Ok(7 | 8 | 9 | 10 | 11 | 13 | 14 | 26) => Blame::Database,
        _ => Blame::Us,
    }
}

/// SQLite's READONLY and CANTOPEN, whatever their detail: beside a database it makes its log and the index of that.
fn is_unwritable(code: &str) -> bool {
    code.len() < SQLSTATE_LEN && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 8 | 14))
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
