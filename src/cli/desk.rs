//! What the commands about users, tenants, roles and members work with: an opened service, the form of the answers, and who typed.

use std::ffi::OsString;

use super::{failure::Failure, output::Format};
use crate::{
    app::App,
    config::Config,
    domain::{audit::Actor, start},
    values::{entropy::Entropy, time::Clock},
};

/// The start of the variables that are settings.
const SETTINGS: &str = "DOORWARD__";
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
        let app = start::open(config, Clock::system(), Entropy::system()).await?;
        Ok(Self { app, format, operator })
    }

    /// Who does it, for the audit trail.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Cli(self.operator.clone())
    }
}

/// The variables of the process, as far as they matter.
#[derive(Debug, Default)]
pub struct Environment {
    /// Settings, by name.
    pub settings: Vec<(String, String)>,
    user: Option<String>,
    logname: Option<String>,
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
                "USER" => environment.user = value.into_string().ok(),
                "LOGNAME" => environment.logname = value.into_string().ok(),
                _ if name.starts_with(SETTINGS) => {
                    let value = value.into_string().map_err(|_| Failure::new(format!("the variable {name} is not UTF-8: set it anew")))?;
                    environment.settings.push((name.to_owned(), value));
                }
                _ => {}
            }
        }
        Ok(environment)
    }

    /// The operating system's user, for the audit trail. Not proved: who runs the command can write the database anyway.
    #[must_use]
    pub fn operator(&self) -> String {
        let given = [&self.user, &self.logname].into_iter().flatten().find(|name| !name.is_empty());
        let name: String = given.into_iter().flat_map(|name| name.chars()).filter(|c| !c.is_control()).take(OPERATOR_MAX).collect();
        if name.is_empty() { "unknown".to_owned() } else { name }
    }
}
