//! Names, labels and values that a format could trip over: a fixed set of the worst, and random ones without end.
//!
//! ```ignore
//! let hostile = hostile::start(TranslationStrategy::NoTranslation);
//! let page = prometheus::page(hostile.address(), "text/plain");
//! ```
//!
//! Every point carries an attribute `id` of its own, a plain word: however a format must bend the rest, the point is
//! found by it, and what was recorded is in [`Hostile::points`].

use std::net::SocketAddr;

use barograph::opentelemetry::metrics::{Meter, MeterProvider};
use barograph::opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use barograph::{Telemetry, TelemetryBuilder, TranslationStrategy, View};
use prometheus::{GaugeVec, Opts, Registry};

use crate::formats;
use crate::parser::Page;

/// A pipeline that is full of what a format could trip over.
pub(crate) struct Hostile {
    pub(crate) telemetry: Telemetry,
    pub(crate) strategy: TranslationStrategy,
    /// What was recorded; nothing for random ones, where metrics meet under one name and points go missing by the rules.
    pub(crate) points: Vec<Point>,
}

impl Hostile {
    /// Its pages in every text format, for a strict reader.
    pub(crate) fn pages(&self) -> [(&'static str, Page); 4] {
        let page = |accept| crate::prometheus::page(self.address(), accept);
        let is_translated = matches!(
            self.strategy,
            TranslationStrategy::UnderscoreEscapingWithSuffixes
                | TranslationStrategy::UnderscoreEscapingWithoutSuffixes
        );
        [
            ("text", Page::text(page(formats::TEXT))),
            ("whole text", Page::text(page(formats::TEXT_UTF8))),
            ("OpenMetrics", Page::open_metrics(page(formats::OPEN_METRICS))),
            ("whole OpenMetrics", Page::open_metrics(page(formats::OPEN_METRICS_UTF8))),
        ]
        .map(|(what, page)| (what, page.with_reserved_labels(!is_translated)))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.telemetry.local_addr().unwrap()
    }
}

/// One point, which nothing else on the page can be mistaken for.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) id: String,
    /// What its metric is called where names are neither translated nor escaped.
    pub(crate) name: String,
    pub(crate) attributes: Vec<KeyValue>,
    pub(crate) recorded: Recorded,
    /// Whether its histogram is exponential, which an attribute `buckets` says too: native where the format has that.
    pub(crate) is_exponential: bool,
}

impl Point {
    /// The labels that a page must have where keys are neither translated nor escaped. Odd keys are not among them.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, String)> {
        let is_plain = |key: &str| !ODD_KEYS.contains(&key);
        let pairs = self.attributes.iter().map(|pair| (pair.key.as_str(), pair.value.to_string()));
        // To Prometheus an empty value is no label at all.
        pairs.filter(move |(key, value)| is_plain(key) && !value.is_empty())
    }
}

/// What a page must say of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Recorded {
    Number(f64),
    Histogram { count: f64, sum: f64, has_negative_bounds: bool },
}

/// What instruments are renamed to, which the instrument name syntax does not allow and a view does. They differ in
/// their letters, so they stay apart whatever becomes of the rest.
const NAMES: [&str; 16] = [
    "a name with spaces",
    "\"quotes\" all around the \"name\"",
    "back\\slash and not a newline \\n",
    "line\nfeed",
    "é 漢字 🦀 crab",
    "9 begins with a digit",
    "U__looks_escaped",
    "tab\tand\rreturn",
    "{braces=\"and a label\"} 7",
    "# HELP looks like a comment",
    "colon:colon::rule",
    "comma,comma",
    "mathematical minus \u{2212} line\u{2028}separator",
    "zero width\u{200d}joiner",
    "ends with underscores___",
    "__reserved__",
];

const EXPONENTIAL_NAME: &str = "exponential \"🦀\"";

/// Keys that have nothing to do with each other in any escaping, and no meaning in any format.
const KEYS: [&str; 15] = [
    "http.request.method",
    "key with spaces",
    "\"quoted\" key",
    "back\\slash",
    "line\nfeed key",
    "emoji 🦀 é",
    "1st",
    "colon:key",
    "U__k",
    "{brace}",
    "equals=sign",
    "comma,",
    "# EOF",
    "tab\tkey\r",
    "UPPER-lower",
];

/// Keys that mean something to somebody, or that become one another.
const ODD_KEYS: [&str; 16] = [
    "",
    "__name__",
    "__reserved",
    "__reserved__",
    "le",
    "quantile",
    "job",
    "instance",
    "exported_job",
    "exported_le",
    "otel_scope_name",
    "otel.scope.name",
    "a.b",
    "a_b",
    "a-b",
    "🦀",
];

