//! From UCUM units to the words that Prometheus names end with.

use super::escape::underscored;

/// The word of a UCUM unit: `s` → `seconds`, `By/s` → `bytes_per_second`, `{packet}` → nothing.
///
/// A unit that is in no table is its own word, cleaned: better a strange name than two metrics that differ in nothing
/// but a unit nobody sees. The dimensionless `1` has no word; the name decides about `ratio`.
pub(super) fn unit_word(unit: &str) -> String {
    let unit = without_annotations(unit);
    let (main, per) = match unit.split_once('/') {
        Some((main, per)) => (main.trim(), per.trim()),
        None => (unit.trim(), ""),
    };
    let main = main_word(main);
    let per = per_word(per);
    match (main.is_empty(), per.is_empty()) {
        (_, true) => main,
        (true, false) => format!("per_{per}"),
        (false, false) => format!("{main}_per_{per}"),
    }
}

/// Drops what stands in braces: an annotation says what is counted, not in what unit.
fn without_annotations(unit: &str) -> String {
    let mut depth = 0_usize;
    unit.chars()
        .filter(|&character| match character {
            '{' => {
                depth += 1;
                false
            }
            '}' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        })
        .collect()
}

fn main_word(unit: &str) -> String {
    let word = match unit {
        "" | "1" => "",
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tebibytes",
        // UCUM writes the prefix in lower case; the upper-case one is common enough to be meant.
        "kBy" | "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "%" => "percent",
        other => return underscored(other, |_| false).trim_matches('_').to_owned(),
    };
    word.to_owned()
}

fn per_word(unit: &str) -> String {
    let word = match unit {
        "" | "1" => "",
        "s" => "second",
        // A rate per metre is rare; `m` here is a minute, as every other translator reads it.
        "m" | "min" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => return underscored(other, |_| false).trim_matches('_').to_owned(),
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_the_table_have_their_word() {
        for (unit, word) in [
            ("s", "seconds"),
            ("By", "bytes"),
            ("TiBy", "tebibytes"),
            ("kBy", "kilobytes"),
            ("KBy", "kilobytes"),
            ("%", "percent"),
            ("Cel", "celsius"),
            ("m/s", "meters_per_second"),
            ("By/min", "bytes_per_minute"),
            (" By / s ", "bytes_per_second"),
        ] {
            assert_eq!(unit_word(unit), word, "{unit}");
        }
    }

    #[test]
    fn annotations_and_the_dimensionless_unit_have_none() {
        for unit in ["", "1", "{packet}", "{a}{b}", "/", "1/1"] {
            assert_eq!(unit_word(unit), "", "{unit}");
        }
        assert_eq!(unit_word("{packet}/s"), "per_second");
        assert_eq!(unit_word("1/s"), "per_second");
        assert_eq!(unit_word("By/{query}"), "bytes");
    }

    #[test]
    fn an_unknown_unit_is_its_own_word() {
        assert_eq!(unit_word("furlong"), "furlong");
        assert_eq!(unit_word("m[H2O]"), "m_H2O");
        assert_eq!(unit_word("1/tick"), "per_tick");
    }
}
