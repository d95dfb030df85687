//! Everything a user can see, in one binary: pages as a scraper gets them, requests over TCP, errors as they are read.
//!
//! `BAROGRAPH_BLESS=1 cargo test --features testing --test suite` writes the golden files anew; read the difference before you commit it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod cardinality;
mod case;
#[cfg(any(feature = "otlp", feature = "web-config"))]
#[path = "../stack/otlp/certificates.rs"]
mod certificates;
mod components;
mod config_conformance;
mod config_file;
mod conformance;
#[cfg(feature = "otlp")]
mod contention;
mod debug;
mod differential;
mod door;
mod dto;
mod endpoint;
mod exemplars;
mod exposition;
mod formats;
mod gather;
mod guard;
mod guide;
#[cfg(feature = "web-config")]
mod h2_floods;
mod hostile;
mod instruments;
#[cfg(feature = "page")]
mod live;
mod migrating;
mod operation;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "otlp")]
mod otlp_encoding;
mod parser;
mod pipeline;
mod properties;
#[cfg(feature = "otlp")]
mod receiver;
mod support;
mod views;
