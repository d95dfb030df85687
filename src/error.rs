//! What can go wrong, one type for each operation: what was attempted, where, and what would be right.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkError;

/// Why a pipeline did not start.
///
/// `Debug` writes what `Display` does, because a `main` that returns the error prints it with `Debug`.
#[non_exhaustive]
pub enum StartError {
    /// The endpoint's address is not one: it wants a host and a port.
    Address {
        /// The address as it was given.
        address: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The endpoint's address could not be bound.
    Bind {
        /// The address, with `unix:` before the path of a socket in the file system, or `systemd`.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The endpoint's path is not one.
    Path {
        /// The path as it was given.
        path: String,
    },
    /// The configuration cannot work.
    Config(ConfigError),
    /// A thread could not be started.
    Thread {
        /// The thread's name.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A view cannot work.
    View(ViewError),
    /// The caller's registry did not take the exporter.
    Registry {
        /// What the registry said.
        source: prometheus::Error,
    },
    /// One registry is given for both directions: its metrics would be exported into the registry they came from.
    SameRegistry,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address, source } => {
                write!(
                    f,
                    "failed to resolve the scrape endpoint's address `{address}`, which should be a host and a port: {}",
                    reason(source)
                )
            }
            Self::Bind { address, source } => {
                write!(f, "failed to bind the scrape endpoint to {address}: {}", reason(source))?;
                match source.kind() {
                    io::ErrorKind::AddrInUse if address.starts_with("unix:") => {
                        f.write_str(", expected a path at which nothing is, or a socket that nobody serves")
                    }
                    io::ErrorKind::AddrInUse => {
                        f.write_str(" by another program, expected another port, or port 0 for any that is free")
                    }
                    _ => Ok(()),
                }
            }
            Self::Path { path } => write!(
                f,
                "the scrape endpoint's path `{path}` cannot be served: it starts with `/`, has no `?` or blank, and is none of /, /live, /livez, /readyz, /debug/metrics"
            ),
            Self::Config(error) => error.fmt(f),
            Self::Thread { name, source } => write!(f, "failed to start the thread {name}: {}", reason(source)),
            Self::View(error) => error.fmt(f),
            Self::Registry { source } => {
                write!(f, "failed to register the metrics with the prometheus registry: {source}")
            }
            Self::SameRegistry => f.write_str(
                "the same prometheus registry is merged into the scrape and receives our metrics: every series would stand twice, choose one direction",
            ),
        }
    }
}

/// The system's reason in words: `address in use` where the full error adds a number, and the full error where its kind
/// says nothing.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::NotFound
        | io::ErrorKind::OutOfMemory
        | io::ErrorKind::PermissionDenied => error.kind().to_string(),
        _ => error.to_string(),
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Address { source, .. } | Self::Bind { source, .. } | Self::Thread { source, .. } => Some(source),
            Self::Registry { source } => Some(source),
            // The error of a view or of the configuration is shown whole; its source is not repeated.
            Self::View(_) | Self::Config(_) | Self::Path { .. } | Self::SameRegistry => None,
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Where a setting comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// The program.
    Code,
    /// This environment variable.
    Environment(String),
    /// A file of the declarative configuration.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Code => f.write_str("code"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
        }
    }
}

/// What is wrong with a configuration, and where.
///
/// `Debug` writes what `Display` does, because a `main` that returns the error prints it with `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was said: a variable, or a line of a file.
    pub origin: Origin,
    /// Which setting it is, in the terms of the declarative configuration; empty where it is none.
    pub path: String,
    /// What is wrong, and what would be right. It shows no secret.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Default | Origin::Code => {}
            Origin::Environment(_) | Origin::File { .. } => write!(f, "{}: ", self.origin)?,
        }
        match (&self.origin, self.path.as_str()) {
            // The variable says it.
            (Origin::Environment(_), _) | (_, "") => {}
            (_, path) => write!(f, "{path}: ")?,
        }
        f.write_str(&self.problem)
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for ConfigError {}

impl From<ViewError> for StartError {
    fn from(error: ViewError) -> Self {
        Self::View(error)
    }
}

