//! Log lines on standard error: one event, one line, as text for people or JSON for collectors.
//!
//! ```text
//! 2026-11-24T03:06:34Z  INFO serving version="0.1.0" grpc=127.0.0.1:50051
//! 2026-11-24T03:06:35Z  WARN sqlx::query: slow statement elapsed=2.1s
//! {"timestamp":"2026-11-24T03:06:34.102331Z","level":"INFO","fields":{"message":"serving",…},"target":"doorward::cli::serve"}
//! ```
//!
//! Text names the part that speaks where it is not our own, and where somebody looks closely (`debug`, `trace`).
//!
//! [`dispatch`] builds what turns events into lines and touches nothing global, so that a test can look at them; [`init`]
//! makes it the process's and is called once, by `main`.

use std::io::{self, IsTerminal as _, Write};
use std::panic::PanicHookInfo;

use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};
use crate::values::Clock;

mod text;

/// Crates below us that tell more than an operator wants: statements, frames. Warnings of theirs are kept.
const QUIET: [&str; 8] = ["sea_orm", "sea_orm_migration", "sqlx", "hyper", "hyper_util", "h2", "tonic", "tower"];

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `log.level` is not a filter. For the operator.
    #[error("log.level is not a valid filter")]
    Level(#[from] ParseError),
    /// The process logs already. A bug of the caller.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sends the log lines of this process to standard error, coloured where that is a terminal and the user has nothing against `colours`,
/// and makes a panic one log line.
///
/// # Errors
/// See [`Error`].
pub fn init(log: &Log, colours: bool) -> Result<(), Error> {
    let dispatch = dispatch(log, colours && io::stderr().is_terminal(), io::stderr)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| Error::AlreadySet)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// What turns events into lines for `writer`; with `colours`, text has terminal colours.
///
/// # Errors
/// [`Error::Level`].
pub fn dispatch<W>(log: &Log, colours: bool, writer: W) -> Result<Dispatch, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(&log.level)?)
        // Else a closed standard error makes the next event panic.
        .log_internal_errors(false);
    Ok(match log.format {
        LogFormat::Text => {
            let writer = OneLine { writer, colours };
            Dispatch::new(builder.with_ansi(colours).event_format(text::Text::new(Clock::system())).with_writer(writer).finish())
        }
        LogFormat::Json => Dispatch::new(builder.with_ansi(false).json().with_writer(writer).finish()),
    })
}

/// The operator's filter over our own: `info` where it names no level for everything, and quiet libraries. A later
/// directive for the same part wins. A level stricter than `warn` holds for the libraries too.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    let everything = level.split(',').filter_map(|directive| directive.parse::<LevelFilter>().ok()).next_back();
    let quiet = everything.unwrap_or(LevelFilter::INFO).min(LevelFilter::WARN);
    let quieted = QUIET.iter().map(|part| format!("{part}={quiet}"));
    let directives: Vec<String> = std::iter::once("info".to_owned()).chain(quieted).chain([level.to_owned()]).collect();
    EnvFilter::builder().parse(directives.join(","))
}

/// Where the panic was, never what it says: its text may hold what a caller sent.
fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(location, thread = thread.name().unwrap_or_default(), "panic");
}

/// Keeps a text event on one line, whatever its fields hold: nobody may forge a second one or steer the operator's
/// terminal. The formatter itself escapes neither line ends nor, in fields recorded by `Display`, escape characters. (JSON
/// has escapes of its own.)
struct OneLine<W> {
    writer: W,
    colours: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine { writer: self.writer.make_writer(), colours: self.colours }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        OneLine { writer: self.writer.make_writer_for(meta), colours: self.colours }
    }
}

impl<W: Write> Write for OneLine<W> {
    /// Takes one whole event with its line end: so the formatter hands it over.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = escape(text.strip_suffix('\n').unwrap_or(&text), self.colours);
        line.push('\n');
        self.writer.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The text with its control characters and line separators spelled out, but for `colours` (ESC `[` … `m`, which can do no
/// more than colour) where they are wanted.
fn escape(text: &str, colours: bool) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if colours
            && c == '\u{1b}'
            && let Some((codes, after)) = rest.as_str().strip_prefix('[').and_then(|tail| tail.split_once('m'))
            && codes.chars().all(|c| c.is_ascii_digit() || c == ';')
        {
            line.push_str("\u{1b}[");
            line.push_str(codes);
            line.push('m');
            rest = after.chars();
        } else if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