const VALUES: [&str; 16] = [
    "plain",
    "\"quoted\"",
    "ends with a backslash \\",
    "two \\\\ and \\\"",
    "line\nfeed",
    "not a line feed: \\n",
    "\r\n\t\u{0}\u{7f}",
    "é 漢字 🦀 e\u{301}",
    "} 1",
    "\"} 1\n# EOF\n",
    " leading and trailing ",
    "\u{feff}bom\u{2028}separator\u{85}next",
    "a=\"b\",c=\"d\"",
    "#",
    "",
    "\\",
];

/// What is recorded, which says what kind of instrument it is recorded with.
#[derive(Clone, Copy, Debug)]
enum Measurement {
    U64Counter(u64),
    F64Counter(f64),
    I64UpDownCounter(i64),
    F64UpDownCounter(f64),
    U64Gauge(u64),
    I64Gauge(i64),
    F64Gauge(f64),
    U64Histogram(u64),
    F64Histogram(f64),
}

impl Measurement {
    fn record(self, meter: &Meter, texts: &Texts, attributes: &[KeyValue]) {
        macro_rules! record {
            ($build:ident, $record:ident, $value:expr) => {
                meter
                    .$build(texts.name.clone())
                    .with_unit(texts.unit.clone())
                    .with_description(texts.description.clone())
                    .build()
                    .$record($value, attributes)
            };
        }
        match self {
            Self::U64Counter(value) => record!(u64_counter, add, value),
            Self::F64Counter(value) => record!(f64_counter, add, value),
            Self::I64UpDownCounter(value) => record!(i64_up_down_counter, add, value),
            Self::F64UpDownCounter(value) => record!(f64_up_down_counter, add, value),
            Self::U64Gauge(value) => record!(u64_gauge, record, value),
            Self::I64Gauge(value) => record!(i64_gauge, record, value),
            Self::F64Gauge(value) => record!(f64_gauge, record, value),
            Self::U64Histogram(value) => record!(u64_histogram, record, value),
            Self::F64Histogram(value) => record!(f64_histogram, record, value),
        }
    }

    fn number(self) -> f64 {
        match self {
            Self::U64Counter(value) | Self::U64Gauge(value) | Self::U64Histogram(value) => value as f64,
            Self::I64UpDownCounter(value) | Self::I64Gauge(value) => value as f64,
            Self::F64Counter(value)
            | Self::F64UpDownCounter(value)
            | Self::F64Gauge(value)
            | Self::F64Histogram(value) => value,
        }
    }

    fn is_histogram(self) -> bool {
        matches!(self, Self::U64Histogram(_) | Self::F64Histogram(_))
    }
}

/// What is said of an instrument.
#[derive(Clone, Debug, Default)]
struct Texts {
    name: String,
    unit: String,
    description: String,
}

