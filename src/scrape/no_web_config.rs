//! What stands for web configuration files in a program without the feature: there are none.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::error::{ConfigError, Origin};

use super::rate_limit::RateLimiter;

#[derive(Debug)]
pub(crate) enum WebConfig {}

impl WebConfig {
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let path = path.display();
        let problem = format!(
            "cannot read {path}, this program has no web configuration: add the feature `web-config` to barograph"
        );
        Err(ConfigError { origin: Origin::Default, path: String::new(), problem })
    }

    pub(super) async fn current(&self) -> Arc<Current> {
        match *self {}
    }

    pub(super) fn last_error(&self) -> Option<ConfigError> {
        match *self {}
    }

    pub(super) fn authenticates(&self) -> bool {
        match *self {}
    }

    pub(super) fn is_tls(&self) -> bool {
        match *self {}
    }
}

#[derive(Debug)]
pub(super) enum Current {}

impl Current {
    pub(super) fn tls(&self) -> Option<Acceptor> {
        match *self {}
    }

    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        match *self {}
    }

    pub(super) fn limiter(&self) -> Option<&RateLimiter> {
        match *self {}
    }

    pub(super) async fn authenticate(&self, _: &HeaderMap) -> Result<(), Unauthorized> {
        match *self {}
    }
}

pub(super) struct Acceptor(Infallible);

impl Acceptor {
    pub(super) fn none<T>(self) -> T {
        match self.0 {}
    }
}

#[expect(dead_code, reason = "nobody is asked")]
pub(super) enum Unauthorized {
    Denied { challenges: Vec<HeaderValue> },
    Busy,
}
