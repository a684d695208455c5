//! What the commands about users, tenants, roles and members work with: an opened service, the form of the answers, and who typed.

use std::ffi::OsString;

use nix::unistd::{Uid, User};

use super::{
    failure::Failure,
    output::{self, Format},
};
use crate::{
    app::App,
    config::Config,
    domain::{audit::Actor, start},
    values::{entropy::Entropy, time::Clock},
};

/// The start of the variables that are settings, and that of those that may be meant to be.
const SETTINGS: &str = "DOORWARD__";
const OURS: &str = "DOORWARD";
/// What a command says that made a database: mostly it was meant for another one.
pub const NEW_DATABASE: &str = "made a new, empty database where database.url says, seen from this folder";
/// Characters at most of the operator's name in the audit trail.
const OPERATOR_MAX: usize = 64;

/// An opened service and whom it works for.
#[derive(Debug)]
pub struct Desk {
    /// The service.
    pub app: App,
    /// How results are printed.
    pub format: Format,
    operator: String,
}

impl Desk {
    /// Opens the database by the same rules as the server does.
    ///
    /// # Errors
    /// What `domain::start` refuses.
    pub async fn open(config: Config, format: Format, operator: String) -> Result<Self, Failure> {
        let is_new = !start::has_database(&config)?;
        let app = start::open(config, Clock::system(), Entropy::system()).await?;
        if is_new {
            output::note(NEW_DATABASE);
        }
        Ok(Self { app, format, operator })
    }

    /// Who does it, for the audit trail.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Cli(self.operator.clone())
    }
}

/// Works at a desk that is opened for it and closed after it, whatever came of it.
///
/// # Errors
/// Those of [`Desk::open`] and of the work.
pub async fn with(
    config: Config,
    format: Format,
    operator: String,
    work: impl AsyncFnOnce(&Desk) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let desk = Box::pin(Desk::open(config, format, operator)).await?;
    let outcome = Box::pin(work(&desk)).await;
    desk.app.store.close().await;
    outcome
}

/// The variables of the process, as far as they matter.
#[derive(Debug, Default)]
pub struct Environment {
    /// Settings, by name.
    pub settings: Vec<(String, String)>,
}

impl Environment {
    /// Picks what matters.
    ///
    /// # Errors
    /// A setting that is not UTF-8; its value is not repeated.
    pub fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, Failure> {
        let mut environment = Self::default();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            match name {
                // Near misses too: the configuration tells them from other programs' variables.
                _ if !name.starts_with(SETTINGS) && name.to_ascii_uppercase().starts_with(OURS) => {
                    environment.settings.push((name.to_owned(), String::new()));
                }
                _ if name.starts_with(SETTINGS) => {
                    let value = value.into_string().map_err(|_| Failure::new(format!("the variable {name} is not UTF-8: set it anew")))?;
                    environment.settings.push((name.to_owned(), value));
                }
                _ => {}
            }
        }
        Ok(environment)
    }
}

/// The operating system's user who runs the command, for the audit trail: the name, or the number of one without a name. Variables such
/// as `USER` are anybody's to set.
#[must_use]
pub fn operator() -> String {
    let uid = Uid::effective();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let shown: String = name.iter().flat_map(|name| name.chars()).filter(|c| !c.is_control()).take(OPERATOR_MAX).collect();
    if shown.is_empty() { uid.to_string() } else { shown }
}
