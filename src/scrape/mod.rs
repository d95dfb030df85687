//! The endpoint that Prometheus asks: `/metrics`, health, and a page for people.
//!
//! A request waits on the endpoint's own reactor (or the caller's, where the service is mounted). One thread keeps the
//! deadlines of all requests and another one collects, so that no callback, however slow, stands between a request and
//! `/livez` or its deadline; each page is encoded on a thread of its own while it is read.

mod body;
mod compression;
mod connection;
mod debug;
pub(crate) mod gather;
mod landing;
mod listener;
#[cfg(feature = "page")]
mod live;
#[cfg(not(feature = "page"))]
#[path = "no_live.rs"]
mod live;
mod rate_limit;
mod readiness;
mod server;
mod service;
#[cfg(feature = "web-config")]
mod web_config;
#[cfg(not(feature = "web-config"))]
#[path = "no_web_config.rs"]
mod web_config;

pub use body::ScrapeBody;
pub(crate) use compression::Compression;
pub(crate) use debug::DebugPage;
pub(crate) use gather::{Collector, Gatherer, Request};
pub(crate) use listener::{Bound, bind};
pub(crate) use live::Live;
pub(crate) use readiness::Readiness;
pub use readiness::ReadinessLatch;
pub(crate) use server::{Offer, Server};
pub use service::ScrapeService;
pub(crate) use service::{Endpoint, ScrapeTimeouts};
pub(crate) use web_config::WebConfig;
