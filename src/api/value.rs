//! Values that Kubernetes writes as text: GEP-2257 durations and byte quantities, read once at the edge.
//! Knows nothing of the objects that use them.

use std::fmt;
use std::time::Duration as StdDuration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration as the Gateway API writes it (GEP-2257): up to four groups of up to five digits with the unit
/// `h`, `m`, `s` or `ms`, like `1h30m`. Whole milliseconds; at most 4 × 99999 hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(StdDuration);

impl Duration {
    /// The pattern that the schema holds; exactly what [`Duration::parse`] accepts.
    pub const PATTERN: &'static str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

    pub const fn from_millis(millis: u64) -> Self {
        Self(StdDuration::from_millis(millis))
    }

    pub const fn get(self) -> StdDuration {
        self.0
    }

    /// Reads a GEP-2257 duration; `None` where the text does not match [`Duration::PATTERN`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut millis: u64 = 0;
        for _ in 0..4 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 || digits > 5 {
                return None;
            }
            let (number, tail) = rest.split_at_checked(digits)?;
            let number: u64 = number.parse().ok()?;
            let (unit, tail) = split_unit(tail)?;
            millis += number * unit;
            rest = tail;
            if rest.is_empty() {
                return Some(Self::from_millis(millis));
            }
        }
        None
    }
}

/// Milliseconds of the unit at the start of `text`, and what follows it.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    for (name, millis) in [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)] {
        if let Some(rest) = text.strip_prefix(name) {
            return Some((millis, rest));
        }
    }
    None
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        // A group takes five digits, and only hours can grow beyond that.
        for (name, unit) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            let count = millis / unit;
            if count > 0 {
                write!(f, "{count}{name}")?;
                millis %= unit;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!("{text:?} is not a duration such as 30s, 1h30m or 250ms"))
        })
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 2, "maxLength": 28, "pattern": Self::PATTERN })
    }
}

/// A number of bytes as a Kubernetes quantity: whole, with `k M G T` (powers of 1000) or `Ki Mi Gi Ti`
/// (powers of 1024), as a number or as text. At most 10¹⁵ − 1 without a suffix and 999999 with one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteQuantity(u64);

impl ByteQuantity {
    /// The pattern that the schema holds for the text form; exactly what [`ByteQuantity::parse`] accepts.
    pub const PATTERN: &'static str = "^([0-9]{1,15}|[0-9]{1,6}(k|M|G|T|Ki|Mi|Gi|Ti))$";
    /// The largest value of the number form.
    pub const NUMBER_MAX: u64 = 999_999_999_999_999;

    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Reads a quantity; `None` where the text does not match [`ByteQuantity::PATTERN`].
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, suffix) = text.split_at_checked(digits)?;
        let unit: u64 = match suffix {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return None,
        };
        if digits > if unit == 1 { 15 } else { 6 } {
            return None;
        }
        number.parse::<u64>().ok()?.checked_mul(unit).map(Self)
    }
}

impl Serialize for ByteQuantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ByteQuantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteQuantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as 8Mi, 500k or 1024")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ByteQuantity, E> {
                Ok(ByteQuantity(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ByteQuantity, E> {
                u64::try_from(value)
                    .map(ByteQuantity)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteQuantity, E> {
                ByteQuantity::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for ByteQuantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteQuantity".into()
    }

    // A structural schema gives a union of integer and string no `type` but this extension; the bounds that
    // follow apply to the form that they fit.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maximum": Self::NUMBER_MAX,
            "maxLength": 15,
            "pattern": Self::PATTERN,
        })
    }
}

#[cfg(test)]
mod tests;
