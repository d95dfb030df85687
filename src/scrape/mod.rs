//! The endpoint that Prometheus asks: `/metrics`, health, and a page for people.
//!
//! A request waits on the endpoint's own reactor (or the caller's, where the service is mounted). One thread only
//! collects, so that no callback, however slow, stands between a request and `/livez`; each page is encoded on a thread
//! of its own while it is read.

mod body;
mod compression;
mod gather;
mod landing;
mod server;
mod service;

pub use body::ScrapeBody;
pub(crate) use compression::Compression;
pub(crate) use gather::{Collector, Gatherer, Request};
pub(crate) use server::Server;
pub(crate) use service::Endpoint;
pub use service::ScrapeService;
