//! A pipeline made of random parts, what is recorded into it, and what every page must then say. The properties and the
//! fuzz targets share it.
//!
#[path = "case/expected.rs"]
mod expected;

use barograph::opentelemetry::metrics::{Meter, MeterProvider};
use barograph::opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value as Attribute};
use barograph::{ScrapeService, Telemetry, TranslationStrategy, View};
use http_body_util::BodyExt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tower::ServiceExt;

pub(crate) use expected::{assert_order, is_own, own};

/// The label that tells points apart. Its name is the same whatever the strategy and the escaping.
const MARK: &str = "mark";

/// The names of escapings, as a scraper asks for them.
pub(crate) const ESCAPINGS: [&str; 4] = ["allow-utf-8", "underscores", "dots", "values"];

/// A pipeline and what is recorded into it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    strategy: TranslationStrategy,
    namespace: String,
    scope_info: bool,
    target_info: bool,
    created: bool,
    resource: Attributes,
    /// Whether the resource's attributes are labels of every point.
    resource_labels: bool,
    escaping: &'static str,
    scopes: Vec<Scope>,
    instruments: Vec<Instrument>,
}

#[derive(Clone, Debug)]
struct Scope {
    name: String,
    version: Option<String>,
    schema_url: Option<String>,
    attributes: Attributes,
}

#[derive(Clone, Debug)]
struct Instrument {
    scope: usize,
    name: String,
    /// Whether a view gives it its name: a view can give it any.
    is_viewed: bool,
    /// The size of an exponential histogram, which takes a view too.
    exponential: Option<u32>,
    unit: String,
    description: String,
    boundaries: Option<Vec<f64>>,
    kind: Kind,
    is_marked: bool,
    /// Attributes and what is recorded with them.
    points: Vec<(Attributes, Vec<Raw>)>,
}

/// Keys and values; a key can stand twice.
type Attributes = Vec<(String, Attribute)>;

/// A value in each of the number types; the instrument takes that of its own.
#[derive(Clone, Copy, Debug)]
struct Raw {
    unsigned: u64,
    signed: i64,
    float: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    U64Counter,
    F64Counter,
    I64UpDown,
    F64UpDown,
    U64Gauge,
    I64Gauge,
    F64Gauge,
    U64Histogram,
    F64Histogram,
    U64ObservableCounter,
    F64ObservableCounter,
    I64ObservableUpDown,
    F64ObservableUpDown,
    U64ObservableGauge,
    I64ObservableGauge,
    F64ObservableGauge,
}

const KINDS: [Kind; 16] = [
    Kind::U64Counter,
    Kind::F64Counter,
    Kind::I64UpDown,
    Kind::F64UpDown,
    Kind::U64Gauge,
    Kind::I64Gauge,
    Kind::F64Gauge,
    Kind::U64Histogram,
    Kind::F64Histogram,
    Kind::U64ObservableCounter,
    Kind::F64ObservableCounter,
    Kind::I64ObservableUpDown,
    Kind::F64ObservableUpDown,
    Kind::U64ObservableGauge,
    Kind::I64ObservableGauge,
    Kind::F64ObservableGauge,
];

impl Kind {
    fn is_histogram(self) -> bool {
        matches!(self, Self::U64Histogram | Self::F64Histogram)
    }
}

// What is drawn.

fn special(text: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    select(text.to_vec()).prop_map(str::to_owned)
}

/// Any text, and now and then a long one.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => ".{0,8}",
        6 => special(&["", "\"", "\\", "\n", "a\"b\\c\nd", "é", "字符", "😀", "a b", "{}", ",", "=", "#", "\u{2028}", "\r", "\0"]),
        1 => (300_usize..10_000, select(vec!["x", "ü", "\"", "\n", "."])).prop_map(|(length, text)| text.repeat(length)),
    ]
}

fn instrument_names() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-zA-Z]{1,2}([._/-]{1,2}[a-z0-9]{1,3}){0,2}",
        6 => special(&[
            "a", "a.b", "a_b", "a-b", "A.b", "a..b", "a.b_", "a_count", "a.sum", "a.bucket", "a.created", "a.total",
            "a_total", "a_total_total", "a.info", "a_seconds", "a.seconds.total", "seconds", "total", "le", "quantile",
            "target.info", "target_info", "z-_.-", "http//x", "ratio",
        ]),
        1 => special(&["", "1a", "_a", "a b", "é", "a:b", "a\n"]),
        1 => any_text(),
        1 => (250_usize..258).prop_map(|length| "n".repeat(length)),
    ]
}

