//! Copying an SQLite database through SQLite itself, while others write to it.
//!
//! `VACUUM INTO` reads one snapshot, whatever is written meanwhile, and writes it as one file without a journal beside it. A copy made by
//! reading the file would miss what is in the write-ahead log, or catch half of a transaction.

use std::path::Path;

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::{connect, errors};
use crate::{
    config,
    error::{Error, Result},
};

/// Copies the database to `to`, which must be absent or empty. An absolute path: SQLite would read `file:` as the start of a URI.
///
/// # Errors
/// [`Error::Unavailable`] where the database cannot be read or the copy not be written.
pub async fn copy(config: &config::Database, to: &Path) -> Result<()> {
    let path = to.to_str().ok_or_else(|| Error::field("file", "must be UTF-8 text"))?;
    let db = connect::looking(config).await?;
    let copied = db.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [path.into()])).await;
    drop(db.close_by_ref().await);
    copied.map(drop).map_err(|e| errors::from_db(&e))
}

/// Whether every page, row and index entry of a database file is as it should be.
///
/// # Errors
/// [`Error::Unavailable`] where it cannot be read.
pub async fn is_sound(file: &Path) -> Result<bool> {
    let db = connect::looking_at(file).await?;
    let found = db.query_all_raw(Statement::from_string(DbBackend::Sqlite, "PRAGMA integrity_check")).await;
    drop(db.close_by_ref().await);
    let rows = found.map_err(|e| errors::from_db(&e))?;
    Ok(rows.len() == 1 && rows.iter().all(|row| row.try_get_by_index::<String>(0).is_ok_and(|text| text == "ok")))
}
