//! Compression of pages on their way.

use std::io::Write;

use flate2::Compression as Level;
use flate2::write::GzEncoder;

use crate::exposition::CHUNK;

use super::body::PageWriter;

/// How a page is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Compression {
    #[default]
    None,
    Gzip,
}

impl Compression {
    /// The value of the answer's `Content-Encoding`.
    pub(super) const fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
        }
    }

    /// What a request's `Accept-Encoding` prefers. What nobody understands, or nobody could send, is not compressed.
    pub(super) fn negotiate(accept_encoding: &str) -> Self {
        let (mut gzip, mut any, mut identity) = (None, None, None);
        for clause in accept_encoding.split(',') {
            let mut parts = clause.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(Some(1.0), |quality| quality.trim().parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)));
            match coding.as_str() {
                "gzip" | "x-gzip" => gzip = gzip.or(quality),
                "*" => any = any.or(quality),
                "identity" => identity = identity.or(quality),
                _ => {}
            }
        }
        let gzip = gzip.or(any).unwrap_or(0.0);
        if gzip > 0.0 && gzip >= identity.unwrap_or(0.0) { Self::Gzip } else { Self::None }
    }
}

/// The level: the lowest that makes a page of many series less than 1.4 times what flate2's default makes of it. It takes
/// about a quarter of the time; each level above takes longer for less and less. Compare the rows `text`, `text + gzip` and
/// `flate2` of `cargo run --release -p barograph-benches -- scrape`.
const LEVEL: Level = Level::new(2);

/// Compresses the chunks of one page.
pub(super) struct Gzip {
    encoder: GzEncoder<Vec<u8>>,
}

impl Gzip {
    pub(super) fn new(buffer: Vec<u8>) -> Self {
        Self { encoder: GzEncoder::new(buffer, LEVEL) }
    }

    /// Takes the bytes, leaves the buffer empty, and says whether anybody wants more.
    pub(super) fn write(&mut self, bytes: &mut Vec<u8>, writer: &mut PageWriter) -> bool {
        // Memory takes whatever is written to it.
        let is_written = self.encoder.write_all(bytes).is_ok();
        bytes.clear();
        if self.encoder.get_ref().len() < CHUNK {
            return is_written && writer.is_wanted();
        }
        is_written && writer.hand_on(self.encoder.get_mut())
    }

    /// Writes what is left.
    pub(super) fn end(self, writer: &mut PageWriter) -> bool {
        self.encoder.finish().is_ok_and(|mut rest| writer.hand_on(&mut rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_compressed_for_those_who_prefer_it_so() {
        for (accept_encoding, compression) in [
            ("gzip", Compression::Gzip),
            ("GZIP;q=0.5", Compression::Gzip),
            ("x-gzip", Compression::Gzip),
            ("deflate, gzip;q=0.8, br", Compression::Gzip),
            ("*", Compression::Gzip),
            ("gzip;q=0.5, identity;q=0.5", Compression::Gzip),
            ("", Compression::None),
            ("identity", Compression::None),
            ("gzip;q=0", Compression::None),
            ("gzip;q=0, *", Compression::None),
            ("*;q=0", Compression::None),
            ("gzip;q=0.5, identity", Compression::None),
            ("gzip;q=much", Compression::None),
            ("gzip;q=2", Compression::None),
            ("zstd", Compression::None),
            (";;;,,,=", Compression::None),
        ] {
            assert_eq!(Compression::negotiate(accept_encoding), compression, "{accept_encoding}");
        }
    }
}