/// Why a view cannot work.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ViewError {
    /// The name pattern is empty.
    EmptySelector,
    /// The name pattern has a character that no instrument name contains.
    ImpossibleSelector {
        /// The view's name pattern.
        view: String,
        /// The character.
        character: char,
    },
    /// Several instruments would get one name.
    AmbiguousName {
        /// The view's name pattern.
        view: String,
        /// The name.
        name: String,
    },
    /// Nothing of the name would be left in a scrape.
    IllegalName {
        /// The view's name pattern.
        view: String,
        /// The name.
        name: String,
    },
    /// The buckets are not finite or do not ascend.
    ImpossibleBuckets {
        /// The view's name pattern.
        view: String,
        /// The upper bounds.
        bounds: Vec<f64>,
    },
    /// A histogram cannot have so many exponential buckets.
    ImpossibleSize {
        /// The view's name pattern.
        view: String,
        /// How many were asked for.
        max_buckets: u32,
    },
    /// The cardinality limit is 0.
    NoSeries {
        /// The view's name pattern.
        view: String,
    },
    /// The cardinality limit is more than can be reserved.
    TooManySeries {
        /// The view's name pattern.
        view: String,
        /// The limit.
        limit: usize,
    },
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptySelector => {
                f.write_str("a view selects no instrument: its name pattern is empty, `*` selects every one")
            }
            Self::ImpossibleSelector { view, character } => write!(
                f,
                "the view of `{view}` matches nothing: no instrument name contains {character:?}; letters, digits and _ . - / may"
            ),
            Self::AmbiguousName { view, name } => write!(
                f,
                "the view of `{view}` would give every instrument it selects the name `{name}`: rename one instrument at a time"
            ),
            Self::IllegalName { view, name } => write!(
                f,
                "the view of `{view}` renames it to `{name}`, of which no scraped name can be made: use letters, digits and _ . - /"
            ),
            Self::ImpossibleBuckets { view, bounds } => write!(
                f,
                "the view of `{view}` sets impossible buckets {bounds:?}: bounds are finite and ascend, none stands twice"
            ),
            Self::ImpossibleSize { view, max_buckets } => write!(
                f,
                "the view of `{view}` sets at most {max_buckets} exponential buckets: 2 are the fewest and 1,000 the most, 160 is usual"
            ),
            Self::NoSeries { view } => write!(
                f,
                "the view of `{view}` limits it to 0 series: a limit is at least 1, `dropped()` records nothing"
            ),
            Self::TooManySeries { view, limit } => write!(
                f,
                "the view of `{view}` limits it to {limit} series: memory is reserved for all of them, 1,000,000 are the most"
            ),
        }
    }
}

impl Error for ViewError {}

/// Something about an instrument or a view that keeps metrics from arriving as they were meant.
///
/// Building an instrument cannot fail in the OpenTelemetry API, so what is wrong with one is logged, counted, kept, and
/// returned by [`Telemetry::verify`](crate::Telemetry::verify).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Problem {
    /// The name is not an instrument name; the instrument records nothing.
    InvalidName {
        /// The instrument.
        instrument: InstrumentName,
    },
    /// The unit is not one; the instrument records nothing.
    InvalidUnit {
        /// The instrument.
        instrument: InstrumentName,
        /// The unit.
        unit: String,
    },
    /// The buckets are not finite or do not ascend; the histogram records nothing.
    InvalidBuckets {
        /// The instrument.
        instrument: InstrumentName,
        /// The upper bounds.
        bounds: Vec<f64>,
    },
    /// The instrument was built inside an observable's callback, which would never have returned; it records nothing.
    BuiltInCallback {
        /// The instrument.
        instrument: InstrumentName,
    },
    /// Two instruments are scraped under one name and cannot both be shown.
    Conflict {
        /// The scraped name.
        scraped: String,
        /// The instrument that is shown, in every scrape: the exporter orders by name and then by meter.
        shown: InstrumentName,
        /// The instrument whose points are dropped.
        dropped: InstrumentName,
        /// What does not fit.
        reason: &'static str,
    },
    /// One instrument is declared twice, and not alike: only one of the declarations is shown.
    Redeclared {
        /// The instrument.
        instrument: InstrumentName,
        /// What differs.
        difference: &'static str,
    },
    /// An instrument would be scraped under a name that is the exporter's own.
    ReservedName {
        /// The scraped name.
        scraped: String,
        /// The instrument.
        instrument: InstrumentName,
    },
    /// A view has matched no instrument so far.
    UnmatchedView {
        /// The view's name pattern.
        view: String,
    },
    /// More series were recorded than the instrument's limit allows; further ones are added up in one. It is found when
    /// somebody collects.
    Overflow {
        /// The instrument.
        instrument: InstrumentName,
        /// The name that the metric has, which is the instrument's unless a view gives it another.
        stream: String,
        /// The limit.
        limit: usize,
        /// The attribute keys with the most values, and how many values each has in the series that were kept; three at
        /// most.
        keys: Vec<(String, usize)>,
    },
}

