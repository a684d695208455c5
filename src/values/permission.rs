//! Permissions: `resource:action`, sets of them, and scopes.
//!
//! Each part is 1 to 64 of `a-z 0-9 . _ -`, or `*` alone, which stands for every value of its part. Nothing is hierarchical:
//! `sales.*` is no wildcard, and is no permission.
//!
//! ```text
//!            *:*
//!           ╱    ╲           covers: upwards to what it covers below
//!     sales:*    *:read      intersect: the highest below both
//!           ╲    ╱
//!         sales:read
//! ```

use std::fmt;
use std::str::FromStr;

/// The most characters of a part.
const PART_MAX: usize = 64;
/// The most entries of a scope.
pub const SCOPE_MAX: usize = 64;
const ANY: &str = "*";

/// The text is no permission. The sentence goes behind the field's name in a `BadRequest`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be resource:action, each a * or 1 to {PART_MAX} of a-z, 0-9, dot, hyphen and underscore")]
pub struct PermissionError;

/// Why a text is no scope. The sentence goes behind the field's name in a `BadRequest`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScopeError {
    /// More than [`SCOPE_MAX`] entries, repeated ones counted.
    #[error("must not have more than {SCOPE_MAX} entries")]
    TooMany,
    /// An entry is no permission, or there is other white space than one space between two.
    #[error("is no list of permissions with one space between; each {0}")]
    Entry(#[from] PermissionError),
}

/// A permission, possibly with wildcards. Sorts by resource, then action.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Permission {
    resource: Box<str>,
    action: Box<str>,
}

impl Permission {
    /// Reads `resource:action`.
    ///
    /// # Errors
    /// Every other form; nothing is folded or trimmed.
    pub fn parse(text: &str) -> Result<Self, PermissionError> {
        let (resource, action) = text.split_once(':').ok_or(PermissionError)?;
        if is_part(resource) && is_part(action) {
            Ok(Self { resource: resource.into(), action: action.into() })
        } else {
            Err(PermissionError)
        }
    }

    /// What is acted on, or `*`.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// What is done, or `*`.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Does whoever has this one have `other` too?
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let part = |own: &str, other: &str| own == ANY || own == other;
        part(&self.resource, &other.resource) && part(&self.action, &other.action)
    }

    /// The greatest permission that both cover; `None` when they have nothing in common.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let part = |one: &str, other: &str| match (one, other) {
            (ANY, narrower) | (narrower, ANY) => Some(Box::from(narrower)),
            (one, other) => (one == other).then(|| Box::from(one)),
        };
        Some(Self { resource: part(&self.resource, &other.resource)?, action: part(&self.action, &other.action)? })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.resource, self.action)
    }
}

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, PermissionError> {
        Self::parse(text)
    }
}

/// Permissions, sorted, none twice. `Display` writes them with one space between, as a scope.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct PermissionSet {
    // Sorted, so that `covers` is four binary searches whatever the size.
    sorted: Vec<Permission>,
}

impl PermissionSet {
    /// Reads permissions in any order.
    ///
    /// # Errors
    /// When one is none.
    pub fn parse<I>(texts: I) -> Result<Self, PermissionError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        texts.into_iter().map(|text| Permission::parse(text.as_ref())).collect()
    }

    /// Does one of these cover `permission`?
    #[must_use]
    pub fn covers(&self, permission: &Permission) -> bool {
        let (resource, action) = (permission.resource(), permission.action());
        // A part is covered by itself or by `*`: these four are all that can cover it. The likeliest one first; and `*` sorts before
        // whatever else a resource may be.
        let has_any = self.sorted.first().is_some_and(|first| first.resource() == ANY);
        self.contains(resource, action)
            || self.contains(resource, ANY)
            || (has_any && (self.contains(ANY, action) || self.contains(ANY, ANY)))
    }

    /// Do these cover every one of `others`?
    #[must_use]
    pub fn covers_all(&self, others: &Self) -> bool {
        others.iter().all(|permission| self.covers(permission))
    }

    /// What both sets cover, in its shortest form: nothing in it is covered by another of its entries.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let common: Self = self.iter().flat_map(|one| other.iter().filter_map(|other| one.intersect(other))).collect();
        common.iter().filter(|permission| !common.has_greater(permission)).cloned().collect()
    }

    /// The permissions in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Permission> {
        self.sorted.iter()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Are there none?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// How many bytes they have as texts, together.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.iter().map(|permission| permission.resource.len() + 1 + permission.action.len()).sum()
    }

    /// About how many bytes they take in memory.
    #[must_use]
    pub fn weight(&self) -> u64 {
        (self.len() * 80 + self.text_bytes()) as u64
    }

    /// The permissions as text, in order.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.iter().map(Permission::to_string).collect()
    }

    fn contains(&self, resource: &str, action: &str) -> bool {
        self.sorted.binary_search_by(|own| (own.resource(), own.action()).cmp(&(resource, action))).is_ok()
    }

    /// Is `permission` covered by an entry other than itself?
    fn has_greater(&self, permission: &Permission) -> bool {
        self.iter().any(|own| own != permission && own.covers(permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let mut sorted: Vec<_> = permissions.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self { sorted }
    }
}

impl<'set> IntoIterator for &'set PermissionSet {
    type Item = &'set Permission;
    type IntoIter = std::slice::Iter<'set, Permission>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for PermissionSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, permission) in self.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(out, "{space}{permission}")?;
        }
        Ok(())
    }
}

/// Reads scopes: permissions with one space between (RFC 6749, section 3.3).
#[derive(Clone, Copy, Debug)]
pub struct Scope;

impl Scope {
    /// The permissions of a scope; the empty text is no scope at all, which caps nothing.
    ///
    /// # Errors
    /// See [`ScopeError`].
    pub fn parse(text: &str) -> Result<Option<PermissionSet>, ScopeError> {
        if text.is_empty() {
            return Ok(None);
        }
        let entries: Vec<_> = text.splitn(SCOPE_MAX + 1, ' ').collect();
        if entries.len() > SCOPE_MAX {
            return Err(ScopeError::TooMany);
        }
        Ok(Some(PermissionSet::parse(entries)?))
    }
}

fn is_part(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    text == ANY || (1..=PART_MAX).contains(&text.len()) && text.bytes().all(allowed)
}
