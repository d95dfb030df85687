//! Collects and encodes, on a thread of its own.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::{io, mem};

use bytes::Bytes;
use opentelemetry_sdk::metrics::ManualReader;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use tokio::sync::oneshot;

use crate::error::ScrapeError;
use crate::exporter::{MergedRegistry, PrometheusExporter};
use crate::exposition::TextEncoder;
use crate::guard::GuardedMeterProvider;
use crate::runtime;

/// Turns what the SDK has aggregated into a page.
pub(crate) struct Collector {
    reader: Arc<ManualReader>,
    exporter: PrometheusExporter,
    merged: Option<MergedRegistry>,
    provider: GuardedMeterProvider,
    has_collected: bool,
    /// Kept from scrape to scrape, so that the SDK fills the same lists again.
    data: ResourceMetrics,
    buffer: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    pub(crate) fn new(
        reader: Arc<ManualReader>,
        exporter: PrometheusExporter,
        merged: Option<MergedRegistry>,
        provider: GuardedMeterProvider,
    ) -> Self {
        let (data, buffer) = (ResourceMetrics::default(), Arc::default());
        Self { reader, exporter, merged, provider, has_collected: false, data, buffer }
    }

    fn page(&mut self) -> Result<Bytes, ScrapeError> {
        // By now the program has built what it builds at start, and who did not ask `verify` should know too.
        if !mem::replace(&mut self.has_collected, true) {
            self.provider.catalogue().log_unmatched_views();
        }
        self.reader.collect(&mut self.data).map_err(|error| ScrapeError::Collect { reason: error.to_string() })?;
        let merged = self.merged.as_ref().map(MergedRegistry::gather).unwrap_or_default();
        let mut page = mem::take(&mut *self.buffer.lock().unwrap_or_else(PoisonError::into_inner));
        page.clear();
        self.exporter.export(&self.data, &merged, &mut TextEncoder::new(&mut page));
        Ok(Bytes::from_owner(Page { page, buffer: Arc::clone(&self.buffer) }))
    }
}

/// A page on its way to a scraper. Its memory goes back to the collector: fresh pages would cost more to map than to
/// fill.
struct Page {
    page: Vec<u8>,
    buffer: Arc<Mutex<Vec<u8>>>,
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        *self.buffer.lock().unwrap_or_else(PoisonError::into_inner) = mem::take(&mut self.page);
    }
}

thread_local! {
    /// Whether this is the thread that answers.
    static IS_COLLECTING: Cell<bool> = const { Cell::new(false) };
}

type Reply = Box<dyn FnOnce(Result<Bytes, ScrapeError>) + Send>;

/// Asks the collecting thread for pages. Clones ask the same thread.
#[derive(Clone)]
pub(crate) struct Gatherer {
    requests: mpsc::Sender<Reply>,
    shut_down: Arc<AtomicBool>,
}

impl Gatherer {
    /// Starts the thread. It ends when the last clone is dropped.
    pub(crate) fn start(mut collector: Collector) -> io::Result<Self> {
        let (requests, queue) = mpsc::channel::<Reply>();
        let shut_down = Arc::new(AtomicBool::new(false));
        let is_shut_down = Arc::clone(&shut_down);
        runtime::spawn("barograph-collect", move || {
            IS_COLLECTING.set(true);
            while let Ok(request) = queue.recv() {
                // Requests that waited for the collection before this one are all answered by this one: it begins
                // after each of them was made.
                let mut requests = vec![request];
                requests.extend(queue.try_iter());
                let page = if is_shut_down.load(Ordering::Acquire) {
                    Err(ScrapeError::ShutDown)
                } else {
                    // Callbacks are guarded; this is for a panic in the SDK itself, which must not end the thread.
                    catch_unwind(AssertUnwindSafe(|| collector.page()))
                        .unwrap_or_else(|_| Err(ScrapeError::Collect { reason: "the SDK panicked".to_owned() }))
                };
                requests.into_iter().for_each(|reply| reply(page.clone()));
            }
        })?;
        Ok(Self { requests, shut_down })
    }

    /// The page as it is now. The caller's thread is not blocked.
    pub(crate) async fn page(&self) -> Result<Bytes, ScrapeError> {
        let (reply, page) = oneshot::channel();
        self.request(Box::new(move |result| {
            // The scraper may have gone away.
            let _ = reply.send(result);
        }))?;
        page.await.unwrap_or(Err(ScrapeError::ShutDown))
    }

    /// The page as it is now. The caller's thread waits.
    pub(crate) fn page_blocking(&self) -> Result<Bytes, ScrapeError> {
        let (reply, page) = mpsc::channel();
        self.request(Box::new(move |result| {
            let _ = reply.send(result);
        }))?;
        page.recv().unwrap_or(Err(ScrapeError::ShutDown))
    }

    fn request(&self, reply: Reply) -> Result<(), ScrapeError> {
        // A callback that asked for a scrape would wait for itself.
        if IS_COLLECTING.get() {
            return Err(ScrapeError::Collect { reason: "a callback cannot ask for a scrape".to_owned() });
        }
        self.requests.send(reply).map_err(|_| ScrapeError::ShutDown)
    }

    /// From now on every answer is [`ScrapeError::ShutDown`].
    pub(crate) fn shut_down(&self) {
        self.shut_down.store(true, Ordering::Release);
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Gatherer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gatherer").field("shut_down", &self.is_shut_down()).finish_non_exhaustive()
    }
}
