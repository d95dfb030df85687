//! The endpoint that Prometheus asks: `/metrics`, health, and a page for people.
//!
//! A request waits on the endpoint's own reactor (or the caller's, where the service is mounted), and the work is done
//! by one thread that only collects: no callback, however slow, stands between a request and `/livez`.

mod gather;
mod landing;
mod server;
mod service;

pub(crate) use gather::{Collector, Gatherer};
pub(crate) use server::Server;
pub(crate) use service::Endpoint;
pub use service::ScrapeService;