/// What to do about an instrument with too many series.
pub(crate) fn too_many_series(
    instrument: &InstrumentName,
    stream: &str,
    limit: usize,
    keys: &[(String, usize)],
) -> String {
    let InstrumentName { name, scope } = instrument;
    // A view that gave no name would make a stream of its own beside one that was renamed.
    let renamed = if name == stream { String::new() } else { format!(".with_name(\"{stream}\")") };
    let view = format!("View::of(\"{name}\").in_scope(\"{scope}\"){renamed}");
    let more = limit.saturating_mul(2);
    let Some((worst, _)) = keys.first() else {
        return format!("allow more with `{view}.with_cardinality_limit({more})`");
    };
    let keys: Vec<_> = keys.iter().map(|(key, values)| format!("`{key}` has {values} values")).collect();
    format!(
        "{}; leave a key out with `{view}.without_attributes([\"{worst}\"])`, or allow more with `{view}.with_cardinality_limit({more})`",
        keys.join(", ")
    )
}

/// An instrument's name and the meter it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstrumentName {
    /// The instrument's name.
    pub name: String,
    /// The name of its meter (instrumentation scope).
    pub scope: String,
}

impl fmt::Display for InstrumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of meter `{}`", self.name, self.scope)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { instrument } => write!(
                f,
                "{instrument} records nothing: a name starts with a letter and has at most 255 letters, digits and _ . - /"
            ),
            Self::InvalidUnit { instrument, unit } => {
                write!(f, "{instrument} records nothing: its unit `{unit}` is not at most 63 ASCII characters")
            }
            Self::InvalidBuckets { instrument, bounds } => write!(
                f,
                "{instrument} records nothing: its buckets {bounds:?} are not finite and ascending, none twice"
            ),
            Self::BuiltInCallback { instrument } => write!(
                f,
                "{instrument} records nothing: it was built inside an observable's callback, build it before and capture it"
            ),
            Self::Conflict { scraped, shown, dropped, reason } => write!(
                f,
                "{dropped} and {shown} are both scraped as `{scraped}`, but {reason}: only the latter is shown, rename one or give it a view with another name"
            ),
            Self::Redeclared { instrument, difference } => write!(
                f,
                "{instrument} is declared twice with different {difference}: only one declaration is shown, give the other a name of its own"
            ),
            Self::ReservedName { scraped, instrument } => {
                write!(f, "{instrument} is not shown: `{scraped}` is the exporter's own, rename it or give it a view")
            }
            Self::UnmatchedView { view } => write!(
                f,
                "the view of `{view}` matches no instrument: correct its name, or build the instrument before verifying"
            ),
            Self::Overflow { instrument, stream, limit, keys } => write!(
                f,
                "{instrument} has more series than its limit of {limit}, further ones are summed under `otel_metric_overflow=\"true\"`: {}",
                too_many_series(instrument, stream, *limit, keys)
            ),
        }
    }
}

