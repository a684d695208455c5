//! `doorward migrate …`.

use clap::Subcommand;
use serde::Serialize;

use super::{
    failure::Failure,
    output::{self, Format, View},
};
use crate::{
    config::Config,
    domain::start,
    store::schema::MigrationState,
    values::{entropy::Entropy, time::Clock},
};

/// What to do about the schema.
#[derive(Debug, Subcommand)]
pub enum Migrate {
    /// Apply what is missing; makes the database where there is none
    ///
    /// Safe to run from several machines at once, and while servers of the version before are running.
    #[command(after_help = "Example:\n  doorward migrate up")]
    Up,
    /// List the migrations that this version needs; changes nothing
    ///
    /// Exits with 0 when all are applied, and with 1 when some are pending.
    #[command(after_help = "Example:\n  doorward migrate status --format json || doorward migrate up")]
    Status,
}

#[derive(Serialize)]
struct MigrationView {
    name: String,
    applied: bool,
}

impl From<MigrationState> for MigrationView {
    fn from(state: MigrationState) -> Self {
        Self { name: state.name, applied: state.applied }
    }
}

impl View for MigrationView {
    const PLURAL: &'static str = "migrations";
    const COLUMNS: &'static [&'static str] = &["MIGRATION", "STATE"];

    fn row(&self) -> Vec<String> {
        vec![self.name.clone(), if self.applied { "applied" } else { "pending" }.to_owned()]
    }
}

/// Does it.
///
/// # Errors
/// What `domain::start` refuses.
pub async fn run(command: &Migrate, config: &Config, format: Format) -> Result<(), Failure> {
    match command {
        Migrate::Up => up(config, format).await,
        Migrate::Status => status(config, format).await,
    }
}

async fn up(config: &Config, format: Format) -> Result<(), Failure> {
    let applied = start::migrate(config, &Clock::system(), &Entropy::system()).await?;
    let text = if applied.is_empty() {
        "The schema is up to date.".to_owned()
    } else {
        let lines: Vec<String> = applied.iter().map(|name| format!("applied {name}")).collect();
        format!("{}\nThe schema is up to date.", lines.join("\n"))
    };
    output::one(format, &serde_json::json!({ "applied": applied }), &text)
}

async fn status(config: &Config, format: Format) -> Result<(), Failure> {
    let states = start::schema(config).await?;
    let pending = states.iter().filter(|state| !state.applied).count();
    output::list(format, &states.into_iter().map(MigrationView::from).collect::<Vec<_>>())?;
    match (format, pending) {
        (Format::Json, 0) => Ok(()),
        (Format::Text, 0) => output::print("The schema is up to date.\n"),
        (_, count) => Err(Failure::new(format!("{count} pending: run `doorward migrate up`"))),
    }
}
