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
    /// If there is enough of it to be worth it.
    IfLong(Coding),
    /// Whatever its length: who asks does not take it as it is.
    Always(Coding),
}

/// The codings that there are, each under its name in HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    #[cfg(feature = "zstd")]
    Zstd,
    Gzip,
}

/// What is offered, from what is taken first where a scraper minds as little as we do.
const OFFERED: &[Coding] = &[
    #[cfg(feature = "zstd")]
    Coding::Zstd,
    Coding::Gzip,
];

/// A page shorter than this leaves as it is: it fits into one packet, 1,500 bytes less what IPv6 and TCP need of them, and
/// nothing arrives sooner that arrives in as many packets.
pub(super) const WORTH_IT: usize = 1_400;

impl Coding {
    /// The value of the answer's `Content-Encoding`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "zstd")]
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    fn is_called(self, name: &str) -> bool {
        // RFC 9110, section 8.4.1.3: `x-gzip` is to be taken for gzip.
        name.eq_ignore_ascii_case(self.name()) || (self == Self::Gzip && name.eq_ignore_ascii_case("x-gzip"))
    }
}

impl Compression {
    /// What a request's `Accept-Encoding` prefers, by RFC 9110, section 12.5.3. What cannot be understood is as good as not
    /// there. Who leaves nothing that could be sent gets the page as it is, as the RFC allows, and not a 406: a scraper that
    /// says nonsense is still one that wants its metrics.
    pub(super) fn negotiate(accept_encoding: &str) -> Self {
        let clauses: Vec<_> = accept_encoding.split(',').filter_map(clause).collect();
        let quality =
            |is_it: &dyn Fn(&str) -> bool| clauses.iter().find(|(name, _)| is_it(name)).map(|&(_, quality)| quality);
        let any = quality(&|name| name == "*");
        let identity = quality(&|name| name.eq_ignore_ascii_case("identity")).or(any);
        let best = OFFERED
            .iter()
            .filter_map(|&coding| Some((coding, quality(&|name| coding.is_called(name)).or(any)?)))
            .reduce(|best, other| if other.1 > best.1 { other } else { best });
        match best {
            Some((coding, quality)) if quality > 0.0 && quality >= identity.unwrap_or(0.0) => {
                if identity == Some(0.0) {
                    Self::Always(coding)
                } else {
                    Self::IfLong(coding)
                }
            }
            _ => Self::None,
        }
    }

    /// The coding of a page whose first chunk is this long. A chunk that is not full is a whole page.
    const fn of_page(self, first_chunk: usize) -> Option<Coding> {
        match self {
            Self::IfLong(coding) if first_chunk >= WORTH_IT => Some(coding),
            Self::Always(coding) => Some(coding),
            Self::IfLong(_) | Self::None => None,
        }
    }
}

/// The name of a coding and its weight.
fn clause(clause: &str) -> Option<(&str, f32)> {
    let mut parts = clause.split(';').map(str::trim);
    let name = parts.next()?;
    let quality = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim_end().eq_ignore_ascii_case("q").then(|| value.trim_start())
    });
    let quality = quality.map_or(Some(1.0), |quality| quality.parse().ok().filter(|q| (0.0..=1.0).contains(q)))?;
    Some((name, quality))
}

/// The level: the lowest that makes a page of many series less than 1.4 times what level 6, everybody's default, makes of it
/// (1.2 times, in a third of the time). Level 1 saves a sixth of the time and makes half as much again; level 3 takes half as
/// long again for a fiftieth. `cargo run --release -p barograph-benches -- compression` has the table.
const GZIP_LEVEL: Level = Level::new(2);

/// The level: 0.4 times what gzip takes, and 0.6 times its size (the table of `-- compression`, as above). Level 3 would make a
/// third less of a large page of text in a tenth more time, but holds 3 MB for each page on its way, where this one adds less
/// than 1 MB (`cargo run --release -p barograph-benches -- memory`) and a page is to need less than 2. Negative levels save
/// next to no time.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 1;

