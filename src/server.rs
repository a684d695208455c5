//! The running server: listeners, what is served on them, and the way down.
//!
//! ```text
//! bind: all listeners, ops answers NOT_SERVING       a used port shows before any work is done
//!   │   (start-up: database, migrations, keys)
//! run:  gRPC and HTTP are served, SERVING            readiness follows the database
//!   │
//! stop: NOT_SERVING ─► grace ─► GOAWAY ─► drain, with a limit ─► done        a second signal: done at once
//! ```
//!
//! | file | what |
//! |---|---|
//! | `connections.rs`, `io.rs` | connections: limits, age, drain |
//! | `tls.rs` | TLS: certificates and their replacement, whom a client's names |
//! | `health.rs` | what the server says about itself |
//! | `metrics.rs` | what it counts, and the page that shows it |

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use self::{
    connections::{Limits, Protocol, Shutdown, ShutdownTrigger},
    health::{HealthState, HealthView},
    metrics::MetricsPage,
    tls::{Certificates, Reload, Tls},
};
use crate::{
    app::App,
    config::{self, Config, server::tls::Flaw},
    domain::{freshness, keys},
    grpc::{
        access::Access,
        auth::Auth,
        gate::Gate,
        prepared::{self, ValidateSession},
        service_accounts::ServiceAccounts,
        signing_keys::SigningKeys,
    },
    http::{discovery, ops},
    methods::METHODS,
    pb::{
        self,
        v1::{
            access_service_server::AccessServiceServer, auth_service_server::AuthServiceServer,
            service_account_service_server::ServiceAccountServiceServer, signing_key_service_server::SigningKeyServiceServer,
        },
    },
    values::entropy::Entropy,
};

pub mod connections;
pub mod health;
pub mod io;
pub mod metrics;
pub mod tls;

/// Services that have a health name of their own.
const SERVICES: &[&str] =
    &["doorward.v1.AccessService", "doorward.v1.AuthService", "doorward.v1.ServiceAccountService", "doorward.v1.SigningKeyService"];
/// A thousand checks, each with the longest tenant and permission, and a token.
const BATCH_BYTES: usize = 512 * 1024;
/// How often the database is asked whether it answers.
const DATABASE_PROBE: Duration = Duration::from_millis(500);
/// How long an answer to that may take: with the interval, readiness flips within two seconds.
const DATABASE_PATIENCE: Duration = Duration::from_secs(1);

/// What the server is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Go on.
    Run,
    /// Stop cleanly.
    Drain,
    /// Stop at once.
    Now,
}

/// A listener that could not be opened.
#[derive(Debug, Error)]
pub enum BindError {
    /// Its address is not to be had.
    #[error("{key} cannot listen on {address}: {cause}; {}: set {variable}, or {key} in the configuration's file", hint(.cause))]
    Address {
        /// The address's key.
        key: &'static str,
        /// The variable that sets it.
        variable: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The files of TLS are not what they should be.
    #[error(transparent)]
    Tls(#[from] Flaw),
}

fn hint(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::AddrInUse => "stop what listens there, or choose another address",
        ErrorKind::AddrNotAvailable => "choose an address that this machine has",
        ErrorKind::PermissionDenied => "choose a port of 1024 or above",
        _ => "choose another address",
    }
}

/// Key and variable of each listener.
const GRPC_ADDR: (&str, &str) = ("server.grpc_addr", "DOORWARD__SERVER__GRPC_ADDR");
const HTTP_ADDR: (&str, &str) = ("server.http_addr", "DOORWARD__SERVER__HTTP_ADDR");
const OPS_ADDR: (&str, &str) = ("server.ops_addr", "DOORWARD__SERVER__OPS_ADDR");

/// A server whose listeners are open and whose ops listener already answers.
pub struct Server {
    grpc: TcpListener,
    grpc_addr: SocketAddr,
    http: TcpListener,
    http_addr: SocketAddr,
    ops_addr: SocketAddr,
    tls: Option<(Certificates, Tls)>,
    reload: Reload,
    limits: Limits,
    stop: watch::Receiver<Stop>,
    health: watch::Sender<HealthState>,
    reporter: HealthReporter,
    metrics: MetricsPage,
    ops: Listening,
}

/// A listener that is served in tasks of its own.
struct Listening {
    trigger: ShutdownTrigger,
    tasks: JoinSet<usize>,
}

impl Server {
    /// Opens the listeners, reads the files of TLS and answers `NOT_SERVING` on the ops listener.
    ///
    /// # Errors
    /// [`BindError`] with the address that is taken, or the file that is no good.
    pub async fn bind(config: &Config, stop: watch::Receiver<Stop>) -> Result<Self, BindError> {
        let (grpc, grpc_addr) = listen(GRPC_ADDR, config.server.grpc_addr).await?;
        let (http, http_addr) = listen(HTTP_ADDR, config.server.http_addr).await?;
        let (ops_listener, ops_addr) = listen(OPS_ADDR, config.server.ops_addr).await?;
        let limits = limits(&config.server);
        let (health, states) = watch::channel(HealthState::default());
        let reporter = HealthReporter::new();
        health::all_down(&reporter, SERVICES).await;
        let routes = tonic::service::Routes::new(health_service(&reporter, config.server.max_message_bytes));
        let metrics = MetricsPage::new(HealthView::new(states.clone()));
        let tls = config.server.tls_files().map(|files| Certificates::open(files, metrics.tls())).transpose()?;
        let service = ops::router(HealthView::new(states.clone()), metrics.clone(), routes);
        let (trigger, shutdown) = Shutdown::new();
        let mut tasks = JoinSet::new();
        let counted = metrics.connections("ops");
        tasks.spawn(connections::serve(ops_listener, service, Protocol::Auto, None, limits.clone(), counted, shutdown));
        let mirrored = reporter.clone();
        tasks.spawn(async move {
            health::mirror(states, mirrored, SERVICES).await;
            0
        });
        let (reload, ops) = (Reload::default(), Listening { trigger, tasks });
        Ok(Self { grpc, grpc_addr, http, http_addr, ops_addr, tls, reload, limits, stop, health, reporter, metrics, ops })
    }

