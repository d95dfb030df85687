//! The page at `/`: where the metrics are, and what is wrong with them.

use crate::error::Problem;

/// Where the live page is not shown: why, and what shows it.
pub(super) const HIDDEN: &str = "the live page is shown on this machine only, to a browser that asks the endpoint itself for a loopback name such as localhost: `with_live_page(LivePage::Anyone)` of the builder shows it to everybody";

/// A plain page without scripts, styles from elsewhere, or anything that a browser would have to fetch.
/// `is_live` is whether there is a live page, which others see.
pub(super) fn page(
    service: &str,
    metrics_path: &str,
    debug_path: Option<&str>,
    is_live: bool,
    problems: &[Problem],
) -> String {
    let service = escaped(service);
    let metrics_path = escaped(metrics_path);
    // Relative, so that the links lead on when the page is mounted below another path.
    let metrics_link = metrics_path.trim_start_matches('/');
    let debug = debug_path.map_or_else(String::new, |path| {
        let link = path.trim_start_matches('/');
        format!("<li><a href=\"{link}\">{path}</a> why each metric is named so, and why one is missing</li>\n")
    });
    let problems = match problems {
        [] => "<p>Every instrument and view is as it should be.</p>".to_owned(),
        some => {
            let items: String =
                some.iter().map(|problem| format!("<li>{}</li>\n", escaped(&problem.to_string()))).collect();
            format!("<h2>Problems</h2>\n<ul>\n{items}</ul>")
        }
    };
    let hidden = if is_live { format!("<p>Here {}.</p>\n", escaped(HIDDEN)) } else { String::new() };
    format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head><meta charset=\"utf-8\"><title>{service} metrics</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:3rem auto;max-width:50rem;padding:0 1rem}}</style></head>\n\
         <body>\n\
         <h1>{service}</h1>\n\
         <ul>\n\
         <li><a href=\"{metrics_link}\">{metrics_path}</a> for Prometheus</li>\n\
         {debug}\
         <li><a href=\"livez\">/livez</a> the process answers</li>\n\
         <li><a href=\"readyz\">/readyz</a> the program is ready, or what it waits for</li>\n\
         </ul>\n\
         {problems}\n\
         {hidden}\
         </body>\n\
         </html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::InstrumentName;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let instrument = InstrumentName { name: "<script>".to_owned(), scope: "a&b".to_owned() };
        let page = page("\"svc\"<b>", "/metrics", None, false, &[Problem::InvalidName { instrument }]);
        assert!(page.contains("<h1>&quot;svc&quot;&lt;b&gt;</h1>"), "{page}");
        assert!(page.contains("`&lt;script&gt;` of meter `a&amp;b` records nothing"), "{page}");
    }
}
