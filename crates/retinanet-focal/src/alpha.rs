//! The class balance alpha, and how it reads in a configuration.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::LossError;
use crate::kernels::Weights;
use crate::kernels::cpu::Real;

/// The balance between an anchor's own class and the others: alpha_t = alpha for the logit of the anchor's class,
/// 1 - alpha for every other logit.
///
/// Source: Lin et al. 2017, section 3.1. In a configuration it is a number, a list of numbers, or `"none"`.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Alpha {
    /// No balance: every logit weighs 1.
    #[default]
    None,
    /// One alpha for all classes, in [0, 1].
    Scalar(f64),
    /// alpha_k for class k, each in [0, 1]; as many as there are classes.
    PerClass(Vec<f64>),
}

impl Alpha {
    /// Whether every value is in [0, 1].
    ///
    /// # Errors
    /// The first value that is not.
    pub fn validate(&self) -> Result<(), LossError> {
        let values = match self {
            Alpha::None => &[],
            Alpha::Scalar(alpha) => std::slice::from_ref(alpha),
            Alpha::PerClass(alphas) => alphas.as_slice(),
        };
        match values.iter().find(|alpha| !(0.0..=1.0).contains(*alpha)) {
            Some(alpha) => Err(LossError::Parameter {
                name: "alpha",
                expected: "a number in [0, 1]".into(),
                found: alpha.to_string(),
            }),
            None => Ok(()),
        }
    }

    /// The weights for the kernels.
    ///
    /// # Errors
    /// A value is out of [0, 1], or there is not one for each of `num_classes`.
    pub fn weights<T: Real>(&self, num_classes: usize) -> Result<Weights<T>, LossError> {
        self.validate()?;
        Ok(match self {
            Alpha::None => Weights { positive: vec![T::ONE], negative: vec![T::ONE] },
            Alpha::Scalar(alpha) => {
                Weights { positive: vec![T::from_f64(*alpha)], negative: vec![T::from_f64(1.0 - alpha)] }
            }
            Alpha::PerClass(alphas) if alphas.len() == num_classes => Weights {
                positive: alphas.iter().map(|&alpha| T::from_f64(alpha)).collect(),
                negative: alphas.iter().map(|&alpha| T::from_f64(1.0 - alpha)).collect(),
            },
            Alpha::PerClass(alphas) => {
                return Err(LossError::Parameter {
                    name: "alpha",
                    expected: format!("one number for each of {num_classes} classes"),
                    found: format!("{} numbers", alphas.len()),
                });
            }
        })
    }
}

impl Serialize for Alpha {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Alpha::None => serializer.serialize_str("none"),
            Alpha::Scalar(alpha) => serializer.serialize_f64(*alpha),
            Alpha::PerClass(alphas) => alphas.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Alpha {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AlphaVisitor)
    }
}

struct AlphaVisitor;

impl<'de> Visitor<'de> for AlphaVisitor {
    type Value = Alpha;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, a list with a number for each class, or \"none\"")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Alpha, E> {
        Ok(Alpha::Scalar(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Alpha, E> {
        Ok(Alpha::Scalar(value as f64))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Alpha, E> {
        Ok(Alpha::Scalar(value as f64))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Alpha, E> {
        match value {
            "none" => Ok(Alpha::None),
            other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Alpha, A::Error> {
        let mut alphas = Vec::new();
        while let Some(alpha) = sequence.next_element()? {
            alphas.push(alpha);
        }
        Ok(Alpha::PerClass(alphas))
    }
}
