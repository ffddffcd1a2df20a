//! The choice among the rules that assign ground truth to anchors.

use serde::{Deserialize, Serialize};

use crate::{Atss, Matcher};

/// Which rule assigns ground truth to anchors.
///
/// In a configuration it is the table of [`Matcher`]'s fields, or `{ atss = { candidates = 9 } }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Matching {
    /// By fixed IoUs: the paper.
    Iou(Matcher),
    /// By an IoU of each object's own.
    Atss(Atss),
}

impl Default for Matching {
    fn default() -> Self {
        Self::Iou(Matcher::default())
    }
}

impl Matching {
    /// The IoU that an anchor has to have with a box, wherever the box lies, to learn it for sure; 0 where there is no fixed
    /// one.
    #[must_use]
    pub fn foreground_iou(&self) -> f32 {
        match self {
            Self::Iou(matcher) => matcher.foreground_iou,
            Self::Atss(_) => 0.0,
        }
    }
}

/// The table in a configuration.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    foreground_iou: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    background_iou: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_low_quality: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    atss: Option<Atss>,
}

impl From<Matching> for Written {
    fn from(matching: Matching) -> Self {
        match matching {
            Matching::Iou(Matcher { foreground_iou, background_iou, allow_low_quality }) => Self {
                foreground_iou: Some(foreground_iou),
                background_iou: Some(background_iou),
                allow_low_quality: Some(allow_low_quality),
                atss: None,
            },
            Matching::Atss(atss) => Self { atss: Some(atss), ..Self::default() },
        }
    }
}

impl TryFrom<Written> for Matching {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let default = Matcher::default();
        match written {
            Written { atss: Some(atss), foreground_iou: None, background_iou: None, allow_low_quality: None } => {
                Ok(Self::Atss(atss))
            }
            Written { atss: Some(_), .. } => {
                Err("matcher: expected either atss or thresholds, found both; a table of atss \
                                                  alone replaces them: matcher={ atss = { candidates = 9 } }")
            }
            Written { atss: None, foreground_iou, background_iou, allow_low_quality } => Ok(Self::Iou(Matcher {
                foreground_iou: foreground_iou.unwrap_or(default.foreground_iou),
                background_iou: background_iou.unwrap_or(default.background_iou),
                allow_low_quality: allow_low_quality.unwrap_or(default.allow_low_quality),
            })),
        }
    }
}
