//! Stand-ins for the two APIs, and for a receiver of OTLP: HTTP servers on loopback that answer, and fail, by a fixed
//! schedule.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::flag::Flag;

/// What a stand-in does with a request.
#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    Answer,
    /// Answers in Japanese, where a character is three bytes.
    AnswerInJapanese,
    /// 429.
    RateLimit,
    /// 500.
    Break,
    /// 503.
    Close,
    /// 200, with half of the JSON.
    Garble,
    /// Takes longer than its client waits.
    Dawdle,
    /// Closes the connection instead of answering.
    HangUp,
    /// 200, as a receiver of OTLP that has taken everything.
    Take,
    /// 200, as one that has left some out for good.
    TakeSome,
}

/// How DeepSeek's stand-in answers one request after the other, over and over.
pub(crate) const DEEPSEEK: &[Behaviour] = &[
    Behaviour::Answer,
    Behaviour::RateLimit,
    Behaviour::Answer,
    Behaviour::Break,
    Behaviour::Garble,
    Behaviour::Dawdle,
    Behaviour::AnswerInJapanese,
    Behaviour::HangUp,
    Behaviour::Answer,
];

/// The same for Perplexity's, which is asked less often.
pub(crate) const PERPLEXITY: &[Behaviour] =
    &[Behaviour::Answer, Behaviour::Dawdle, Behaviour::RateLimit, Behaviour::Break];

/// Starts a stand-in that lives as long as the runtime and takes one behaviour for each request; returns where it listens.
pub(crate) fn start(runtime: &Runtime, schedule: &'static [Behaviour]) -> io::Result<SocketAddr> {
    listen(runtime, move |request| schedule[request % schedule.len()])
}

/// Starts a receiver of OTLP that keeps to one behaviour for this long each, because what it refuses is sent again. Once
/// the flag is raised it takes everything.
pub(crate) fn start_receiver(
    runtime: &Runtime,
    schedule: &'static [Behaviour],
    turn: Duration,
    stop: &Flag,
) -> io::Result<SocketAddr> {
    let (started, stop) = (Instant::now(), stop.clone());
    listen(runtime, move |_| match stop.is_raised() {
        true => Behaviour::Take,
        false => schedule[(started.elapsed().as_millis() / turn.as_millis()) as usize % schedule.len()],
    })
}

fn listen(runtime: &Runtime, behaviour: impl Fn(usize) -> Behaviour + Send + Sync + 'static) -> io::Result<SocketAddr> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(serve(listener, Arc::new(behaviour)));
    Ok(address)
}

async fn serve(listener: TcpListener, behaviour: Arc<impl Fn(usize) -> Behaviour + Send + Sync + 'static>) {
    let requests = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: trying again at once would only burn a core.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (requests, behaviour) = (Arc::clone(&requests), Arc::clone(&behaviour));
        let service = service_fn(move |request| {
            let number = requests.fetch_add(1, Ordering::Relaxed);
            answer(request, number, behaviour(number))
        });
        // A client that goes away while it is answered is its own business.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    request: Request<Incoming>,
    number: usize,
    behaviour: Behaviour,
) -> Result<Response<Full<Bytes>>, Gone> {
    let question = request.into_body().collect().await.map_err(|_| Gone)?.to_bytes();
    // 30 to 110 ms, as even as a real network is not.
    tokio::time::sleep(Duration::from_millis(30 + number as u64 * 37 % 81)).await;
    match behaviour {
        Behaviour::Answer => Ok(completion(&question, ADVICE[number % ADVICE.len()])),
        Behaviour::AnswerInJapanese => {
            Ok(completion(&question, "変更は小さく、テストは通っています。このまま統合しても問題ありません。"))
        }
        Behaviour::RateLimit => Ok(response(StatusCode::TOO_MANY_REQUESTS, "{}")),
        Behaviour::Break => Ok(response(StatusCode::INTERNAL_SERVER_ERROR, "{}")),
        Behaviour::Close => Ok(response(StatusCode::SERVICE_UNAVAILABLE, "{}")),
        Behaviour::Garble => Ok(response(StatusCode::OK, r#"{"choices":[{"message":{"con"#)),
        Behaviour::Dawdle => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(completion(&question, "Sorry that it took so long."))
        }
        Behaviour::HangUp => Err(Gone),
        Behaviour::Take => Ok(response(StatusCode::OK, "{}")),
        Behaviour::TakeSome => {
            let partial = json!({ "rejectedDataPoints": "3", "errorMessage": "three points are too old" });
            Ok(response(StatusCode::OK, json!({ "partialSuccess": partial }).to_string()))
        }
    }
}

const ADVICE: &[&str] = &[
    "Small and clear. Merge it.",
    "Check the edge cases first: no argument at all, and a negative number.",
    "The name says what it does; the comment above it could go.",
    "An off-by-one is likely where a length is halved: try lists of one and of two.",
];

/// A chat completion in the format that both APIs share. A token is a word here.
fn completion(question: &[u8], text: &str) -> Response<Full<Bytes>> {
    let prompt = question.split(u8::is_ascii_whitespace).count();
    let body = json!({
        "choices": [{ "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": prompt, "completion_tokens": text.split_whitespace().count() },
    });
    response(StatusCode::OK, body.to_string())
}

fn response(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// Makes the server close the connection without a word.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is over")
    }
}

impl std::error::Error for Gone {}
