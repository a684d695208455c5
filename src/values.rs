//! Values: the words that every layer speaks, with the rules that make each of them what it is.
//!
//! Everything here is pure: no input or output, no configuration, no clock but [`Clock`] and no randomness but [`Entropy`],
//! which come in as arguments. A value that exists is well formed; what is not is refused by its `parse`.
//!
//! | file | holds |
//! |---|---|
//! | [`algorithm`] | the algorithms that tokens are signed with |
//! | [`ids`] | one id type a noun, over UUIDs |
//! | [`entropy`] | the one source of randomness |
//! | [`time`] | `Timestamp` (whole seconds UTC) and the clock that tests move |
//! | [`secret`] | root secrets, what is derived from them, sealing, digests, `Password` |
//! | [`opaque`] | opaque tokens: refresh tokens and the prefixes of all kinds |
//! | [`page`] | page tokens, bound to query and caller |
//! | [`email`], [`username`] | what people are called, as stored and in canonical form |
//! | [`identifier`] | either of the two, as typed at login |
//! | [`permission`] | permissions, sets of them, scopes |
//! | [`certificate`] | names in client certificates |
//! | [`text`] | checks of free text, slugs, role names, audiences |

pub mod algorithm;
pub mod certificate;
pub mod email;
pub mod entropy;
pub mod identifier;
pub mod ids;
pub mod opaque;
pub mod page;
pub mod permission;
pub mod secret;
pub mod text;
pub mod time;
pub mod username;

pub use email::{EmailAddress, EmailError};
pub use entropy::Entropy;
pub use identifier::Identifier;
pub use ids::{AuditEventId, IdError, MembershipId, RoleId, SessionId, SigningKeyId, TenantId, TokenId, UserId};
pub use opaque::{OpaqueError, RefreshToken};
pub use page::{PageToken, PageTokenError};
pub use permission::{Permission, PermissionError, PermissionSet, Scope, ScopeError};
pub use secret::{Password, Purpose, Root, RootError, RootFlaw, RootSecrets, UnsealError};
pub use text::TextError;
pub use time::{Clock, Timestamp};
pub use username::{Username, UsernameError};
