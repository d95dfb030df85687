//! PromQL made from specs: a name, an attribute or a value that no spec has is found when the dashboards are generated.

use barograph::{Descriptor, Kind};

/// What the variables of a dashboard let through. Series that were pushed may have neither label, and `.*` matches them.
pub(crate) const CHOSEN: &str = r#"job=~"$job", instance=~"$instance""#;

/// Series of one metric.
#[derive(Clone)]
pub(crate) struct Metric {
    pub(crate) spec: Descriptor,
    name: String,
    matchers: String,
}

impl Metric {
    pub(crate) fn new(spec: Descriptor) -> Self {
        let name = spec.scraped_name().unwrap_or_default();
        assert!(!name.is_empty(), "`{}` has a scraped name", spec.name);
        Self { spec, name, matchers: String::new() }
    }

    /// One of the pipeline's own.
    pub(crate) fn own(name: &str) -> Self {
        let own = barograph::SELF_METRICS.iter().find(|spec| spec.name == name);
        assert!(own.is_some(), "`{name}` is a metric of the pipeline's own");
        Self::new(own.copied().unwrap_or(barograph::SELF_METRICS[0]))
    }

    /// Those of one value.
    pub(crate) fn with(self, key: &str, value: &str) -> Self {
        self.matching(key, "=", value)
    }

    pub(crate) fn without(self, key: &str, value: &str) -> Self {
        self.matching(key, "!=", value)
    }

    fn matching(mut self, key: &str, operator: &str, value: &str) -> Self {
        let label = self.label(key);
        let closed = self.spec.attributes.iter().find(|attribute| attribute.key == key);
        assert!(closed.is_none_or(|info| info.values.contains(&value)), "`{}`: no `{value}`", self.spec.name);
        self.matchers += &format!("{label}{operator}\"{value}\", ");
        self
    }

    /// The label of an attribute.
    fn label(&self, key: &str) -> String {
        let spec = &self.spec;
        let is_known = spec.attributes.iter().any(|attribute| attribute.key == key)
            || spec.open_attributes.contains(&key)
            || matches!(key, "job" | "instance");
        assert!(is_known, "`{}` has no attribute `{key}`", spec.name);
        key.replace('.', "_")
    }

    fn labels(&self, keys: &[&str]) -> String {
        keys.iter().map(|key| self.label(key)).collect::<Vec<_>>().join(", ")
    }

    /// The chosen series.
    pub(crate) fn series(&self) -> String {
        self.named("")
    }

    fn named(&self, suffix: &str) -> String {
        format!("{}{suffix}{{{}{CHOSEN}}}", self.name, self.matchers)
    }

    /// The name alone.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How fast it grows, a second.
    pub(crate) fn rate(&self) -> String {
        self.is_counter();
        format!("rate({}[$__rate_interval])", self.series())
    }

    /// How fast it grows, added up by these attributes.
    pub(crate) fn rate_by(&self, keys: &[&str]) -> String {
        sum(&self.labels(keys), &self.rate())
    }

    /// By how much it grew in the time that the dashboard shows.
    pub(crate) fn increase_by(&self, keys: &[&str]) -> String {
        self.is_counter();
        sum(&self.labels(keys), &format!("increase({}[$__range])", self.series()))
    }

    fn is_counter(&self) {
        let is_counter = matches!(self.spec.kind, Kind::Counter | Kind::ObservableCounter);
        assert!(is_counter, "`{}` is no counter", self.spec.name);
    }

    /// How many values a histogram gets, a second, added up by these attributes. Native histograms have no such series.
    pub(crate) fn count_by(&self, keys: &[&str]) -> String {
        self.is_histogram();
        sum(&self.labels(keys), &format!("rate({}[$__rate_interval])", self.named("_count")))
    }

    /// How many it got in the time that the dashboard shows.
    pub(crate) fn counted_by(&self, keys: &[&str]) -> String {
        self.is_histogram();
        sum(&self.labels(keys), &format!("increase({}[$__range])", self.named("_count")))
    }

    /// What the values of a histogram add up to, a second.
    pub(crate) fn total_by(&self, keys: &[&str]) -> String {
        self.is_histogram();
        sum(&self.labels(keys), &format!("rate({}[$__rate_interval])", self.named("_sum")))
    }

    fn is_histogram(&self) {
        assert_eq!(self.spec.kind, Kind::Histogram, "`{}` is no histogram", self.spec.name);
    }

    /// A quantile of what was recorded lately; of classic histograms, and of native ones where there are no others.
    pub(crate) fn quantile(&self, quantile: f64, keys: &[&str]) -> String {
        self.is_histogram();
        let labels = self.labels(keys);
        let le = if labels.is_empty() { "le".to_owned() } else { format!("le, {labels}") };
        let classic = sum(&le, &format!("rate({}[$__rate_interval])", self.named("_bucket")));
        let native = sum(&labels, &format!("rate({}[$__rate_interval])", self.series()));
        format!("histogram_quantile({quantile}, {classic}) or histogram_quantile({quantile}, {native})")
    }

    /// How many values fell into which bucket: classic buckets, or a native histogram where there are none.
    pub(crate) fn heat(&self) -> String {
        self.is_histogram();
        let classic = sum("le", &format!("increase({}[$__rate_interval])", self.named("_bucket")));
        let native = sum("", &format!("increase({}[$__rate_interval])", self.series()));
        format!("{classic} or on () {native}")
    }
}

/// A sum by labels, which may be none.
pub(crate) fn sum(labels: &str, of: &str) -> String {
    if labels.is_empty() { format!("sum({of})") } else { format!("sum by ({labels}) ({of})") }
}

/// `part / whole`, and 1 where nothing happened; nothing only where there are no series.
pub(crate) fn share(part: &str, whole: &str) -> String {
    format!("({part}) / (({whole}) > 0) or ({whole}) * 0 + 1")
}
