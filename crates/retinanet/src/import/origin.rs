//! Where a detector's weights come from.

use serde::{Deserialize, Serialize};

/// A toolkit that trains RetinaNets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Toolkit {
    /// This one.
    #[default]
    Retinanet,
    /// torchvision.
    Torchvision,
    /// Detectron2, and the backbones of Caffe2 that it starts from.
    Detectron2,
    /// MMDetection.
    Mmdetection,
}

impl std::fmt::Display for Toolkit {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Retinanet => "retinanet",
            Self::Torchvision => "torchvision",
            Self::Detectron2 => "Detectron2",
            Self::Mmdetection => "MMDetection",
        })
    }
}

/// Where a detector's weights come from, and what was assumed of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Who trained it.
    pub toolkit: Toolkit,
    /// One sentence for each thing that the file does not say and that was assumed, or said and that was changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Origin {
    /// Of a toolkit, with nothing to note yet.
    pub fn new(toolkit: Toolkit) -> Self {
        Self { toolkit, notes: Vec::new() }
    }
}
