//! All that is not the same where a program is pushed as where it is scraped, and how to make it the same again.

use std::collections::BTreeMap;

use super::points::BESIDE;
use crate::prometheus::Sample;
use crate::{Series, normal};

/// Where samples are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Scraped,
    Written,
    Victoria,
    Collector,
}

impl Place {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Scraped => "Prometheus that scrapes",
            Self::Written => "Prometheus by vmagent's remote write",
            Self::Victoria => "VictoriaMetrics by OTLP",
            Self::Collector => "OpenTelemetry Collector by OTLP",
        }
    }
}

/// What differs from the page, why, and what to do about it.
pub(super) struct Difference {
    pub(super) what: &'static str,
    pub(super) places: &'static [Place],
    pub(super) why: &'static str,
    pub(super) setting: &'static str,
    /// Makes samples of the place what they are on the page. Returns how often it had to.
    pub(super) undo: fn(&mut Vec<Sample>, &Run) -> usize,
}

/// All that is not the same, in the order in which it is undone.
pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        what: "`job` and `instance` on every series",
        places: &[Place::Scraped],
        why: "Prometheus says which target it scraped",
        setting: "`metric_relabel_configs` with `labeldrop`; a pushed series gets them by `-remoteWrite.label` of vmagent",
        undo: |samples, _| without_labels(samples, |label| matches!(label, "job" | "instance")),
    },
    Difference {
        what: "`up` and four `scrape_*` series more",
        places: &[Place::Scraped],
        why: "Prometheus says how the scrape went; nobody knows that of a push, for which there is `barograph_export_*`",
        setting: "none",
        undo: |samples, _| {
            let own = |sample: &Sample| name(sample) == "up" || name(sample).starts_with("scrape_");
            without(samples, own)
        },
    },
    Difference {
        what: "`le=\"1.0\"` where the page says `le=\"1\"`",
        places: &[Place::Scraped],
        why: "Prometheus 3 writes the bounds of scraped buckets as floats, and stores written ones as they are",
        setting: "none; `le=~\"1|1.0\"` finds both",
        undo: |samples, _| changed(samples, |labels| *labels = normal(labels.clone())),
    },
    Difference {
        what: "metadata under the names of families, counters without `_total` and `target` for `target_info`; units as words",
        places: &[Place::Scraped],
        why: "OpenMetrics, which Prometheus asks for first, writes it so",
        setting: "`scrape_protocols: [PrometheusText0.0.4]`",
        undo: |samples, _| {
            changed(samples, |labels| {
                let Some(family) = labels["__name__"].strip_prefix(METADATA).map(str::to_owned) else { return };
                labels.remove("unit");
                let suffix = match labels["type"].as_str() {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => return,
                };
                labels.insert("__name__".to_owned(), format!("{METADATA}{family}{suffix}"));
                if suffix == "_info" {
                    labels.insert("type".to_owned(), "gauge".to_owned());
                }
            })
        },
    },
    Difference {
        what: "no metadata: neither HELP nor TYPE",
        places: &[Place::Written],
        why: "Prometheus keeps those of its targets only",
        setting: "none",
        undo: |samples, run| added(samples, run.page.iter().filter(is_metadata)),
    },
    Difference {
        what: "series that an instant query still shows after the program's end",
        places: &[Place::Written],
        why: "a scrape that fails ends its series; that nobody pushes any more, nobody says",
        setting: "`--query.lookback-delta` of Prometheus, 5 minutes by default",
        undo: |_, run| run.outlived,
    },
    Difference {
        what: "names of OpenTelemetry, `test_watcher.tests_run` for `test_watcher_tests_run_total` and `error.type` for `error_type`",
        places: &[Place::Collector],
        why: "OTLP has names and units apart; who stores them for Prometheus translates them",
        setting: "`with_translation_strategy(NoTranslation)` has a Prometheus 3 scrape the names without suffixes and units",
        undo: |samples, run| changed(samples, |labels| translate(labels, &run.names)),
    },
    Difference {
        what: "buckets that count only what is in them",
        places: &[Place::Collector],
        why: "OTLP's buckets do not contain each other",
        setting: "none",
        undo: |samples, _| accumulate(samples),
    },
    Difference {
        what: "when each series began, and the least and greatest value of each histogram",
        places: &[Place::Collector],
        why: "the text formats have no place for them",
        setting: "`with_created_series` shows the beginnings in OpenMetrics, protobuf always has them; none for the rest",
        undo: |samples, _| without(samples, |sample| name(sample).starts_with(BESIDE)),
    },
    Difference {
        what: "units of UCUM in the metadata, `s`, `By`, `{call}`",
        places: &[Place::Victoria, Place::Collector],
        why: "OTLP has them so; Prometheus' formats have words, in the names",
        setting: "none",
        undo: |samples, _| without_labels(samples, |label| label == "unit"),
    },
    Difference {
        what: "`scope_name` and `scope_version` where the page says `otel_scope_name` and `otel_scope_version`",
        places: &[Place::Written, Place::Victoria, Place::Collector],
        why: "VictoriaMetrics has names of its own for them, and OTLP has none at all",
        setting: "`-opentelemetry.promoteScopeMetadata=false` and `without_scope_info` leave both out",
        undo: |samples, _| {
            changed(samples, |labels| {
                for part in ["name", "version"] {
                    if let Some(value) = labels.remove(&format!("scope_{part}")) {
                        labels.insert(format!("otel_scope_{part}"), value);
                    }
                }
            })
        },
    },
    Difference {
        what: "attributes of the resource as labels of every series, `service_name` and its like",
        places: &[Place::Written, Place::Victoria, Place::Collector],
        why: "OTLP says with every request whom it is about, and VictoriaMetrics has no other place for it",
        setting: "`-opentelemetry.promoteAllResourceAttributes=false`; `with_resource_labels([\"*\"], [\"\"; 0])` has a scrape show them as well",
        undo: |samples, run| {
            changed(samples, |labels| {
                labels.retain(|label, value| run.resource.get(label).is_none_or(|wanted| wanted != value));
            })
        },
    },
    Difference {
        what: "no `target_info`",
        places: &[Place::Written, Place::Victoria, Place::Collector],
        why: "it is the resource as a scrape shows it; VictoriaMetrics has the resource on every series instead",
        setting: "`without_target_info` leaves it out of a scrape",
        undo: |samples, run| {
            let is_target = |sample: &&Sample| name(sample).trim_start_matches(METADATA) == "target_info";
            added(samples, run.page.iter().filter(is_target))
        },
    },
    Difference {
        what: "values in their first 12 digits or more",
        places: &[Place::Victoria],
        why: "VictoriaMetrics stores decimal numbers",
        setting: "none",
        undo: |samples, run| {
            let exact: BTreeMap<&Series, f64> = run.page.iter().map(|sample| (&sample.labels, sample.value)).collect();
            let mut changes = 0;
            for sample in samples {
                if let Some(&exact) = exact.get(&sample.labels)
                    && exact != sample.value
                    && (exact - sample.value).abs() < 1e-11 * exact.abs()
                {
                    sample.value = exact;
                    changes += 1;
                }
            }
            changes
        },
    },
];

