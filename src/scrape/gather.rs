//! Collects on a thread of its own, and encodes each page on another, while a third one keeps the deadlines.
//!
//! The thread `barograph-gather` only ever waits for the next event or the next deadline: a request, a collection that is
//! done, a page that has ended, a scraper that has left. So every request is answered in time, whatever the thread that
//! collects is doing.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};
use std::{io, mem, thread};

use opentelemetry_sdk::metrics::ManualReader;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use prometheus::proto::MetricFamily;

use crate::error::ScrapeError;
use crate::exporter::{Asked, MergedRegistry, PrometheusExporter, Shown};
use crate::exposition::Out;
use crate::guard::{Callbacks, Exemplars, GuardedMeterProvider, Round, Watch, Work, is_in_round};
use crate::runtime;
use crate::self_metrics::ScrapeMetrics;

use super::body::{Buffers, Chunks, Page, PageWriter, ScrapeBody, pipe};
use super::compression::{Compression, Packer};

/// Collections that pages on their way hold at once, which bounds the memory. The next one waits until one is released.
const MAX_COLLECTIONS: usize = 8;

/// Events that are taken before the thread looks at the time again.
const MAX_EVENTS: usize = 1_000;

/// Takes what the SDK has aggregated.
pub(crate) struct Collector {
    reader: Arc<ManualReader>,
    merged: Option<Arc<MergedRegistry>>,
    provider: GuardedMeterProvider,
    watch: Watch,
    metrics: Arc<ScrapeMetrics>,
    has_collected: bool,
    /// Lists of the collection before, which the SDK fills again.
    idle: Arc<Mutex<Option<ResourceMetrics>>>,
}

impl Collector {
    pub(crate) fn new(
        reader: Arc<ManualReader>,
        merged: Option<Arc<MergedRegistry>>,
        provider: GuardedMeterProvider,
        watch: Watch,
        metrics: Arc<ScrapeMetrics>,
    ) -> Self {
        Self { reader, merged, provider, watch, metrics, has_collected: false, idle: Arc::default() }
    }

    fn collect(&mut self, round: &Arc<Round>, events: &mpsc::Sender<Event>) -> Result<Arc<Collected>, ScrapeError> {
        // By now the program has built what it builds at start, and who did not ask `verify` should know too.
        if !mem::replace(&mut self.has_collected, true) {
            self.provider.catalogue().log_unmatched_views();
        }
        let failed = |reason| ScrapeError::Collect { reason };
        let begun = Instant::now();
        let callbacks = self.provider.callbacks();
        callbacks.run(round, self.merged.clone().map(|merged| merged as Arc<dyn Work>));
        if round.is_unwanted() {
            return Err(failed("nobody waits for it any more".to_owned()));
        }
        let data = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let (idle, events) = (Arc::clone(&self.idle), events.clone());
        let (exemplars, merged) = (Exemplars::default(), Arc::default());
        let mut collected = Collected { data, exemplars, merged, took: Duration::ZERO, idle, events };
        let result = callbacks.show(round, false, || self.reader.collect(&mut collected.data));
        result.map_err(|error| failed(error.to_string()))?;
        let merged = self.merged.as_ref().and_then(|merged| merged.of_round(round.number()));
        collected.merged = merged.unwrap_or_default();
        collected.exemplars = self.watch.exemplars(&collected.data);
        collected.took = begun.elapsed();
        self.metrics.collected(collected.took);
        self.watch.look(&collected.data, Some(&collected.merged));
        Ok(Arc::new(collected))
    }
}

/// One collection, for all the pages that are made of it.
pub(crate) struct Collected {
    pub(crate) data: ResourceMetrics,
    exemplars: Exemplars,
    pub(super) merged: Arc<Vec<MetricFamily>>,
    /// How long it took.
    pub(super) took: Duration,
    idle: Arc<Mutex<Option<ResourceMetrics>>>,
    events: mpsc::Sender<Event>,
}

