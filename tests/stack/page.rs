//! The live page as somebody sees it: in a real browser, while a program records.
//!
//! The page says in attributes what it shows, for these tests and for whoever scripts it: `data-connection` of the body,
//! `data-family` of each family, `data-series` and `data-value` of each series, `data-check` and `data-health` of each
//! line of the health strip. Pictures are left in `target/screenshots`.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use barograph::config::{MetricReader, OtlpMetricExporter, PeriodicMetricReader, PushMetricExporter};
use barograph::opentelemetry::KeyValue;
use barograph::{Telemetry, TelemetryBuilder, View};
use serde_json::{Value, json};

use crate::browser::{self, Page, Screen};
use crate::platform::Platform;
use crate::process;
use crate::request::get;

/// How long a test waits for what should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// What is recorded is seen within this.
const SEEN: Duration = Duration::from_secs(2);

/// A page that holds its reader up for longer than this feels broken.
const FROZEN: f64 = 500.0;

fn builder() -> TelemetryBuilder {
    Telemetry::builder("page").with_address("127.0.0.1:0")
}

/// The page of this endpoint, with what it shows first.
#[track_caller]
fn open(bin: &Path, address: SocketAddr, screen: Screen) -> Page {
    let mut page = Page::open(bin, &format!("http://{address}/"), screen);
    page.wait_until("document.body.dataset.connection === 'live'", SOON);
    page
}

/// The element of a family.
fn family(scraped: &str) -> String {
    format!("document.querySelector('[data-family=\"{scraped}\"]')")
}

/// Whether a family is there to be seen.
fn is_shown(scraped: &str) -> String {
    format!("{}?.checkVisibility() === true", family(scraped))
}

fn is_hidden(scraped: &str) -> String {
    let family = family(scraped);
    format!("{family} && {family}.hidden && !{family}.checkVisibility()")
}

/// The row of one series, by its labels as `key="value",…`.
fn row(scraped: &str, series: &str) -> String {
    let rows = format!("[...({}?.querySelectorAll('[data-series]') ?? [])]", family(scraped));
    format!("{rows}.find((row) => row.dataset.series === {})", json!(series))
}

fn shows(scraped: &str, series: &str, value: &str) -> String {
    format!("{}?.dataset.value === {}", row(scraped, series), json!(value))
}

/// Whether a line of the health strip that is about this check says that something is wrong.
fn is_ill(check: &str) -> String {
    format!(
        "!!document.querySelector('[data-check=\"{check}\"][data-health=\"warn\"], [data-check=\"{check}\"][data-health=\"bad\"]')"
    )
}

/// The page has asked nobody but its own endpoint, and has nothing to complain about.
#[track_caller]
fn assert_quiet(page: &mut Page, address: SocketAddr) {
    assert_eq!(page.console(), [""; 0]);
    let own = format!("http://{address}/");
    let others: Vec<&String> =
        page.requests().iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert_eq!(others, [""; 0], "the page asks its own endpoint only");
}

/// Where pictures and measured figures go.
fn screenshots(file: &str) -> PathBuf {
    let stack = process::installed("");
    stack.parent().unwrap().join("screenshots").join(file)
}

#[test]
fn a_counter_is_seen_to_move_within_two_seconds_of_being_recorded() {
    let Some(bin) = browser::require() else { return };
    let telemetry = builder().start().unwrap();
    let orders = telemetry.meter("shop").u64_counter("shop.orders").with_description("Orders.").build();
    let (book, cup) = ([KeyValue::new("kind", "book")], [KeyValue::new("kind", "cup")]);
    orders.add(1, &book);
    let address = telemetry.local_addr().unwrap();
    let mut page = open(&bin, address, Screen::desk());
    page.wait_until(&shows("shop_orders_total", "kind=\"book\"", "1"), SOON);

    // The second one is recorded while the page is in the middle of something else.
    for total in [6, 11] {
        orders.add(5, &book);
        page.wait_until(&shows("shop_orders_total", "kind=\"book\"", &total.to_string()), SEEN);
    }
    // So is a series, and a family, that was not there before.
    orders.add(2, &cup);
    page.wait_until(&shows("shop_orders_total", "kind=\"cup\"", "2"), SEEN);
    telemetry.meter("shop").f64_gauge("shop.temperature").with_unit("Cel").build().record(21.5, &[]);
    page.wait_until(&shows("shop_temperature_celsius", "", "21.5"), SEEN);
    // What the counter does in a second is said in words for people.
    page.wait_until(&format!("/\\/s/.test({}.innerText)", row("shop_orders_total", "kind=\"book\"")), SOON);
    assert_quiet(&mut page, address);
}

