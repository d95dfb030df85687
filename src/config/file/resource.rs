//! `resource`: who is measured.

use opentelemetry::{Array, KeyValue, StringValue};

use super::fields::{Decoder, Field, Fields, integer_of};
use super::yaml::{Value, shortened};
use crate::config::env::pairs;
use crate::config::{IncludeExclude, ResourceDetection, ResourceDetector};
use crate::error::ConfigError;

const DETECTORS: &[(&str, ResourceDetector)] = &[
    ("container", ResourceDetector::Container),
    ("host", ResourceDetector::Host),
    ("process", ResourceDetector::Process),
    ("service", ResourceDetector::Service),
];

/// The values of `type`.
#[derive(Clone, Copy, Debug)]
enum Type {
    One(Scalar),
    Several(Scalar),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scalar {
    String,
    Bool,
    Int,
    Double,
}

const TYPES: &[(&str, Type)] = &[
    ("string", Type::One(Scalar::String)),
    ("bool", Type::One(Scalar::Bool)),
    ("int", Type::One(Scalar::Int)),
    ("double", Type::One(Scalar::Double)),
    ("string_array", Type::Several(Scalar::String)),
    ("bool_array", Type::Several(Scalar::Bool)),
    ("int_array", Type::Several(Scalar::Int)),
    ("double_array", Type::Several(Scalar::Double)),
];

impl Scalar {
    fn expected(self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Bool => "true or false",
            Self::Int => "an integer of 64 bits",
            Self::Double => "a number",
        }
    }
}

