//! `doorward health`: asks a running server how it is, for probes that run a program.
//!
//! It reads no more of the configuration than `server.ops_addr`, opens no database and needs no secret: a probe must not fail for
//! something that does not matter to the server it asks.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use clap::Args;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    failure::Failure,
    output::{self, Format},
};
use crate::config::{Config, duration};

/// For the help text.
pub(super) const EXAMPLES: &str = "\
Exit codes: 0 for SERVING, 1 for everything else (NOT_SERVING, no answer, an unknown service), 2 typed wrongly.

Examples:
  doorward health
  doorward health --service liveness --timeout 1s
  doorward health --addr 10.0.0.7:9090 --service doorward.v1.AuthService";

/// What is asked, and whom.
#[derive(Debug, Args)]
pub struct Health {
    /// readiness, liveness, startup, a gRPC service's full name, or '' for the server as a whole
    #[arg(long, value_name = "NAME", default_value = "readiness")]
    service: String,
    /// Where the server answers probes; `server.ops_addr` of the configuration where this is left out
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    addr: Option<String>,
    /// How long to wait for the answer at most
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = patience)]
    timeout: Duration,
}

fn patience(text: &str) -> Result<Duration, &'static str> {
    duration::parse(text).and_then(|time| if time.is_zero() { Err("must be longer than zero") } else { Ok(time) })
}

/// A host and a port, as they can stand in a URL.
fn address(text: &str) -> Result<String, &'static str> {
    const FORM: &str = "must be HOST:PORT, such as 127.0.0.1:9090 or [::1]:9090";
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            return Err("must have the port where the server answers, not 0");
        }
        return Ok(reachable(address).to_string());
    }
    let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
    let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if is_name && port.parse::<u16>().is_ok_and(|port| port > 0) { Ok(text.to_owned()) } else { Err(FORM) }
}

/// Where a listener is reached from its own machine: one on every address is on loopback too.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Asks, and prints the status.
///
/// # Errors
/// Every answer but `SERVING`, and none.
pub fn run(request: &Health, file: Option<&Path>, settings: Vec<(String, String)>, format: Format) -> Result<(), Failure> {
    let addr = match &request.addr {
        Some(addr) => addr.clone(),
        None => reachable(Config::load_ops_addr(file, settings)?).to_string(),
    };
    if addr.ends_with(":0") {
        return Err(Failure::new(
            "server.ops_addr has port 0, which is another one at every start: say with --addr where the server answers",
        ));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Failure::new(format!("no runtime: {e}")))?;
    let name = &request.service;
    let answer = runtime.block_on(async { tokio::time::timeout(request.timeout, ask(&addr, name)).await });
    // A host name may still be waited for.
    runtime.shutdown_background();
    let status = answer.map_err(|_| {
        Failure::new(format!(
            "no answer from {addr} within {}s: the server hangs, or something else listens there",
            request.timeout.as_secs()
        ))
    })??;
    output::one(format, &serde_json::json!({ "service": name, "status": status.as_str_name() }), status.as_str_name())?;
    if status == ServingStatus::Serving {
        return Ok(());
    }
    let shown = if name.is_empty() { "the server" } else { name };
    Err(Failure::new(format!("{shown} at {addr} is {}: {}", status.as_str_name(), why(name))))
}

/// What a name that is not served mostly means.
fn why(service: &str) -> &'static str {
    match service {
        "liveness" | "startup" => "the server is still starting; its log says what it waits for",
        _ => "the server is starting or stopping, or its database does not answer; its log says which",
    }
}

async fn ask(addr: &str, service: &str) -> Result<ServingStatus, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).map_err(|_| Failure::new(format!("{addr} is no address")))?;
    let channel = endpoint.connect().await.map_err(|e| {
        let cause = system_cause(&e);
        let hint = "is the server running, and is this its server.ops_addr? Another one is named with --addr";
        Failure::new(format!("nothing answers at {addr} ({cause}): {hint}"))
    })?;
    match HealthClient::new(channel).check(HealthCheckRequest { service: service.to_owned() }).await {
        Ok(answer) => Ok(answer.into_inner().status()),
        Err(status) if status.code() == Code::NotFound => Err(Failure::new(format!(
            "the server at {addr} has no service of this name: there are readiness, liveness, startup and, by their full names, its gRPC services"
        ))),
        Err(status) => {
            Err(Failure::new(format!("{addr} does not answer as a health service does ({}): is it server.ops_addr?", status.code())))
        }
    }
}

/// The system's own word for what went wrong, from below the layers that only say that something did.
fn system_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return if io.kind() == ErrorKind::ConnectionRefused { "connection refused".to_owned() } else { io.to_string() };
        }
        cause = inner.source();
    }
    error.to_string()
}