#[test]
fn a_slash_begins_a_filter_that_hides_what_does_not_match_and_escape_ends_it() {
    let Some(bin) = browser::require() else { return };
    let telemetry = builder().start().unwrap();
    let meter = telemetry.meter("shop");
    let orders = meter.u64_counter("shop.orders").with_description("Books and cups that were sold.").build();
    orders.add(1, &[KeyValue::new("kind", "book")]);
    orders.add(1, &[KeyValue::new("kind", "cup")]);
    meter.u64_gauge("shop.doors").build().record(2, &[KeyValue::new("side", "street")]);
    let address = telemetry.local_addr().unwrap();
    let mut page = open(&bin, address, Screen::desk());
    for name in ["shop_orders_total", "shop_doors"] {
        page.wait_until(&is_shown(name), SOON);
    }
    assert_ne!(page.evaluate("document.activeElement.id"), "filter");

    page.press("/");
    assert_eq!(page.evaluate("document.activeElement.id"), "filter");
    assert_eq!(page.evaluate("document.activeElement.value"), "", "the slash is not written");
    for (words, shown, hidden) in [
        ("orders", "shop_orders_total", "shop_doors"),
        ("STREET", "shop_doors", "shop_orders_total"),
        ("sold book", "shop_orders_total", "shop_doors"),
    ] {
        page.write(words);
        page.wait_until(&is_hidden(hidden), SOON);
        page.wait_until(&is_shown(shown), SOON);
        page.press("Escape");
        page.wait_until(&is_shown(hidden), SOON);
        assert_eq!(page.evaluate("document.getElementById('filter').value"), "", "{words}");
        page.press("/");
    }
    // Of the family that matches by a label, only the series that has it.
    page.write("kind=cup");
    page.wait_until(&format!("!{}?.checkVisibility()", row("shop_orders_total", "kind=\"book\"")), SOON);
    page.wait_until(&format!("{}.checkVisibility()", row("shop_orders_total", "kind=\"cup\"")), SOON);
    page.press("Escape");
    // It stays as it is while values come.
    page.press("/");
    page.write("doors");
    page.wait_until(&is_hidden("shop_orders_total"), SOON);
    orders.add(1, &[KeyValue::new("kind", "lamp")]);
    meter.u64_gauge("shop.doors").build().record(3, &[KeyValue::new("side", "street")]);
    page.wait_until(&shows("shop_doors", "side=\"street\"", "3"), SOON);
    page.wait_until(&is_hidden("shop_orders_total"), SOON);
    assert_quiet(&mut page, address);
}

/// How long each frame took, in milliseconds, over five seconds in which the page does this once in each frame.
fn frames_while(work: &str) -> String {
    format!(
        "new Promise((done) => {{
            const frames = [];
            let last = performance.now();
            const end = last + 5000;
            const step = () => {{
                const now = performance.now();
                frames.push(now - last);
                last = now;
                {{ {work} }}
                if (now < end) requestAnimationFrame(step); else done(frames.slice(1));
            }};
            requestAnimationFrame(step);
        }})"
    )
}

