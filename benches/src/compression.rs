//! What the levels of the compressors cost and save on our own pages: what the levels of the scrape endpoint were chosen by.

use std::io::Write;
use std::time::Instant;

use flate2::write::GzEncoder;

use crate::ours::Format;
use crate::peers::barograph;
use crate::table::{Contestant, Table, megabytes};
use crate::workload::Workload;

/// As many bytes at once as the endpoint compresses.
const CHUNK: usize = 64 * 1024;

/// The page is there already: only compressing is timed, chunk by chunk as the endpoint does it.
pub(crate) fn measure(workload: &Workload) -> String {
    let pages = [("text", Format::TEXT), ("protobuf", Format::PROTOBUF)].map(|(name, format)| {
        let mut page = Vec::new();
        barograph(workload, format)(&mut |piece| page.extend_from_slice(piece));
        let page = &page;
        let gzips = [("gzip 1", 1), ("gzip 2", 2), ("gzip 3", 3), ("gzip 6", 6)]
            .map(|(name, level)| contestant(name, move || gzip(page, level)));
        let zstds = [("zstd -5", -5), ("zstd -1", -1), ("zstd 1", 1), ("zstd 2", 2), ("zstd 3", 3)]
            .map(|(name, level)| contestant(name, move || zstd(page, level, None)));
        let windows = [("zstd 1, window of 256 KiB", 1), ("zstd 3, window of 512 KiB", 3)]
            .map(|(name, level)| contestant(name, move || zstd(page, level, Some(if level == 1 { 18 } else { 19 }))));
        let table = Table { rounds: workload.rounds, per_round: 1, unit: ("ms", 1e3), references: &[("gzip 2", 1)] };
        format!(
            "### {name}, {:.2} MB: {}, {} rounds\n\n{}",
            megabytes(page.len()),
            workload.name,
            workload.rounds,
            table.measure(gzips.into_iter().chain(zstds).chain(windows).collect())
        )
    });
    pages.join("\n")
}

fn contestant<'a>(name: &'static str, compress: impl Fn() -> usize + 'a) -> Contestant<'a> {
    Contestant::new(name, Some(compress()), move || {
        let start = Instant::now();
        compress();
        start.elapsed()
    })
}

fn gzip(page: &[u8], level: u32) -> usize {
    let mut encoder = GzEncoder::new(Vec::with_capacity(CHUNK), flate2::Compression::new(level));
    let mut size = 0;
    for chunk in page.chunks(CHUNK) {
        encoder.write_all(chunk).expect("memory");
        size += encoder.get_ref().len();
        encoder.get_mut().clear();
    }
    size + encoder.finish().expect("memory").len()
}

fn zstd(page: &[u8], level: i32, window_log: Option<u32>) -> usize {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::with_capacity(CHUNK), level).expect("memory");
    if let Some(window_log) = window_log {
        encoder.window_log(window_log).expect("a window that zstd knows");
    }
    let mut size = 0;
    for chunk in page.chunks(CHUNK) {
        encoder.write_all(chunk).expect("memory");
        size += encoder.get_ref().len();
        encoder.get_mut().clear();
    }
    size + encoder.finish().expect("memory").len()
}
