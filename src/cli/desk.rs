//! What the commands about users, tenants, roles and members work with: an opened service, the form of the answers, and who typed.

use std::{convert::Infallible, ffi::OsString, time::Duration};

use nix::unistd::{Uid, User};

use super::{
    failure::Failure,
    output::{self, Format},
};
use crate::{
    app::App,
    config::{Config, duration},
    domain::{audit::Actor, start},
    values::{entropy::Entropy, time::Clock},
};

/// The start of the variables that are settings, and that of those that may be meant to be.
const SETTINGS: &str = "DOORWARD__";
const OURS: &str = "DOORWARD";
const NO_COLOR: &str = "NO_COLOR";
/// What a command says that made a database: mostly it was meant for another one.
pub const NEW_DATABASE: &str = "made a new, empty database where database.url says, seen from this folder";
/// Characters at most of the operator's name in the audit trail.
const OPERATOR_MAX: usize = 64;

/// Whether a command may make the SQLite database where there is none. One that looks, or changes what is there, was meant for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Makes {
    /// It begins with what this command creates.
    ADatabase,
    /// It must be there.
    Nothing,
}

/// Start-up work that takes longer is told of, again and again.
const LONG_START: Duration = Duration::from_secs(3);

/// Start-up work takes a moment. What takes longer waits for somebody else: for the database, or for who holds its lock.
pub(super) async fn say_what_is_waited_for() -> Infallible {
    loop {
        tokio::time::sleep(LONG_START).await;
        tracing::warn!("still waiting: the database does not answer, or somebody else holds its lock (a migration, another program)");
    }
}

/// Names the database by its whole path: what is wrong mostly is the folder.
fn no_database(config: &Config) -> Failure {
    let path = match start::database_file(config) {
        Ok(Some(path)) => match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            Some(folder) => return start::no_folder(folder).into(),
            None => std::path::absolute(&path).unwrap_or(path).display().to_string(),
        },
        _ => "of database.url".to_owned(),
    };
    Failure::new(format!(
        "there is no database {path}: go to the server's folder, or name its database in database.url (DOORWARD__DATABASE__URL); \
         `doorward serve` and `doorward migrate up` make a new one"
    ))
}

/// When running servers know of a change that a command makes, for its last sentence.
#[must_use]
pub fn running_servers(config: &Config) -> String {
    format!("by running servers within {}", duration::write(config.freshness.max_staleness))
}

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
    /// Opens the database by the same rules as the server does, but for the keys.
    ///
    /// # Errors
    /// What `domain::start` refuses.
    pub async fn open(config: Config, format: Format, operator: String, makes: Makes) -> Result<Self, Failure> {
        let is_new = !start::has_database(&config)?;
        if is_new && makes == Makes::Nothing {
            return Err(no_database(&config));
        }
        let app = tokio::select! {
            app = start::open_to_administer(config, Clock::system(), Entropy::system()) => app?,
            never = say_what_is_waited_for() => match never {},
        };
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
    makes: Makes,
    work: impl AsyncFnOnce(&Desk) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let desk = Box::pin(Desk::open(config, format, operator, makes)).await?;
    let outcome = Box::pin(work(&desk)).await;
    desk.app.store.close().await;
    outcome
}

/// The variables of the process, as far as they matter.
#[derive(Debug, Default)]
pub struct Environment {
    /// Settings, by name.
    pub settings: Vec<(String, String)>,
    /// Whether the user wants no colours (`NO_COLOR`, see <https://no-color.org>).
    pub no_color: bool,
}

impl Environment {
    /// Picks what matters. Bytes that are no UTF-8 become U+FFFD, which the configuration refuses with everything else that it refuses.
    pub fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            let name = name.to_string_lossy();
            if name.starts_with(SETTINGS) {
                environment.settings.push((name.into_owned(), value.to_string_lossy().into_owned()));
            } else if name.to_ascii_uppercase().starts_with(OURS) {
                // Near misses too: the configuration tells them from other programs' variables.
                environment.settings.push((name.into_owned(), String::new()));
            } else if name == NO_COLOR {
                environment.no_color = !value.is_empty();
            }
        }
        environment
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
