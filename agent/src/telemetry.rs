//! What the process says of itself: log lines, counted panics, the metrics registry.
//!
//! Log lines go to standard error, as text for people or JSON for machines; standard output is for results. A thread of
//! their own writes them: whoever has something to say does not wait for a disk or a reader, and what these do not take
//! is counted.

use std::fmt;
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::OnceLock;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("log format {other:?} is neither text nor json")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// `[log]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Form of the lines.
    pub format: LogFormat,
    /// What is written, in tracing's filter language: `info`, `sextant=debug,info` ...
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

impl Config {
    /// With one level more for each `-v`.
    #[must_use]
    pub fn louder(mut self, steps: u8) -> Self {
        match steps {
            0 => {}
            1 => "sextant=debug,info".clone_into(&mut self.filter),
            2 => "debug".clone_into(&mut self.filter),
            _ => "trace".clone_into(&mut self.filter),
        }
        self
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not in tracing's language.
    #[error("log filter {filter:?} is not valid")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another subscriber is set already.
    #[error("logging is set up already")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
}

/// Lines that may wait to be written, some 200 bytes each: 20 s of 500 requests a second, in 2 MB of memory.
const WAITING_LINES: usize = 10_000;

/// Lines that were dropped: logging belongs to the process, so its account does too.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Writes what is still waiting when dropped, for a second at most.
#[derive(Debug)]
#[must_use = "lines are written while this lives"]
pub struct Log {
    _writer: WorkerGuard,
}

/// An error with all that is behind it, in one line: an HTTP client says "client error", and the reason is further down.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Sets up logging to standard error, once per process.
///
/// # Errors
/// A bad filter, or a second call.
pub fn init(config: &Config) -> Result<Log, TelemetryError> {
    let builder = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).thread_name("log");
    let (lines, writer) = builder.finish(std::io::stderr());
    let dropped = lines.error_counter();
    subscriber(config, lines)?.try_init().map_err(TelemetryError::AlreadySet)?;
    DROPPED.get_or_init(|| dropped);
    Ok(Log { _writer: writer })
}

/// The subscriber, writing anywhere: tests read what it wrote.
///
/// # Errors
/// A bad filter.
pub fn subscriber<W>(
    config: &Config,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|source| TelemetryError::Filter { filter: config.filter.clone(), source })?;
    let registry = tracing_subscriber::registry().with(filter);
    Ok(match config.format {
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            Box::new(registry.with(tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(writer)))
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer);
            Box::new(registry.with(layer))
        }
    })
}

/// The registry of a process with `build_info`, panics counted. Rooms register under
/// `registry.sub_registry_with_prefix("sextant")`.
pub fn registry(role: &'static str) -> (Registry, Counter) {
    let mut registry = Registry::default();
    let ours = registry.sub_registry_with_prefix("sextant");
    let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("role", role)]);
    ours.register("build", "What runs", build);
    let panics = Counter::default();
    ours.register("panics", "Panics of any task of this process", panics.clone());
    ours.register_collector(Box::new(Dropped));
    (registry, panics)
}

/// The account of [`DROPPED`].
#[derive(Debug)]
struct Dropped;

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let dropped = ConstCounter::new(DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64));
        let help = "Log lines that nobody took in time.";
        let metric = encoder.encode_descriptor("log_lines_dropped", help, None, dropped.metric_type())?;
        dropped.encode(metric)
    }
}

/// Logs and counts every panic of any thread, before whoever catches it.
pub fn install_panic_hook(panics: Counter) {
    std::panic::set_hook(Box::new(move |info| {
        panics.inc();
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        tracing::error!(thread, location, message_text = payload(info), "panic");
    }));
}

/// The panic's message, at most 500 characters: it may quote input.
fn payload(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("not a text").chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic holds it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_lines_are_objects_and_hostile_text_stays_in_its_string() {
        let lines = Lines::default();
        let writer = lines.clone();
        let config = Config { format: LogFormat::Json, ..Config::default() };
        let subscriber = subscriber(&config, move || writer.clone()).expect("a valid filter");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(error = "a\"b\n{\"level\":\"ERROR\"}", "request refused");
            tracing::debug!("below the filter");
        });
        let text = String::from_utf8(lines.0.lock().expect("no panic holds it").clone()).expect("text");
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).expect("an object");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["error"], "a\"b\n{\"level\":\"ERROR\"}");
    }

    #[test]
    fn a_bad_filter_is_named() {
        let config = Config { filter: "sextant=loud".into(), ..Config::default() };
        let error = subscriber(&config, std::io::sink).err().expect("refused");
        assert!(error.to_string().contains("sextant=loud"), "{error}");
    }

    #[test]
    fn the_registry_says_what_runs() {
        let (registry, panics) = registry("node");
        panics.inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        assert!(text.contains("sextant_build_info{version=\""), "{text}");
        assert!(text.contains("sextant_panics_total 1"), "{text}");
    }
}