fn units() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => special(&["", "1", "s", "By", "By/s", "{x}", "{a}/s", "%", "ms", "furlong", "m[H2O]", "total", "_", "/", "a\"\\\n"]),
        1 => special(&["µs", "sum", "bucket", "created", "info"]),
        1 => "[ -~]{0,70}",
    ]
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => special(&["a", "b", "a.b", "a_b", "a-b", "a..b", "a__b", "job", "instance"]),
        4 => special(&[
            "", "le", "quantile", "__name__", "_name_", ".-name--", "exported_le", "1a", "9", "key_1a", "a:b", "é",
            "ключ", "a b", "a\"b", "a\\b", "a\nb", "k{", "k}", "k=", ",", "otel_scope_name", "otel.scope.name",
        ]),
        1 => any_text().prop_filter("not the mark", |key| !key.contains(MARK)),
    ]
}

fn attribute_values() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        6 => any_text().prop_map(|text| Attribute::String(text.into())),
        // Few, so that points with different keys get the same labels.
        6 => special(&["x", "y", "", "1"]).prop_map(|text| Attribute::String(text.into())),
        1 => (0..2_i64).prop_map(Attribute::I64),
        1 => any::<i64>().prop_map(Attribute::I64),
        1 => any::<bool>().prop_map(Attribute::Bool),
        1 => prop::num::f64::NORMAL.prop_map(Attribute::F64),
        1 => vec(".{0,4}", 0..3).prop_map(|texts| {
            Attribute::Array(Array::String(texts.into_iter().map(StringValue::from).collect()))
        }),
        1 => vec(any::<i64>(), 0..3).prop_map(|numbers| Attribute::Array(Array::I64(numbers))),
    ]
}

fn attributes(most: usize) -> impl Strategy<Value = Attributes> {
    vec((keys(), attribute_values()), 0..=most)
}

fn raws() -> impl Strategy<Value = Raw> {
    let unsigned =
        prop_oneof![any::<u64>(), 0..10_u64, select(vec![u64::MAX, 1 << 53, (1 << 53) + 1, i64::MAX as u64])];
    let signed = prop_oneof![any::<i64>(), -9..10_i64, select(vec![i64::MIN, i64::MAX, (1 << 53) + 1, -(1 << 53) - 1])];
    let float = prop_oneof![
        4 => any::<f64>(),
        2 => prop::num::f64::SUBNORMAL | prop::num::f64::POSITIVE | prop::num::f64::NEGATIVE,
        4 => -100.0..100.0_f64,
        2 => (-100..100_i32).prop_map(|whole| f64::from(whole) / 4.0),
        4 => select(vec![
            0.0, -0.0, 1.0, -1.0, 0.1, 1e15, 1e16, 1e17, 1e21, 1e-5, 1e-7, 5e-324, -5e-324, 9_007_199_254_740_993.0,
            f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::EPSILON, f64::NAN, f64::INFINITY, f64::NEG_INFINITY,
        ]),
    ];
    (unsigned, signed, float).prop_map(|(unsigned, signed, float)| Raw { unsigned, signed, float })
}

fn boundaries() -> impl Strategy<Value = Option<Vec<f64>>> {
    let ascending = |mut bounds: Vec<f64>| {
        bounds.retain(|bound| bound.is_finite());
        bounds.sort_by(f64::total_cmp);
        bounds.dedup_by(|a, b| a == b);
        bounds
    };
    prop_oneof![
        3 => Just(None),
        4 => vec(raws().prop_map(|raw| raw.float), 0..8).prop_map(move |bounds| Some(ascending(bounds))),
        2 => Just(Some(vec![0.25, 0.5, 1.0, 10.0, 1e3, 1e18])),
        1 => vec(any::<f64>(), 0..4).prop_map(Some),
    ]
}

fn scopes() -> impl Strategy<Value = Scope> {
    let keys = special(&["team", "shop.id", "shop_id", "", "1", "é"]);
    (
        prop_oneof![special(&["m", "", "a;b"]), any_text()],
        prop::option::weighted(0.3, any_text()),
        prop::option::weighted(0.2, any_text()),
        vec((keys, attribute_values()), 0..3),
    )
        .prop_map(|(name, version, schema_url, attributes)| Scope { name, version, schema_url, attributes })
}

