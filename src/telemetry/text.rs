//! An event as text: time, level, who speaks, message, fields.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::values::Clock;

const RESET: &str = "\u{1b}[0m";
const DIM: &str = "\u{1b}[2m";

/// The form of text lines. Whole seconds: they are for people, and collectors take JSON.
pub(super) struct Text {
    clock: Clock,
}

impl Text {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let colours = writer.has_ansi_escapes();
        let (dim, reset) = if colours { (DIM, RESET) } else { ("", "") };
        let colour = if colours { colour_of(*level) } else { "" };
        write!(writer, "{dim}{}{reset} {colour}{level:>5}{reset} ", self.clock.now())?;
        let is_ours = target == "doorward" || target.starts_with("doorward::");
        if !is_ours || *level >= Level::DEBUG {
            write!(writer, "{dim}{target}:{reset} ")?;
        }
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            write!(writer, "{dim}{}", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                write!(writer, "{{{fields}{dim}}}")?;
            }
            write!(writer, ":{reset} ")?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

const fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}
