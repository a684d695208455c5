//! The tables as sea-orm sees them. Private to the store: rows leave it as the records of the file of their table.

pub(super) mod audit_event;
pub(super) mod instance;
pub(super) mod membership;
#[expect(clippy::struct_field_names, reason = "the table links three ids and has nothing else")]
pub(super) mod membership_role;
pub(super) mod password_credential;
pub(super) mod role;
pub(super) mod service_account;
pub(super) mod service_account_certificate;
#[expect(clippy::struct_field_names, reason = "the table links three ids and has nothing else")]
pub(super) mod service_account_role;
pub(super) mod service_account_secret;
pub(super) mod session;
pub(super) mod signing_key;
pub(super) mod tenant;
pub(super) mod user;