    /// The same, which looks at the files of TLS at once when this asks.
    #[must_use]
    pub fn reload_on(self, reload: Reload) -> Self {
        Self { reload, ..self }
    }

    /// Where gRPC is served.
    #[must_use]
    pub const fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    /// Where the key set is served.
    #[must_use]
    pub const fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Where health is served.
    #[must_use]
    pub const fn ops_addr(&self) -> SocketAddr {
        self.ops_addr
    }

    /// Serves until it is told to stop. Answers how many connections were cut because they did not end in time.
    pub async fn run(mut self, app: Arc<App>) -> usize {
        let (trigger, shutdown) = Shutdown::new();
        let service = Gate::new(Arc::clone(&app), routes(&app, &self.reporter));
        let mut listeners = JoinSet::new();
        let mut background = JoinSet::new();
        let tls = self.tls.map(|(certificates, tls)| {
            background.spawn(certificates.follow(self.reload));
            tls
        });
        let (counted, limits) = (self.metrics.connections("http"), self.limits.clone());
        listeners.spawn(connections::serve(
            self.http,
            discovery::router(Arc::clone(&app)),
            Protocol::Auto,
            None,
            limits,
            counted,
            shutdown.clone(),
        ));
        let counted = self.metrics.connections("grpc");
        listeners.spawn(connections::serve(self.grpc, service, Protocol::Http2, tls, self.limits, counted, shutdown));
        self.metrics.add(Arc::clone(&app));
        // Until the last call is answered.
        let mut followers = JoinSet::new();
        followers.spawn(freshness::follow(Arc::clone(&app)));
        background.spawn(freshness::purge(Arc::clone(&app)));
        background.spawn(keys::follow(Arc::clone(&app)));
        background.spawn(watch_database(Arc::clone(&app), self.health.clone()));

        told(&mut self.stop, Stop::Drain).await;
        tracing::info!("stopping: no longer ready");
        background.shutdown().await;
        self.health.send_replace(HealthState { startup: true, ready: false, live: true });
        let grace = app.config.server.shutdown_grace;
        tokio::select! {
            () = tokio::time::sleep(grace) => {}
            () = told(&mut self.stop, Stop::Now) => {}
        }
        let state = *self.health.borrow();
        health::end_watches(&self.reporter, SERVICES, state).await;
        trigger.begin();
        let cut = tokio::select! {
            cut = joined(&mut listeners) => cut,
            () = told(&mut self.stop, Stop::Now) => {
                trigger.abort();
                joined(&mut listeners).await
            }
        };
        followers.shutdown().await;
        // The ops listener is last: probes see NOT_SERVING to the end.
        self.ops.trigger.abort();
        drop(self.health);
        joined(&mut self.ops.tasks).await;
        // Closing waits for units of work under way. One that hangs with the database must not hold the stop: its transaction ends with
        // its connection, whole or absent.
        let closing = tokio::time::timeout(app.config.server.drain_timeout, app.store.close());
        tokio::select! {
            _ = closing => {}
            () = told(&mut self.stop, Stop::Now) => {}
        }
        cut
    }
}

async fn listen((key, variable): (&'static str, &'static str), address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let failed = |cause| BindError::Address { key, variable, address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The limits of a listener.
#[must_use]
pub fn limits(server: &config::Server) -> Limits {
    Limits {
        max_connections: server.max_connections,
        max_concurrent_streams: server.max_concurrent_streams,
        handshake_timeout: server.handshake_timeout,
        keepalive_interval: server.keepalive_interval,
        keepalive_timeout: server.keepalive_timeout,
        max_connection_age: Some(server.max_connection_age),
        age_seed: u64::from_le_bytes(Entropy::system().bytes()),
        drain_timeout: server.drain_timeout,
        max_header_list_bytes: 16 * 1024,
    }
}

/// Bytes at most of a request to a service: those of the configuration, or what 1,000 checks of `BatchCheckAccess` come to.
#[must_use]
pub fn message_limit(service: &str, configured: usize) -> usize {
    if service == "doorward.v1.AccessService" { configured.max(BATCH_BYTES) } else { configured }
}

fn health_service(reporter: &HealthReporter, limit: usize) -> HealthServer<HealthService> {
    HealthServer::new(HealthService::from_health_reporter(reporter.clone())).max_decoding_message_size(limit)
}

/// What the gRPC listener serves behind the gate. A service that is in the contract but not here answers `METHOD_UNKNOWN`; a test finds
/// it.
fn routes(app: &Arc<App>, reporter: &HealthReporter) -> axum::Router {
    let limit = app.config.server.max_message_bytes;
    let auth = AuthServiceServer::new(Auth::new(Arc::clone(app))).max_decoding_message_size(limit);
    let access = AccessServiceServer::new(Access::new(Arc::clone(app)));
    let access = access.max_decoding_message_size(message_limit("doorward.v1.AccessService", limit));
    let accounts = ServiceAccountServiceServer::new(ServiceAccounts::new(Arc::clone(app))).max_decoding_message_size(limit);
    let keys = SigningKeyServiceServer::new(SigningKeys::new(Arc::clone(app))).max_decoding_message_size(limit);
    let mut routes = tonic::service::Routes::new(auth).add_service(access).add_service(accounts).add_service(keys);
    routes = routes.add_service(health_service(reporter, limit));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that clients by reflection can read error details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    // The sets are compiled in: they either always work or never, which the first test would show.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            routes = routes.add_service(v1.max_decoding_message_size(limit)).add_service(v1alpha.max_decoding_message_size(limit));
        }
        (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "reflection is not served"),
    }
    debug_assert!(METHODS.iter().all(|method| SERVICES.contains(&method.service)), "every service has a health name");
    routes.prepare().into_axum_router().route_service(prepared::PATH, ValidateSession::new(Arc::clone(app), limit))
}

/// Keeps readiness equal to whether the database answers, through the pool that calls use; and gives that pool up where nothing comes
/// back through it any more.
async fn watch_database(app: Arc<App>, health: watch::Sender<HealthState>) -> usize {
    let follows = app.config.health.readiness_on_database;
    let (mut misses, mut answered) = (0_u32, 0);
    loop {
        let answers = matches!(tokio::time::timeout(DATABASE_PATIENCE, app.store.ping()).await, Ok(Ok(())));
        misses = if answers { 0 } else { misses.saturating_add(1) };
        // A pool that is only busy answers somebody in the meantime: to open more connections then would make it worse.
        let before = std::mem::replace(&mut answered, app.store.answered());
        if answered == before && is_time_to_renew(misses) {
            match app.store.renew().await {
                Ok(false) => {}
                Ok(true) => tracing::warn!(misses, "the database does not answer: its connections are given up for new ones"),
                Err(error) => tracing::error!(%error, "the connections to the database cannot be renewed"),
            }
        }
        let state = HealthState { startup: true, ready: answers || !follows, live: true };
        let changed = health.send_if_modified(|known| std::mem::replace(known, state) != state);
        if changed {
            tracing::info!(ready = state.ready, "readiness changed");
        }
        tokio::time::sleep(DATABASE_PROBE).await;
    }
}

/// Soon after a database fell silent, then ever more rarely: what was given up holds its sockets until the kernel lets go of them.
const fn is_time_to_renew(misses: u32) -> bool {
    misses >= 2 && (misses.is_power_of_two() || misses.is_multiple_of(64))
}

/// Waits until at least this was told. A sender that is gone has told everything.
async fn told(stop: &mut watch::Receiver<Stop>, what: Stop) {
    if stop.wait_for(|told| *told >= what).await.is_err() && what == Stop::Now {
        std::future::pending::<()>().await;
    }
}

async fn joined(tasks: &mut JoinSet<usize>) -> usize {
    let mut cut = 0;
    while let Some(ended) = tasks.join_next().await {
        cut += ended.unwrap_or_default();
    }
    cut
}