#[test]
fn five_thousand_series_do_not_freeze_the_page() {
    let Some(bin) = browser::require() else { return };
    // Half of them in one family, half of them in a hundred.
    let view = View::of("load.sessions").with_cardinality_limit(3_000);
    let telemetry = builder().with_view(view).start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let (meter, ended) = (telemetry.meter("load"), AtomicBool::new(false));
    let sessions = meter.u64_counter("load.sessions").build();
    let hundred: Vec<_> = (0..100).map(|n| meter.u64_counter(format!("load.requests{n:02}")).build()).collect();
    let labels = |n: usize| [KeyValue::new("shard", format!("shard-{n:04}")), KeyValue::new("zone", "abc")];
    let record = || {
        for n in 0..2_500 {
            sessions.add(1 + n as u64 % 7, &labels(n));
            hundred[n % 100].add(1 + n as u64 % 5, &labels(n / 100));
        }
    };
    record();

    let mut page = open(&bin, address, Screen::desk());
    // Of the long lists only what is near the screen is in the document; the last family is there all the same.
    page.wait_until(&format!("!!{}", family("load_requests99_total")), SOON);
    let last = shows("load_requests99_total", "shard=\"shard-0000\",zone=\"abc\"", "5");
    page.wait_until(&format!("{}.scrollIntoView() || {last}", family("load_requests99_total")), SOON);
    page.evaluate("scrollTo(0, 0)");

    let mut measured = Vec::new();
    thread::scope(|scope| {
        let _end = Ended(&ended);
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                record();
                thread::sleep(Duration::from_millis(250));
            }
        });
        let works = [
            ("watching", ""),
            ("scrolling", "scrollTo(0, (scrollY + 60) % document.documentElement.scrollHeight)"),
            (
                "filtering",
                "const filter = document.getElementById('filter');
                 if (frames.length % 30 === 0) {
                     filter.value = frames.length % 60 ? 'shard-00' : '';
                     filter.dispatchEvent(new Event('input', { bubbles: true }));
                 }",
            ),
        ];
        for (doing, work) in works {
            // Other tests run on the same machine. A page that freezes does so each time, a machine that is busy does not.
            let figures = process::poll(Duration::from_secs(60), Duration::ZERO, || {
                let before = polls(&mut page);
                let frames = page.evaluate(&frames_while(work));
                let mut frames: Vec<f64> = frames.as_array().unwrap().iter().filter_map(Value::as_f64).collect();
                frames.sort_by(f64::total_cmp);
                let at = |share: f64| frames[((frames.len() - 1) as f64 * share) as usize];
                let (median, p99, longest) = (at(0.5), at(0.99), at(1.0));
                let answers = polls(&mut page) - before;
                let figures = json!({
                    "doing": doing, "series": 5_000, "seconds": 5, "frames": frames.len(), "answers": answers,
                    "median_ms": median, "p99_ms": p99, "longest_ms": longest,
                });
                if longest < FROZEN && answers >= 2 { Ok(figures) } else { Err(figures.to_string()) }
            });
            measured.push(figures);
        }
    });
    page.press("Escape");
    let text = serde_json::to_string_pretty(&measured).unwrap();
    process::say(&format!("frames of the live page:\n{text}"));
    let path = screenshots("frames.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text + "\n").unwrap();
    assert_quiet(&mut page, address);
}

/// Ends the recording also when the test fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often the page has asked for data.
fn polls(page: &mut Page) -> usize {
    page.requests().iter().filter(|url| url.contains("/live?")).count()
}

#[test]
fn a_lost_connection_is_said_keeps_what_was_shown_and_comes_back() {
    let Some(bin) = browser::require() else { return };
    let telemetry = builder().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    telemetry.meter("shop").u64_counter("shop.orders").build().add(7, &[]);
    let mut page = open(&bin, address, Screen::desk());
    page.wait_until(&shows("shop_orders_total", "", "7"), SOON);
    assert_eq!(page.evaluate("document.getElementById('banner').checkVisibility()"), false);
    assert_quiet(&mut page, address);

    telemetry.shutdown(SOON).unwrap();
    page.wait_until("document.body.dataset.connection === 'lost'", SOON);
    page.wait_until("document.getElementById('banner').checkVisibility()", SOON);
    assert_ne!(page.evaluate("document.getElementById('banner').innerText.trim()"), "");
    assert_eq!(page.evaluate(&shows("shop_orders_total", "", "7")), true, "what was known is still there");
    assert_eq!(page.evaluate(&is_shown("shop_orders_total")), true);
    page.screenshot(&screenshots("lost.png"));

    let telemetry = Telemetry::builder("page").with_address(address).start().unwrap();
    telemetry.meter("shop").u64_counter("shop.orders").build().add(2, &[]);
    page.wait_until("document.body.dataset.connection === 'live'", SOON);
    page.wait_until("!document.getElementById('banner').checkVisibility()", SOON);
    page.wait_until(&shows("shop_orders_total", "", "2"), SOON);
}

