//! Pages of lists: how large one is, and where the next one begins.
//!
//! A page token is bound to the method, to whoever asks and to what else decides which rows the list has, so that it is good for nothing
//! else.

use uuid::Uuid;

use super::access::Subject;
use crate::{
    app::App,
    error::{Error, Result},
    values::page::PageToken,
};

/// The page size where the request names none.
const DEFAULT_PAGE: usize = 50;
/// The largest page.
const MAX_PAGE: usize = 100;

/// The page that a request asks for.
#[derive(Debug)]
pub struct Page {
    binding: Vec<Vec<u8>>,
    limit: usize,
    after: Option<Uuid>,
}

impl Page {
    /// Reads the fields `page_size` and `page_token`. `list` is the method's full name, `asker` who asks and what else decides about the rows.
    ///
    /// # Errors
    /// [`Error::InvalidField`] for a page size below 0 and for a page token that is not of this list and asker.
    pub fn read(app: &App, list: &'static str, asker: impl IntoIterator<Item = Vec<u8>>, page_size: i32, page_token: &str) -> Result<Self> {
        let size = usize::try_from(page_size).map_err(|_| Error::field("page_size", "must not be negative"))?;
        let limit = if size == 0 { DEFAULT_PAGE } else { size.min(MAX_PAGE) };
        let binding = std::iter::once(list.as_bytes().to_vec()).chain(asker).collect();
        let mut page = Self { binding, limit, after: None };
        if !page_token.is_empty() {
            let cursor = PageToken::decode(page_token, &app.roots, &page.bound());
            page.after = Some(cursor.map_err(|_| Error::field("page_token", "is not of this list"))?);
        }
        Ok(page)
    }

    /// The most entries.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The last row of the page before.
    #[must_use]
    pub const fn after(&self) -> Option<Uuid> {
        self.after
    }

    /// The token of the page behind a row.
    #[must_use]
    pub fn next(&self, app: &App, last: Uuid) -> String {
        PageToken::encode(&app.roots, &self.bound(), last)
    }

    fn bound(&self) -> Vec<&[u8]> {
        self.binding.iter().map(Vec::as_slice).collect()
    }
}

/// A person who asks, and what else decides about the rows.
#[must_use]
pub fn person(subject: &Subject, filter: Vec<u8>) -> [Vec<u8>; 3] {
    [b"user".to_vec(), subject.facts.user.id.as_bytes().to_vec(), filter]
}

/// How many rows to read to know whether there are more than a page has.
#[must_use]
pub fn ask(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)
}

/// Cuts what was read by [`ask`] to the page; answers the last row's cursor where there are more.
pub fn cut<T, C>(rows: &mut Vec<T>, limit: usize, cursor: impl FnOnce(&T) -> Option<C>) -> Option<C> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().and_then(cursor).filter(|_| more)
}
