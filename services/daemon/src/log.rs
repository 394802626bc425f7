//! One line per event to standard error: `LEVEL message key=value ...`. PID 1 adds the time.
//!
//! The level stands first and unpadded, because PID 1 reads the severity from it, and whatever an
//! event says (the kernel, a library, another service) stays on its line: control characters are
//! escaped.

use std::fmt;

use hookprobe_wire::{Diagnostic, Severity, text};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Longest line, in characters; PID 1 keeps half of that. A longer one is cut and marked.
const LINE_CHARS_MAX: usize = 1024;

/// Starts logging; a second call does nothing.
pub fn init() {
    // Fails only when a subscriber is there already.
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(Level::INFO)
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
        let mut fields = String::new();
        context.field_format().format_fields(Writer::new(&mut fields), event)?;
        let fields = text::escape(&fields, LINE_CHARS_MAX);
        writeln!(writer, "{} {fields}", event.metadata().level())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn level_first_and_one_line_whatever_is_said() {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(Line)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(seq = 7, "ready");
            let error = "refused:\nERROR forged\r\n\x1b[2J";
            tracing::warn!(%error, "{}", error);
            tracing::error!("{}", "x".repeat(5000));
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "INFO ready seq=7");
        assert!(lines[1].starts_with("WARN refused:\\u{a}ERROR forged"), "{}", lines[1]);
        assert!(!text.contains('\x1b'), "{text}");
        assert!(lines[2].len() < 1100);
    }
}
