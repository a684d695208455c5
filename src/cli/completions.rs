//! `doorward completions SHELL`: a script that lets a shell complete what is typed.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, failure::Failure, output};

/// For the help text.
pub(super) const EXAMPLES: &str = "\
Examples:
  mkdir -p ~/.local/share/bash-completion/completions
  doorward completions bash > ~/.local/share/bash-completion/completions/doorward
  doorward completions zsh > \"${fpath[1]}/_doorward\"
  doorward completions fish > ~/.config/fish/completions/doorward.fish";

/// For which shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(request: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(request.shell, &mut Cli::command(), "doorward", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
