//! Callers: the workloads that call, as opposed to the subject that a call is about.

use crate::app::App;

/// The client that a call's sessions and refresh tokens are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The caller's service-account id; `tokens.default_client_id` where the caller is not known.
    pub id: String,
    /// Whether the caller proved an identity of its own.
    pub is_known: bool,
}

impl Client {
    /// The client of callers without an identity of their own.
    #[must_use]
    pub fn unknown(app: &App) -> Self {
        Self { id: app.config.tokens.default_client_id.clone(), is_known: false }
    }
}
