//! Attributes as types: closed sets of values, so that a label can neither be misspelt nor grow without bound.
//!
//! ```
//! use barograph::attribute;
//!
//! attribute! {
//!     /// How a job ended.
//!     pub enum JobStatus: "status" { Done = "done", Failed = "failed" }
//! }
//!
//! assert_eq!(JobStatus::Done.as_str(), "done");
//! ```
//!
//! What has no list (paths, ids, messages, text from users) belongs in a log line, not in an attribute.

use opentelemetry::KeyValue;

/// The most combinations of attribute values that one instrument may have.
///
/// A spec above it does not compile: every combination is a series that is kept, scraped and stored for as long as the
/// program runs.
pub const MAX_CARDINALITY: usize = 10_000;

/// One attribute as data: its key and every value it can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeInfo {
    /// The attribute's key, for example `status`.
    pub key: &'static str,
    /// The values, in the order of the enum's variants.
    pub values: &'static [&'static str],
}

/// A closed attribute: an enum whose variants are the values. Made by [`attribute!`](crate::attribute!).
pub trait Attribute: Copy + Send + Sync + 'static {
    /// The key and the values.
    const INFO: AttributeInfo;

    /// The position of this value in [`AttributeInfo::values`].
    fn index(self) -> usize;
}

/// An attribute that tells how something ended, with a value for "it did not": dropped, aborted, unwound.
///
/// [`attribute!`](crate::attribute!) implements it for an enum with an `unfinished =>` line.
pub trait Outcome: Attribute {
    /// What is recorded when a timer is dropped before anybody said how its work ended.
    const UNFINISHED: Self;

    /// What is recorded for a call of an [`Operation`](crate::Operation) that panicked: by default, that it did not
    /// finish.
    const PANICKED: Self = Self::UNFINISHED;
}

/// What an instrument's series are told apart by: nothing (`()`), one [`Attribute`], or a tuple of up to four.
pub trait AttributeSet: Copy + Send + Sync + 'static {
    /// The attributes, in the order of the tuple.
    const ATTRIBUTES: &'static [AttributeInfo];

    /// The number of combinations, and so of series.
    const CARDINALITY: usize = cardinality(Self::ATTRIBUTES);

    /// The position of this combination, less than [`CARDINALITY`](Self::CARDINALITY).
    fn index(self) -> usize;
}

impl AttributeSet for () {
    const ATTRIBUTES: &'static [AttributeInfo] = &[];

    fn index(self) -> usize {
        0
    }
}

impl<A: Attribute> AttributeSet for A {
    const ATTRIBUTES: &'static [AttributeInfo] = &[A::INFO];

    fn index(self) -> usize {
        Attribute::index(self)
    }
}

macro_rules! tuple_set {
    ($($type:ident $value:ident),+) => {
        impl<$($type: Attribute),+> AttributeSet for ($($type,)+) {
            const ATTRIBUTES: &'static [AttributeInfo] = &[$($type::INFO),+];

            fn index(self) -> usize {
                let ($($value,)+) = self;
                // The first attribute counts slowest, as in a nested loop over the tuple.
                let mut index = 0;
                $(index = index * $type::INFO.values.len() + Attribute::index($value);)+
                index
            }
        }
    };
}

tuple_set!(A a, B b);
tuple_set!(A a, B b, C c);
tuple_set!(A a, B b, C c, D d);

/// The attributes of combination `index`, as the OpenTelemetry API takes them: the inverse of [`AttributeSet::index`].
pub(crate) fn key_values(attributes: &[AttributeInfo], mut index: usize) -> Vec<KeyValue> {
    let mut pairs: Vec<KeyValue> = attributes
        .iter()
        .rev()
        .map(|attribute| {
            let value = attribute.values[index % attribute.values.len()];
            index /= attribute.values.len();
            KeyValue::new(attribute.key, value)
        })
        .collect();
    pairs.reverse();
    pairs
}

/// Every combination of the set, in the order of [`AttributeSet::index`].
pub(crate) fn combinations<A: AttributeSet>() -> impl Iterator<Item = Vec<KeyValue>> {
    (0..A::CARDINALITY).map(|index| key_values(A::ATTRIBUTES, index))
}

pub(crate) const fn cardinality(attributes: &[AttributeInfo]) -> usize {
    let mut product = 1;
    let mut i = 0;
    while i < attributes.len() {
        product *= attributes[i].values.len();
        i += 1;
    }
    product
}

