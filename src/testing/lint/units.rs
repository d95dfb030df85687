//! Units as words of names.

/// Words for units, each with the base unit of what it measures. Celsius is common where kelvin is not.
const UNITS: [(&str, &str); 27] = [
    ("amperes", "amperes"),
    ("bits", "bytes"),
    ("bytes", "bytes"),
    ("calories", "joules"),
    ("celsius", "celsius"),
    ("days", "seconds"),
    ("fahrenheit", "celsius"),
    ("feet", "meters"),
    ("grams", "grams"),
    ("hours", "seconds"),
    ("inches", "meters"),
    ("joules", "joules"),
    ("kelvin", "kelvin"),
    ("kelvins", "kelvin"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("miles", "meters"),
    ("minutes", "seconds"),
    ("ounces", "grams"),
    ("pounds", "grams"),
    ("rankine", "celsius"),
    ("seconds", "seconds"),
    ("volts", "volts"),
    ("watts", "watts"),
    ("weeks", "seconds"),
    ("yards", "meters"),
    ("hertz", "hertz"),
];

const PREFIXES: [&str; 19] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mebi", "giga", "gibi",
    "tera", "tebi", "peta", "pebi", "exa",
];

/// The base unit of what a word measures, with a prefix or without; `None` where it is no unit.
pub(super) fn base_unit(word: &str) -> Option<&'static str> {
    let base = |unit: &str| UNITS.iter().find(|(known, _)| *known == unit).map(|(_, base)| *base);
    base(word).or_else(|| PREFIXES.iter().find_map(|prefix| base(word.strip_prefix(prefix)?)))
}

pub(super) fn is_base_unit(word: &str) -> bool {
    base_unit(word) == Some(word)
}

/// What an abbreviated unit stands for, in base units.
pub(super) fn spelt_out(word: &str) -> Option<&'static str> {
    match word {
        "s" | "ms" | "us" | "ns" | "sec" | "h" | "d" => Some("seconds"),
        "b" | "kb" | "mb" | "gb" | "tb" | "pb" => Some("bytes"),
        "m" => Some("meters or seconds"),
        _ => None,
    }
}