impl Texts {
    fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

const EXTREMES: [Measurement; 22] = [
    Measurement::U64Counter(0),
    Measurement::U64Counter(u64::MAX),
    // The first integer that f64 does not have.
    Measurement::U64Counter((1 << 53) + 1),
    Measurement::U64Gauge(u64::MAX),
    Measurement::I64UpDownCounter(i64::MIN),
    Measurement::I64UpDownCounter(i64::MAX),
    Measurement::I64Gauge(i64::MIN),
    Measurement::I64Gauge(-1),
    Measurement::F64Counter(f64::MAX),
    Measurement::F64Counter(5e-324),
    Measurement::F64UpDownCounter(f64::MIN),
    Measurement::F64Gauge(f64::MAX),
    Measurement::F64Gauge(f64::MIN),
    Measurement::F64Gauge(f64::MIN_POSITIVE),
    Measurement::F64Gauge(5e-324),
    Measurement::F64Gauge(-5e-324),
    Measurement::F64Gauge(-0.0),
    Measurement::F64Gauge(0.1 + 0.2),
    Measurement::F64Gauge(1e21),
    Measurement::F64Gauge(123_456_789.123_456_79),
    Measurement::F64Gauge(1e-7),
    Measurement::F64Gauge(-9_007_199_254_740_993.0),
];

/// Starts a pipeline for the fixed set on an endpoint of its own.
pub(crate) fn start(strategy: TranslationStrategy) -> Hostile {
    start_with(strategy, |builder| builder)
}

/// Starts one with settings of the caller's.
pub(crate) fn start_with(
    strategy: TranslationStrategy,
    settings: impl FnOnce(TelemetryBuilder) -> TelemetryBuilder,
) -> Hostile {
    let builder = Telemetry::builder("hostile \"service\"\n").with_address("127.0.0.1:0").without_self_metrics();
    let mut builder = settings(builder.with_translation_strategy(strategy));
    for (index, name) in NAMES.iter().enumerate() {
        builder = builder.with_view(View::of(format!("renamed.{index}")).with_name(*name));
    }
    let registry = Registry::new();
    let telemetry = builder
        .with_view(View::of("renamed.exponential").with_name(EXPONENTIAL_NAME).with_exponential_buckets(160))
        .with_view(View::of("exponential.*").with_exponential_buckets(160))
        .with_view(View::of("negative.bounds").with_buckets([-10.0, -0.5, 0.0, 1e-7, 0.1 + 0.2, 1.0, 1e21]))
        .with_resource([
            KeyValue::new("resource.\"key\"\n", "value \"with\"\n\\ all"),
            KeyValue::new("resource.empty", ""),
        ])
        .with_registry(registry.clone())
        .start()
        .unwrap();
    let scope = InstrumentationScope::builder("meter \"of\"\n\\hostile")
        .with_version("1.0 \"beta\"")
        .with_attributes([KeyValue::new("scope \"key\"", "scope\nvalue"), KeyValue::new("1", "")])
        .build();
    let mut recorder = Recorder { meter: telemetry.meter_provider().meter_with_scope(scope), points: Vec::new() };

    let kinds = [
        Measurement::U64Counter(3),
        Measurement::F64Gauge(-1.5),
        Measurement::F64Histogram(0.3),
        Measurement::I64UpDownCounter(-7),
        Measurement::F64Counter(0.25),
        Measurement::U64Histogram(12),
    ];
    for (index, _) in NAMES.iter().enumerate() {
        let texts = Texts { description: VALUES[index].to_owned(), ..Texts::named(format!("renamed.{index}")) };
        let attributes = (0..3).map(|nth| pair(KEYS, index + 5 * nth, index + nth)).collect();
        recorder.record(&texts, &[kinds[index % kinds.len()]], attributes);
    }
    for (index, measurement) in EXTREMES.into_iter().enumerate() {
        recorder.record(&Texts::named(format!("extreme.n{index}")), &[measurement], Vec::new());
    }
    let overflowed = [Measurement::F64Counter(f64::MAX), Measurement::F64Counter(f64::MAX)];
    recorder.record(&Texts::named("overflow.to.infinity"), &overflowed, Vec::new());
    let overflowed = [Measurement::F64UpDownCounter(f64::MIN), Measurement::F64UpDownCounter(f64::MIN)];
    recorder.record(&Texts::named("overflow.to.minus.infinity"), &overflowed, Vec::new());

    let histograms: [(&str, &[Measurement]); 7] = [
        ("negative.bounds", &[Measurement::F64Histogram(-3.0), Measurement::F64Histogram(10.0)]),
        ("negative.sum", &[Measurement::F64Histogram(-3.0)]),
        ("sum.infinite", &[Measurement::F64Histogram(f64::MAX), Measurement::F64Histogram(f64::MAX)]),
        ("integers", &[Measurement::U64Histogram(u64::MAX >> 1), Measurement::U64Histogram(0)]),
        ("renamed.exponential", &[Measurement::F64Histogram(0.3), Measurement::F64Histogram(1e9)]),
        ("exponential.of.integers", &[Measurement::U64Histogram(0), Measurement::U64Histogram(1 << 40)]),
        (
            "exponential.negative.bounds",
            &[Measurement::F64Histogram(-3.0), Measurement::F64Histogram(0.0), Measurement::F64Histogram(10.0)],
        ),
    ];
    for (name, measurements) in histograms {
        let attributes = vec![pair(KEYS, 1, 3), pair(KEYS, 2, 1)];
        recorder.record(&Texts { unit: "s".to_owned(), ..Texts::named(name) }, measurements, attributes);
    }

    // All the keys at once, and each of the odd ones by itself.
    let all = |keys: &[&'static str]| (0..keys.len()).map(|index| pair_of(keys[index], index)).collect::<Vec<_>>();
    for (index, measurement) in kinds.into_iter().enumerate() {
        recorder.record(&Texts::named(format!("all.keys.n{index}")), &[measurement], all(&KEYS));
        recorder.record(&Texts::named(format!("odd.keys.n{index}")), &[measurement], all(&ODD_KEYS));
        for key in ODD_KEYS {
            recorder.record(&Texts::named(format!("odd.key.n{index}")), &[measurement], vec![pair_of(key, 1)]);
        }
    }
    for value in VALUES {
        let attributes = vec![KeyValue::new("value", value)];
        recorder.record(&Texts::named("values"), &[Measurement::U64Counter(1)], attributes);
    }
    let long = vec![KeyValue::new("value", "\"\\\n🦀xyz".repeat(1_024))];
    recorder.record(&Texts::named("values"), &[Measurement::U64Counter(1)], long);
    // Two names that one escaping tells apart and another does not.
    recorder.record(&Texts::named("x.y"), &[Measurement::U64Counter(1)], Vec::new());
    recorder.record(&Texts::named("x_y"), &[Measurement::U64Counter(2)], Vec::new());

    let mut points = recorder.points;
    points.extend(of_registry(&registry));
    Hostile { telemetry, strategy, points }
}

/// Gauges of a merged registry: what the SDK does not let through.
fn of_registry(registry: &Registry) -> Vec<Point> {
    let name = "of_registry";
    let options = Opts::new(name, "Not \"numbers\"\n\\.");
    let gauges = GaugeVec::new(options, &["id"]).unwrap();
    registry.register(Box::new(gauges.clone())).unwrap();
    let point = |(index, value)| {
        let id = format!("r{index}");
        gauges.with_label_values(&[&id]).set(value);
        let recorded = Recorded::Number(value);
        Point { id, name: name.to_owned(), attributes: Vec::new(), recorded, is_exponential: false }
    };
    [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX].into_iter().enumerate().map(point).collect()
}

fn pair(keys: [&'static str; 15], key: usize, value: usize) -> KeyValue {
    pair_of(keys[key % keys.len()], value)
}

fn pair_of(key: &'static str, value: usize) -> KeyValue {
    KeyValue::new(key, VALUES[value % VALUES.len()])
}

/// Records with one meter and keeps what it recorded.
struct Recorder {
    meter: Meter,
    points: Vec<Point>,
}

impl Recorder {
    fn record(&mut self, texts: &Texts, measurements: &[Measurement], mut attributes: Vec<KeyValue>) {
        let id = format!("p{}", self.points.len());
        let is_exponential = texts.name.contains("exponential");
        attributes.push(KeyValue::new("id", id.clone()));
        if is_exponential {
            attributes.push(KeyValue::new("buckets", "exponential"));
        }
        measurements.iter().for_each(|measurement| measurement.record(&self.meter, texts, &attributes));
        let sum = measurements.iter().map(|measurement| measurement.number()).reduce(|a, b| a + b).unwrap();
        let recorded = if measurements[0].is_histogram() {
            let has_negative_bounds = texts.name.ends_with("negative.bounds");
            Recorded::Histogram { count: measurements.len() as f64, sum, has_negative_bounds }
        } else {
            Recorded::Number(sum)
        };
        let name = match texts.name.strip_prefix("renamed.") {
            Some("exponential") => EXPONENTIAL_NAME.to_owned(),
            Some(index) => NAMES[index.parse::<usize>().unwrap()].to_owned(),
            None => texts.name.clone(),
        };
        self.points.push(Point { id, name, attributes, recorded, is_exponential });
    }
}

/// Starts a pipeline of random settings with thirty random instruments. The same seed gives the same page.
pub(crate) fn random(seed: u64) -> Hostile {
    let mut random = Random(seed);
    let strategies = [
        TranslationStrategy::UnderscoreEscapingWithSuffixes,
        TranslationStrategy::UnderscoreEscapingWithoutSuffixes,
        TranslationStrategy::NoUtf8EscapingWithSuffixes,
        TranslationStrategy::NoTranslation,
    ];
    let strategy = *random.pick(&strategies);
    let mut builder = Telemetry::builder(random.text(4))
        .without_self_metrics()
        .with_address("127.0.0.1:0")
        .with_translation_strategy(strategy)
        .with_resource((0..random.below(4)).map(|_| random.attribute()).collect::<Vec<_>>());
    if random.below(2) == 0 {
        builder = builder.with_created_series();
    }
    if random.below(4) == 0 {
        builder = builder.without_scope_info();
    }
    if random.below(4) == 0 {
        builder = builder.without_target_info();
    }
    if random.below(4) == 0 {
        builder = builder.with_namespace(random.text(2));
    }
    if random.below(4) == 0 {
        builder = builder.with_resource_labels(["*"], [random.text(1)]);
    }
    let names: Vec<String> = (0..30).map(|_| random.instrument_name()).collect();
    for name in &names {
        let view = View::of(name.clone());
        builder = match random.below(6) {
            // A letter, of which every strategy can make a name.
            0 | 1 => builder.with_view(view.with_name(random.text(5) + "x")),
            2 => builder.with_view(view.with_exponential_buckets(2 + random.below(200) as u32)),
            3 => builder.with_view(view.with_buckets([-1.5, 0.0, 1.0, 1e21])),
            _ => builder,
        };
    }
    let telemetry = builder.start().unwrap();

    for name in names {
        let scope = InstrumentationScope::builder(random.text(3))
            .with_version(random.text(1))
            .with_attributes((0..random.below(3)).map(|_| random.attribute()).collect::<Vec<_>>())
            .build();
        let meter = telemetry.meter_provider().meter_with_scope(scope);
        let texts = Texts { name, unit: (*random.pick(&UNITS)).to_owned(), description: random.text(6) };
        let kind = random.below(9);
        for _ in 0..1 + random.below(4) {
            let attributes: Vec<KeyValue> = (0..random.below(6)).map(|_| random.attribute()).collect();
            for _ in 0..1 + random.below(3) {
                random.measurement(kind).record(&meter, &texts, &attributes);
            }
        }
    }
    Hostile { telemetry, strategy, points: Vec::new() }
}

const UNITS: [&str; 18] = [
    "",
    "1",
    "s",
    "ms",
    "By",
    "{request}",
    "%",
    "m/s",
    "1/s",
    "kBy/s",
    "{a}{b}",
    "\"",
    "a b\\",
    "a\nb",
    "_",
    "total",
    "{",
    "}/",
];

/// What random texts are made of.
const FRAGMENTS: [&str; 40] = [
    "a",
    "B",
    "x",
    "9",
    "_",
    "__",
    ".",
    ":",
    "-",
    "/",
    " ",
    "  ",
    "\"",
    "\\",
    "\\n",
    "\\\"",
    "\n",
    "\r",
    "\t",
    "\u{0}",
    "{",
    "}",
    "=",
    ",",
    "#",
    "# EOF",
    "# TYPE x counter",
    "é",
    "漢",
    "🦀",
    "e\u{301}",
    "\u{2028}",
    "\u{85}",
    "\u{feff}",
    "_total",
    "_bucket",
    "_count",
    "le",
    "U__",
    "_seconds",
];

/// What random instruments are named of, few enough for names to meet.
const NAME_FRAGMENTS: [&str; 18] = [
    "a", "b", "A", "9", ".", "_", "-", "/", "__", "_total", ".count", "_sum", "_bucket", "_created", "_info",
    "_seconds", "target", "total",
];

/// Steele, Lea and Flood's SplitMix64: a few lines, and every seed is a good one.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn text(&mut self, fragments: usize) -> String {
        (0..self.below(fragments + 1)).map(|_| *self.pick(&FRAGMENTS)).collect()
    }

    fn instrument_name(&mut self) -> String {
        let rest: String = (0..self.below(4)).map(|_| *self.pick(&NAME_FRAGMENTS)).collect();
        format!("{}{rest}", self.pick(&["a", "b", "target", "total", "x"]))
    }

    fn attribute(&mut self) -> KeyValue {
        let key = match self.below(4) {
            0 => (*self.pick(&ODD_KEYS)).to_owned(),
            1 => (*self.pick(&KEYS)).to_owned(),
            _ => self.text(4),
        };
        let value = match self.below(8) {
            0 => Value::Bool(true),
            1 => Value::I64(self.next() as i64),
            2 => Value::F64(f64::from_bits(self.next())),
            3 => Value::Array(Array::String(vec![self.text(3).into(), self.text(3).into()])),
            _ => self.text(6).into(),
        };
        KeyValue::new(key, value)
    }

    fn measurement(&mut self, kind: usize) -> Measurement {
        // Any bits: subnormals, infinities and what is not a number, most of which the SDK refuses.
        let float = f64::from_bits(self.next());
        let small = self.below(1_000) as f64 / 7.0 - 20.0;
        let float = if self.below(2) == 0 { float } else { small };
        match kind {
            0 => Measurement::U64Counter(self.next()),
            1 => Measurement::F64Counter(float.abs()),
            2 => Measurement::I64UpDownCounter(self.next() as i64),
            3 => Measurement::F64UpDownCounter(float),
            4 => Measurement::U64Gauge(self.next()),
            5 => Measurement::I64Gauge(self.next() as i64),
            6 => Measurement::F64Gauge(float),
            // The SDK adds them up without a check: in a debug build an overflow panics where it is recorded.
            7 => Measurement::U64Histogram(self.next() >> 8),
            _ => Measurement::F64Histogram(float),
        }
    }
}
