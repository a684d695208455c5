//! Callers: the workloads that call, as opposed to the subject that a call is about.

use crate::app::App;

/// The client of sessions that came from another system.
pub const IMPORTED: &str = "imported";

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

    /// The clients whose sessions become this one's when it refreshes them: those of nobody in particular. Only a caller that proved who
    /// it is takes a session from everybody else.
    #[must_use]
    pub fn takes_over(&self, app: &App) -> [Option<String>; 2] {
        if self.is_known { [Some(app.config.tokens.default_client_id.clone()), Some(IMPORTED.to_owned())] } else { [None, None] }
    }

    /// Whether it may go on with a session that is of `client_id`, or end it by its refresh token.
    #[must_use]
    pub fn fits(&self, app: &App, client_id: &str) -> bool {
        self.id == client_id || self.takes_over(app).iter().flatten().any(|taken| taken == client_id)
    }
}