/// Takes the chunks of one page and hands them on, compressed or not.
pub(super) enum Packer {
    /// Nothing has come yet.
    New(Compression),
    Plain,
    Gzip(Box<GzEncoder<Vec<u8>>>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Packer {
    /// Takes the bytes, leaves the buffer empty, and says whether anybody wants more.
    pub(super) fn write(&mut self, bytes: &mut Vec<u8>, writer: &mut PageWriter) -> bool {
        if let Self::New(compression) = self {
            let coding = compression.of_page(bytes.len());
            writer.set_coding(coding);
            *self = match coding {
                None => Self::Plain,
                Some(Coding::Gzip) => Self::Gzip(Box::new(GzEncoder::new(writer.buffer(), GZIP_LEVEL))),
                #[cfg(feature = "zstd")]
                Some(Coding::Zstd) => match zstd::stream::write::Encoder::new(writer.buffer(), ZSTD_LEVEL) {
                    Ok(encoder) => Self::Zstd(encoder),
                    // Out of memory: the page ends with an error.
                    Err(_) => return false,
                },
            };
        }
        // Memory takes whatever is written to it.
        let (written, packed) = match self {
            Self::New(_) | Self::Plain => return writer.hand_on(bytes),
            Self::Gzip(encoder) => (encoder.write_all(bytes), encoder.get_mut()),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => (encoder.write_all(bytes), encoder.get_mut()),
        };
        bytes.clear();
        written.is_ok() && if packed.len() < CHUNK { writer.is_wanted() } else { writer.hand_on(packed) }
    }

    /// Writes what is left.
    pub(super) fn end(self, writer: &mut PageWriter) -> bool {
        let rest = match self {
            Self::New(_) | Self::Plain => return true,
            Self::Gzip(encoder) => encoder.finish(),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => encoder.finish(),
        };
        rest.is_ok_and(|mut rest| writer.hand_on(&mut rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GZIP: Compression = Compression::IfLong(Coding::Gzip);
    const ONLY_GZIP: Compression = Compression::Always(Coding::Gzip);

    #[track_caller]
    fn assert_negotiated(accept_encoding: &str, compression: Compression) {
        assert_eq!(Compression::negotiate(accept_encoding), compression, "{accept_encoding}");
    }

    #[test]
    fn a_page_is_compressed_for_those_who_prefer_it_so() {
        for (accept_encoding, compression) in [
            ("gzip", GZIP),
            ("GZIP;q=0.5", GZIP),
            ("x-gzip", GZIP),
            ("deflate, gzip;q=0.8, br", GZIP),
            ("gzip;q=0.5, identity;q=0.5", GZIP),
            ("gzip ; Q = 0.001", GZIP),
            ("gzip;q=1.0, gzip;q=0", GZIP),
            ("zstd;q=0, *;q=0.5", GZIP),
            ("", Compression::None),
            ("identity", Compression::None),
            ("gzip;q=0", Compression::None),
            ("zstd;q=0, gzip;q=0, *", Compression::None),
            ("*;q=0", Compression::None),
            ("gzip;q=0.5, identity", Compression::None),
            ("gzip;q=0.5, zstd;q=0, *;q=0.7", Compression::None),
        ] {
            assert_negotiated(accept_encoding, compression);
        }
    }

    #[test]
    fn what_cannot_be_understood_is_as_good_as_not_there() {
        for (accept_encoding, compression) in [
            ("gzip;q=much", Compression::None),
            ("gzip;q=2", Compression::None),
            ("gzip;q=-1", Compression::None),
            ("gzip;q=NaN", Compression::None),
            ("gzip;q=", Compression::None),
            ("gzip gzip", Compression::None),
            ("br, deflate, compress", Compression::None),
            (";;;,,,=", Compression::None),
            (";;;,, gzip ,=;q", GZIP),
            ("identity;q=oops, gzip;q=0.1", GZIP),
            ("gzip;q=oops, gzip;q=0.1", GZIP),
            ("gzip;level=9", GZIP),
        ] {
            assert_negotiated(accept_encoding, compression);
        }
    }

    #[test]
    fn who_does_not_take_a_page_as_it_is_gets_every_page_compressed_if_anything_is_left() {
        assert_negotiated("gzip, identity;q=0", ONLY_GZIP);
        assert_negotiated("gzip;q=0.1, *;q=0", ONLY_GZIP);
        assert_negotiated("gzip, identity;q=0.1, *;q=0", GZIP);
        for nothing_left in ["identity;q=0", "*;q=0", "br, identity;q=0", "gzip;q=0, zstd;q=0, identity;q=0"] {
            assert_negotiated(nothing_left, Compression::None);
        }
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstd_is_taken_before_gzip_where_both_are_as_welcome() {
        for accept_encoding in ["zstd", "gzip, deflate, br, zstd", "*", "gzip;q=0.5, zstd;q=0.5", "gzip;q=0.5, *"] {
            assert_negotiated(accept_encoding, Compression::IfLong(Coding::Zstd));
        }
        assert_negotiated("gzip, zstd;q=0.9", GZIP);
        assert_negotiated("zstd, identity;q=0", Compression::Always(Coding::Zstd));
    }

    #[cfg(not(feature = "zstd"))]
    #[test]
    fn zstd_is_not_offered_without_its_feature() {
        assert_negotiated("zstd", Compression::None);
        assert_negotiated("zstd, gzip;q=0.5", GZIP);
        assert_negotiated("*", GZIP);
    }

    #[test]
    fn a_page_that_fits_into_a_packet_is_compressed_only_for_those_who_do_not_take_it_otherwise() {
        assert_eq!(GZIP.of_page(WORTH_IT - 1), None);
        assert_eq!(GZIP.of_page(WORTH_IT), Some(Coding::Gzip));
        assert_eq!(ONLY_GZIP.of_page(1), Some(Coding::Gzip));
        assert_eq!(Compression::None.of_page(CHUNK), None);
    }
}
