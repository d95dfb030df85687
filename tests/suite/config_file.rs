//! Configuration files: what is refused and with which words, and what the others come to.

#![cfg(feature = "config-file")]

use std::path::Path;

use barograph::ConfigError;
#[cfg(feature = "otlp")]
use barograph::Telemetry;
use barograph::config::MetricReader;
use barograph::config::{Configuration, PushMetricExporter};
use barograph::opentelemetry::{Array, Value};

/// A file of this text in a folder of its own, whose name is not part of what is compared.
fn read(text: &str) -> Result<Configuration, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("otel.yaml");
    std::fs::write(&path, text).unwrap();
    Configuration::from_file(&path)
}

/// The text without the folder that stands before each `otel.yaml`.
fn without_folder(text: &str) -> String {
    let mut out = String::new();
    let mut pieces = text.split("/otel.yaml").peekable();
    while let Some(piece) = pieces.next() {
        let end = if pieces.peek().is_some() { piece.rfind([' ', '(']).map_or(0, |at| at + 1) } else { piece.len() };
        out.push_str(&piece[..end]);
        if pieces.peek().is_some() {
            out.push_str("otel.yaml");
        }
    }
    out
}

fn error(text: &str) -> String {
    match read(text) {
        Ok(configuration) => panic!("accepted: {text}\n{:?}", configuration.config),
        Err(error) => without_folder(&error.to_string()),
    }
}

