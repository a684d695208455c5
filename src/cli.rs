//! The command `doorward`: what operators type. A command calls `domain`, which decides, and says what came of it.
//!
//! ```text
//! main.rs ─ words, environment ─► run ─► configuration ─► logging ─► serve | migrate | backup
//!                                  │                              └► Desk (an opened service) ─► user | tenant | role | member |
//!                                  │                                                            service-account | session | demo
//!                                  └► config, secret, completions, health: need neither logging nor a database
//! exit codes: 0 done · 1 refused or failed, with one sentence on standard error · 2 words or flags that cannot be read (clap) ·
//! 130 interrupted at a question
//! ```
//!
//! | file | what |
//! |---|---|
//! | `serve.rs`, `signals.rs`, `only_server.rs` | the server, what stops it, and that it is the only one of an SQLite file |
//! | `first_superuser.rs` | whom a fresh server can be entered by |
//! | `migrate.rs user.rs tenant.rs role.rs member.rs service_account.rs session.rs config.rs secret.rs` | one noun a file |
//! | `health.rs backup.rs demo.rs completions.rs` | one act a file |
//! | `desk.rs` | what the commands work with; who typed |
//! | `password.rs`, `secret_file.rs` | where passwords come from, and where a secret that is made goes |
//! | `confirm.rs` | asking before something is ended |
//! | `output.rs`, `views.rs`, `grpcurl.rs` | tables and JSON; what of each noun is shown; calls to be pasted |
//! | `failure.rs` | errors as sentences that say what to do next |
//!
//! **Rules.** Results go to standard output, everything else to standard error. Secrets come from a prompt, standard input or a file,
//! never as an argument, which other users of the machine can read. Things that exist are positional. JSON has the names of the proto.
//!
//! **A new command** is a variant in its noun's file and its help text under `tests/golden/help`; a new noun is a file more, and a
//! variant of [`Command`].

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{
    Parser, Subcommand,
    builder::{OsStringValueParser, TypedValueParser as _},
};

use crate::{
    config::{Config, Log},
    domain::start,
    telemetry,
};

pub mod backup;
pub mod completions;
pub mod config;
pub mod confirm;
pub mod demo;
pub mod desk;
pub mod failure;
pub mod first_superuser;
mod grpcurl;
pub mod health;
pub mod key;
pub mod member;
pub mod migrate;
mod only_server;
pub mod output;
pub mod password;
pub mod role;
pub mod secret;
pub mod secret_file;
pub mod serve;
pub mod service_account;
pub mod session;
mod signals;
pub mod tenant;
pub mod user;
pub mod views;

use desk::{Environment, Makes};
use failure::Failure;
use output::Format;

/// A standalone, multi-tenant authentication service behind gRPC.
///
/// Without a command it serves. Settings come from the file of --config and, over it, from
/// variables such as `DOORWARD__SERVER__GRPC_ADDR`; each has a default.
#[derive(Debug, Parser)]
#[command(name = "doorward", version, verbatim_doc_comment, after_help = EXAMPLES)]
pub struct Cli {
    /// Settings file (TOML)
    // An empty name comes through: the configuration says what is wrong with it, as clap does not.
    #[arg(long, global = true, value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from),
        env = "DOORWARD_CONFIG", hide_env_values = true, help_heading = GLOBAL)]
    pub config: Option<PathBuf>,
    /// How results are printed: text for people, json for programs
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, hide_possible_values = true, help_heading = GLOBAL)]
    pub format: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Over the flags that every command has, in help texts.
const GLOBAL: &str = "Options of every command";
const EXAMPLES: &str = "\
Exit codes:
  0    done
  1    refused or failed, with a sentence on standard error that says what to do next
  2    words or flags that cannot be read
  130  interrupted at a question

What ends or replaces something says what it would do and asks at a terminal; elsewhere it needs --yes.

