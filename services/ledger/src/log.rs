//! One line per event to stderr: `LEVEL message key=value ...`, no time (PID 1 adds it), no colour.

use std::fmt;

use hookprobe_wire::{Diagnostic, Severity};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "{} ", event.metadata().level())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Sends events of level INFO and above to stderr. The first call counts.
pub fn init() {
    // An error means that it was done before, which is what is wanted.
    let _ = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(Line)
        .try_init();
}

/// Says a diagnostic once, at the level that its severity asks for.
pub fn say(diagnostic: &Diagnostic) {
    match diagnostic.severity {
        Severity::Info => tracing::info!("{diagnostic}"),
        Severity::Warn => tracing::warn!("{diagnostic}"),
        Severity::Critical => tracing::error!("{diagnostic}"),
    }
}
