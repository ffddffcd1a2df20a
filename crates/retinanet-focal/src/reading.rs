//! How a loss reads in a configuration: by its name alone, or as a table with its name as the one key.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::{AlphaBalanced, ClassLoss, Focal, FocalStar, HardExamples, Sampled};

const NAMES: &[&str] = &["focal", "focal_star", "cross_entropy", "alpha_balanced", "hard_examples", "ohem", "sampled"];

impl<'de> Deserialize<'de> for ClassLoss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClassLossVisitor)
    }
}

/// The table of a loss without hyper-parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

struct ClassLossVisitor;

impl<'de> Visitor<'de> for ClassLossVisitor {
    type Value = ClassLoss;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "one of {}, or a table with one of them as its key", NAMES.join(", "))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<ClassLoss, E> {
        Ok(match name {
            "focal" => ClassLoss::Focal(Focal::default()),
            "focal_star" => ClassLoss::FocalStar(FocalStar::default()),
            "cross_entropy" => ClassLoss::CrossEntropy,
            "alpha_balanced" => ClassLoss::AlphaBalanced(AlphaBalanced::default()),
            "hard_examples" | "ohem" => ClassLoss::HardExamples(HardExamples::default()),
            "sampled" => ClassLoss::Sampled(Sampled::default()),
            other => return Err(E::unknown_variant(other, NAMES)),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClassLoss, A::Error> {
        let name: String = map.next_key()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let loss = match name.as_str() {
            "focal" => ClassLoss::Focal(map.next_value()?),
            "focal_star" => ClassLoss::FocalStar(map.next_value()?),
            "cross_entropy" => map.next_value().map(|Nothing {}| ClassLoss::CrossEntropy)?,
            "alpha_balanced" => ClassLoss::AlphaBalanced(map.next_value()?),
            "hard_examples" | "ohem" => ClassLoss::HardExamples(map.next_value()?),
            "sampled" => ClassLoss::Sampled(map.next_value()?),
            other => return Err(A::Error::unknown_variant(other, NAMES)),
        };
        match map.next_key::<String>()? {
            None => Ok(loss),
            Some(second) => Err(A::Error::custom(format!(
                "class loss: expected one, found {name} and {second}; a table of one alone replaces the other: \
                 class={{ {second} = {{}} }}"
            ))),
        }
    }
}
