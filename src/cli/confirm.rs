//! Asking before something is ended.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;

use super::failure::Failure;

/// The flag that answers the question.
#[derive(Clone, Copy, Debug, Args)]
pub struct Confirm {
    /// Do it without asking
    #[arg(long)]
    pub yes: bool,
}

impl Confirm {
    /// Goes on only when `--yes` was given or the operator says yes at the terminal. `what` ends the sentence "this …".
    ///
    /// # Errors
    /// The operator says no, or nobody can be asked.
    pub fn ask(self, what: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
            return Err(Failure::new(format!("this {what}; there is no terminal to ask at: add --yes to do it")));
        }
        let mut answer = String::new();
        write!(io::stderr(), "This {what}. Go on? [y/N] ")
            .and_then(|()| io::stdin().read_line(&mut answer))
            .map_err(|e| Failure::new(format!("the terminal cannot be read: {e}")))?;
        if answer.is_empty() {
            // Ctrl-D: the cursor still stands behind the question.
            drop(writeln!(io::stderr()));
        }
        if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::new("nothing was changed")) }
    }
}