fn accepted(text: &str) -> Configuration {
    read(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn warnings(text: &str) -> Vec<String> {
    accepted(text).warnings.iter().map(|warning| without_folder(warning)).collect()
}

/// A file whose one exporter is this, indented by twelve.
fn exporter(text: &str) -> String {
    format!("file_format: '1.1'\nmeter_provider:\n  readers:\n    - periodic:\n        exporter:\n          {text}\n")
}

fn scraped(text: &str) -> String {
    format!(
        "file_format: '1.1'\nmeter_provider:\n  readers:\n    - pull:\n        exporter:\n          prometheus/development:\n            {text}\n"
    )
}

/// A file with these lines below `meter_provider`, beside a reader.
fn provider(text: &str) -> String {
    format!("file_format: '1.1'\nmeter_provider:\n  readers: [{{periodic: {{exporter: {{console: }}}}}}]\n{text}\n")
}

fn resource(text: &str) -> String {
    format!("file_format: '1.1'\nresource:\n{text}\n")
}

/// The settings whose path begins so, as `path: value (origin)`.
fn settings(configuration: &Configuration, prefix: &str) -> Vec<String> {
    let all = configuration.settings().into_iter().filter(|setting| setting.path.starts_with(prefix));
    all.map(|setting| without_folder(&setting.to_string())).collect()
}

#[test]
fn what_the_schema_does_not_allow_is_an_error_with_its_place() {
    const READERS: &str = "meter_provider.readers[0]";
    let rows = [
        // The version.
        ("disabled: true".to_owned(), "1:1: file_format: missing, expected the string \"1.0\" or \"1.1\"".to_owned()),
        ("file_format: 1.1".to_owned(), "1:14: file_format: a number with a fraction, expected the string \"1.0\" or \"1.1\", in quotes".to_owned()),
        ("file_format:".to_owned(), "1:1: file_format: null, expected the string \"1.0\" or \"1.1\", in quotes".to_owned()),
        ("file_format: '0.4'".to_owned(), "1:14: file_format: the version \"0.4\", expected \"1.0\" or \"1.1\"".to_owned()),
        ("file_format: '2.0'".to_owned(), "1:14: file_format: the version \"2.0\", expected \"1.0\" or \"1.1\"".to_owned()),
        ("file_format: '1'".to_owned(), "1:14: file_format: \"1\" is no version, expected \"1.0\" or \"1.1\"".to_owned()),
        ("- a".to_owned(), "1:1: a list, expected a mapping".to_owned()),
        // Types, null and missing.
        ("file_format: '1.1'\ndisabled: 'yes'".to_owned(), "2:11: disabled: a string, expected true or false".to_owned()),
        ("file_format: '1.1'\nmeter_provider:".to_owned(), "2:1: meter_provider: null, expected a mapping".to_owned()),
        ("file_format: '1.1'\nmeter_provider: {}".to_owned(), "2:17: meter_provider.readers: missing, expected a list of readers".to_owned()),
        ("file_format: '1.1'\nmeter_provider: {readers: }".to_owned(), "2:18: meter_provider.readers: null, expected a list of readers".to_owned()),
        ("file_format: '1.1'\nmeter_provider: {readers: []}".to_owned(), "2:27: meter_provider.readers: an empty list, expected a list of readers".to_owned()),
        ("file_format: '1.1'\nmeter_provider: {readers: [{}]}".to_owned(), format!("2:28: {READERS}: an empty mapping, expected one of periodic, pull")),
        ("file_format: '1.1'\nmeter_provider: {readers: [{periodic: }]}".to_owned(), format!("2:29: {READERS}.periodic: null, expected a mapping")),
        ("file_format: '1.1'\nmeter_provider: {readers: [{periodic: {}}]}".to_owned(), format!("2:39: {READERS}.periodic.exporter: missing, expected an exporter")),
        ("file_format: '1.1'\nmeter_provider: {readers: [{periodic: {exporter: {}}}]}".to_owned(), format!("2:50: {READERS}.periodic.exporter: an empty mapping, expected one of otlp_http, otlp_grpc, otlp_file/development, console")),
        ("file_format: '1.1'\nmeter_provider: {readers: [{periodic: {exporter: {otlp_http: , console: }}}]}".to_owned(), format!("2:50: {READERS}.periodic.exporter: several entries, expected one of otlp_http, otlp_grpc, otlp_file/development, console")),
        ("file_format: '1.1'\nmeter_provider: {readers: [{push: }]}".to_owned(), format!("2:29: {READERS}.push: unknown, expected periodic or pull")),
        // Exporters.
        (exporter("otlp: {}"), format!("6:11: {READERS}.periodic.exporter.otlp: unknown, expected otlp_http, otlp_grpc, otlp_file/development or console")),
        (exporter("otlp_htpp: {}"), format!("6:11: {READERS}.periodic.exporter.otlp_htpp: unknown, did you mean `otlp_http`?")),
        (exporter("otlp_file: {}"), format!("6:11: {READERS}.periodic.exporter.otlp_file: unknown, did you mean `otlp_file/development`?")),
        (exporter("console: stdout"), format!("6:20: {READERS}.periodic.exporter.console: a string, expected a mapping or null")),
        (exporter("otlp_http: {end-point: a}"), format!("6:23: {READERS}.periodic.exporter.otlp_http.end-point: unknown, did you mean `endpoint`?")),
        (exporter("otlp_http: {timeout: soon}"), format!("6:32: {READERS}.periodic.exporter.otlp_http.timeout: a string, expected a whole number of milliseconds, from 0 to those of a year")),
        (exporter("otlp_http: {timeout: 1.5}"), format!("6:32: {READERS}.periodic.exporter.otlp_http.timeout: a number with a fraction, expected a whole number of milliseconds, from 0 to those of a year")),
        (exporter("otlp_http: {timeout: -1}"), format!("6:32: {READERS}.periodic.exporter.otlp_http.timeout: -1, expected a whole number of milliseconds, from 0 to those of a year")),
        (exporter("otlp_http: {compression: brotli}"), format!("6:36: {READERS}.periodic.exporter.otlp_http.compression: \"brotli\", expected gzip, none or zstd")),
        (exporter("otlp_http: {encoding: }"), format!("6:23: {READERS}.periodic.exporter.otlp_http.encoding: null, expected protobuf or json")),
        (exporter("otlp_grpc: {encoding: json}"), format!("6:23: {READERS}.periodic.exporter.otlp_grpc.encoding: unknown, expected endpoint, tls, headers, headers_list, compression, max_request_size, max_response_size, timeout, temporality_preference or default_histogram_aggregation")),
        (exporter("otlp_http: {tls: {insecure: true}}"), format!("6:29: {READERS}.periodic.exporter.otlp_http.tls.insecure: unknown, expected ca_file, key_file or cert_file")),
        (exporter("otlp_http: {tls: {ca_file: ca.pem}}"), format!("6:38: {READERS}.periodic.exporter.otlp_http.tls.ca_file: a relative path, expected an absolute one")),
        (exporter("otlp_http: {max_response_size: 0}"), format!("6:42: {READERS}.periodic.exporter.otlp_http.max_response_size: 0, expected a number of bytes, at least 1")),
        (exporter("otlp_file/development: {output_stream: stderr}"), format!("6:50: {READERS}.periodic.exporter.otlp_file/development.output_stream: another stream, expected stdout or file:///an/absolute/path")),
        (exporter("console: {temporality_preference: lowmemory}"), format!("6:45: {READERS}.periodic.exporter.console.temporality_preference: \"lowmemory\", expected cumulative, delta or low_memory")),
        // The scrape endpoint.
        (scraped("port: 70000"), format!("7:19: {READERS}.pull.exporter.prometheus/development.port: 70000, expected a port from 0 to 65535")),
        (scraped("port: '9464'"), format!("7:19: {READERS}.pull.exporter.prometheus/development.port: a string, expected a port from 0 to 65535")),
        (scraped("translation_strategy: none"), format!("7:35: {READERS}.pull.exporter.prometheus/development.translation_strategy: \"none\", expected underscore_escaping_with_suffixes, underscore_escaping_without_suffixes/development, no_utf8_escaping_with_suffixes/development or no_translation/development")),
        (scraped("resource_constant_labels: {included: []}"), format!("7:50: {READERS}.pull.exporter.prometheus/development.resource_constant_labels.included: an empty list, expected a list of strings")),
        // Views.
        (provider("  views: [{stream: {}}]"), "4:11: meter_provider.views[0].selector: missing, expected a mapping".to_owned()),
        (provider("  views: [{selector: {}, stream: }]"), "4:26: meter_provider.views[0].stream: null, expected a mapping".to_owned()),
        (provider("  views: [{selector: {instrument_type: timer}, stream: {}}]"), "4:40: meter_provider.views[0].selector.instrument_type: \"timer\", expected counter, gauge, histogram, observable_counter, observable_gauge, observable_up_down_counter or up_down_counter".to_owned()),
        (provider("  views:\n    - selector: {instrument_name: a.*}\n      stream: {name: b}"), "5:7: meter_provider.views[0]: the view of `a.*` would give every instrument it selects the name `b`: rename one instrument at a time".to_owned()),
        (provider("  views: [{selector: {}, stream: {aggregation: }}]"), "4:35: meter_provider.views[0].stream.aggregation: null, expected a mapping".to_owned()),
        (provider("  views: [{selector: {}, stream: {aggregation: {drop: , sum: }}}]"), "4:48: meter_provider.views[0].stream.aggregation: several entries, expected one of default, drop, explicit_bucket_histogram, base2_exponential_bucket_histogram, last_value, sum".to_owned()),
        (provider("  views: [{selector: {}, stream: {aggregation: {sum: {a: 1}}}}]"), "4:55: meter_provider.views[0].stream.aggregation.sum.a: unknown, expected no settings here".to_owned()),
        (provider("  views: [{selector: {}, stream: {aggregation: {base2_exponential_bucket_histogram: {max_scale: 21}}}}]"), "4:97: meter_provider.views[0].stream.aggregation.base2_exponential_bucket_histogram.max_scale: 21, expected a scale from -10 to 20".to_owned()),
        (provider("  views: [{selector: {}, stream: {aggregation_cardinality_limit: 0}}]"), "4:66: meter_provider.views[0].stream.aggregation_cardinality_limit: 0, expected a number of series from 1 to 1000000".to_owned()),
        (provider("  exemplar_filter: never"), "4:20: meter_provider.exemplar_filter: \"never\", expected always_on, always_off or trace_based".to_owned()),
        (provider("  meter_configurator/development: {meters: [{name: a, config: {enabled: }}]}"), "4:64: meter_provider.meter_configurator/development.meters[0].config.enabled: null, expected true or false".to_owned()),
        // The resource.
        (resource("  attributes: {a: b}"), "3:15: resource.attributes: a mapping, expected a list of attributes".to_owned()),
        (resource("  attributes: [{name: a}]"), "3:16: resource.attributes[0].value: missing, expected a value, or null for none".to_owned()),
        (resource("  attributes: [{name: a, value: b, type: int}]"), "3:33: resource.attributes[0].value: a string, expected an integer of 64 bits".to_owned()),
        (resource("  attributes: [{name: a, value: [1, b]}]"), "3:33: resource.attributes[0].value: a list of different types, expected one type".to_owned()),
        (resource("  attributes: [{name: a, value: 1, type: integer}]"), "3:42: resource.attributes[0].type: \"integer\", expected string, bool, int, double, string_array, bool_array, int_array or double_array".to_owned()),
        (resource("  attributes_list: a"), "3:20: resource.attributes_list: `a`, expected key=value, percent-encoded, with commas between".to_owned()),
        (resource("  atributes: []"), "3:3: resource.atributes: unknown, did you mean `attributes`?".to_owned()),
        (resource("  detection/development: {detectors: [{host: {a: 1}}]}"), "3:47: resource.detection/development.detectors[0].host.a: unknown, expected no settings here".to_owned()),
        // The text itself.
        ("file_format: '1.1'\nfile_format: '1.1'".to_owned(), "2:1: `file_format` a second time, expected it once; the first is on line 1".to_owned()),
        ("file_format: '${BAROGRAPH_NOBODY_SETS_THIS}'".to_owned(), "1:14: file_format: \"\" is no version, expected \"1.0\" or \"1.1\"".to_owned()),
        (provider("  views: [{selector: {instrument_type: ${BAROGRAPH_NOBODY_SETS_THIS}}, stream: {}}]"), "4:41: `${` without quotes inside `[...]` or `{...}`, expected quotes around the value".to_owned()),
        (format!("file_format: '1.1'\nresource: {}", "[".repeat(10_000)), "2:266: lists and mappings too deep inside one another, expected at most 64 levels".to_owned()),
    ];
    let found = rows.iter().map(|(text, _)| error(text)).collect::<Vec<_>>();
    let wanted = rows.iter().map(|(_, expected)| format!("otel.yaml:{expected}")).collect::<Vec<_>>();
    let differing: Vec<_> = found.iter().zip(&wanted).filter(|(found, wanted)| found != wanted).collect();
    assert!(differing.is_empty(), "{differing:#?}");
}

#[test]
fn a_required_setting_whose_variable_is_not_set_is_null() {
    let text = "file_format: '1.1'\nmeter_provider:\n  readers: ${BAROGRAPH_NOBODY_SETS_THIS}\n";
    assert_eq!(error(text), "otel.yaml:3:3: meter_provider.readers: null, expected a list of readers");
}

#[test]
fn a_file_that_cannot_be_read_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("otel.yaml");
    let error = |path: &Path| Configuration::from_file(path).map(|_| ()).unwrap_err().to_string();
    let expected = "expected a YAML file of OpenTelemetry's configuration";
    assert_eq!(
        error(&missing),
        format!("cannot read {}: No such file or directory (os error 2), {expected}", missing.display())
    );
    let folder = folder.path();
    assert_eq!(error(folder), format!("cannot read {}: Is a directory (os error 21), {expected}", folder.display()));
}

#[test]
fn what_is_not_done_is_named_in_a_warning() {
    let signals = "file_format: '1.1'\ntracer_provider: {anything: goes}\npropagator:\nlog_level: info\nmeterprovider: 1\nx-company: 2\n";
    assert_eq!(
        warnings(signals),
        [
            "otel.yaml:2:18: tracer_provider: is ignored: Barograph is about metrics only",
            "otel.yaml:4:12: log_level: is ignored: Barograph is about metrics only",
            "otel.yaml:5:16: meterprovider: is ignored: did you mean `meter_provider`?",
            "otel.yaml:6:12: x-company: is ignored: the schema does not know it",
        ]
    );
    for (text, expected) in [
        ("file_format: '1.2'".to_owned(), "1:14: file_format: \"1.2\" is newer than \"1.1\", what it adds is not known here"),
        ("file_format: '1.0-rc.2'".to_owned(), "1:14: file_format: \"1.0-rc.2\" is a preliminary version, and is read as \"1.0\""),
        (
            resource("  detection/development: {detectors: [{cloud: }]}"),
            "3:40: resource.detection/development.detectors[0].cloud: is ignored: the detectors here are container, host, process, service",
        ),
        (
            "file_format: '1.1'\nmeter_provider: {readers: [{pull: {exporter: {prometheus/development: }, producers: [{opencensus: }]}}]}".to_owned(),
            "2:87: meter_provider.readers[0].pull.producers[0].opencensus: is ignored: OpenCensus is not supported, and deprecated in the schema",
        ),
        (
            "file_format: '1.1'\nmeter_provider: {readers: [{periodic: {interval: 0, exporter: {console: }}}]}".to_owned(),
            "2:50: meter_provider.readers[0].periodic.interval: 0 is no time between two exports: 60000 is used",
        ),
        (
            exporter("otlp_http: {endpoint: 'http://u:p@localhost:4318'}"),
            "6:33: meter_provider.readers[0].periodic.exporter.otlp_http.endpoint: has no path, so it is sent to `/`: `/v1/metrics` is usual",
        ),
    ] {
        assert_eq!(warnings(&text), [format!("otel.yaml:{expected}")], "{text}");
    }
    for quiet in [
        "file_format: '1.0'\ndisabled:\n".to_owned(),
        "file_format: '1.1'\nlogger_provider:\ndistribution:\n".to_owned(),
        provider("  exemplar_filter: trace_based"),
        exporter("otlp_http: {endpoint: 'http://localhost:4318/otlp'}"),
        exporter("otlp_grpc: {endpoint: 'http://localhost:4317'}"),
    ] {
        assert_eq!(warnings(&quiet), Vec::<String>::new(), "{quiet}");
    }
}

#[test]
fn every_setting_says_where_it_stands() {
    let text = "\
file_format: \"1.1\"
disabled: false
resource:
  schema_url: https://a/1
  attributes_list: a=b,c=d
  attributes:
    - name: c
      value: e
    - name: gone
      value:
  detection/development:
    attributes: {included: [host.*], excluded: [host.id]}
    detectors: [{host: }]
meter_provider:
  readers:
    - periodic:
        interval: 5000
        timeout: 0
        max_export_batch_size/development: 10
        exporter:
          otlp_grpc:
            endpoint: collector:4317
            tls: {ca_file: /ca.pem, insecure: true}
            headers_list: API-KEY=one,other=two
            headers:
              - {name: api-key, value: three}
              - {name: other, value: }
            compression: gzip
            timeout:
            max_request_size: 0
            temporality_preference: low_memory
        cardinality_limits: {default: 5, up_down_counter: 6}
    - pull:
        exporter:
          prometheus/development:
            port: 0
            scope_info_enabled: false
            translation_strategy: no_translation
  views:
    - selector: {}
      stream: {attribute_keys: {excluded: [a.*]}}
    - selector: {instrument_name: x, instrument_type: histogram, unit: s, meter_name: m, meter_version: '1', meter_schema_url: u}
      stream: {aggregation: {explicit_bucket_histogram: }}
    - selector: {instrument_name: y}
      stream: {aggregation: {drop: }}
  meter_configurator/development:
    default_config: {enabled: false}
    meters: [{name: m.*, config: {}}]
  exemplar_filter: always_off
";
    let configuration = accepted(text);
    let grpc = "meter_provider.readers[0].periodic.exporter.otlp_grpc";
    let pull = "meter_provider.readers[1].pull.exporter.prometheus/development";
    let expected = [
        "disabled: false (otel.yaml:2:11)".to_owned(),
        "resource.attributes.a: b (otel.yaml:5:20)".to_owned(),
        "resource.attributes.c: e (otel.yaml:7:7)".to_owned(),
        "resource.detection/development.detectors: host (otel.yaml:13:16)".to_owned(),
        "resource.detection/development.attributes.included: host.* (otel.yaml:12:28)".to_owned(),
        "resource.detection/development.attributes.excluded: host.id (otel.yaml:12:48)".to_owned(),
        "resource.schema_url: https://a/1 (otel.yaml:4:15)".to_owned(),
        "meter_provider.readers[0].periodic.interval: 5000 ms (otel.yaml:17:19)".to_owned(),
        "meter_provider.readers[0].periodic.timeout: no limit (otel.yaml:18:18)".to_owned(),
        "meter_provider.readers[0].periodic.max_export_batch_size/development: 10 (otel.yaml:19:44)".to_owned(),
        format!("{grpc}.endpoint: collector:4317 (otel.yaml:22:23)"),
        format!("{grpc}.tls.ca_file: /ca.pem (otel.yaml:23:28)"),
        format!("{grpc}.headers: other=***, api-key=*** (otel.yaml:26:15)"),
        format!("{grpc}.compression: gzip (otel.yaml:28:26)"),
        format!("{grpc}.timeout: 10000 ms (default)"),
        format!("{grpc}.max_request_size: no limit (otel.yaml:30:31)"),
        format!("{grpc}.max_response_size: 4194304 bytes (default)"),
        format!("{grpc}.tls.insecure: true (otel.yaml:23:47)"),
        format!("{grpc}.temporality_preference: low_memory (otel.yaml:31:37)"),
        format!("{grpc}.default_histogram_aggregation: explicit_bucket_histogram (default)"),
        "meter_provider.readers[0].periodic.cardinality_limits.default: 5 (otel.yaml:32:39)".to_owned(),
        "meter_provider.readers[0].periodic.cardinality_limits.up_down_counter: 6 (otel.yaml:32:59)".to_owned(),
        format!("{pull}.host: localhost (default)"),
        format!("{pull}.port: 0 (otel.yaml:36:19)"),
        format!("{pull}.scope_info_enabled: false (otel.yaml:37:33)"),
        format!("{pull}.target_info_enabled/development: true (default)"),
        format!("{pull}.translation_strategy: no_translation (otel.yaml:38:35)"),
        "meter_provider.views[0]: * → excluded=[a.*] (otel.yaml:40:7)".to_owned(),
        "meter_provider.views[1]: x instrument_type=histogram unit=s meter_name=m meter_version=1 meter_schema_url=u → explicit_bucket_histogram[0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0] (otel.yaml:42:7)".to_owned(),
        "meter_provider.views[2]: y → dropped (otel.yaml:44:7)".to_owned(),
        "meter_provider.exemplar_filter: always_off (otel.yaml:49:20)".to_owned(),
        "meter_provider.meter_configurator/development.default_config.enabled: false (otel.yaml:47:31)".to_owned(),
        "meter_provider.meter_configurator/development.meters[0]: m.* enabled: true (otel.yaml:48:14)".to_owned(),
    ];
    assert_eq!(settings(&configuration, ""), expected);
    assert_eq!(configuration.warnings, Vec::<String>::new());
    let shown = format!("{configuration:?}");
    assert!(!["one", "two", "three"].iter().any(|secret| shown.contains(&format!("\"{secret}\""))), "{shown}");
}

#[test]
fn null_is_the_default_where_the_schema_says_so() {
    for (text, path, expected) in [
        (exporter("otlp_http:"), ".otlp_http.endpoint", "http://localhost:4318/v1/metrics"),
        (
            exporter("otlp_http: {endpoint: , tls: , timeout: , max_request_size: }"),
            ".otlp_http.max_request_size",
            "67108864 bytes",
        ),
        (exporter("otlp_grpc:"), ".otlp_grpc.endpoint", "http://localhost:4317"),
        (exporter("otlp_grpc: {}"), ".otlp_grpc.max_request_size", "4194304 bytes"),
        (exporter("otlp_file/development:"), ".output_stream", "stdout"),
        (
            exporter("otlp_file/development: {output_stream: 'file:///var/log/a.jsonl'}"),
            ".output_stream",
            "file:///var/log/a.jsonl",
        ),
        (exporter("otlp_http: {timeout: 0}"), ".otlp_http.timeout", "no limit"),
        (exporter("otlp_http: {encoding: json}"), ".encoding", "json"),
        (
            exporter("console: {default_histogram_aggregation: base2_exponential_bucket_histogram}"),
            ".default_histogram_aggregation",
            "base2_exponential_bucket_histogram",
        ),
        (scraped("port:"), ".port", "9464"),
        (
            scraped("translation_strategy: no_utf8_escaping_with_suffixes/development"),
            ".translation_strategy",
            "no_utf8_escaping_with_suffixes",
        ),
        ("file_format: '1.1'".to_owned(), "meter_provider", "none: nothing is recorded"),
    ] {
        let settings = accepted(&text).settings();
        let setting = settings.iter().find(|setting| setting.path.ends_with(path)).unwrap();
        assert_eq!(setting.value, expected, "{text}");
    }
    assert!(accepted("file_format: '1.1'\ndisabled: true").config.disabled);
}

#[test]
fn attributes_have_the_type_that_is_said_or_seen() {
    for (text, expected) in [
        ("value: a", Value::from("a")),
        ("value: '1'", Value::from("1")),
        ("value: 1", Value::I64(1)),
        ("value: 1.5", Value::F64(1.5)),
        ("value: true", Value::Bool(true)),
        ("value: 1, type: double", Value::F64(1.0)),
        ("value: 2.0, type: int", Value::I64(2)),
        ("value: [a, b]", Value::Array(Array::String(vec!["a".into(), "b".into()]))),
        ("value: [1, 2.5]", Value::Array(Array::F64(vec![1.0, 2.5]))),
        ("value: [1, 2], type: double_array", Value::Array(Array::F64(vec![1.0, 2.0]))),
        ("value: [1, 2]", Value::Array(Array::I64(vec![1, 2]))),
        ("value: [true]", Value::Array(Array::Bool(vec![true]))),
    ] {
        let configuration = accepted(&resource(&format!("  attributes: [{{name: a, {text}}}]")));
        assert_eq!(configuration.config.resource.attributes[0].value, expected, "{text}");
    }
    assert!(accepted(&resource("  attributes: [{name: a, value: }]")).config.resource.attributes.is_empty());
}

#[test]
fn headers_of_the_list_give_way_and_are_never_shown() {
    let text = exporter("otlp_http: {headers_list: 'A=hunter1,b=hunter2', headers: [{name: a, value: hunter3}]}");
    let configuration = accepted(&text);
    let readers = &configuration.config.meter_provider.as_ref().unwrap().readers;
    let [MetricReader::Periodic(reader)] = &**readers else { panic!("{readers:?}") };
    let PushMetricExporter::OtlpHttp(otlp) = &reader.exporter else { panic!("{reader:?}") };
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(otlp.headers, [header("b", "hunter2"), header("a", "hunter3")]);
    let shown = format!("{configuration:?} {:?}", configuration.settings());
    assert!(!shown.contains("hunter"), "{shown}");

    for text in [
        "headers_list: hunter2",
        "headers_list: 'a=%FFhunter2'",
        "headers_list: {a: hunter2}",
        "headers: hunter2",
        "headers: [hunter2]",
        "headers: [{name: [hunter2], value: a}]",
        "headers: [{name: a, value: [hunter2]}]",
        "headers: [{name: a, value: 4711}]",
        "headers: {a: hunter2}",
        "headers: [{a: hunter2}]",
        "endpoint: [hunter2]",
    ] {
        let error = error(&exporter(&format!("otlp_http: {{{text}}}")));
        assert!(!error.contains("hunter2") && !error.contains("4711"), "{text}: {error}");
    }
}

#[test]
#[cfg(feature = "otlp")]
fn what_a_start_would_find_is_found_without_one() {
    let error = |text: &str| {
        let configuration = accepted(text);
        let checked = without_folder(&configuration.check().unwrap_err().to_string());
        let started = Telemetry::from_config(configuration).start().map(|_| ()).unwrap_err();
        assert_eq!(without_folder(&started.to_string()), checked);
        checked
    };
    assert_eq!(
        error(&exporter("otlp_http: {endpoint: 'ftp://localhost/v1/metrics'}")),
        "otel.yaml:6:33: meter_provider.readers[0].periodic.exporter.otlp_http.endpoint: `ftp://localhost/v1/metrics` begins with neither http:// nor https://: expected a URL like http://localhost:4318/v1/metrics"
    );
    assert_eq!(
        error(&exporter("otlp_file/development: {output_stream: 'file:///nowhere/at/all'}")),
        "otel.yaml:6:50: meter_provider.readers[0].periodic.exporter.otlp_file/development.output_stream: cannot append to /nowhere/at/all: entity not found"
    );
    let disabled = exporter("otlp_http: {endpoint: 'ftp://localhost'}").replace("'1.1'", "'1.1'\ndisabled: true");
    assert_eq!(accepted(&disabled).check(), Ok(()));
}

#[test]
#[cfg(feature = "otlp")]
fn the_example_is_a_file_that_starts() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/otel.yaml");
    let mut configuration = Configuration::from_file(path).unwrap();
    assert_eq!(configuration.warnings, Vec::<String>::new());
    configuration.check().unwrap();
    let provider = configuration.config.meter_provider.as_mut().unwrap();
    assert_eq!((provider.readers.len(), provider.views.len()), (2, 6));
    provider.readers.truncate(1);

    let telemetry = Telemetry::from_config(configuration).without_endpoint().start().unwrap();
    let watcher = barograph_instrumentation_test_watcher::TestWatcherMetrics::new(telemetry.meter_provider());
    watcher.record_file_processed();
    watcher.record_test_run(barograph_instrumentation_test_watcher::semconv::TestStatus::Pass);
    watcher.time_processing().stop();
    let page = telemetry.scrape().unwrap();
    for (part, is_there) in [
        ("\nlegacy_test_runs_total{", true),
        ("\nlegacy_files_total{", true),
        ("test_watcher_tests_run", false),
        ("test_watcher_debounce_duration", false),
        ("test_watcher_processing_duration_seconds_bucket{", true),
        ("le=\"120\"", true),
        ("deployment_environment_name=\"development\"", true),
        ("process_executable_path", false),
    ] {
        assert_eq!(page.contains(part), is_there, "{part}\n{page}");
    }
}
