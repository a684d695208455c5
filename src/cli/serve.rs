//! `doorward serve`: the server from start to stop.
//!
//! SIGTERM, SIGINT and SIGHUP stop it cleanly, whether it serves yet or still starts; a second one ends it at once. Both exit with 0: who
//! stops a server is no failure of it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{desk, failure::Failure, first_superuser, only_server::OnlyServer, signals::Signals};
use crate::{
    app::App,
    config::{CallersMode, Config},
    domain::start,
    server::{Server, Stop},
    values::{entropy::Entropy, time::Clock},
};

/// For the help text.
pub(super) const EXAMPLES: &str = "\
On a fresh machine it makes a database and its key beside it, and prints how to log in.
SIGTERM, Ctrl-C and a closed terminal stop it cleanly; a second signal ends it at once.
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
    tokio::select! {
        outcome = serve(config, told) => outcome,
        never = signals.pass_on(&stop) => match never {},
    }
}

async fn serve(config: Config, told: watch::Receiver<Stop>) -> Result<(), Failure> {
    // To its last line: it is let go after the store is closed.
    let _only = OnlyServer::claim(&config)?;
    let server = Server::bind(&config, told.clone()).await?;
    let mut stopped = told;
    let app = tokio::select! {
        app = begin(config, &server) => app?,
        never = desk::say_what_is_waited_for() => match never {},
        _ = stopped.wait_for(|told| *told != Stop::Run) => {
            tracing::info!("stopped while starting");
            return Ok(());
        }
    };
    let (grpc, ops) = (server.grpc_addr(), server.ops_addr());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %grpc, %ops, "serving");
    tracing::info!("try it: grpcurl -plaintext {grpc} list");
    let cut = server.run(app).await;
    if cut > 0 {
        tracing::warn!(connections = cut, "stopped; connections were cut that did not end in time");
    } else {
        tracing::info!("stopped");
    }
    Ok(())
}

async fn begin(config: Config, server: &Server) -> Result<Arc<App>, Failure> {
    if config.callers.mode() == CallersMode::Required {
        tracing::warn!("callers.mode is required, and this version knows no callers: every call but health will be refused");
    }
    let app = start::open(config, Clock::system(), Entropy::system()).await?;
    first_superuser::ensure(&app, server.grpc_addr()).await?;
    Ok(Arc::new(app))
}
