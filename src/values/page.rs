//! Page tokens: where a list goes on, readable by us alone and good only for the query and the caller it was made for.
//!
//! Unpadded base64url of key id 4 ‖ cursor 16 ‖ tag 16. The cursor is the id of the last row shown. The tag covers it and the
//! *binding*: method, caller's subject, filters, scope of the page. So a token tells nobody about a row that another query or
//! another person was not shown, and cannot be made up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::opaque::{TAG_BYTES, decode, half};
use super::secret::{KEY_ID_BYTES, Purpose, Root, RootSecrets, equal};

const PAGE_BYTES: usize = KEY_ID_BYTES + 16 + TAG_BYTES;

/// The text is no page token for this query and caller. Callers see an `INVALID_FIELD` of `page_token`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be the next_page_token of the same query by the same caller")]
pub struct PageTokenError;

/// Writes and reads page tokens.
#[derive(Clone, Copy, Debug)]
pub struct PageToken;

impl PageToken {
    /// The token of the page behind `cursor`, 48 characters, under the first root. Parts of the binding cannot flow into one
    /// another: each is taken with its length.
    #[must_use]
    pub fn encode(roots: &RootSecrets, binding: &[&[u8]], cursor: Uuid) -> String {
        let root = roots.first();
        let mut bytes = Vec::with_capacity(PAGE_BYTES);
        bytes.extend_from_slice(&root.key_id());
        bytes.extend_from_slice(cursor.as_bytes());
        bytes.extend_from_slice(&tag(root, binding, cursor));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The cursor that [`PageToken::encode`] wrote with this binding, under any root of the list.
    ///
    /// # Errors
    /// Everything else, also a token of another binding.
    pub fn decode(text: &str, roots: &RootSecrets, binding: &[&[u8]]) -> Result<Uuid, PageTokenError> {
        let bytes = decode::<PAGE_BYTES>(text).ok_or(PageTokenError)?;
        let (key_id, rest) = bytes.split_first_chunk().ok_or(PageTokenError)?;
        let (cursor, found) = rest.split_first_chunk().ok_or(PageTokenError)?;
        let root = roots.by_key_id(*key_id).ok_or(PageTokenError)?;
        let cursor = Uuid::from_bytes(*cursor);
        if equal(&tag(root, binding, cursor), found) { Ok(cursor) } else { Err(PageTokenError) }
    }
}

fn tag(root: &Root, binding: &[&[u8]], cursor: Uuid) -> [u8; TAG_BYTES] {
    let mut parts: Vec<&[u8]> = vec![cursor.as_bytes()];
    parts.extend_from_slice(binding);
    half(root.mac(Purpose::PageToken, &parts))
}