#[test]
fn what_goes_wrong_is_said_in_the_health_strip_and_where_it_happens() {
    let Some(bin) = browser::require() else { return };
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let exporter = PushMetricExporter::OtlpHttp(OtlpMetricExporter::http(&format!("http://{nobody}")));
    let reader = PeriodicMetricReader { interval: Duration::from_millis(200), ..PeriodicMetricReader::new(exporter) };
    let reader = PeriodicMetricReader { timeout: Some(Duration::from_millis(200)), ..reader };
    let telemetry = builder()
        .with_reader(MetricReader::pull())
        .with_reader(MetricReader::Periodic(reader))
        .with_view(View::of("shop.visits").with_cardinality_limit(4))
        .start()
        .unwrap();
    let address = telemetry.local_addr().unwrap();
    let meter = telemetry.meter("shop");
    let visits = meter.u64_counter("shop.visits").with_description("Visits, by visitor.").build();
    visits.add(1, &[KeyValue::new("visitor", "first")]);
    meter.u64_counter("shop.orders").with_description("Orders.").build().add(3, &[]);
    meter.u64_gauge("shop.doors").with_description("Doors that are open.").build().record(2, &[]);
    let mut page = open(&bin, address, Screen::desk());
    page.wait_until(&is_shown("shop_visits_total"), SOON);
    for check in ["scrape", "callbacks", "overflow", "dropped", "refused", "problems"] {
        page.wait_until(&format!("!!document.querySelector('[data-check=\"{check}\"][data-health=\"ok\"]')"), SOON);
    }
    page.wait_until(&is_ill("export"), SOON);

    for visitor in 0..20 {
        visits.add(1, &[KeyValue::new("visitor", visitor)]);
    }
    page.wait_until(&is_ill("overflow"), SOON);
    page.wait_until(&format!("/limit of 4/.test({}.innerText)", family("shop_visits_total")), SOON);

    meter.f64_observable_gauge("shop.mood").with_callback(|_| panic::resume_unwind(Box::new("of the shop"))).build();
    page.wait_until(&is_ill("callbacks"), SOON);
    page.wait_until(&format!("/callback/i.test({}?.innerText)", family("shop_mood")), SOON);

    // Both would be scraped as shop_orders_total.
    meter.u64_gauge("shop.orders_total").build().record(1, &[]);
    assert_eq!(get(address, "/metrics", "").unwrap().status, 200);
    page.wait_until(&is_ill("dropped"), SOON);
    let problems =
        "[...document.querySelectorAll('[data-check=\"problems\"]')].map((line) => line.innerText).join('\\n')";
    page.wait_until(&format!("/shop[._]orders/.test({problems})"), SOON);
    page.wait_until(&format!("/shop[.]orders_total/.test({}.innerText)", family("shop_orders_total")), SOON);

    meter.u64_counter("1st").build().add(1, &[]);
    page.wait_until(&is_ill("refused"), SOON);
    assert_eq!(page.evaluate(&format!("/limit|callback|conflict/i.test({}.innerText)", family("shop_doors"))), false);
    assert_quiet(&mut page, address);
    page.screenshot(&screenshots("faults.png"));
}

