//! What a connection is doing, for how long it may, and which one gives way to a new one.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{self, Instant};

use crate::config::EndpointLimits;
use crate::self_metrics::Refused;

/// How long a new connection keeps its place whatever happens: a head that is on its way arrives in that time.
const SETTLING: Duration = Duration::from_millis(100);

/// One connection, as its task, its bytes and its answers see it.
#[derive(Debug)]
pub(super) struct Connection {
    state: Mutex<State>,
    gives_way: Notify,
}

#[derive(Debug)]
struct State {
    doing: Doing,
    since: Instant,
    /// When the answers began whose last byte has not been written yet, in this order. HTTP/2 has several at once.
    answers: Vec<Instant>,
    /// How many of them refuse something.
    refused: usize,
    /// Since when the peer has taken nothing of what there is for it.
    stalled: Option<Instant>,
    /// Whether what is read between two requests can be something else than the next one.
    is_http2: bool,
    /// Whether the peer has said anything yet.
    has_spoken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// The peer is expected to say what it wants: a handshake, the head of a request.
    Asking,
    Answering,
    Idle,
}

impl Connection {
    fn new() -> Self {
        let state = State {
            doing: Doing::Asking,
            since: Instant::now(),
            answers: Vec::new(),
            refused: 0,
            stalled: None,
            is_http2: false,
            has_spoken: false,
        };
        Self { state: Mutex::new(state), gives_way: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "web-config")]
    pub(super) fn is_http2(&self) {
        self.state().is_http2 = true;
    }

    /// An answer begins, and ends when what this returns is dropped.
    pub(super) fn answer(self: &Arc<Self>) -> Answering {
        let mut state = self.state();
        let begun = Instant::now();
        state.answers.push(begun);
        state.answers_have_changed();
        Answering { connection: Arc::clone(self), begun, is_refused: false }
    }

    /// Ready when the connection has taken longer than it may for what it is doing, or has to give way. To be polled after
    /// the connection by the same task, so that it sees what the connection has just done.
    pub(super) async fn expiry(&self, limits: &EndpointLimits) -> Option<Refused> {
        let late = async {
            let mut sleep = pin!(time::sleep(limits.head_timeout));
            poll_fn(|context| {
                let (deadline, refused) = self.state().deadline(limits);
                if sleep.deadline() != deadline {
                    sleep.as_mut().reset(deadline);
                }
                ready!(sleep.as_mut().poll(context));
                Poll::Ready(refused)
            })
            .await
        };
        tokio::select! {
            refused = late => refused,
            () = self.gives_way.notified() => Some(Refused::Connections),
        }
    }
}

impl State {
    /// Of several answers the oldest is what the time is kept of.
    fn answers_have_changed(&mut self) {
        (self.doing, self.since) = match self.answers.first() {
            Some(oldest) => (Doing::Answering, *oldest),
            None => (Doing::Idle, Instant::now()),
        };
    }

    /// When what is going on has taken too long, and what is to be said of it: an end of idleness is nothing to tell, nor is
    /// that of a connection on which nothing was ever said. Browsers open one more than they need.
    fn deadline(&self, limits: &EndpointLimits) -> (Instant, Option<Refused>) {
        let (allowed, refused) = match self.doing {
            Doing::Asking => (limits.head_timeout, self.has_spoken.then_some(Refused::HeadTimeout)),
            Doing::Answering => (limits.answer_timeout, Some(Refused::AnswerTimeout)),
            Doing::Idle => (limits.idle_timeout, None),
        };
        let deadline = after(self.since, allowed);
        match self.stalled.map(|stalled| after(stalled, limits.write_timeout)) {
            Some(stalled) if stalled < deadline => (stalled, Some(Refused::WriteTimeout)),
            _ => (deadline, refused),
        }
    }
}

/// A timeout may be as good as for ever.
fn after(begin: Instant, duration: Duration) -> Instant {
    begin.checked_add(duration).unwrap_or_else(|| begin + Duration::from_secs(365 * 24 * 60 * 60))
}

