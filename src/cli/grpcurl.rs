//! The grpcurl commands that texts hold, to be pasted.

use std::net::SocketAddr;

use super::{failure::shell_word, health::reachable};
use crate::config::{CallersMode, Config, Server};

/// What the command needs besides where every call needs a known caller; capitals stand for what only its user has.
pub(super) fn caller(config: &Config) -> &'static str {
    match config.callers.mode() {
        CallersMode::Optional => "",
        CallersMode::Required if config.server.client_ca_file.is_some() => "-cert CERTIFICATE -key KEY",
        CallersMode::Required => "-H 'doorward-caller: Bearer TOKEN'",
    }
}

/// The command up to the address of the gRPC listener, with these flags.
///
/// With TLS it trusts the server's own certificate, which needs no file of an authority, and expects a name of it where it has none for
/// the address.
pub(super) fn command(server: &Server, addr: SocketAddr, flags: &str) -> String {
    let addr = reachable(addr);
    let mut command = String::from("grpcurl");
    if let Some(files) = server.tls_files() {
        let cert = std::path::absolute(files.cert()).unwrap_or_else(|_| files.cert().to_owned());
        command.extend([" -cacert ", &shell_word(&cert.display().to_string())]);
        let identity = files.identity(None).and_then(|look| look.found.ok());
        if let Some(name) = identity.and_then(|identity| identity.name_in_place_of(addr.ip())) {
            command.extend([" -authority ", &shell_word(&name)]);
        }
    } else {
        command.push_str(" -plaintext");
    }
    if !flags.is_empty() {
        command.extend([" ", flags]);
    }
    format!("{command} {addr}")
}
