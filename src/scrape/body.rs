//! The body of an answer: whole, or in chunks that another thread is still making.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::error::ScrapeError;
use crate::exposition::CHUNK;
use crate::self_metrics::Scrape;

use super::compression::Coding;
use super::gather::{Place, Turn};

/// Chunks that wait for the scraper. Whoever makes them waits when there are so many.
const MAX_READY: usize = 8;

/// A scraper that waits is woken when there are so many: to wake it for each would take longer than to make it.
const WORTH_WAKING: usize = MAX_READY / 2;

/// Buffers that are kept for the next page.
const MAX_FREE: usize = MAX_READY + 4;

/// How long a scraper may leave its chunks before the page is given up. Our own server gives such a connection up
/// sooner; this is for servers that never do.
const STALLED: Duration = Duration::from_secs(60);

/// The body of an answer of [`ScrapeService`](crate::ScrapeService).
///
/// A page leaves in chunks while it is encoded, so its length is not known before its end unless it is short. When
/// encoding fails half way, which takes a bug, or when a page past its deadline gives way to other scrapes, the body ends
/// with an error and the connection with it: a scraper never takes half a page for a whole one.
pub struct ScrapeBody {
    content: Content,
    coding: Option<Coding>,
    /// What is counted of it, where it is a scrape's.
    scrape: Option<Scrape>,
}

enum Content {
    Whole(Bytes),
    /// The first chunk, which has been waited for, and where the others come from.
    Stream(Bytes, Chunks),
}

impl ScrapeBody {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Whole(bytes.into()), coding: None, scrape: None }
    }

    /// The body of a page, once there is something of it.
    pub(super) async fn stream(mut chunks: Chunks) -> Result<Self, ScrapeError> {
        let first = std::future::poll_fn(|context| chunks.poll_next(context)).await.transpose()?.unwrap_or_default();
        let (is_whole, coding) = {
            let state = chunks.pipe.state();
            (state.is_at_end(), state.coding)
        };
        let content = if is_whole { Content::Whole(first) } else { Content::Stream(first, chunks) };
        Ok(Self { content, coding, scrape: None })
    }

    /// Has it counted as this scrape's.
    pub(super) fn counted(mut self, mut scrape: Scrape) -> Self {
        if self.is_end_stream() {
            // Nobody asks an empty page for its chunks.
            scrape.ended(None);
        }
        self.scrape = Some(scrape);
        self
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ScrapeError>>> {
        let (Content::Whole(first) | Content::Stream(first, _)) = &mut self.content;
        if !first.is_empty() {
            return Poll::Ready(Some(Ok(mem::take(first))));
        }
        match &mut self.content {
            Content::Whole(_) => Poll::Ready(None),
            Content::Stream(_, chunks) => chunks.poll_next(context),
        }
    }

    /// What the page is compressed with: known once there is something of it.
    pub(super) fn coding(&self) -> Option<Coding> {
        self.coding
    }
}

impl Body for ScrapeBody {
    type Data = Bytes;
    type Error = ScrapeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ScrapeError>>> {
        let chunk = ready!(self.poll_chunk(context));
        let is_last = self.is_end_stream();
        if let Some(scrape) = &mut self.scrape {
            match &chunk {
                Some(Ok(bytes)) => scrape.sent(bytes.len()),
                Some(Err(error)) => scrape.ended(Some(error.kind())),
                None => scrape.ended(None),
            }
            // Nobody asks for more than is there.
            if is_last {
                scrape.ended(None);
            }
        }
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(..) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for ScrapeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.content {
            Content::Whole(_) => "Whole",
            Content::Stream(..) => "Stream",
        };
        f.debug_tuple("ScrapeBody").field(&kind).finish()
    }
}

/// Buffers that can be filled again, for all pages: fresh memory would cost more to map than to fill.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    pub(super) fn take(&self) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Vec::with_capacity(CHUNK + CHUNK / 8))
    }

    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that a very long line made large is not worth its memory.
        if free.len() < MAX_FREE && (CHUNK..2 * CHUNK).contains(&buffer.capacity()) {
            buffer.clear();
            free.push(buffer);
        }
    }
}

/// A pipe for the chunks of one page.
pub(super) fn pipe(buffers: &Buffers) -> (PageWriter, Chunks) {
    let pipe = Arc::new(Pipe { state: Mutex::default(), changed: Condvar::new(), buffers: buffers.clone() });
    (PageWriter { pipe: Arc::clone(&pipe), held: Vec::new(), turn: None }, Chunks { pipe })
}

struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
    buffers: Buffers,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Vec<u8>>,
    /// Who waits for the next chunk.
    reader: Option<Waker>,
    is_reader_gone: bool,
    /// Whether the reader can have had something of it.
    has_begun: bool,
    /// Given back when the page ends, or its reader is gone.
    place: Option<Place>,
    /// What the chunks are compressed with: known before the first of them is ready.
    coding: Option<Coding>,
    /// How the page ended.
    end: Option<Result<(), ScrapeError>>,
}

impl State {
    fn is_wanted(&self) -> bool {
        !self.is_reader_gone && self.end.is_none()
    }

    fn is_at_end(&self) -> bool {
        self.ready.is_empty() && matches!(self.end, Some(Ok(())))
    }

    /// Ends the page, unless it has ended.
    fn end(&mut self, end: Result<(), ScrapeError>) {
        self.end.get_or_insert(end);
        self.place = None;
    }
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the reader. The state is free by then: a reader may be polled, or dropped, by whoever wakes it.
    fn tell_reader(&self, mut state: MutexGuard<'_, State>) {
        let reader = state.reader.take();
        drop(state);
        self.changed.notify_all();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// A page on its way, as whoever keeps count of them sees it.
pub(super) struct Page(Weak<Pipe>);

impl Page {
    /// Whether it is waited for or still being written.
    pub(super) fn is_under_way(&self) -> bool {
        self.0.upgrade().is_some_and(|pipe| pipe.state().is_wanted())
    }

    /// Ends it here, because of this.
    pub(super) fn give_up(&self, error: ScrapeError) {
        self.end_if(|_| true, || error);
    }

    /// Ends it if its reader has nothing of it yet.
    pub(super) fn time_out(&self, error: impl FnOnce() -> ScrapeError) {
        self.end_if(|state| !state.has_begun, error);
    }

    fn end_if(&self, condition: impl FnOnce(&State) -> bool, error: impl FnOnce() -> ScrapeError) {
        let Some(pipe) = self.0.upgrade() else { return };
        let mut state = pipe.state();
        if state.is_wanted() && condition(&state) {
            state.end(Err(error()));
            state.ready.clear();
            pipe.tell_reader(state);
        }
    }
}

/// Where the thread that encodes puts its chunks.
pub(super) struct PageWriter {
    pipe: Arc<Pipe>,
    /// The last chunk so far: it leaves when another comes, or with the end, so that a page of one chunk is known to be
    /// whole when its first byte is.
    held: Vec<u8>,
    /// What it takes to encode, while there is something to encode.
    turn: Option<Turn>,
}

impl PageWriter {
    pub(super) fn page(&self) -> Page {
        Page(Arc::downgrade(&self.pipe))
    }

    /// Takes the bytes, leaves the buffer empty, and says whether anybody wants more. Waits while the reader is behind.
    pub(super) fn hand_on(&mut self, buffer: &mut Vec<u8>) -> bool {
        if self.held.is_empty() {
            self.held = self.pipe.buffers.take();
        } else {
            if !self.wait_for_reader() {
                return false;
            }
            let mut state = self.pipe.state();
            if !state.is_wanted() {
                return false;
            }
            state.has_begun = true;
            state.ready.push_back(mem::replace(&mut self.held, self.pipe.buffers.take()));
            if state.ready.len() >= WORTH_WAKING {
                self.pipe.tell_reader(state);
            }
        }
        mem::swap(&mut self.held, buffer);
        true
    }

    /// Waits while the reader is behind; says whether it was there again in time.
    fn wait_for_reader(&mut self) -> bool {
        let is_behind = |state: &mut State| state.ready.len() >= MAX_READY && state.is_wanted();
        if !is_behind(&mut self.pipe.state()) {
            return true;
        }
        let wait = || {
            let waited = self.pipe.changed.wait_timeout_while(self.pipe.state(), STALLED, is_behind);
            !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
        };
        let Some(turn) = self.turn.take() else { return wait() };
        let (turn, is_there) = turn.pause(wait);
        self.turn = Some(turn);
        is_there
    }

    /// The page is encoded from now on.
    pub(super) fn begin(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    /// Keeps a place for the page until it ends.
    pub(super) fn hold(&self, place: Place) {
        let mut state = self.pipe.state();
        state.place = Some(place).filter(|_| state.is_wanted());
    }

    /// Says what the chunks are compressed with, before the first of them.
    pub(super) fn set_coding(&self, coding: Option<Coding>) {
        self.pipe.state().coding = coding;
    }

    /// A buffer to fill.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.pipe.buffers.take()
    }

    /// Whether anybody wants more.
    pub(super) fn is_wanted(&self) -> bool {
        self.pipe.state().is_wanted()
    }

    /// Ends the page. A writer that is dropped before that has failed.
    pub(super) fn end(mut self) {
        let mut state = self.pipe.state();
        if state.end.is_none() {
            state.ready.extend(Some(mem::take(&mut self.held)).filter(|held| !held.is_empty()));
            state.end(Ok(()));
        }
    }
}

impl Drop for PageWriter {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        if state.end.is_none() {
            state.end(Err(ScrapeError::Collect { reason: "encoding ended half way".to_owned() }));
        }
        self.pipe.tell_reader(state);
    }
}

/// The chunks of one page.
pub(super) struct Chunks {
    pipe: Arc<Pipe>,
}

impl Chunks {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ScrapeError>>> {
        let mut state = self.pipe.state();
        match self.take(&mut state) {
            Some(next) => Poll::Ready(next),
            None => {
                let before = state.reader.replace(context.waker().clone());
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }

    /// The whole page. Waits for it.
    pub(super) fn read_to_end(self) -> Result<Vec<u8>, ScrapeError> {
        let mut page = Vec::new();
        loop {
            let nothing = |state: &mut State| state.ready.is_empty() && state.end.is_none();
            let state = self.pipe.changed.wait_while(self.pipe.state(), nothing);
            let next = self.take(&mut state.unwrap_or_else(PoisonError::into_inner));
            match next.flatten().transpose()? {
                Some(chunk) => page.extend_from_slice(&chunk),
                None => return Ok(page),
            }
        }
    }

    /// The next chunk or the end, if there is either yet.
    fn take(&self, state: &mut State) -> Option<Option<Result<Bytes, ScrapeError>>> {
        if let Some(bytes) = state.ready.pop_front() {
            self.pipe.changed.notify_all();
            let chunk = Chunk { bytes, pipe: Arc::clone(&self.pipe) };
            return Some(Some(Ok(Bytes::from_owner(chunk))));
        }
        Some(state.end.clone()?.err().map(Err))
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.is_reader_gone = true;
        state.place = None;
        drop(state);
        self.pipe.changed.notify_all();
    }
}

/// A chunk on its way to a scraper.
struct Chunk {
    bytes: Vec<u8>,
    pipe: Arc<Pipe>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.pipe.buffers.give_back(mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_writer_waits_for_a_reader_that_is_behind_and_the_buffers_are_filled_again() {
        let buffers = Buffers::default();
        let (mut writer, chunks) = pipe(&buffers);
        let thread = thread::spawn(move || {
            let mut buffer = Vec::new();
            for number in 0..100_u8 {
                buffer.extend_from_slice(&[number; 500]);
                assert!(writer.hand_on(&mut buffer) && buffer.is_empty());
                assert!(writer.pipe.state().ready.len() <= MAX_READY);
            }
            writer.end();
        });
        let page = chunks.read_to_end().unwrap();
        let expected: Vec<u8> = (0..100_u8).flat_map(|number| [number; 500]).collect();
        assert_eq!(page, expected);
        thread.join().unwrap();
        let free = buffers.0.lock().unwrap().len();
        assert!((1..=MAX_FREE).contains(&free), "{free}");
    }

    #[test]
    fn a_writer_learns_that_nobody_reads_any_more() {
        let (mut writer, chunks) = pipe(&Buffers::default());
        assert!(writer.hand_on(&mut b"a".to_vec()));
        drop(chunks);
        assert!(!writer.is_wanted());
        assert!(!writer.hand_on(&mut b"b".to_vec()));
    }

    #[test]
    fn a_page_can_be_given_up_on_both_ends() {
        let (mut writer, chunks) = pipe(&Buffers::default());
        assert!(writer.hand_on(&mut b"half".to_vec()));
        let page = writer.page();
        assert!(page.is_under_way());
        page.give_up(ScrapeError::Busy { pages: 1 });
        assert!(!page.is_under_way() && !writer.is_wanted() && !writer.hand_on(&mut b"rest".to_vec()));
        writer.end();
        assert_eq!(chunks.read_to_end(), Err(ScrapeError::Busy { pages: 1 }));
    }

    #[test]
    fn a_page_that_was_not_ended_is_an_error_after_its_last_chunk() {
        let (mut writer, chunks) = pipe(&Buffers::default());
        assert!(writer.hand_on(&mut b"half a page".to_vec()));
        assert!(writer.hand_on(&mut b"and a bit".to_vec()));
        drop(writer);
        let error = chunks.read_to_end().unwrap_err();
        assert!(error.to_string().contains("half way"), "{error}");
    }
}
