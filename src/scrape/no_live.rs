//! What stands for the live page in a program without the feature: there is none.

use std::sync::Arc;

use http::Response;

use crate::config::LivePage;
use crate::guard::{Scraped, Watch};

use super::body::ScrapeBody;
use super::compression::Compression;
use super::gather::Render;
use super::service::Endpoint;

/// Where its data would be.
pub(super) const PATH: &str = "/live";

#[derive(Debug)]
pub(crate) enum Live {}

impl Live {
    pub(crate) fn new(_: LivePage, _: Watch, _: Scraped) -> Option<Arc<Self>> {
        None
    }

    pub(super) fn is_for(&self, _: bool) -> bool {
        match *self {}
    }

    pub(super) async fn page(&self, _: Compression) -> Response<ScrapeBody> {
        match *self {}
    }

    pub(super) fn poll(&self, _: &Endpoint, _: &str) -> Box<dyn Render> {
        match *self {}
    }
}
