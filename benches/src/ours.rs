//! Barograph as a scraper meets it: requests to the scrape service, answers frame by frame.

use std::fmt;

use barograph::Telemetry;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tower_service::Service;

/// One way from what was recorded to a page. The page is handed on in as many pieces as it comes in.
pub(crate) type Scrape = Box<dyn FnMut(&mut dyn FnMut(&[u8]))>;

/// What a scraper asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    name: &'static str,
    accept: Option<&'static str>,
    /// How the answer's `Content-Type` begins.
    content_type: &'static str,
    /// What compresses it.
    coding: Option<&'static str>,
}

impl Format {
    pub(crate) const TEXT: Self =
        Self { name: "text", accept: None, content_type: "text/plain; version=0.0.4", coding: None };
    pub(crate) const OPEN_METRICS: Self = Self {
        name: "OpenMetrics",
        accept: Some("application/openmetrics-text;version=1.0.0"),
        content_type: "application/openmetrics-text",
        coding: None,
    };
    pub(crate) const PROTOBUF: Self = Self {
        name: "protobuf",
        accept: Some("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"),
        content_type: "application/vnd.google.protobuf",
        coding: None,
    };

    pub(crate) const fn gzip(self) -> Self {
        Self { coding: Some("gzip"), ..self }
    }

    pub(crate) const fn zstd(self) -> Self {
        Self { coding: Some("zstd"), ..self }
    }

    fn request(self) -> Request<()> {
        let mut request = Request::get("/metrics");
        if let Some(accept) = self.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(coding) = self.coding {
            // Without a length below which a page leaves as it is.
            request = request.header(ACCEPT_ENCODING, format!("{coding}, identity;q=0"));
        }
        request.body(()).expect("a request")
    }

    /// The answer is what was asked for: its numbers are those of this format.
    fn check(self, headers: &HeaderMap) {
        let value = |name: HeaderName| headers.get(&name).map_or("", |value| value.to_str().unwrap_or_default());
        assert!(value(CONTENT_TYPE).starts_with(self.content_type), "{self}: {headers:?}");
        assert_eq!(value(CONTENT_ENCODING), self.coding.unwrap_or_default(), "{self}");
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.coding.map_or(Ok(()), |coding| write!(f, " + {coding}"))
    }
}

/// Scrapes this pipeline in this format. The pieces are dropped one by one, as a connection drops what it has sent.
pub(crate) fn scraper(telemetry: Telemetry, format: Format) -> Scrape {
    let mut service = telemetry.scrape_service();
    // Only to wait for the answer: collecting and encoding have a thread of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without a reactor");
    let mut is_checked = false;
    Box::new(move |sink| {
        // The pipeline lives as long as its scrapes.
        let _ = &telemetry;
        runtime.block_on(async {
            let Ok(answer) = service.call(format.request()).await;
            assert_eq!(answer.status(), StatusCode::OK);
            if !std::mem::replace(&mut is_checked, true) {
                format.check(answer.headers());
            }
            let mut body = answer.into_body();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.expect("the whole page").into_data() {
                    sink(&data);
                }
            }
        });
    })
}