impl Collected {
    pub(super) fn shown(&self) -> Shown<'_> {
        Shown { data: &self.data, exemplars: &self.exemplars, merged: &self.merged }
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(mem::take(&mut self.data));
        // The next one may wait for this.
        let _ = self.events.send(Event::Changed);
    }
}

/// Makes a page of a collection.
pub(crate) trait Render: Send {
    fn render(&self, collected: &Collected, exporter: &PrometheusExporter, out: &mut Out<'_>);
}

/// What Prometheus asks for.
impl Render for Asked {
    fn render(&self, collected: &Collected, exporter: &PrometheusExporter, out: &mut Out<'_>) {
        exporter.export(collected.shown(), self, out);
    }
}

/// One page that somebody wants.
pub(crate) struct Request {
    pub(crate) wanted: Box<dyn Render>,
    pub(crate) compression: Compression,
    /// How long it may take until there is something of the page.
    pub(crate) timeout: Duration,
}

/// A request that waits for its collection.
struct Waiting {
    request: Request,
    writer: PageWriter,
    asked: Instant,
}

impl Waiting {
    fn until(&self) -> Instant {
        self.asked + self.request.timeout
    }

    fn is_wanted(&self) -> bool {
        self.writer.is_wanted()
    }

    fn fail(&self, error: ScrapeError) {
        self.writer.page().give_up(error);
    }
}

/// What the thread that keeps the deadlines is told.
enum Event {
    Asked(Box<Waiting>),
    Collected(Result<Arc<Collected>, ScrapeError>),
    /// A scraper has left, a page has ended, or a collection was released.
    Changed,
    ShutDown,
    /// Nobody can ask any more.
    End,
}

/// How many requests wait or are being answered.
struct InFlight {
    taken: AtomicUsize,
    events: mpsc::Sender<Event>,
}

impl InFlight {
    /// Only one thread takes places.
    fn take(self: &Arc<Self>, max: usize) -> Option<Place> {
        if self.taken.load(Ordering::Acquire) >= max {
            return None;
        }
        self.taken.fetch_add(1, Ordering::AcqRel);
        Some(Place(Arc::clone(self)))
    }
}

/// The place of one request. Dropped, it is free.
pub(super) struct Place(Arc<InFlight>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        let _ = self.0.events.send(Event::Changed);
    }
}

/// Who encodes. There are more turns than cores, so that no core waits for the next page, and far fewer than scrapes may be in
/// flight: more threads at once would only hold more memory (`cargo run --release -p barograph-benches -- load`).
struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
    events: mpsc::Sender<Event>,
}

impl Turns {
    fn new(events: mpsc::Sender<Event>) -> Arc<Self> {
        let turns = (2 * thread::available_parallelism().map_or(2, NonZeroUsize::get)).clamp(4, 16);
        Arc::new(Self { free: Mutex::new(turns), freed: Condvar::new(), events })
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>) -> Option<Turn> {
        let mut free = self.free();
        *free = free.checked_sub(1)?;
        Some(Turn(Arc::clone(self)))
    }
}

/// While it lives, its page is encoded.
pub(super) struct Turn(Arc<Turns>);

impl Turn {
    /// Lets others have it until `wait` has returned: a scraper that does not read holds up nobody else.
    pub(super) fn pause<T>(self, wait: impl FnOnce() -> T) -> (Self, T) {
        let turns = Arc::clone(&self.0);
        drop(self);
        let waited = wait();
        let free = turns.freed.wait_while(turns.free(), |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        (Self(turns), waited)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.free() += 1;
        self.0.freed.notify_one();
        let _ = self.0.events.send(Event::Changed);
    }
}

/// Asks for pages. Clones ask the same threads.
#[derive(Clone)]
pub(crate) struct Gatherer {
    /// `None` where there is nothing to be scraped.
    asker: Option<Arc<Asker>>,
    shut_down: Arc<AtomicBool>,
}

/// What the clones share.
struct Asker {
    events: mpsc::Sender<Event>,
    buffers: Buffers,
    in_flight: Arc<InFlight>,
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.events.send(Event::End);
    }
}