#[test]
fn hostile_names_and_labels_are_shown_and_do_nothing() {
    let Some(bin) = browser::require() else { return };
    let script = "</script><script>document.hacked = 1</script><img src=x onerror='document.hacked = 1'>";
    // The SDK keeps what is no number away; another registry does not.
    let registry = ::prometheus::Registry::new();
    for (name, value) in [("__proto__", f64::NAN), ("constructor", f64::NEG_INFINITY)] {
        let gauge = ::prometheus::Gauge::new(name, script).unwrap();
        gauge.set(value);
        registry.register(Box::new(gauge)).unwrap();
    }
    let builder = Telemetry::builder(script).with_address("127.0.0.1:0").with_registry(registry);
    let telemetry = builder.start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let meter = telemetry.meter(script);
    let counter = meter.u64_counter("hostile.requests").with_unit("{\"<b>\"}").with_description(script).build();
    let hostile = |value: &str| [KeyValue::new("said", value.to_owned())];
    let values = [script, "\"quoted\"", "back\\slash", "two\nlines", "\u{202e}backwards", "${1}", "&lt;", "__proto__"];
    for value in values {
        counter.add(3, &hostile(value));
    }
    counter.add(3, &[KeyValue::new("__proto__", "a key"), KeyValue::new(script, "another")]);
    meter.u64_gauge(script).build().record(1, &[]);
    let mut page = open(&bin, address, Screen::desk());
    for value in values {
        let written = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        page.wait_until(&shows("hostile_requests_total", &format!("said=\"{written}\""), "3"), SOON);
    }
    page.wait_until(&shows("__proto__", "", "NaN"), SOON);
    page.wait_until(&shows("constructor", "", "-Inf"), SOON);
    let text = page.evaluate(&format!("{}.innerText", family("hostile_requests_total")));
    assert!(text.as_str().unwrap().contains("onerror='document.hacked = 1'"), "it is shown as text: {text}");
    // Also in what is filtered and opened.
    page.press("/");
    page.write("<script>");
    page.wait_until(&is_hidden("barograph_scrape_in_flight"), SOON);
    page.press("Enter");
    page.press("Enter");
    page.wait_until("!!document.querySelector('[data-family] [aria-expanded=\"true\"]')", SOON);
    assert_eq!(page.evaluate("typeof document.hacked"), "undefined");
    assert_eq!(page.evaluate("document.images.length"), 0);
    assert_eq!(page.evaluate("document.scripts.length"), 1);
    assert_quiet(&mut page, address);
}

#[test]
fn the_keyboard_is_enough() {
    let Some(bin) = browser::require() else { return };
    let telemetry = builder().without_self_metrics().start().unwrap();
    let address = telemetry.local_addr().unwrap();
    let meter = telemetry.meter("shop");
    meter.u64_counter("shop.first").build().add(1, &[]);
    meter.f64_histogram("shop.second").with_unit("s").build().record(0.2, &[]);
    telemetry.meter("other").u64_gauge("other.third").build().record(1, &[]);
    let mut page = open(&bin, address, Screen::desk());
    page.wait_until(&is_shown("shop_second_seconds"), SOON);
    page.wait_until(&is_shown("shop_first_total"), SOON);

    // Every stop has a name for who hears the page, and is seen to have been reached.
    let mut stops = Vec::new();
    for _ in 0..40 {
        page.press("Tab");
        let stop = page.evaluate(
            "(() => {
                const here = document.activeElement, style = getComputedStyle(here);
                if (here === document.body) return null;
                const name = here.getAttribute('aria-label') || here.textContent.trim() || here.placeholder || '';
                const marked = style.outlineStyle !== 'none' || style.boxShadow !== 'none';
                return [name, marked, here.checkVisibility(), here.outerHTML.slice(0, 80)];
            })()",
        );
        if stop.is_null() {
            break;
        }
        assert!(stop[0] != "" && stop[1] == true && stop[2] == true, "a stop without a name, mark or place: {stop}");
        stops.push(stop[3].clone());
    }
    assert!(stops.len() > 5 && stops.len() < 40, "the walk has an end: {stops:?}");

    let focused = |name: &str| format!("document.activeElement === {}", family(name));
    page.press("/");
    page.write("shop");
    page.wait_until(&is_hidden("other_third"), SOON);
    page.press("Enter");
    page.wait_until(&focused("shop_first_total"), SOON);
    page.press("j");
    page.wait_until(&focused("shop_second_seconds"), SOON);
    page.press("k");
    page.wait_until(&focused("shop_first_total"), SOON);
    page.press("ArrowDown");
    page.wait_until(&focused("shop_second_seconds"), SOON);
    let expanded = format!("!!{}.querySelector('[aria-expanded=\"true\"]')", family("shop_second_seconds"));
    page.press("Enter");
    page.wait_until(&expanded, SOON);
    page.press("Enter");
    page.wait_until(&format!("!({expanded})"), SOON);

    page.press("p");
    page.wait_until("document.body.dataset.connection === 'paused'", SOON);
    let asked = polls(&mut page);
    meter.u64_counter("shop.first").build().add(1, &[]);
    page.evaluate("new Promise((done) => setTimeout(done, 1500))");
    assert_eq!(polls(&mut page), asked, "nothing is asked while it is paused");
    page.press("p");
    page.wait_until("document.body.dataset.connection === 'live'", SOON);
    page.wait_until(&shows("shop_first_total", "", "2"), SOON);

    assert_eq!(page.evaluate("document.documentElement.dataset.theme"), "light");
    page.press("t");
    page.wait_until("document.documentElement.dataset.theme === 'dark'", SOON);
    page.press("?");
    page.wait_until("document.querySelector('dialog').open", SOON);
    page.press("Escape");
    page.wait_until("!document.querySelector('dialog').open", SOON);
    assert_quiet(&mut page, address);
    // It is remembered.
    page.go(&format!("http://{address}/"));
    page.wait_until("document.documentElement.dataset.theme === 'dark'", SOON);
}

