//! What no scrape can be faster than, and what compressing costs elsewhere.

use std::hint::black_box;
use std::sync::{Arc, Weak};
use std::time::Duration;

use flate2::Crc;
use miniz_oxide::deflate::compress_to_vec;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};

use crate::ours::{Format, Scrape};
use crate::workload::Workload;

/// Makes no page: the SDK hands over its aggregates, into the same lists each time.
pub(super) fn collect(workload: &Workload) -> Scrape {
    let reader = SharedReader(Arc::new(ManualReader::builder().build()));
    let provider = super::opentelemetry::provider(workload, reader.clone());
    let mut data = ResourceMetrics::default();
    Box::new(move |_| {
        let _ = &provider;
        reader.collect(&mut data).expect("the pipeline runs");
        black_box(&data);
    })
}

pub(super) fn copy(workload: &Workload) -> Scrape {
    let page = page(workload);
    let mut copy = Vec::new();
    Box::new(move |sink| {
        copy.clear();
        copy.extend_from_slice(black_box(&page));
        sink(&copy);
    })
}

/// What a caller pays who does not keep the buffer: the system maps its pages anew, at least above the 32 MB that glibc
/// may keep.
pub(super) fn copy_to_fresh(workload: &Workload) -> Scrape {
    let page = page(workload);
    Box::new(move |sink| sink(&black_box(&page).clone()))
}

/// The bar for our own gzip, what flate2 does by default: the page is there already, only compressing is timed.
pub(super) fn gzip(workload: &Workload) -> Scrape {
    let page = page(workload);
    Box::new(move |sink| {
        let mut sum = Crc::new();
        sum.update(&page);
        sink(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
        sink(&compress_to_vec(&page, 6));
        sink(&sum.sum().to_le_bytes());
        sink(&sum.amount().to_le_bytes());
    })
}

/// Our page of text.
fn page(workload: &Workload) -> Vec<u8> {
    let mut page = Vec::new();
    super::barograph(workload, Format::TEXT)(&mut |piece| page.extend_from_slice(piece));
    page
}

/// The SDK owns its readers, and we collect from this one.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, data: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(data)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
