//! Collects on a thread of its own, and encodes each page on another.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::{io, mem};

use opentelemetry_sdk::metrics::ManualReader;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use prometheus::proto::MetricFamily;
use tokio::sync::oneshot;

use crate::error::ScrapeError;
use crate::exporter::{Asked, MergedRegistry, PrometheusExporter};
use crate::exposition::Out;
use crate::guard::{GuardedMeterProvider, Watch};
use crate::runtime;

use super::body::{Buffers, Chunks, Page, PageWriter, ScrapeBody, pipe};
use super::compression::{Compression, Gzip};

/// Collections that pages on their way hold at once. A Prometheus asks for one page at a time; the rest is room for people
/// and for a second Prometheus. Where there are more the pages of the oldest give way, so that scrapers that do not read
/// can keep neither the memory nor the others' places.
const MAX_COLLECTIONS: usize = 8;

/// Pages on their way at once, each of which is made by a thread of its own. The oldest gives way.
const MAX_PAGES: usize = 64;

/// Requests that wait while a collection runs. Who asks when there are so many is told to come again.
const MAX_WAITING: usize = 256;

/// Takes what the SDK has aggregated.
pub(crate) struct Collector {
    reader: Arc<ManualReader>,
    merged: Option<MergedRegistry>,
    provider: GuardedMeterProvider,
    watch: Watch,
    has_collected: bool,
    /// Lists of the collection before, which the SDK fills again.
    idle: Arc<Mutex<Option<ResourceMetrics>>>,
}

impl Collector {
    pub(crate) fn new(
        reader: Arc<ManualReader>,
        merged: Option<MergedRegistry>,
        provider: GuardedMeterProvider,
        watch: Watch,
    ) -> Self {
        Self { reader, merged, provider, watch, has_collected: false, idle: Arc::default() }
    }

    fn collect(&mut self) -> Result<Arc<Collected>, ScrapeError> {
        // By now the program has built what it builds at start, and who did not ask `verify` should know too.
        if !mem::replace(&mut self.has_collected, true) {
            self.provider.catalogue().log_unmatched_views();
        }
        let data = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let mut collected = Collected { data, merged: Vec::new(), idle: Arc::clone(&self.idle) };
        let failed = |reason| ScrapeError::Collect { reason };
        self.reader.collect(&mut collected.data).map_err(|error| failed(error.to_string()))?;
        collected.merged = self.merged.as_ref().map(MergedRegistry::gather).unwrap_or_default();
        self.watch.look(&collected.data, Some(&collected.merged));
        Ok(Arc::new(collected))
    }
}

/// One collection, for all the pages that are made of it.
struct Collected {
    data: ResourceMetrics,
    merged: Vec<MetricFamily>,
    idle: Arc<Mutex<Option<ResourceMetrics>>>,
}

impl Drop for Collected {
    fn drop(&mut self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(mem::take(&mut self.data));
    }
}

thread_local! {
    /// Whether this is the thread that collects.
    static IS_COLLECTING: Cell<bool> = const { Cell::new(false) };
}

/// One page that somebody wants.
pub(crate) struct Request {
    pub(crate) asked: Asked,
    pub(crate) compression: Compression,
}

/// Who waits for a page.
enum Reply {
    Task(oneshot::Sender<Result<Chunks, ScrapeError>>),
    Thread(mpsc::Sender<Result<Chunks, ScrapeError>>),
}

impl Reply {
    /// Whether nobody waits any more.
    fn is_closed(&self) -> bool {
        matches!(self, Self::Task(reply) if reply.is_closed())
    }

    fn send(self, chunks: Result<Chunks, ScrapeError>) {
        // The scraper may have gone away.
        match self {
            Self::Task(reply) => drop(reply.send(chunks)),
            Self::Thread(reply) => drop(reply.send(chunks)),
        }
    }
}

/// Asks the collecting thread for pages. Clones ask the same thread.
#[derive(Clone)]
pub(crate) struct Gatherer {
    /// `None` where there is nothing to be scraped.
    requests: Option<mpsc::SyncSender<(Request, Reply)>>,
    shut_down: Arc<AtomicBool>,
}

impl Gatherer {
    /// Starts the thread. It ends when the last clone is dropped.
    pub(crate) fn start(mut collector: Collector, exporter: PrometheusExporter) -> io::Result<Self> {
        let (requests, queue) = mpsc::sync_channel::<(Request, Reply)>(MAX_WAITING);
        let shut_down = Arc::new(AtomicBool::new(false));
        let is_shut_down = Arc::clone(&shut_down);
        runtime::spawn("barograph-collect", move || {
            IS_COLLECTING.set(true);
            let mut pages =
                Pages { exporter: Arc::new(exporter), buffers: Buffers::default(), under_way: VecDeque::new() };
            while let Ok(request) = queue.recv() {
                // Requests that waited for the collection before this one are all answered by this one: it begins
                // after each of them was made.
                let requests = std::iter::once(request).chain(queue.try_iter());
                let requests: Vec<_> = requests.filter(|(_, reply)| !reply.is_closed()).collect();
                if requests.is_empty() {
                    continue;
                }
                let collected = if is_shut_down.load(Ordering::Acquire) {
                    Err(ScrapeError::ShutDown)
                } else {
                    // Callbacks are guarded; this is for a panic in the SDK itself, which must not end the thread.
                    catch_unwind(AssertUnwindSafe(|| collector.collect()))
                        .unwrap_or_else(|_| Err(ScrapeError::Collect { reason: "the SDK panicked".to_owned() }))
                };
                for (request, reply) in requests.into_iter().filter(|(_, reply)| !reply.is_closed()) {
                    reply.send(collected.clone().and_then(|collected| pages.send(request, collected)));
                }
            }
        })?;
        Ok(Self { requests: Some(requests), shut_down })
    }