impl Decoder<'_> {
    pub(super) fn resource(&mut self, field: &Field<'_>) -> Result<(), ConfigError> {
        let fields = self.fields(field, &["attributes", "detection/development", "schema_url", "attributes_list"])?;
        // First the list: what stands in `attributes` has priority.
        if let Some(list) = self.get(&fields, "attributes_list").filter(|list| !list.is_null()) {
            let text = self.text(&list, "a string")?;
            let no_pair = |pair: String| {
                let pair = shortened(&pair);
                self.error_at(&list, format!("`{pair}`, expected key=value, percent-encoded, with commas between"))
            };
            for (key, value) in pairs(&text).map_err(no_pair)? {
                self.attribute(&list, KeyValue::new(key, value));
            }
        }
        if let Some(attributes) = self.get(&fields, "attributes") {
            for item in self.items(&attributes, "a list of attributes")? {
                self.resource_attribute(&item)?;
            }
        }
        if let Some(detection) = self.get(&fields, "detection/development") {
            self.configuration.config.resource.detection = self.detection(&detection)?;
        }
        self.configuration.config.resource.schema_url = self.string(&fields, "schema_url")?;
        Ok(())
    }

    fn attribute(&mut self, place: &Field<'_>, attribute: KeyValue) {
        self.note(format!("resource.attributes.{}", attribute.key), place);
        self.configuration.config.resource.set(attribute);
    }

    fn resource_attribute(&mut self, item: &Field<'_>) -> Result<(), ConfigError> {
        let fields = self.fields(item, &["name", "value", "type"])?;
        let name = self.required_string(&fields, "name")?;
        let kind = self.choice(&fields, "type", TYPES)?;
        let value = self.required(&fields, "value", "a value, or null for none")?;
        // Null has no type, and is no attribute.
        if !value.is_null() {
            let value = match kind {
                Some(kind) => self.typed(&value, kind)?,
                None => {
                    let kind = self.inferred(&value)?;
                    self.typed(&value, kind)?
                }
            };
            self.attribute(item, KeyValue::new(name, value));
        }
        Ok(())
    }

    /// The type of a value that says none. The schema's words are that it is a string then; its rules allow the others,
    /// and there is but one type that each can have.
    fn inferred(&self, field: &Field<'_>) -> Result<Type, ConfigError> {
        let scalar = |value: &Value| match value {
            Value::String(_) => Some(Scalar::String),
            Value::Bool(_) => Some(Scalar::Bool),
            Value::Integer(_) => Some(Scalar::Int),
            Value::Float(_) => Some(Scalar::Double),
            _ => None,
        };
        let kind = match field.value() {
            Value::Sequence(nodes) => {
                let kinds: Option<Vec<_>> = nodes.iter().map(|node| scalar(&node.value)).collect();
                match kinds.as_deref() {
                    Some([first, rest @ ..]) if rest.iter().all(|other| other == first) => Some(Type::Several(*first)),
                    // Of integers and doubles together all are doubles.
                    Some([Scalar::Int | Scalar::Double, rest @ ..])
                        if rest.iter().all(|kind| matches!(kind, Scalar::Int | Scalar::Double)) =>
                    {
                        Some(Type::Several(Scalar::Double))
                    }
                    Some([]) => return Err(self.error_at(field, "an empty list, expected values")),
                    Some([..]) => return Err(self.error_at(field, "a list of different types, expected one type")),
                    None => None,
                }
            }
            value => scalar(value).map(Type::One),
        };
        kind.ok_or_else(|| self.wrong(field, "a string, a number, a boolean, or a list of one of them"))
    }

    fn typed(&mut self, field: &Field<'_>, kind: Type) -> Result<opentelemetry::Value, ConfigError> {
        let kind = match kind {
            Type::One(Scalar::String) => return Ok(self.string_value(field)?.into()),
            Type::One(Scalar::Bool) => return Ok(self.flag(field)?.into()),
            Type::One(Scalar::Int) => return Ok(self.int(field)?.into()),
            Type::One(Scalar::Double) => return Ok(self.number(field)?.into()),
            Type::Several(kind) => kind,
        };
        let items = self.items(field, &format!("a list, each item {}", kind.expected()))?;
        let items = items.iter();
        let array = match kind {
            Scalar::String => Array::String(items.map(|item| self.string_value(item)).collect::<Result<_, _>>()?),
            Scalar::Bool => Array::Bool(items.map(|item| self.flag(item)).collect::<Result<_, _>>()?),
            Scalar::Int => Array::I64(items.map(|item| self.int(item)).collect::<Result<_, _>>()?),
            Scalar::Double => Array::F64(items.map(|item| self.number(item)).collect::<Result<_, _>>()?),
        };
        Ok(opentelemetry::Value::Array(array))
    }

    fn string_value(&self, field: &Field<'_>) -> Result<StringValue, ConfigError> {
        self.text(field, Scalar::String.expected()).map(StringValue::from)
    }

    fn int(&self, field: &Field<'_>) -> Result<i64, ConfigError> {
        let number = integer_of(field.value()).and_then(|number| i64::try_from(number).ok());
        number.ok_or_else(|| self.wrong(field, Scalar::Int.expected()))
    }

    pub(super) fn number(&self, field: &Field<'_>) -> Result<f64, ConfigError> {
        match field.value() {
            #[expect(clippy::cast_precision_loss, reason = "a double was asked for")]
            Value::Integer(integer) => Ok(*integer as f64),
            Value::Float(float) => Ok(*float),
            _ => Err(self.wrong(field, Scalar::Double.expected())),
        }
    }

    fn detection(&mut self, field: &Field<'_>) -> Result<ResourceDetection, ConfigError> {
        let fields = self.fields(field, &["attributes", "detectors"])?;
        let attributes = self.include_exclude(&fields, "attributes")?.unwrap_or_default();
        let mut detectors = Vec::new();
        if let Some(list) = self.get(&fields, "detectors") {
            let names: Vec<_> = DETECTORS.iter().map(|(name, _)| *name).collect();
            for item in self.items(&list, "a list of detectors")? {
                let chosen = self.one_of(&item, &names)?;
                match DETECTORS.iter().find(|(name, _)| *name == chosen.key()) {
                    Some((_, detector)) => {
                        self.fields_or_null(&chosen, &[])?;
                        detectors.push(*detector);
                    }
                    None => self.warn(&chosen, format!("is ignored: the detectors here are {}", names.join(", "))),
                }
            }
        }
        Ok(ResourceDetection { attributes, detectors })
    }

    pub(super) fn include_exclude(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
    ) -> Result<Option<IncludeExclude>, ConfigError> {
        let Some(field) = self.get(fields, key) else { return Ok(None) };
        let fields = self.fields(&field, &["included", "excluded"])?;
        let included = self.strings(&fields, "included")?;
        let excluded = self.strings(&fields, "excluded")?.unwrap_or_default();
        Ok(Some(IncludeExclude { included, excluded }))
    }
}