fn instruments() -> impl Strategy<Value = Instrument> {
    (
        (any::<prop::sample::Index>(), any::<bool>(), prop::option::weighted(0.3, 2..200_u32)),
        (prop_oneof![4 => instrument_names(), 1 => any_text()], units(), any_text(), boundaries()),
        (select(KINDS.to_vec()), prop::bool::weighted(0.75)),
        vec((attributes(4), vec(raws(), 1..5)), 0..5),
    )
        .prop_map(
            |(
                (scope, is_viewed, exponential),
                (name, unit, description, boundaries),
                (kind, is_marked),
                mut points,
            )| {
                let exponential = exponential.filter(|_| kind.is_histogram());
                if exponential.is_some() {
                    // The distance from a subnormal number to the largest ones is more than the SDK can count: it
                    // subtracts 32-bit numbers of buckets at scale 20.
                    let raws = points.iter_mut().flat_map(|(_, raws): &mut (_, Vec<Raw>)| raws);
                    for raw in raws.filter(|raw| raw.float.is_subnormal()) {
                        raw.float = f64::MIN_POSITIVE.copysign(raw.float);
                    }
                }
                Instrument {
                    scope: scope.index(1_000),
                    // A view's name has a letter or digit.
                    name: if is_viewed && !name.contains(|c: char| c.is_ascii_alphanumeric()) {
                        name + "x"
                    } else {
                        name
                    },
                    is_viewed,
                    exponential,
                    unit,
                    description,
                    boundaries,
                    kind,
                    is_marked,
                    points,
                }
            },
        )
}

/// Any pipeline and anything recorded into it.
pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let strategies = select(vec![
        TranslationStrategy::UnderscoreEscapingWithSuffixes,
        TranslationStrategy::UnderscoreEscapingWithoutSuffixes,
        TranslationStrategy::NoUtf8EscapingWithSuffixes,
        TranslationStrategy::NoTranslation,
    ]);
    let namespaces = prop_oneof![
        3 => Just(String::new()),
        1 => special(&["shop", "my.shop", "4u", "__", "ü\"\\\n", "a:b"]),
    ];
    (
        (strategies, namespaces, select(ESCAPINGS.to_vec())),
        (any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.3)),
        attributes(3),
        vec(scopes(), 1..3),
        vec(instruments(), 1..=8),
    )
        .prop_map(|((strategy, namespace, escaping), flags, resource, scopes, instruments)| {
            let (scope_info, target_info, created, resource_labels) = flags;
            Case {
                strategy,
                namespace,
                scope_info,
                target_info,
                created,
                resource,
                resource_labels,
                escaping,
                scopes,
                instruments,
            }
        })
}

// What is run.

