//! What a series is asked for by.

use std::fmt::Display;

use opentelemetry::KeyValue;

use crate::attribute::AttributeSet;
use crate::attribute::key_values;

/// Keys and values, as a scrape shows them.
pub(super) type Attributes = Vec<(String, String)>;

/// What [`TestMetric::with`](super::TestMetric::with) takes: a value of an [`attribute!`](crate::attribute!), a tuple of
/// them, `(key, value)`, a [`KeyValue`], or a list of the latter two.
pub trait IntoAttributes {
    /// Keys and values, as a scrape would show them.
    fn into_attributes(self) -> Vec<(String, String)>;
}

impl<A: AttributeSet> IntoAttributes for A {
    fn into_attributes(self) -> Vec<(String, String)> {
        key_values(A::ATTRIBUTES, self.index()).into_iter().map(pair).collect()
    }
}

impl<V: Display> IntoAttributes for (&str, V) {
    fn into_attributes(self) -> Vec<(String, String)> {
        vec![(self.0.to_owned(), self.1.to_string())]
    }
}

impl<V: Display + Copy> IntoAttributes for &[(&str, V)] {
    fn into_attributes(self) -> Vec<(String, String)> {
        self.iter().flat_map(|pair| pair.into_attributes()).collect()
    }
}

impl<V: Display, const N: usize> IntoAttributes for [(&str, V); N] {
    fn into_attributes(self) -> Vec<(String, String)> {
        self.into_iter().flat_map(IntoAttributes::into_attributes).collect()
    }
}

impl IntoAttributes for KeyValue {
    fn into_attributes(self) -> Vec<(String, String)> {
        vec![pair(self)]
    }
}

impl IntoAttributes for &[KeyValue] {
    fn into_attributes(self) -> Vec<(String, String)> {
        self.iter().cloned().map(pair).collect()
    }
}

impl<const N: usize> IntoAttributes for [KeyValue; N] {
    fn into_attributes(self) -> Vec<(String, String)> {
        self.into_iter().map(pair).collect()
    }
}

pub(super) fn pair(pair: KeyValue) -> (String, String) {
    (pair.key.to_string(), pair.value.as_str().into_owned())
}

/// A number that a test expects: every type that an instrument records, and what literals are.
pub trait Expected: Copy {
    /// As Prometheus keeps it.
    fn as_f64(self) -> f64;
}

macro_rules! expected {
    ($($number:ty),+) => {
        $(impl Expected for $number {
            fn as_f64(self) -> f64 {
                self as f64
            }
        })+
    };
}

expected!(f32, f64, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

/// Whether a value is the expected one: whole numbers are equal or they are not, others may differ by the rounding of
/// a sum.
pub(super) fn is_same(value: f64, expected: f64) -> bool {
    let is_whole = |number: f64| number.fract() == 0.0;
    let rounds = || (value - expected).abs() <= 1e-12 * value.abs().max(expected.abs());
    value == expected
        || (value.is_nan() && expected.is_nan())
        || (value.is_finite() && expected.is_finite() && !(is_whole(value) && is_whole(expected)) && rounds())
}
