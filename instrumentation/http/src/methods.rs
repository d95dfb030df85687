//! Which methods are recorded under their names.

use crate::semconv::Method;

/// The methods that are recorded under their names: those of the semantic conventions, or the program's own list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KnownMethods(Option<&'static [&'static str]>);

impl KnownMethods {
    pub(crate) fn these(methods: &'static [&'static str]) -> Self {
        Self(Some(methods))
    }

    /// The name of the method, if it is known.
    pub(crate) fn known(self, method: &http::Method) -> &'static str {
        let method = method.as_str();
        match self.0 {
            None => Method::from(method).as_str(),
            Some(known) => known.iter().find(|known| **known == method).copied().unwrap_or(Method::Other.as_str()),
        }
    }
}