impl Gatherer {
    /// Starts the threads. They end when the last clone is dropped. No more than `max_scrapes` requests wait or are
    /// answered at once.
    pub(crate) fn start(
        mut collector: Collector,
        exporter: PrometheusExporter,
        max_scrapes: usize,
    ) -> io::Result<Self> {
        let (events, happened) = mpsc::channel();
        let (rounds, asked) = mpsc::channel::<Arc<Round>>();
        let in_flight = Arc::new(InFlight { taken: AtomicUsize::new(0), events: events.clone() });
        let buffers = Buffers::default();
        let coordinator = Coordinator {
            rounds,
            callbacks: Arc::clone(collector.provider.callbacks()),
            merged: collector.merged.clone(),
            in_flight: Arc::clone(&in_flight),
            max_scrapes,
            exporter: Arc::new(exporter),
            buffers: buffers.clone(),
            turns: Turns::new(events.clone()),
            waiting: Vec::new(),
            collecting: None,
            collected: VecDeque::new(),
            under_way: Vec::new(),
            collections: Vec::new(),
            is_shut_down: false,
        };
        let asker = Arc::new(Asker { events: events.clone(), buffers, in_flight });
        runtime::spawn("barograph-gather", move || coordinator.run(&happened))?;
        runtime::spawn("barograph-collect", move || {
            while let Ok(round) = asked.recv() {
                // Callbacks are guarded; this is for a panic in the SDK itself, which must not end the thread.
                let collected = catch_unwind(AssertUnwindSafe(|| collector.collect(&round, &events)))
                    .unwrap_or_else(|_| Err(ScrapeError::Collect { reason: "the SDK panicked".to_owned() }));
                if events.send(Event::Collected(collected)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { asker: Some(asker), shut_down: Arc::default() })
    }

    /// Answers that there is nothing to be scraped.
    pub(crate) fn absent() -> Self {
        Self { asker: None, shut_down: Arc::default() }
    }

    /// The page as it is now. The caller's thread is not blocked. Dropped, it is not asked for any more.
    pub(crate) async fn page(&self, request: Request) -> Result<ScrapeBody, ScrapeError> {
        ScrapeBody::stream(self.request(request)?).await
    }

    /// The page as it is now. The caller's thread waits.
    pub(crate) fn page_blocking(&self, request: Request) -> Result<Vec<u8>, ScrapeError> {
        self.request(request)?.read_to_end()
    }

    fn request(&self, request: Request) -> Result<Chunks, ScrapeError> {
        // A callback that asked for a scrape would wait for itself.
        if is_in_round() {
            return Err(ScrapeError::Collect { reason: "a callback cannot ask for a scrape".to_owned() });
        }
        let asker = self.asker.as_ref().ok_or(ScrapeError::NotServed)?;
        if self.is_shut_down() {
            return Err(ScrapeError::ShutDown);
        }
        let (writer, chunks) = pipe(&asker.buffers);
        let waiting = Waiting { request, writer, asked: Instant::now() };
        asker.events.send(Event::Asked(Box::new(waiting))).map_err(|_| ScrapeError::ShutDown)?;
        Ok(chunks)
    }

    /// How many requests wait or are being answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.asker.as_ref().map_or(0, |asker| asker.in_flight.taken.load(Ordering::Acquire))
    }

    /// From now on every answer is [`ScrapeError::ShutDown`], that to requests which wait as well.
    pub(crate) fn shut_down(&self) {
        self.shut_down.store(true, Ordering::Release);
        if let Some(asker) = &self.asker {
            let _ = asker.events.send(Event::ShutDown);
        }
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Gatherer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gatherer")
            .field("in_flight", &self.in_flight())
            .field("shut_down", &self.is_shut_down())
            .finish_non_exhaustive()
    }
}

/// The collection that runs, and who waits for it.
struct Collecting {
    round: Arc<Round>,
    waiting: Vec<Waiting>,
    /// Whether somebody has waited for it in vain.
    was_late: bool,
}

/// A page that is encoded.
struct UnderWay {
    page: Page,
    timeout: Duration,
    asked: Instant,
    collection: Weak<Collected>,
}

impl UnderWay {
    fn until(&self) -> Instant {
        self.asked + self.timeout
    }
}

/// What the thread that keeps the deadlines knows.
struct Coordinator {
    rounds: mpsc::Sender<Arc<Round>>,
    callbacks: Arc<Callbacks>,
    merged: Option<Arc<MergedRegistry>>,
    in_flight: Arc<InFlight>,
    max_scrapes: usize,
    exporter: Arc<PrometheusExporter>,
    buffers: Buffers,
    /// Who waits for the next collection: it begins after each of them has asked.
    waiting: Vec<Waiting>,
    collecting: Option<Collecting>,
    /// Pages to be encoded when it is their turn.
    collected: VecDeque<(Waiting, Arc<Collected>)>,
    turns: Arc<Turns>,
    /// From the oldest to the newest.
    under_way: Vec<UnderWay>,
    /// Those that pages hold.
    collections: Vec<Weak<Collected>>,
    is_shut_down: bool,
}

impl Coordinator {
    fn run(mut self, events: &mpsc::Receiver<Event>) {
        let mut now = Instant::now();
        loop {
            let event = match self.next_deadline(now) {
                Some(deadline) => events.recv_timeout(deadline.saturating_duration_since(now)),
                None => events.recv().map_err(mpsc::RecvTimeoutError::from),
            };
            if let Err(mpsc::RecvTimeoutError::Disconnected) = event {
                return;
            }
            // Whoever has asked by now shares a collection. However many come, the deadlines are kept.
            for event in event.into_iter().chain(events.try_iter()).take(MAX_EVENTS) {
                if !self.take(event) {
                    return;
                }
            }
            now = Instant::now();
            self.keep_deadlines(now);
            self.forget(now);
            self.encode();
            self.begin(now);
        }
    }

    /// The next point in time, from now on, at which something ends or may give way.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let collecting = self.collecting.iter().flat_map(|collecting| &collecting.waiting);
        let waiting = self.waiting.iter().chain(collecting).map(Waiting::until);
        waiting.chain(self.under_way.iter().map(UnderWay::until)).filter(|until| *until > now).min()
    }

    /// Returns whether there can be another event.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Asked(waiting) => self.admit(*waiting),
            Event::Collected(collected) => self.collected(collected),
            Event::Changed => {}
            Event::ShutDown => self.shut_down(),
            Event::End => {
                self.shut_down();
                return false;
            }
        }
        true
    }

    fn admit(&mut self, waiting: Waiting) {
        if self.is_shut_down {
            return waiting.fail(ScrapeError::ShutDown);
        }
        match self.in_flight.take(self.max_scrapes).or_else(|| self.place_of_another()) {
            Some(place) => {
                waiting.writer.hold(place);
                self.waiting.push(waiting);
            }
            None => waiting.fail(ScrapeError::Busy { pages: self.max_scrapes }),
        }
    }

    /// The place of the page that is furthest past its deadline.
    fn place_of_another(&mut self) -> Option<Place> {
        let now = Instant::now();
        let late = self.under_way.iter().filter(|page| page.until() <= now && page.page.is_under_way());
        late.min_by_key(|page| page.until())?.page.give_up(ScrapeError::Busy { pages: self.max_scrapes });
        self.in_flight.take(self.max_scrapes)
    }

    fn collected(&mut self, collected: Result<Arc<Collected>, ScrapeError>) {
        let Some(Collecting { waiting, .. }) = self.collecting.take() else { return };
        let waiting = waiting.into_iter().filter(Waiting::is_wanted);
        match collected {
            Ok(collected) => {
                self.collections.push(Arc::downgrade(&collected));
                for waiting in waiting {
                    let (page, timeout, asked) = (waiting.writer.page(), waiting.request.timeout, waiting.asked);
                    self.under_way.push(UnderWay { page, timeout, asked, collection: Arc::downgrade(&collected) });
                    self.collected.push_back((waiting, Arc::clone(&collected)));
                }
            }
            Err(error) => waiting.for_each(|waiting| waiting.fail(error.clone())),
        }
    }

    /// Makes pages, each on a thread of its own, as many at once as there are turns.
    fn encode(&mut self) {
        self.collected.retain(|(waiting, _)| waiting.is_wanted());
        while !self.collected.is_empty() {
            let Some(turn) = self.turns.take() else { return };
            let Some((Waiting { request, mut writer, .. }, collected)) = self.collected.pop_front() else { return };
            writer.begin(turn);
            let (exporter, buffers) = (Arc::clone(&self.exporter), self.buffers.clone());
            let spawned = runtime::spawn("barograph-encode", move || {
                // A panic here is a bug of ours. The writer is dropped by it, and says that the page is broken.
                let _ = catch_unwind(AssertUnwindSafe(|| encode(&request, collected, &exporter, writer, &buffers)));
            });
            if let Err(error) = spawned {
                tracing::error!(%error, "a page of metrics could not be made: it needs a thread");
            }
        }
    }

    fn shut_down(&mut self) {
        self.is_shut_down = true;
        let collecting = self.collecting.iter_mut().flat_map(|collecting| {
            collecting.round.cancel();
            mem::take(&mut collecting.waiting)
        });
        self.waiting.drain(..).chain(collecting).for_each(|waiting| waiting.fail(ScrapeError::ShutDown));
    }

    /// Answers those whose deadline has come, and names what kept them waiting.
    fn keep_deadlines(&mut self, now: Instant) {
        let late = |asked: Instant, after: Duration| {
            let running = self.callbacks.running(asked, self.merged.as_deref().map(|merged| merged as &dyn Work));
            let (callback, running) = running.map_or((None, Duration::ZERO), |(name, time)| (Some(name), time));
            ScrapeError::TimedOut { after, callback, running }
        };
        let time_out = |waiting: &Waiting| {
            let is_late = waiting.until() <= now;
            if is_late {
                waiting.writer.page().time_out(|| late(waiting.asked, waiting.request.timeout));
            }
            is_late
        };
        for waiting in &self.waiting {
            time_out(waiting);
        }
        if let Some(collecting) = &mut self.collecting {
            let mut wanted = collecting.waiting.iter().filter(|waiting| waiting.is_wanted()).peekable();
            // Whoever asks again once it is answered must not wait for the same.
            if wanted.peek().is_some() && wanted.all(|waiting| waiting.until() <= now) {
                collecting.round.expire(now);
            }
            collecting.was_late |= collecting.waiting.iter().filter(|waiting| time_out(waiting)).count() > 0;
        }
        for page in self.under_way.iter().filter(|page| page.until() <= now) {
            page.page.time_out(|| late(page.asked, page.timeout));
        }
    }

    /// Forgets what nobody wants any more.
    fn forget(&mut self, now: Instant) {
        self.waiting.retain(Waiting::is_wanted);
        self.under_way.retain(|page| page.page.is_under_way());
        self.collections.retain(|collection| collection.strong_count() > 0);
        let Some(collecting) = &mut self.collecting else { return };
        let waited = collecting.waiting.len();
        collecting.waiting.retain(Waiting::is_wanted);
        if waited > 0 && collecting.waiting.is_empty() {
            if collecting.was_late {
                // What runs has had its time.
                collecting.round.expire(now);
            } else {
                collecting.round.cancel();
            }
        }
    }

    /// Begins the next collection, if somebody waits for one and there is room for it.
    fn begin(&mut self, now: Instant) {
        // Pages that wait for their turn come first: by then there are more who can share the collection, and it is newer.
        if self.collecting.is_some() || !self.collected.is_empty() || !self.has_room(now) {
            return;
        }
        let Some(until) = self.waiting.iter().map(Waiting::until).max() else { return };
        let round = self.callbacks.round(until);
        let waiting = mem::take(&mut self.waiting);
        // The thread lives for as long as we do.
        if self.rounds.send(Arc::clone(&round)).is_ok() {
            self.collecting = Some(Collecting { round, waiting, was_late: false });
        }
    }

    /// Whether another collection can be held. If not, pages past their deadline give way, where that sets one free.
    fn has_room(&self, now: Instant) -> bool {
        if self.collections.len() < MAX_COLLECTIONS || self.waiting.is_empty() {
            return true;
        }
        let pages_of = |collection: &Weak<Collected>| {
            let collection = collection.as_ptr();
            self.under_way.iter().filter(move |page| page.collection.as_ptr() == collection)
        };
        let late = self.collections.iter().find(|collection| pages_of(collection).all(|page| page.until() <= now));
        for page in late.into_iter().flat_map(pages_of) {
            page.page.give_up(ScrapeError::Busy { pages: self.in_flight.taken.load(Ordering::Acquire) });
        }
        false
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
        request.wanted.render(&collected, exporter, &mut out);
        buffers.give_back(mem::take(&mut out.buffer));
        !out.is_stopped()
    };
    let mut packer = Packer::New(request.compression);
    let is_whole = export(&mut |bytes| packer.write(bytes, &mut writer)) && packer.end(&mut writer);
    // Before the scraper has all of it: its next request finds the lists ready to be filled again.
    drop(collected);
    if is_whole {
        writer.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Telemetry;
    use opentelemetry::KeyValue;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    const LONG: Duration = Duration::from_secs(60);

    type Scrape = Pin<Box<dyn Future<Output = Result<ScrapeBody, ScrapeError>>>>;

    fn request(timeout: Duration) -> Request {
        Request { wanted: Box::new(Asked::default()), compression: Compression::None, timeout }
    }

    /// A scrape that has been asked for.
    fn ask(gatherer: &Gatherer, timeout: Duration) -> Scrape {
        Box::pin(ScrapeBody::stream(gatherer.request(request(timeout)).unwrap()))
    }

    fn poll(scrape: &mut Scrape) -> Option<Result<ScrapeBody, ScrapeError>> {
        match scrape.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    fn wait_for<T>(mut condition: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + LONG / 2;
        loop {
            if let Some(found) = condition() {
                return found;
            }
            assert!(Instant::now() < end);
            thread::yield_now();
        }
    }

    fn wait_for_places(gatherer: &Gatherer, taken: usize) {
        wait_for(|| (gatherer.in_flight() == taken).then_some(()));
    }

    /// A pipeline whose only callback waits until it is told to go on.
    fn gated(is_open: bool) -> (Telemetry, Arc<(Mutex<bool>, Condvar)>) {
        let telemetry = Telemetry::builder("places").without_endpoint().start().unwrap();
        let gate = Arc::new((Mutex::new(is_open), Condvar::new()));
        let passed = Arc::clone(&gate);
        let pass = move |_: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
            drop(passed.1.wait_while(passed.0.lock().unwrap(), |is_open| !*is_open).unwrap());
        };
        telemetry.meter("m").u64_observable_gauge("gate").with_callback(pass).build();
        (telemetry, gate)
    }

    fn set(gate: &(Mutex<bool>, Condvar), is_open: bool) {
        *gate.0.lock().unwrap() = is_open;
        gate.1.notify_all();
    }

    const MAX_SCRAPES: usize = 256;

    #[test]
    fn one_more_than_there_are_places_is_refused_and_every_place_is_given_back() {
        let (telemetry, gate) = gated(false);
        let service = telemetry.scrape_service();
        let gatherer = service.gatherer();
        let mut scrapes: Vec<Scrape> = (0..MAX_SCRAPES).map(|_| ask(gatherer, LONG)).collect();
        wait_for_places(gatherer, MAX_SCRAPES);
        let busy = gatherer.page_blocking(request(LONG)).unwrap_err();
        assert_eq!(busy, ScrapeError::Busy { pages: MAX_SCRAPES });
        assert_eq!(gatherer.in_flight(), MAX_SCRAPES);
        // A scraper that leaves makes room at once.
        scrapes.truncate(MAX_SCRAPES - 3);
        assert_eq!(gatherer.in_flight(), MAX_SCRAPES - 3);
        let late = gatherer.page_blocking(request(Duration::from_millis(10))).unwrap_err();
        assert!(matches!(late, ScrapeError::TimedOut { .. }), "{late}");
        assert_eq!(gatherer.in_flight(), MAX_SCRAPES - 3, "a scrape that is answered has no place");
        set(&gate, true);
        let pages: Vec<_> = scrapes.iter_mut().map(|scrape| wait_for(|| poll(scrape)).unwrap()).collect();
        assert_eq!(pages.len(), MAX_SCRAPES - 3);
        wait_for_places(gatherer, 0);
    }

    #[test]
    fn a_page_past_its_deadline_gives_its_place_to_a_request_that_finds_none() {
        let (telemetry, gate) = gated(true);
        let counter = telemetry.meter("m").u64_counter("large").build();
        (0..1_500).for_each(|n| counter.add(1, &[KeyValue::new("n", n), KeyValue::new("text", "x".repeat(2_000))]));
        let service = telemetry.scrape_service();
        let gatherer = service.gatherer();
        let timeout = Duration::from_secs(1);
        let mut unread = [ask(gatherer, LONG), ask(gatherer, timeout)];
        let asked = Instant::now();
        let mut unread = unread.each_mut().map(|scrape| wait_for(|| poll(scrape)).unwrap());
        wait_for_places(gatherer, 2);
        set(&gate, false);
        let _others: Vec<Scrape> = (2..MAX_SCRAPES).map(|_| ask(gatherer, LONG)).collect();
        wait_for_places(gatherer, MAX_SCRAPES);
        wait_for(|| (asked.elapsed() > timeout).then_some(()));
        let mut one_more = ask(gatherer, LONG);
        let mut read = |place: usize| {
            wait_for(|| {
                loop {
                    let frame = hyper::body::Body::poll_frame(
                        Pin::new(&mut unread[place]),
                        &mut Context::from_waker(Waker::noop()),
                    );
                    match frame {
                        Poll::Pending => return None,
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(end) => return Some(end.map(|end| end.unwrap_err())),
                    }
                }
            })
        };
        assert_eq!(read(1), Some(ScrapeError::Busy { pages: MAX_SCRAPES }));
        assert_eq!(read(0), None, "a page within its deadline is whole");
        assert!(poll(&mut one_more).is_none());
        set(&gate, true);
        assert!(wait_for(|| poll(&mut one_more)).is_ok());
    }

    #[test]
    fn the_threads_end_with_the_last_of_those_who_could_ask_although_a_callback_hangs() {
        let (telemetry, gate) = gated(false);
        let service = telemetry.scrape_service();
        let scrape = ask(service.gatherer(), LONG);
        wait_for_places(service.gatherer(), 1);
        let in_flight = Arc::downgrade(&service.gatherer().asker.as_ref().unwrap().in_flight);
        drop((scrape, service, telemetry));
        wait_for(|| in_flight.upgrade().is_none().then_some(()));
        set(&gate, true);
    }
}
