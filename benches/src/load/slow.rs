//! Clients that send one byte of a request's head a second, and connect again whenever they are closed.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// The time between two bytes.
const INTERVAL: Duration = Duration::from_secs(1);

/// A head that would be one, after minutes.
const HEAD: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain;version=0.0.4\r\nX-Slow: ";

pub(super) struct SlowClients {
    pub(super) count: usize,
    pub(super) address: SocketAddr,
}

/// What they saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) made: usize,
    pub(super) closed: usize,
    /// Connections open at once, as the clients know it.
    pub(super) most_open: usize,
}

#[derive(Debug, Default)]
struct Counts {
    made: Cell<usize>,
    closed: Cell<usize>,
    open: Cell<usize>,
    most_open: Cell<usize>,
}

impl SlowClients {
    pub(super) async fn run(&self, duration: Duration) -> Seen {
        let end = Instant::now() + duration;
        let counts = Rc::new(Counts::default());
        let clients = LocalSet::new();
        for client in 0..self.count {
            let (counts, address) = (Rc::clone(&counts), self.address);
            // Spread over the first second, as they are by themselves later.
            let delay = INTERVAL.mul_f64(client as f64 / self.count as f64);
            clients.spawn_local(async move {
                sleep(delay).await;
                while Instant::now() < end {
                    let left = end - Instant::now();
                    // At the end it is dropped, and closed by that.
                    if let Ok(outcome) = timeout(left, hold(address, &counts)).await {
                        counts.closed.set(counts.closed.get() + 1);
                        counts.open.set(counts.open.get() - usize::from(outcome.is_ok()));
                        sleep(INTERVAL / 10).await;
                    }
                }
            });
        }
        clients.await;
        Seen { made: counts.made.get(), closed: counts.closed.get(), most_open: counts.most_open.get() }
    }
}

/// Connects, and sends until the endpoint closes. An error is a connection that was not made.
async fn hold(address: SocketAddr, counts: &Counts) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    counts.made.set(counts.made.get() + 1);
    counts.open.set(counts.open.get() + 1);
    counts.most_open.set(counts.most_open.get().max(counts.open.get()));
    let mut seconds = interval(INTERVAL);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut head = HEAD.iter().copied().chain(std::iter::repeat(b'x'));
    let mut answer = [0; 512];
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                let byte = [head.next().unwrap_or(b'x')];
                if stream.write_all(&byte).await.is_err() {
                    return Ok(());
                }
            }
            // An answer is a refusal; the close comes after it.
            read = stream.read(&mut answer) => {
                if matches!(read, Ok(0) | Err(_)) {
                    return Ok(());
                }
            }
        }
    }
}