/// How light the page's background is, from 0 to 255.
const LIGHTNESS: &str = "(() => {
    const canvas = document.createElement('canvas').getContext('2d');
    canvas.fillStyle = getComputedStyle(document.body).backgroundColor;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
    return (red + green + blue) / 3;
})()";

#[test]
fn the_platform_is_pictured_light_dark_and_on_a_phone() {
    let Some(bin) = browser::require() else { return };
    let directory = tempfile::tempdir().unwrap();
    let platform = Platform::start(&directory.path().join("summary.json"), Duration::from_secs(120));
    let mut page = open(&bin, platform.address(), Screen::desk());
    // Until there is a history to be seen.
    page.wait_until("performance.now() > 15000", SOON);
    page.wait_until(&is_shown("test_watcher_tests_run_total"), SOON);
    assert_eq!(page.evaluate("document.documentElement.dataset.theme"), "light");
    let light = page.evaluate(LIGHTNESS).as_f64().unwrap();
    page.screenshot(&screenshots("light.png"));

    page.show_on(Screen::desk().dark());
    page.wait_until("document.documentElement.dataset.theme === 'dark'", SOON);
    let dark = page.evaluate(LIGHTNESS).as_f64().unwrap();
    assert!(light > 200.0 && dark < 60.0, "light is light and dark is dark: {light} {dark}");
    next_frame(&mut page);
    page.screenshot(&screenshots("dark.png"));

    page.show_on(Screen::phone());
    page.wait_until("document.documentElement.dataset.theme === 'light' && innerWidth === 390", SOON);
    next_frame(&mut page);
    let [wide, small]: [Value; 2] = [
        page.evaluate("document.documentElement.scrollWidth"),
        page.evaluate(
            "Math.min(...[...document.querySelectorAll('main *')]
                .filter((element) => element.checkVisibility() && element.children.length === 0 && element.textContent.trim())
                .map((element) => parseFloat(getComputedStyle(element).fontSize)))",
        ),
    ];
    assert_eq!(wide, 390, "nothing has to be moved sideways");
    assert!(small.as_f64().unwrap() >= 10.0, "the smallest letters are {small} px");
    page.screenshot(&screenshots("phone.png"));
    assert_quiet(&mut page, platform.address());
}

/// Waits until what has changed is drawn.
fn next_frame(page: &mut Page) {
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 300)))");
}