impl Instrument {
    fn scope<'c>(&self, case: &'c Case) -> &'c Scope {
        &case.scopes[self.scope % case.scopes.len()]
    }

    /// The name that it is built with.
    fn built_name(&self, index: usize) -> String {
        if self.is_viewed || self.exponential.is_some() { format!("viewed.{index}") } else { self.name.clone() }
    }

    /// Whether the pipeline refuses it: names and units by the OpenTelemetry specification, bounds that do not ascend.
    fn is_refused(&self, index: usize) -> bool {
        let name = self.built_name(index);
        let is_name = name.len() <= 255
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c));
        let is_unit = self.unit.len() <= 63 && self.unit.is_ascii();
        let ascends = self.boundaries().is_none_or(|bounds| {
            bounds.iter().all(|bound| bound.is_finite()) && bounds.windows(2).all(|pair| pair[0] < pair[1])
        });
        !(is_name && is_unit && ascends)
    }

    fn boundaries(&self) -> Option<&Vec<f64>> {
        self.boundaries.as_ref().filter(|_| self.kind.is_histogram())
    }

    /// The attributes of a point as they are recorded, with its mark.
    fn attributes(&self, index: usize, point: usize) -> Vec<KeyValue> {
        let mark = self.is_marked.then(|| (MARK.to_owned(), Attribute::String(format!("{index}.{point}").into())));
        let attributes = self.points[point].0.iter().cloned().chain(mark);
        attributes.map(|(key, value)| KeyValue::new(key, value)).collect()
    }

    fn record(&self, index: usize, meter: &Meter) {
        let name = self.built_name(index);
        let points: Vec<(Vec<KeyValue>, Vec<Raw>)> =
            (0..self.points.len()).map(|point| (self.attributes(index, point), self.points[point].1.clone())).collect();
        let builder = |unit: &String| (unit.clone(), self.description.clone());
        let (unit, description) = builder(&self.unit);
        let kind = self.kind;
        let unsigned = move |raw: &Raw| if kind.is_histogram() { raw.unsigned >> 8 } else { raw.unsigned };
        let signed = |raw: &Raw| raw.signed;
        let float = move |raw: &Raw| if kind == Kind::F64Counter { raw.float.abs() } else { raw.float };
        macro_rules! synchronous {
            ($build:ident, $record:ident, $number:ident) => {{
                let instrument = meter.$build(name).with_unit(unit).with_description(description).build();
                points.iter().for_each(|(attributes, raws)| {
                    raws.iter().for_each(|raw| instrument.$record($number(raw), attributes));
                });
            }};
        }
        macro_rules! histogram {
            ($build:ident, $number:ident) => {{
                let mut builder = meter.$build(name).with_unit(unit).with_description(description);
                builder.boundaries = self.boundaries.clone();
                let instrument = builder.build();
                points.iter().for_each(|(attributes, raws)| {
                    raws.iter().for_each(|raw| instrument.record($number(raw), attributes));
                });
            }};
        }
        macro_rules! observable {
            ($build:ident, $number:ident) => {{
                let builder = meter.$build(name).with_unit(unit).with_description(description);
                let _instrument = builder
                    .with_callback(move |observer| {
                        points.iter().for_each(|(attributes, raws)| {
                            raws.iter().for_each(|raw| observer.observe($number(raw), attributes));
                        });
                    })
                    .build();
            }};
        }
        match self.kind {
            Kind::U64Counter => synchronous!(u64_counter, add, unsigned),
            Kind::F64Counter => synchronous!(f64_counter, add, float),
            Kind::I64UpDown => synchronous!(i64_up_down_counter, add, signed),
            Kind::F64UpDown => synchronous!(f64_up_down_counter, add, float),
            Kind::U64Gauge => synchronous!(u64_gauge, record, unsigned),
            Kind::I64Gauge => synchronous!(i64_gauge, record, signed),
            Kind::F64Gauge => synchronous!(f64_gauge, record, float),
            Kind::U64Histogram => histogram!(u64_histogram, unsigned),
            Kind::F64Histogram => histogram!(f64_histogram, float),
            Kind::U64ObservableCounter => observable!(u64_observable_counter, unsigned),
            Kind::F64ObservableCounter => observable!(f64_observable_counter, float),
            Kind::I64ObservableUpDown => observable!(i64_observable_up_down_counter, signed),
            Kind::F64ObservableUpDown => observable!(f64_observable_up_down_counter, float),
            Kind::U64ObservableGauge => observable!(u64_observable_gauge, unsigned),
            Kind::I64ObservableGauge => observable!(i64_observable_gauge, signed),
            Kind::F64ObservableGauge => observable!(f64_observable_gauge, float),
        }
    }
}

impl Case {
    fn telemetry(&self) -> Telemetry {
        let resource = self.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let mut builder = Telemetry::builder("case")
            .without_endpoint()
            .with_translation_strategy(self.strategy)
            .with_namespace(self.namespace.clone())
            .with_resource(resource);
        if !self.scope_info {
            builder = builder.without_scope_info();
        }
        if !self.target_info {
            builder = builder.without_target_info();
        }
        if self.created {
            builder = builder.with_created_series();
        }
        if self.resource_labels {
            builder = builder.with_resource_labels(["*"], ["telemetry.sdk.*", "service.name"]);
        }
        for (index, instrument) in self.instruments.iter().enumerate() {
            let mut view = View::of(format!("viewed.{index}"));
            if instrument.is_viewed {
                view = view.with_name(instrument.name.clone());
            }
            if let Some(size) = instrument.exponential {
                view = view.with_exponential_buckets(size);
            }
            if instrument.is_viewed || instrument.exponential.is_some() {
                builder = builder.with_view(view);
            }
        }
        builder.start().unwrap()
    }

    /// Makes the pipeline and records everything.
    fn recorded(&self) -> Telemetry {
        let telemetry = self.telemetry();
        for (index, instrument) in self.instruments.iter().enumerate() {
            let scope = instrument.scope(self);
            let attributes = scope.attributes.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
            let mut builder = InstrumentationScope::builder(scope.name.clone()).with_attributes(attributes);
            if let Some(version) = &scope.version {
                builder = builder.with_version(version.clone());
            }
            if let Some(schema_url) = &scope.schema_url {
                builder = builder.with_schema_url(schema_url.clone());
            }
            instrument.record(index, &telemetry.meter_provider().meter_with_scope(builder.build()));
        }
        telemetry
    }
}

/// The media type of Prometheus' protobuf format.
pub(crate) const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// The body of an answer to a scraper that accepts this.
pub(crate) fn scrape(service: &ScrapeService, accept: &str) -> Vec<u8> {
    let request = http::Request::get("/metrics").header("accept", accept).body(()).unwrap();
    block_on(async {
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap().to_bytes().to_vec()
    })
}

/// Runs a future without a timer and without I/O.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