    /// Answers that there is nothing to be scraped.
    pub(crate) fn absent() -> Self {
        Self { requests: None, shut_down: Arc::default() }
    }

    /// The page as it is now. The caller's thread is not blocked.
    pub(crate) async fn page(&self, request: Request) -> Result<ScrapeBody, ScrapeError> {
        let (reply, page) = oneshot::channel();
        self.request(request, Reply::Task(reply))?;
        ScrapeBody::stream(page.await.unwrap_or(Err(ScrapeError::ShutDown))?).await
    }

    /// The page as it is now. The caller's thread waits.
    pub(crate) fn page_blocking(&self, request: Request) -> Result<Vec<u8>, ScrapeError> {
        let (reply, page) = mpsc::channel();
        self.request(request, Reply::Thread(reply))?;
        page.recv().unwrap_or(Err(ScrapeError::ShutDown))?.read_to_end()
    }

    fn request(&self, request: Request, reply: Reply) -> Result<(), ScrapeError> {
        // A callback that asked for a scrape would wait for itself.
        if IS_COLLECTING.get() {
            return Err(ScrapeError::Collect { reason: "a callback cannot ask for a scrape".to_owned() });
        }
        let requests = self.requests.as_ref().ok_or(ScrapeError::NotServed)?;
        requests.try_send((request, reply)).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => ScrapeError::Busy { pages: MAX_WAITING },
            mpsc::TrySendError::Disconnected(_) => ScrapeError::ShutDown,
        })
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

/// Sends pages on their way, and keeps count of them.
struct Pages {
    exporter: Arc<PrometheusExporter>,
    buffers: Buffers,
    /// From the oldest to the newest, each with the collection that it is made of.
    under_way: VecDeque<(Page, Weak<Collected>)>,
}

impl Pages {
    /// Makes a page on a thread of its own: a scraper that reads slowly holds up nobody else.
    fn send(&mut self, request: Request, collected: Arc<Collected>) -> Result<Chunks, ScrapeError> {
        self.under_way.retain(|(page, _)| page.is_under_way());
        let collection = Arc::downgrade(&collected);
        while self.under_way.len() >= MAX_PAGES || self.collections_beside(&collection) >= MAX_COLLECTIONS {
            let Some((oldest, _)) = self.under_way.pop_front() else { break };
            oldest.give_up(ScrapeError::Busy { pages: self.under_way.len() + 1 });
        }
        let (writer, chunks) = pipe(&self.buffers);
        self.under_way.push_back((writer.page(), collection));
        let (exporter, buffers) = (Arc::clone(&self.exporter), self.buffers.clone());
        runtime::spawn("barograph-encode", move || {
            // A panic here is a bug of ours. The writer is dropped by it, and says that the page is broken.
            let _ = catch_unwind(AssertUnwindSafe(|| encode(&request, collected, &exporter, writer, &buffers)));
        })
        .map_err(|error| ScrapeError::Collect { reason: format!("a page needs a thread: {error}") })?;
        Ok(chunks)
    }

    /// How many collections other than this one are held.
    fn collections_beside(&self, collection: &Weak<Collected>) -> usize {
        let mut collections: Vec<_> = self.under_way.iter().map(|(_, collection)| collection.as_ptr()).collect();
        // Pages of one collection are sent one after the other.
        collections.dedup();
        collections.iter().filter(|other| **other != collection.as_ptr()).count()
    }
}

fn encode(
    request: &Request,
    collected: Arc<Collected>,
    exporter: &PrometheusExporter,
    mut writer: PageWriter,
    buffers: &Buffers,
) {
    let export = |hand_on: &mut dyn FnMut(&mut Vec<u8>) -> bool| {
        let mut out = Out::new(hand_on);
        out.buffer = buffers.take();
        exporter.export(&collected.data, &collected.merged, &request.asked, &mut out);
        buffers.give_back(mem::take(&mut out.buffer));
        !out.is_stopped()
    };
    let is_whole = match request.compression {
        Compression::None => export(&mut |bytes| writer.hand_on(bytes)),
        Compression::Gzip => {
            let mut gzip = Gzip::new(buffers.take());
            export(&mut |bytes| gzip.write(bytes, &mut writer)) && gzip.end(&mut writer)
        }
    };
    // Before the scraper has all of it: its next request finds the lists ready to be filled again.
    drop(collected);
    if is_whole {
        writer.end();
    }
}