/// An answer under way.
#[derive(Debug)]
pub(super) struct Answering {
    connection: Arc<Connection>,
    begun: Instant,
    is_refused: bool,
}

impl Answering {
    /// It only says why there is none. Whoever does not read that keeps no place by it.
    pub(super) fn is_refused(&mut self) {
        self.is_refused = true;
        self.connection.state().refused += 1;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.connection.state();
        state.refused -= usize::from(self.is_refused);
        if let Some(index) = state.answers.iter().position(|begun| *begun == self.begun) {
            state.answers.remove(index);
        }
        state.answers_have_changed();
    }
}

/// Every open connection of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Arc<Connection>>,
    next: u64,
}

/// A connection's place among the others, for as long as it lives.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) connection: Arc<Connection>,
    number: u64,
    connections: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.table().open.remove(&self.number);
    }
}

impl Connections {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection, beside at most `max - 1` others; waits until there is one.
    pub(super) async fn place(self: &Arc<Self>, limits: &EndpointLimits) -> Place {
        loop {
            {
                let mut table = self.table();
                // One that has been told to give way leaves when its task runs next; its place counts as free.
                if table.open.len() < limits.max_connections.max(1) || table.make_room(limits) {
                    let (number, connection) = (table.next, Arc::new(Connection::new()));
                    table.next += 1;
                    table.open.insert(number, Arc::clone(&connection));
                    return Place { connection, number, connections: Arc::clone(self) };
                }
            }
            time::sleep(SETTLING / 4).await;
        }
    }

    /// Has one connection give way, if there is one that should.
    pub(super) fn make_room(&self, limits: &EndpointLimits) -> bool {
        self.table().make_room(limits)
    }
}

impl Table {
    /// Who still has to say what it wants gives way first; where there is nobody, who wants nothing, or nothing that it can
    /// have; and then who has been reading for longer than any Prometheus would. Of each the one that has been at it for
    /// longest.
    fn make_room(&mut self, limits: &EndpointLimits) -> bool {
        let first = self.open.iter().map(|(number, connection)| {
            let state = connection.state();
            let (rank, settled) = match state.doing {
                Doing::Asking => (0, SETTLING),
                Doing::Answering if state.refused < state.answers.len() => (2, limits.scrape_timeout),
                Doing::Answering | Doing::Idle => (1, Duration::ZERO),
            };
            (rank, state.since, *number, settled)
        });
        let Some((_, since, number, settled)) = first.min() else { return false };
        if since.elapsed() < settled {
            return false;
        }
        if let Some(connection) = self.open.remove(&number) {
            connection.gives_way.notify_one();
        }
        true
    }
}

/// The bytes of a connection, from the socket up: it notes when the peer says or takes something.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    connection: Arc<Connection>,
    /// One that was looked at before it is read.
    first: Option<u8>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection, first: None }
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        let mut state = self.connection.state();
        match written {
            Poll::Ready(_) => state.stalled = None,
            Poll::Pending => {
                state.stalled.get_or_insert_with(Instant::now);
            }
        }
        written
    }
}

