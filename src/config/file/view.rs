//! `meter_provider.views`: what becomes of instruments on the way.

use super::fields::{Decoder, Field, Fields};
use crate::error::ConfigError;
use crate::spec::Kind;
use crate::view::{StreamAggregation, View};

const KINDS: &[(&str, Kind)] = &[
    ("counter", Kind::Counter),
    ("gauge", Kind::Gauge),
    ("histogram", Kind::Histogram),
    ("observable_counter", Kind::ObservableCounter),
    ("observable_gauge", Kind::ObservableGauge),
    ("observable_up_down_counter", Kind::ObservableUpDownCounter),
    ("up_down_counter", Kind::UpDownCounter),
];

/// The specification's buckets, where a view asks for explicit ones and does not say which.
const BOUNDARIES: &[f64] =
    &[0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0];

impl Decoder<'_> {
    pub(super) fn view(&mut self, item: &Field<'_>) -> Result<View, ConfigError> {
        let fields = self.fields(item, &["selector", "stream"])?;
        let selector = self.required(&fields, "selector", "a mapping")?;
        let view = self.selector(&selector)?;
        let stream = self.required(&fields, "stream", "a mapping")?;
        let view = self.stream(&stream, view)?;
        view.check().map_err(|error| self.error_at(item, error.to_string()))?;
        Ok(view)
    }

    fn selector(&mut self, field: &Field<'_>) -> Result<View, ConfigError> {
        let known = ["instrument_name", "instrument_type", "unit", "meter_name", "meter_version", "meter_schema_url"];
        let fields = self.fields(field, &known)?;
        let name = self.string(&fields, "instrument_name")?;
        let mut view = View::of(name.unwrap_or_else(|| "*".to_owned()));
        if let Some(kind) = self.choice(&fields, "instrument_type", KINDS)? {
            view = view.of_kind(kind);
        }
        if let Some(unit) = self.string(&fields, "unit")? {
            view = view.of_unit(unit);
        }
        if let Some(meter) = self.string(&fields, "meter_name")? {
            view = view.in_scope(meter);
        }
        if let Some(version) = self.string(&fields, "meter_version")? {
            view = view.in_scope_version(version);
        }
        if let Some(url) = self.string(&fields, "meter_schema_url")? {
            view = view.in_scope_schema_url(url);
        }
        Ok(view)
    }

    fn stream(&mut self, field: &Field<'_>, mut view: View) -> Result<View, ConfigError> {
        let known = ["name", "description", "aggregation", "aggregation_cardinality_limit", "attribute_keys"];
        let fields = self.fields(field, &known)?;
        if let Some(name) = self.string(&fields, "name")? {
            view = view.with_name(name);
        }
        if let Some(description) = self.string(&fields, "description")? {
            view = view.with_description(description);
        }
        if let Some(aggregation) = self.get(&fields, "aggregation") {
            view = match self.aggregation(&aggregation)? {
                Some(aggregation) => view.aggregated(aggregation),
                None => view.dropped(),
            };
        }
        if let Some(limit) = self.cardinality(&fields, "aggregation_cardinality_limit")? {
            view = view.with_cardinality_limit(limit.get());
        }
        if let Some(keys) = self.include_exclude(&fields, "attribute_keys")? {
            if let Some(included) = keys.included {
                view = view.with_attributes(included);
            }
            view = view.without_attributes(keys.excluded);
        }
        Ok(view)
    }

    /// `None` is to record nothing.
    fn aggregation(&mut self, field: &Field<'_>) -> Result<Option<StreamAggregation>, ConfigError> {
        let known =
            ["default", "drop", "explicit_bucket_histogram", "base2_exponential_bucket_histogram", "last_value", "sum"];
        self.fields(field, &known)?;
        let chosen = self.one_of(field, &known)?;
        Ok(Some(match chosen.key() {
            "explicit_bucket_histogram" => {
                let fields = self.fields_or_null(&chosen, &["boundaries", "record_min_max"])?;
                let bounds = self.boundaries(&fields)?;
                let record_min_max = self.boolean(&fields, "record_min_max")?.unwrap_or(true);
                StreamAggregation::Explicit { bounds, record_min_max }
            }
            "base2_exponential_bucket_histogram" => {
                let fields = self.fields_or_null(&chosen, &["max_scale", "max_size", "record_min_max"])?;
                let scale = "a scale from -10 to 20";
                let max_scale = self.integer(&fields, "max_scale", -10..=20, scale)?.unwrap_or(20);
                // More than the view's check allows is named by it.
                let size = "a number of buckets, at least 2";
                let max_buckets = self.integer(&fields, "max_size", 2..=i128::MAX, size)?.unwrap_or(160);
                let record_min_max = self.boolean(&fields, "record_min_max")?.unwrap_or(true);
                StreamAggregation::Exponential { max_buckets, max_scale, record_min_max }
            }
            kind => {
                self.fields_or_null(&chosen, &[])?;
                match kind {
                    "drop" => return Ok(None),
                    "last_value" => StreamAggregation::LastValue,
                    "sum" => StreamAggregation::Sum,
                    _ => StreamAggregation::Default,
                }
            }
        }))
    }

    fn boundaries(&mut self, fields: &Fields<'_>) -> Result<Vec<f64>, ConfigError> {
        let Some(field) = self.get(fields, "boundaries") else { return Ok(BOUNDARIES.to_vec()) };
        let items = self.items_or_none(&field, "a list of numbers")?;
        items.iter().map(|item| self.number(item)).collect()
    }
}
