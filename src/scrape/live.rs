//! The live page at `/`: what is being recorded, while somebody looks.
//!
//! The page is one file that asks `/live` again and again. Each answer is made of a collection, which it shares with scrapes
//! and other pages that ask at the same time; between two of them nothing is kept here. What has gone before is in the
//! browser, as far as it is shown.

mod data;

use std::hash::RandomState;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, Response};

use crate::config::LivePage;
use crate::guard::{Scraped, Watch};

use super::body::{Buffers, ScrapeBody, pipe};
use super::compression::{Compression, Packer};
use super::debug;
use super::gather::Render;
use super::service::{Endpoint, failure, streamed};

/// Where the page finds its data, beside itself.
pub(super) const PATH: &str = "/live";

/// All of it, so that there is nothing else to fetch.
const PAGE: &str = include_str!("live/page.html");

/// What a browser lets the page do: run its own script, which is known by its hash, have its own style, and ask this
/// endpoint. A test says what the hashes are.
const POLICY: &str = include_str!("live/policy.txt");

/// The live page of one endpoint.
#[derive(Debug)]
pub(crate) struct Live {
    seen_by: LivePage,
    watch: Watch,
    scraped: Scraped,
    started: SystemTime,
    /// Other ones in each process: a page that was open before a program started again gets the lists anew.
    hashes: RandomState,
}

impl Live {
    /// The page of the endpoint that shows its metrics like `scraped`, and of the reader that it collects from.
    pub(crate) fn new(seen_by: LivePage, watch: Watch, scraped: Scraped) -> Option<Arc<Self>> {
        let live = Self { seen_by, watch, scraped, started: SystemTime::now(), hashes: RandomState::new() };
        (seen_by != LivePage::Off).then(|| Arc::new(live))
    }

    /// Whether who asks may see it; `is_at_home` is who does so on this machine.
    pub(super) fn is_for(&self, is_at_home: bool) -> bool {
        match self.seen_by {
            LivePage::Loopback => is_at_home,
            LivePage::Anyone => true,
            LivePage::Off => false,
        }
    }

    pub(super) async fn page(&self, compression: Compression) -> Response<ScrapeBody> {
        let (mut writer, chunks) = pipe(&Buffers::default());
        let (mut packer, mut page) = (Packer::New(compression), PAGE.as_bytes().to_vec());
        if packer.write(&mut page, &mut writer) && packer.end(&mut writer) {
            writer.end();
        }
        let body = match ScrapeBody::stream(chunks).await {
            Ok(body) => body,
            Err(error) => return failure(&error),
        };
        let mut response = streamed("text/html; charset=utf-8", body);
        let headers: [(HeaderName, &'static str); 5] = [
            // Another version of the program has another page.
            (CACHE_CONTROL, "no-cache"),
            (CONTENT_SECURITY_POLICY, POLICY.trim_ascii_end()),
            (REFERRER_POLICY, "no-referrer"),
            (VARY, "accept-encoding"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        response.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }

    /// What is to be made of a collection for a page whose query is this.
    pub(super) fn poll(self: &Arc<Self>, endpoint: &Endpoint, query: &str) -> Box<dyn Render> {
        let known = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "known");
        Box::new(data::Poll {
            live: Arc::clone(self),
            service: endpoint.service_name.clone(),
            metrics: endpoint.path.clone(),
            debug: endpoint.debug.is_some().then_some(debug::PATH),
            known: known.map(|(_, schema)| schema.into_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest, Sha256};

    /// The texts of the inline elements of this name.
    fn inline(element: &str) -> Vec<&'static str> {
        let (begin, end) = (format!("<{element}"), format!("</{element}>"));
        let begins = PAGE.match_indices(&begin).map(|(at, _)| at);
        let text = |at: usize| {
            let begin = at + PAGE[at..].find('>').unwrap() + 1;
            &PAGE[begin..begin + PAGE[begin..].find(&end).unwrap()]
        };
        begins.map(text).collect()
    }

    #[test]
    fn the_policy_allows_the_page_s_own_script_and_style_and_nothing_else() {
        let hashes = |element: &str| {
            let texts = inline(element);
            assert!(!texts.is_empty(), "the page has no <{element}>");
            let hash = |text: &&str| format!(" 'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
            texts.iter().map(hash).collect::<String>()
        };
        let expected = format!(
            "default-src 'none'; script-src{}; style-src{}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\n",
            hashes("script"),
            hashes("style"),
        );
        if std::env::var_os("BAROGRAPH_BLESS").is_some_and(|value| value == "1") {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/scrape/live/policy.txt");
            std::fs::write(file, &expected).unwrap();
        } else {
            let how = "BAROGRAPH_BLESS=1 cargo test --lib live writes src/scrape/live/policy.txt anew";
            assert_eq!(POLICY, expected, "the page has changed: {how}");
        }
    }

    #[test]
    fn the_page_is_small_and_needs_nothing_from_elsewhere() {
        assert!(PAGE.len() < 60 * 1024, "{} bytes", PAGE.len());
        // The name of a namespace is no address.
        let page = PAGE.replace("http://www.w3.org/2000/svg", "");
        for elsewhere in ["http://", "https://", "//cdn", "@import", "url(//", "src=\"//", "href=\"//"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        // The policy refuses them, so they would do nothing.
        for refused in [" style=\"", " style='", " onclick=", " onload=", " oninput=", "javascript:", "eval("] {
            assert!(!page.contains(refused), "{refused}");
        }
    }
}
