//! What the server says about itself, and its mirror in `grpc.health.v1`.
//!
//! One [`HealthState`] travels in a `watch` channel from the server to everybody who shows it: the HTTP probes of the ops
//! listener ([`crate::http::ops`]) and, through [`mirror`], the tonic-health service of both listeners.
//!
//! | name | shows |
//! |---|---|
//! | `""`, `readiness`, every gRPC service's name | readiness |
//! | `liveness` | liveness, which never depends on the database |
//! | `startup` | start-up |
//!
//! Before start-up work is done everything is `NOT_SERVING`, whatever the other two say, and so it is again when the sender is
//! gone: a server that nobody vouches for is not healthy.
//!
//! At the stop, in this order: send a state that is not ready, wait for endpoints to notice, then [`end_watches`] together with
//! the listeners' GOAWAY. An open `Watch` is a call that never ends, and would hold every drain to its limit.

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

/// What the server can vouch for at this moment. The default is: nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HealthState {
    /// Start-up work (migration, keys, first superuser) is done.
    pub startup: bool,
    /// Calls may be sent here.
    pub ready: bool,
    /// The process makes progress; it need not be restarted.
    pub live: bool,
}

impl HealthState {
    /// Start-up is done.
    #[must_use]
    pub fn is_started(self) -> bool {
        self.startup
    }

    /// Ready, and started.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self.startup && self.ready
    }

    /// Live, and started.
    #[must_use]
    pub fn is_live(self) -> bool {
        self.startup && self.live
    }
}

/// Read access to the server's health.
#[derive(Clone, Debug)]
pub struct HealthView(watch::Receiver<HealthState>);

impl HealthView {
    /// A view of the latest state in `states`.
    #[must_use]
    pub fn new(states: watch::Receiver<HealthState>) -> Self {
        Self(states)
    }

    /// The latest state; nothing is up when its sender is gone, as in [`mirror`].
    #[must_use]
    pub fn now(&self) -> HealthState {
        if self.0.has_changed().is_err() {
            return HealthState::default();
        }
        *self.0.borrow()
    }
}

type Shows = fn(HealthState) -> bool;

const PROBES: [(&str, Shows); 4] = [
    ("", HealthState::is_ready),
    ("readiness", HealthState::is_ready),
    ("liveness", HealthState::is_live),
    ("startup", HealthState::is_started),
];

/// Every name of the health service with what it shows.
fn names(services: &'static [&'static str]) -> impl Iterator<Item = (&'static str, Shows)> {
    let ready: Shows = HealthState::is_ready;
    PROBES.into_iter().chain(services.iter().map(move |service| (*service, ready)))
}

fn status(serving: bool) -> ServingStatus {
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

/// Registers every name as `NOT_SERVING`. To be called before a listener opens: tonic-health starts `""` as `SERVING`.
pub async fn all_down(reporter: &HealthReporter, services: &'static [&'static str]) {
    for (name, _) in names(services) {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
}

/// Keeps the tonic-health service equal to the latest state, until the sender is dropped; then everything is `NOT_SERVING`.
///
/// Watchers hear of a name only when its status changed.
pub async fn mirror(mut states: watch::Receiver<HealthState>, reporter: HealthReporter, services: &'static [&'static str]) {
    all_down(&reporter, services).await;
    let mut shown = HealthState::default();
    loop {
        let state = *states.borrow_and_update();
        for (name, shows) in names(services) {
            if shows(state) != shows(shown) {
                reporter.set_service_status(name, status(shows(state))).await;
            }
        }
        shown = state;
        if states.changed().await.is_err() {
            break;
        }
    }
    all_down(&reporter, services).await;
}

/// Ends every open `Watch` after a last `NOT_SERVING`; a `Check` still finds every name as `state` has it.
///
/// Belongs to the stop: when the state changes afterwards, [`mirror`] shows it again.
pub async fn end_watches(reporter: &HealthReporter, services: &'static [&'static str], state: HealthState) {
    // The last word goes out first, so that no watcher is left with SERVING.
    all_down(reporter, services).await;
    let mut reporter = reporter.clone();
    for (name, shows) in names(services) {
        // Clearing drops the channel that the streams read from, and that is their end.
        reporter.clear_service_status(name).await;
        reporter.set_service_status(name, status(shows(state))).await;
    }
}