/// Whether the texts are all different and none is empty. Used while compiling, by [`attribute!`](crate::attribute!)
/// for values and by the specs for keys.
#[doc(hidden)]
pub const fn all_distinct(texts: &[&str]) -> bool {
    let mut i = 0;
    while i < texts.len() {
        if texts[i].is_empty() {
            return false;
        }
        let mut j = i + 1;
        while j < texts.len() {
            if same(texts[i].as_bytes(), texts[j].as_bytes()) {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    true
}

/// Whether no key stands twice.
pub(crate) const fn keys_distinct(attributes: &[AttributeInfo]) -> bool {
    let mut i = 0;
    while i < attributes.len() {
        let mut j = i + 1;
        while j < attributes.len() {
            if same(attributes[i].key.as_bytes(), attributes[j].key.as_bytes()) {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    true
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Declares a closed attribute: its type, its key and its values.
///
/// ```
/// use barograph::attribute;
///
/// attribute! {
///     /// Which API was called.
///     pub enum Api: "api" { DeepSeek = "deepseek", Perplexity = "perplexity", Other = "other" }
///     unknown => Other
/// }
/// attribute! {
///     /// How a call ended.
///     pub enum CallOutcome: "outcome" { Success = "success", Error = "error", Cancelled = "cancelled" }
///     unfinished => Cancelled
/// }
///
/// // With `unknown`, any text becomes a value of the list.
/// assert_eq!(Api::from("perplexity"), Api::Perplexity);
/// assert_eq!(Api::from("a name nobody listed"), Api::Other);
/// assert_eq!(CallOutcome::from_value("success"), Some(CallOutcome::Success));
///
/// // What the OpenTelemetry API itself takes, for instruments that have open attributes too.
/// let pair = barograph::opentelemetry::KeyValue::from(Api::DeepSeek);
/// assert_eq!((pair.key.as_str(), pair.value.as_str().as_ref()), ("api", "deepseek"));
/// ```
///
/// - `unknown => Variant` implements `From<&str>`: what is not in the list becomes that variant.
/// - `unfinished => Variant` implements [`Outcome`]: a timer that is dropped unfinished records that variant. With
///   `panicked => Variant` after it, a call of an [`Operation`](crate::Operation) that panics is told apart.
///
/// Values are distinct and not empty, or the declaration does not compile:
///
/// ```compile_fail
/// barograph::attribute! { pub enum Twice: "status" { A = "same", B = "same" } }
/// ```
#[macro_export]
macro_rules! attribute {
    (
        $(#[$meta:meta])*
        $visibility:vis enum $name:ident : $key:literal {
            $($(#[$variant_meta:meta])* $variant:ident = $value:literal),+ $(,)?
        }
        $(unknown => $unknown:ident)?
        $(unfinished => $unfinished:ident $(panicked => $panicked:ident)?)?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility enum $name {
            $(#[doc = concat!("`", $value, "`")] $(#[$variant_meta])* $variant),+
        }

        const _: () = assert!(
            $crate::all_distinct(&[$($value),+]),
            "the values of an attribute are distinct and not empty"
        );

        impl $crate::Attribute for $name {
            const INFO: $crate::AttributeInfo = $crate::AttributeInfo { key: $key, values: &[$($value),+] };

            fn index(self) -> usize {
                self as usize
            }
        }

        #[allow(dead_code, reason = "not every program uses all of them")]
        impl $name {
            /// Every value, in the order of declaration.
            $visibility const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The value as it is recorded.
            #[must_use]
            $visibility const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }

            /// The variant of a recorded value, if the list has it.
            #[must_use]
            $visibility fn from_value(value: &str) -> Option<Self> {
                match value { $($value => Some(Self::$variant),)+ _ => None }
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl From<$name> for $crate::opentelemetry::KeyValue {
            fn from(value: $name) -> Self {
                Self::new($key, value.as_str())
            }
        }

        $(
            impl From<&str> for $name {
                fn from(value: &str) -> Self {
                    Self::from_value(value).unwrap_or(Self::$unknown)
                }
            }
        )?

        $(
            impl $crate::Outcome for $name {
                const UNFINISHED: Self = Self::$unfinished;
                $(const PANICKED: Self = Self::$panicked;)?
            }
        )?
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    attribute! {
        /// A colour.
        enum Colour: "colour" { Red = "red", Green = "green", Other = "other" }
        unknown => Other
    }
    attribute! {
        /// A size.
        enum Size: "size" { Small = "small", Large = "large" }
        unfinished => Small
    }

    #[test]
    fn every_combination_has_its_own_index_and_its_own_attributes() {
        let mut seen = Vec::new();
        for &colour in Colour::ALL {
            for &size in Size::ALL {
                let index = (colour, size).index();
                assert_eq!(
                    key_values(<(Colour, Size)>::ATTRIBUTES, index),
                    [KeyValue::new("colour", colour.as_str()), KeyValue::new("size", size.as_str())]
                );
                seen.push(index);
            }
        }
        assert_eq!(seen, (0..<(Colour, Size)>::CARDINALITY).collect::<Vec<_>>());
    }

    #[test]
    fn the_empty_set_is_one_series_without_attributes() {
        assert_eq!(<()>::CARDINALITY, 1);
        assert_eq!(combinations::<()>().collect::<Vec<_>>(), [vec![]]);
    }

    #[test]
    fn an_unknown_value_becomes_the_declared_variant() {
        assert_eq!(Colour::from("green"), Colour::Green);
        assert_eq!(Colour::from("GREEN"), Colour::Other);
        assert_eq!(Size::from_value("medium"), None);
        assert_eq!(Size::UNFINISHED, Size::Small);
    }

    #[test]
    fn repeated_and_empty_texts_are_noticed() {
        assert!(all_distinct(&["a", "b", "ab"]));
        assert!(!all_distinct(&["a", "b", "a"]));
        assert!(!all_distinct(&["a", ""]));
        assert!(!keys_distinct(&[Colour::INFO, Size::INFO, Colour::INFO]));
    }
}