Examples:
  doorward
  doorward user create --superuser --email admin@example.com
  doorward --config /etc/doorward.toml user list --format json";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until told to stop (what is done when no command is given)
    #[command(after_help = serve::EXAMPLES)]
    Serve,
    /// Look at the database's schema and bring it up to date
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// People, known to the whole instance
    #[command(subcommand)]
    User(user::UserCommand),
    /// Tenants
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Roles of a tenant: a name, a level and permissions
    #[command(subcommand)]
    Role(role::RoleCommand),
    /// Members of a tenant: who of the users belongs to it, with which roles
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Service accounts: workloads, of the instance or of a tenant, and what proves them
    #[command(subcommand)]
    ServiceAccount(service_account::ServiceAccountCommand),
    /// Signing keys: what access tokens are signed with
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Sessions: logins, from their opening to their end
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Copy the SQLite database to a file, also while a server writes to it
    ///
    /// The copy is whole, checked, and for its owner alone. The key file is not in it: keep a
    /// copy of that too, and apart from this one.
    #[command(verbatim_doc_comment, after_help = backup::EXAMPLES)]
    Backup(backup::Backup),
    /// Fill an empty database with two tenants and five people, for trying things out only
    ///
    /// Nothing of it is for production: all five have one password, and need not change it.
    /// A database that has users or tenants is refused and left as it is.
    #[command(verbatim_doc_comment, after_help = demo::EXAMPLES)]
    Demo(demo::DemoFlags),
    /// Ask a running server how it is, for exec probes
    ///
    /// It asks grpc.health.v1.Health/Check on `server.ops_addr`, and prints the status. It opens no
    /// database and needs no secret.
    #[command(verbatim_doc_comment, after_help = health::EXAMPLES)]
    Health(health::Health),
    /// Print a script that lets a shell complete commands and flags
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Completions),
    /// The configuration: what is set, and whether it can be used
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Secrets for the configuration
    #[command(subcommand)]
    Secret(secret::SecretCommand),
}

/// Does what was typed. `environment` is every variable of the process.
pub fn run(cli: Cli, environment: impl IntoIterator<Item = (OsString, OsString)>) -> ExitCode {
    match execute(cli, environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::complain(&failure);
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), Failure> {
    let command = match cli.command.unwrap_or(Command::Serve) {
        Command::Secret(command) => return secret::run(&command, cli.format),
        Command::Completions(request) => return completions::run(&request),
        command => command,
    };
    let environment = Environment::read(environment);
    match &command {
        Command::Config(command) => return config::run(command, cli.config.as_deref(), environment.settings, cli.format),
        Command::Health(request) => return health::run(request, cli.config.as_deref(), environment.settings, cli.format),
        _ => {}
    }
    let is_serve = matches!(command, Command::Serve);
    // Where the database cannot be looked at, its start says why.
    let is_first_start = |config: &Config| is_serve && !start::has_database(config).unwrap_or(true);
    let config = Config::load_to_serve(cli.config.as_deref(), environment.settings, is_first_start)?;
    let mut log = config.log.clone();
    if !is_serve && log.level == Log::default().level {
        // What the server tells while it works would stand between question and answer.
        "warn".clone_into(&mut log.level);
    }
    telemetry::init(&log, !environment.no_color).map_err(|e| Failure::new(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| Failure::new(format!("no threads: {e}")))?;
    let outcome = runtime.block_on(dispatch(command, config, cli.format, desk::operator()));
    // Whatever still waits (for a lock, say) has nobody to answer to.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(command: Command, config: Config, format: Format, operator: String) -> Result<(), Failure> {
    match command {
        Command::Serve => Box::pin(serve::run(config)).await,
        Command::Migrate(command) => migrate::run(&command, &config, format).await,
        Command::Backup(request) => backup::run(&request, &config, format).await,
        // These were done before there was a configuration.
        Command::Config(_) | Command::Secret(_) | Command::Completions(_) | Command::Health(_) => {
            Err(Failure::new("this needs no configuration"))
        }
        Command::User(command) => {
            let makes = if matches!(command, user::UserCommand::Create(_)) { Makes::ADatabase } else { Makes::Nothing };
            desk::with(config, format, operator, makes, async |desk| user::run(desk, command).await).await
        }
        Command::Tenant(command) => {
            let makes = if matches!(command, tenant::TenantCommand::Create(_)) { Makes::ADatabase } else { Makes::Nothing };
            desk::with(config, format, operator, makes, async |desk| tenant::run(desk, command).await).await
        }
        Command::Role(command) => desk::with(config, format, operator, Makes::Nothing, async |desk| role::run(desk, command).await).await,
        Command::Member(command) => {
            desk::with(config, format, operator, Makes::Nothing, async |desk| member::run(desk, command).await).await
        }
        Command::ServiceAccount(command) => {
            desk::with(config, format, operator, Makes::Nothing, async |desk| service_account::run(desk, command).await).await
        }
        Command::Key(command) => desk::with(config, format, operator, Makes::Nothing, async |desk| key::run(desk, command).await).await,
        Command::Session(command) => {
            desk::with(config, format, operator, Makes::Nothing, async |desk| session::run(desk, command).await).await
        }
        Command::Demo(flags) => desk::with(config, format, operator, Makes::ADatabase, async |desk| demo::run(desk, &flags).await).await,
    }
}