/// Why [`Telemetry::verify`](crate::Telemetry::verify) is not content: everything it found.
#[derive(Clone, PartialEq)]
pub struct VerifyError {
    /// The problems, in the order in which they came up; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for VerifyError {}

/// Why a scrape has no answer. The endpoint says it with a 5xx, never with an empty page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScrapeError {
    /// The pipeline was shut down.
    ShutDown,
    /// The configuration has no scrape endpoint.
    NotServed,
    /// Collecting failed.
    Collect {
        /// What the SDK said.
        reason: String,
    },
    /// More is asked for than can be answered at once: a page past its deadline gives way, or the newest request.
    Busy {
        /// How many there were.
        pages: usize,
    },
    /// Collecting took longer than the scrape may.
    TimedOut {
        /// How long the scrape waited.
        after: Duration,
        /// The observable whose callback was running then. [`MERGED_REGISTRY`](Self::MERGED_REGISTRY) stands for the
        /// collectors of a merged registry.
        callback: Option<InstrumentName>,
        /// How long that callback had been running.
        running: Duration,
    },
}

impl ScrapeError {
    /// The name under which a merged prometheus registry is known where instruments are named. No instrument has it.
    pub const MERGED_REGISTRY: &str = "prometheus::Registry";
}

impl fmt::Display for ScrapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown => f.write_str("the metrics pipeline is shut down"),
            Self::NotServed => f.write_str(
                "these metrics are not scraped: their configuration has no pull reader (OTEL_METRICS_EXPORTER can name `prometheus` beside others)",
            ),
            Self::Collect { reason } => write!(f, "failed to collect the metrics: {reason}"),
            Self::Busy { pages } => {
                write!(
                    f,
                    "{pages} others are asked for or on their way: ask again, and read faster if this happens half way"
                )
            }
            Self::TimedOut { after, callback, running } => {
                write!(f, "failed to collect the metrics within {after:?}: ")?;
                // Nobody wants to read nanoseconds.
                let running = Duration::from_millis(u64::try_from(running.as_millis()).unwrap_or(u64::MAX));
                match callback {
                    Some(registry) if registry.name == Self::MERGED_REGISTRY => write!(
                        f,
                        "the merged prometheus registry has been gathering for {running:?}, its collectors must not wait for anybody"
                    ),
                    Some(callback) => write!(
                        f,
                        "the callback of {callback} has been running for {running:?}, it must not wait for anybody: observe a value that another thread keeps"
                    ),
                    None => f.write_str("the machine is slow, or another reader holds the SDK"),
                }
            }
        }
    }
}

impl ScrapeError {
    /// In one word, for the `error.type` of the pipeline's own metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::ShutDown => "shut_down",
            Self::NotServed => "not_served",
            Self::Collect { .. } => "collect",
            Self::Busy { .. } => "busy",
            Self::TimedOut { .. } => "timeout",
        }
    }
}

impl Error for ScrapeError {}

/// Why a shutdown was not clean. The pipeline is down all the same.
///
/// `Debug` writes what `Display` does, because a `main` that returns the error prints it with `Debug`.
#[non_exhaustive]
pub enum ShutdownError {
    /// A scrape or its callbacks were still running when the deadline came, and were abandoned.
    Deadline {
        /// The deadline.
        after: Duration,
    },
    /// The last values were not delivered.
    Export {
        /// What went wrong, for each exporter that did not deliver.
        failures: Vec<String>,
    },
    /// The SDK's own shutdown failed.
    Sdk {
        /// What the SDK said.
        source: OTelSdkError,
    },
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline { after } => {
                write!(f, "a scrape in flight did not end within the {after:?} given and was abandoned")
            }
            Self::Export { failures } => {
                write!(f, "the last values were not delivered: {}", failures.join("; "))
            }
            Self::Sdk { .. } => f.write_str("failed to shut the metrics SDK down"),
        }
    }
}

impl fmt::Debug for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for ShutdownError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Deadline { .. } | Self::Export { .. } => None,
            Self::Sdk { source } => Some(source),
        }
    }
}

/// Why a flush is not known to have arrived.
///
/// `Debug` writes what `Display` does, because a `main` that returns the error prints it with `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct FlushError {
    /// What went wrong, for each exporter that did not deliver.
    pub failures: Vec<String>,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not everything was delivered: {}", self.failures.join("; "))
    }
}

impl fmt::Debug for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for FlushError {}