#[cfg(feature = "web-config")]
impl<S: AsyncRead + Unpin> Watched<S> {
    /// Whether the peer begins with a handshake; it is looked at and not taken.
    pub(super) async fn begins_tls(&mut self) -> io::Result<bool> {
        const HANDSHAKE: u8 = 22;
        let first = tokio::io::AsyncReadExt::read_u8(self).await?;
        self.first = Some(first);
        Ok(first == HANDSHAKE)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(first) = self.first.take() {
            buffer.put_slice(&[first]);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            let mut state = self.connection.state();
            state.has_spoken = true;
            if state.doing == Doing::Idle && !state.is_http2 {
                (state.doing, state.since) = (Doing::Asking, Instant::now());
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.note(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(count: usize) -> (Connections, Vec<Arc<Connection>>) {
        let open: Vec<_> = (0..count).map(|_| Arc::new(Connection::new())).collect();
        let table = Table { open: (0..).zip(open.iter().cloned()).collect(), next: count as u64 };
        (Connections(Mutex::new(table)), open)
    }

    fn is(connection: &Connection, doing: Doing, since: Instant) {
        let state = connection.state();
        assert_eq!((state.doing, state.since), (doing, since));
    }

    /// Has it done what it does for so long already.
    fn age(connection: &Connection, by: Duration) {
        let mut state = connection.state();
        state.since = state.since.checked_sub(by).unwrap();
    }

    #[test]
    fn of_several_answers_the_oldest_has_its_time_and_then_the_next() {
        let connection = Arc::new(Connection::new());
        let (first, second) = (connection.answer(), connection.answer());
        let (begun, next) = (first.begun, second.begun);
        is(&connection, Doing::Answering, begun);
        let third = connection.answer();
        is(&connection, Doing::Answering, begun);
        drop(first);
        is(&connection, Doing::Answering, next);
        drop((second, third));
        assert_eq!(connection.state().doing, Doing::Idle);
    }

    #[test]
    fn who_has_not_asked_gives_way_before_who_was_answered_and_that_before_who_is() {
        let limits = EndpointLimits::default();
        let (connections, open) = connections(4);
        let [_asking, idle, refused, answered] = open.as_slice() else { unreachable!() };
        drop(idle.answer());
        let mut refusals = [refused.answer(), refused.answer()];
        let _answer = answered.answer();
        let left = || {
            let mut left: Vec<_> = connections.table().open.keys().copied().collect();
            left.sort_unstable();
            left
        };

        assert!(!connections.make_room(&limits), "the first may just be about to ask");
        age(&open[0], SETTLING);
        assert!(connections.make_room(&limits));
        assert_eq!(left(), [1, 2, 3]);
        assert!(connections.make_room(&limits));
        assert_eq!(left(), [2, 3]);
        assert!(!connections.make_room(&limits), "both are answered");
        refusals[0].is_refused();
        assert!(!connections.make_room(&limits), "one of the two may be an answer yet");
        refusals[1].is_refused();
        assert!(connections.make_room(&limits));
        assert_eq!(left(), [3]);
        age(&open[3], limits.scrape_timeout);
        assert!(connections.make_room(&limits));
        assert!(left().is_empty() && !connections.make_room(&limits));

        drop(refusals);
        let next = refused.answer();
        assert!(refused.state().refused == 0 && !next.is_refused);
    }

    #[test]
    fn who_takes_some_of_its_answer_has_the_whole_time_for_the_next() {
        let watched = Watched::new((), Arc::new(Connection::new()));
        let _ = watched.note(Poll::<()>::Pending);
        let stalled = watched.connection.state().stalled;
        assert!(stalled.is_some());
        let _ = watched.note(Poll::<()>::Pending);
        assert_eq!(watched.connection.state().stalled, stalled);
        let _ = watched.note(Poll::Ready(()));
        assert_eq!(watched.connection.state().stalled, None);
    }

    #[test]
    fn what_takes_too_long_is_named_and_idleness_is_not() {
        let limits = EndpointLimits::default();
        let connection = Arc::new(Connection::new());
        let what = |connection: &Connection| {
            let state = connection.state();
            let (deadline, refused) = state.deadline(&limits);
            (deadline - state.stalled.unwrap_or(state.since), refused)
        };
        assert_eq!(what(&connection), (limits.head_timeout, None));
        connection.state().has_spoken = true;
        assert_eq!(what(&connection), (limits.head_timeout, Some(Refused::HeadTimeout)));
        let answer = connection.answer();
        assert_eq!(what(&connection), (limits.answer_timeout, Some(Refused::AnswerTimeout)));
        connection.state().stalled = Some(Instant::now());
        assert_eq!(what(&connection), (limits.write_timeout, Some(Refused::WriteTimeout)));
        connection.state().stalled = None;
        drop(answer);
        assert_eq!(what(&connection), (limits.idle_timeout, None));
    }
}
