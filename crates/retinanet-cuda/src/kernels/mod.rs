//! The kernels, each behind a function that checks sizes and launches it.
//!
//! All take their memory, results and workspaces included, as [`Span`]s, allocate nothing and read nothing back, so that they can
//! be recorded. Feature maps are channels-last, in one [`Element`]; parameters, their gradients and losses are f32, sums within
//! kernels f64 or short. Sums are added in an order that depends on shapes alone: equal inputs give equal bits.

mod anchors;
mod box_loss;
mod class_loss;
pub(crate) mod convolution;
mod detections;
mod elementwise;
mod launch;
mod maps;
mod norm;
mod optimizer;
mod targets;
mod weights;

pub use anchors::AnchorTable;
pub use box_loss::{BoxLoss, box_loss, box_loss_workspace_bytes};
pub use class_loss::{PreparedClassLoss, class_loss_workspace_bytes};
pub use detections::{
    Borders, MOST_CANDIDATES, PostProcessing, detect, detections_bytes, detections_workspace_bytes, read_detections,
};
pub use elementwise::{accumulate, add, convert, gate, relu, relu_gradient};
pub use maps::{max_pool, max_pool_gradient, upsample_add, upsample_gradient};
pub use norm::{
    batch_norm, batch_norm_gradient, batch_norm_statistics, batch_norm_statistics_bytes, channel_sums, group_norm,
    group_norm_gradient, group_norm_statistics_bytes, norm_workspace_bytes,
};
pub use optimizer::{PendingReport, StepJudge, StepReport, UpdateRule, UpdateTable, UpdatedTensor};
pub use targets::{GroundTruth, Normalizer, assign_targets, assign_targets_workspace_bytes, image_weights};
pub use weights::{fold_norm, pack_weight, unpack_weight_gradient, update_running_statistics};

use crate::device::Source;
#[cfg(doc)]
use crate::device::{Element, Span};

/// A file of kernels with what it stands on.
macro_rules! source {
    ($name:literal $(, $header:literal)*) => {
        crate::device::Source {
            name: $name,
            text: concat!(
                include_str!("../../kernels/device.cuh"),
                $(include_str!(concat!("../../kernels/", $header)),)*
                include_str!(concat!("../../kernels/", $name)),
            ),
        }
    };
}
use source;

/// All files of kernels.
pub const SOURCES: &[&Source] = &[
    &box_loss::SOURCE,
    &class_loss::SOURCE,
    &convolution::SOURCE,
    &detections::SOURCE,
    &elementwise::SOURCE,
    &maps::SOURCE,
    &norm::SOURCE,
    &optimizer::SOURCE,
    &targets::SOURCE,
    &weights::SOURCE,
];
