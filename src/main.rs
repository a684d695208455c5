//! The program `doorward`: what was typed and the environment go in, an exit code comes out. [`doorward::cli`] does the rest.

use std::process::ExitCode;

use clap::Parser as _;
use doorward::cli::{self, Cli};

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn main() -> ExitCode {
    cli::run(Cli::parse(), std::env::vars_os())
}
