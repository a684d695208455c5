//! What is deployed agrees with the code: image, compose files and Kubernetes manifests name ports, probes, settings, commands, paths
//! and times that the server has, so that nothing is renamed in one place only. Linters look at their form (`.ci/deploy`).

mod compose;
mod files;
mod image;
mod kubernetes;

use doorward::config::Config;

/// Time at the end of a stop that nothing asks for: a kubelet and a scheduler that are late.
const STOP_MARGIN: std::time::Duration = std::time::Duration::from_secs(5);

/// How long a stop takes at most: the grace, the calls in flight, and the database's work under way, which has the drain's limit once
/// more.
fn longest_stop(config: &Config) -> std::time::Duration {
    config.server.shutdown_grace + config.server.drain_timeout * 2
}

/// Whether these words are a command that the program takes.
fn assert_is_command(words: &[&str]) {
    use clap::Parser;
    let typed = std::iter::once("doorward").chain(words.iter().copied());
    if let Err(error) = doorward::cli::Cli::try_parse_from(typed) {
        panic!("the command does not take {words:?}: {error}");
    }
}
