//! Whether a page has what was recorded: a contestant that leaves something out is fast.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::workload::Workload;

/// Ends the run if the page, in whatever format, does not have every series of the workload. What a contestant adds of
/// its own (`target_info`, counts of itself) is not looked at.
pub(crate) fn check(name: &str, page: &[u8], workload: &Workload) {
    if page.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        MultiGzDecoder::new(page).read_to_end(&mut plain).expect("gzip");
        return check(name, &plain, workload);
    }
    if page.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return check(name, &zstd::decode_all(page).expect("zstd"), workload);
    }
    match str::from_utf8(page) {
        Ok(text) => {
            let samples = text.lines().filter(|line| line.starts_with("bench_"));
            // OpenMetrics may say when a series began, in a line of its own; a series of what was too much is none of ours.
            let samples = samples.filter(|line| !line.contains("_created") && !line.contains("otel_metric_overflow"));
            assert_eq!(samples.count(), workload.lines(), "lines in the page of {name}");
        }
        // Lengths and floats are no UTF-8.
        Err(_) => assert_eq!(metrics_in_protobuf(page), workload.series(), "metrics in the page of {name}"),
    }
}

/// The metrics in those messages `MetricFamily`, one after the other and each behind its length, that are the workload's.
fn metrics_in_protobuf(mut page: &[u8]) -> usize {
    const NAME: u64 = 1 << 3 | 2;
    const TYPE: u64 = 3 << 3;
    const METRIC: u64 = 4 << 3 | 2;
    let mut metrics = 0;
    while !page.is_empty() {
        let mut family = bytes(&mut page);
        let mut is_ours = false;
        while !family.is_empty() {
            match number(&mut family) {
                NAME => is_ours = bytes(&mut family).starts_with(b"bench"),
                TYPE => _ = number(&mut family),
                METRIC => {
                    bytes(&mut family);
                    metrics += usize::from(is_ours);
                }
                // The help and the unit.
                _ => _ = bytes(&mut family),
            }
        }
    }
    metrics
}

fn bytes<'a>(message: &mut &'a [u8]) -> &'a [u8] {
    let length = number(message) as usize;
    message.split_off(..length).expect("a message that is whole")
}

fn number(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first().expect("a message that is whole");
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_of_families_that_are_not_the_workloads_are_not_counted() {
        let family = |name: &str, metrics: usize| {
            let mut family = [&[0x0a, name.len() as u8], name.as_bytes(), &[0x12, 2, b'h', b'!', 0x18, 4]].concat();
            (0..metrics).for_each(|_| family.extend([0x22, 3, 1, 2, 3]));
            // Two bytes of length, as every longer message has.
            [&[family.len() as u8 & 0x7f | 0x80, (family.len() >> 7) as u8], &*family].concat()
        };
        let page = [family("bench_counter_0_total", 50), family("target_info", 1), family("bench_x", 2)].concat();
        assert_eq!(metrics_in_protobuf(&page), 52);
    }
}