/// What is known of a run besides the samples of the places.
pub(super) struct Run {
    /// Every series of the last page, with its metadata.
    pub(super) page: Vec<Sample>,
    /// The labels that `target_info` has, and those of the Collector that mean the same.
    pub(super) resource: Series,
    /// Scraped names by OpenTelemetry's.
    pub(super) names: BTreeMap<String, String>,
    /// Series of the Prometheus by remote write that were there after those of its scrape had ended.
    pub(super) outlived: usize,
}

/// What is said about a metric stands among the samples, under its name behind this.
pub(super) const METADATA: &str = "# ";

pub(super) fn name(sample: &Sample) -> &str {
    &sample.labels["__name__"]
}

pub(crate) fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn is_metadata(sample: &&Sample) -> bool {
    name(sample).starts_with(METADATA)
}

/// Changes labels; returns how many series that changed.
fn changed(samples: &mut [Sample], mut change: impl FnMut(&mut Series)) -> usize {
    let mut changes = 0;
    for sample in samples {
        let before = sample.labels.clone();
        change(&mut sample.labels);
        changes += usize::from(sample.labels != before);
    }
    changes
}

fn without_labels(samples: &mut [Sample], is_one: fn(&str) -> bool) -> usize {
    changed(samples, |labels| labels.retain(|label, _| !is_one(label)))
}

fn without(samples: &mut Vec<Sample>, is_one: fn(&Sample) -> bool) -> usize {
    let before = samples.len();
    samples.retain(|sample| !is_one(sample));
    before - samples.len()
}

/// Adds what is not there.
fn added<'a>(samples: &mut Vec<Sample>, missing: impl Iterator<Item = &'a Sample>) -> usize {
    let before = samples.len();
    for sample in missing {
        if !samples.iter().any(|other| other.labels == sample.labels) {
            samples.push(sample.clone());
        }
    }
    samples.len() - before
}

fn translate(labels: &mut Series, names: &BTreeMap<String, String>) {
    *labels = std::mem::take(labels).into_iter().map(|(key, value)| (key.replace('.', "_"), value)).collect();
    let whole = labels["__name__"].clone();
    for prefix in [METADATA, BESIDE, ""] {
        let Some(rest) = whole.strip_prefix(prefix) else { continue };
        let found = names.get_key_value(rest).or_else(|| names.get_key_value(base(rest)));
        if let Some((otel, scraped)) = found {
            labels.insert("__name__".to_owned(), format!("{prefix}{scraped}{}", &rest[otel.len()..]));
            return;
        }
    }
}

/// Adds to each bucket those before it. The buckets of a point follow each other.
fn accumulate(samples: &mut [Sample]) -> usize {
    let mut changes = 0;
    let mut before: Option<(Series, f64)> = None;
    for sample in samples.iter_mut().filter(|sample| sample.labels.contains_key("le")) {
        let mut point = sample.labels.clone();
        point.remove("le");
        let sum = before.filter(|(of, _)| *of == point).map_or(0.0, |(_, sum)| sum) + sample.value;
        changes += usize::from(sum != sample.value);
        sample.value = sum;
        before = Some((point, sum));
    }
    changes
}
