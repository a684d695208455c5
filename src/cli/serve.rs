//! `doorward serve`: the server from start to stop.
//!
//! SIGTERM, SIGINT and SIGHUP stop it cleanly, whether it serves yet or still starts; a second one ends it at once. Both exit with 0: who
//! stops a server is no failure of it. (With TLS a SIGHUP that is no closed terminal looks for new certificates instead.)

use std::sync::Arc;

use tokio::sync::watch;

use super::{desk, failure::Failure, first_superuser, grpcurl, only_server::OnlyServer, signals::Signals};
use crate::{
    app::App,
    config::Config,
    domain::start,
    server::{Server, Stop, tls::Reload},
    values::{entropy::Entropy, time::Clock},
};

/// For the help text.
pub(super) const EXAMPLES: &str = "\
On a fresh machine it makes a database and its key beside it, and prints how to log in.
SIGTERM, Ctrl-C and a closed terminal stop it cleanly; a second signal ends it at once.
With server.tls_cert_file set, SIGHUP makes it look for new certificates at once.
An SQLite file takes one server, and a local disk; PostgreSQL takes several servers.

Example:
  DOORWARD__SERVER__GRPC_ADDR=127.0.0.1:6000 doorward serve";

/// Serves until told to stop.
///
/// # Errors
/// The addresses are taken, or `domain::start` refuses.
pub async fn run(config: Config) -> Result<(), Failure> {
    let (stop, told) = watch::channel(Stop::Run);
    // Before anything else: from here on no signal is lost.
    let signals = Signals::new().map_err(|e| Failure::new(format!("signals cannot be received: {e}")))?;
    let reload = config.server.tls_files().map(|_| Reload::default());
    tokio::select! {
        outcome = serve(config, told, reload.clone().unwrap_or_default()) => outcome,
        never = signals.pass_on(&stop, reload.as_ref()) => match never {},
    }
}

async fn serve(config: Config, told: watch::Receiver<Stop>, reload: Reload) -> Result<(), Failure> {
    // To its last line: it is let go after the store is closed.
    let _only = OnlyServer::claim(&config)?;
    let server = Server::bind(&config, told.clone()).await?.reload_on(reload);
    let mut stopped = told;
    let app = tokio::select! {
        app = begin(config, &server) => app?,
        never = desk::say_what_is_waited_for() => match never {},
        _ = stopped.wait_for(|told| *told != Stop::Run) => {
            tracing::info!("stopped while starting");
            return Ok(());
        }
    };
    let (grpc, http, ops) = (server.grpc_addr(), server.http_addr(), server.ops_addr());
    let tls = app.config.server.tls_files().is_some();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %grpc, %http, %ops, tls, "serving");
    if let Some(advice) = app.config.tokens.advice(http) {
        tracing::warn!("{advice}");
    }
    let caller = grpcurl::caller(&app.config);
    tracing::info!("try it: {} list", grpcurl::command(&app.config.server, grpc, caller));
    let cut = server.run(app).await;
    if cut > 0 {
        tracing::warn!(connections = cut, "stopped; connections were cut that did not end in time");
    } else {
        tracing::info!("stopped");
    }
    Ok(())
}

async fn begin(config: Config, server: &Server) -> Result<Arc<App>, Failure> {
    let app = start::open(config, Clock::system(), Entropy::system()).await?;
    first_superuser::ensure(&app, server.grpc_addr()).await?;
    Ok(Arc::new(app))
}
