//! JSON values that are often not what the format says: each reads anything, so that one odd value costs one box only.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::file::quoted;

/// A number, a text, or neither.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Scalar {
    /// The key is not there, or null.
    #[default]
    Missing,
    Integer(i64),
    Number(f64),
    Text(String),
    /// What else it is.
    Other(&'static str),
}

impl Scalar {
    /// As a whole number, which a text may hold, too.
    pub(super) fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            // 2^53: below, f64 holds every whole number.
            Self::Number(value) if value.fract() == 0.0 && value.abs() < 9.007e15 => Some(*value as i64),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// As a finite number, which a text may hold, too.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(value) => Some(*value as f64),
            Self::Number(value) => Some(*value),
            Self::Text(text) => text.trim().parse().ok().filter(|value: &f64| value.is_finite()),
            _ => None,
        }
    }

    /// As text.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Integer(value) => Some(value.to_string()),
            Self::Number(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// Other than 0 and false.
    pub(super) fn is_set(&self) -> bool {
        self.number().is_some_and(|value| value != 0.0)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("nothing"),
            Self::Integer(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Integer(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(i64::try_from(value).map_or(Scalar::Number(value as f64), Scalar::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Scalar, A::Error> {
        while values.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Scalar, A::Error> {
        while values.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an object"))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A box: four numbers, or what is there instead.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BoxField(pub(super) Result<[f64; 4], String>);

impl Default for BoxField {
    fn default() -> Self {
        Self(Err("nothing".to_owned()))
    }
}

struct BoxVisitor;

impl<'de> Visitor<'de> for BoxVisitor {
    type Value = BoxField;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of four numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<BoxField, A::Error> {
        let mut xywh = [0.0; 4];
        let mut count = 0_usize;
        let mut wrong = None;
        while let Some(value) = values.next_element::<Scalar>()? {
            match (value.number(), xywh.get_mut(count)) {
                (Some(number), Some(place)) => *place = number,
                (None, _) => wrong = wrong.or(Some(value.to_string())),
                (Some(_), None) => {}
            }
            count += 1;
        }
        Ok(BoxField(match wrong {
            Some(found) => Err(format!("{found} among them")),
            None if count == 4 => Ok(xywh),
            None => Err(format!("{count}")),
        }))
    }

    fn visit_bool<E>(self, value: bool) -> Result<BoxField, E> {
        Ok(BoxField(Err(value.to_string())))
    }

    fn visit_i64<E>(self, value: i64) -> Result<BoxField, E> {
        Ok(BoxField(Err(format!("the number {value}"))))
    }

    fn visit_u64<E>(self, value: u64) -> Result<BoxField, E> {
        Ok(BoxField(Err(format!("the number {value}"))))
    }

    fn visit_f64<E>(self, value: f64) -> Result<BoxField, E> {
        Ok(BoxField(Err(format!("the number {value}"))))
    }

    fn visit_str<E>(self, value: &str) -> Result<BoxField, E> {
        Ok(BoxField(Err(quoted(value))))
    }

    fn visit_unit<E>(self) -> Result<BoxField, E> {
        Ok(BoxField::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<BoxField, A::Error> {
        while values.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(BoxField(Err("an object".to_owned())))
    }
}

impl<'de> Deserialize<'de> for BoxField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BoxVisitor)
    }
}
