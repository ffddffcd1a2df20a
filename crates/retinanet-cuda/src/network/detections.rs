//! What a detector's outputs say, found on the device.

use super::inference::Inference;
use super::prepared::Room;
use crate::bytes::bytes_of;
use crate::device::{Address, Device, Recording, Span};
use crate::error::{Error, Result};
use crate::kernels::{
    AnchorTable, PostProcessing, detect, detections_bytes, detections_workspace_bytes, read_detections,
};
use retinanet_anchors::{BBox, BoxCoder, Detection, ImageSize};
use std::collections::HashMap;
use std::sync::Arc;

/// Anchors for images of one size, and what is done with the outputs of so many of them.
#[derive(Debug)]
struct Prepared {
    anchors: AnchorTable,
    /// By the number of images, with the places of the outputs that it reads.
    recordings: HashMap<usize, (Vec<Address>, Box<dyn Recording>)>,
}

/// Sizes of images that are remembered.
const MOST_SIZES: usize = 64;

/// Post-processing behind an [`Inference`] whose outputs are the class logits of all levels, then the box deltas: one transfer
/// brings the detections of a batch.
#[derive(Debug)]
pub struct Detections {
    device: Arc<dyn Device>,
    post: PostProcessing,
    coder: BoxCoder,
    num_classes: usize,
    prepared: HashMap<ImageSize, Prepared>,
    sizes: Room,
    results: Room,
    workspace: Room,
}

impl Detections {
    /// Post-processing for K classes.
    pub fn new(device: &Arc<dyn Device>, post: PostProcessing, coder: BoxCoder, num_classes: usize) -> Self {
        Self {
            device: Arc::clone(device),
            post,
            coder,
            num_classes,
            prepared: HashMap::new(),
            sizes: Room::default(),
            results: Room::default(),
            workspace: Room::default(),
        }
    }

    /// Whether the anchors for images padded to this size are known.
    pub fn has_anchors(&self, padded: ImageSize) -> bool {
        self.prepared.contains_key(&padded)
    }

    /// Takes the anchors of each level for images padded to this size.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn set_anchors(&mut self, padded: ImageSize, levels: &[Vec<BBox>]) -> Result<()> {
        if self.prepared.len() >= MOST_SIZES {
            self.prepared.clear();
        }
        let anchors = AnchorTable::new(&self.device, levels.iter().map(Vec::as_slice))?;
        self.prepared.insert(padded, Prepared { anchors, recordings: HashMap::new() });
        Ok(())
    }

    /// The detections of the images that the network ran on last, padded to `padded`, best first, in the frame of each resized
    /// image, whose size `sizes` gives.
    ///
    /// # Errors
    /// The anchors for this size are not known or are not those of the outputs, or the device fails.
    pub fn find(
        &mut self,
        inference: &Inference,
        padded: ImageSize,
        sizes: &[ImageSize],
    ) -> Result<Vec<Vec<Detection>>> {
        let Self { device, post, coder, num_classes, prepared, sizes: sizes_room, results, workspace } = self;
        let (images, num_classes) = (sizes.len(), *num_classes);
        let num_levels = prepared.get(&padded).map_or(0, |prepared| prepared.anchors.num_levels());
        let has_moved = sizes_room.reserve(device, images * 2 * size_of::<f32>())?
            | results.reserve(device, detections_bytes(post, images))?
            | workspace.reserve(device, detections_workspace_bytes(post, images, num_levels))?;
        if has_moved {
            prepared.values_mut().for_each(|prepared| prepared.recordings.clear());
        }
        let Some(Prepared { anchors, recordings }) = prepared.get_mut(&padded) else {
            let (place, expected) = ("detections".to_owned(), format!("the anchors for images of {padded:?}"));
            return Err(Error::Mismatch { place, expected, found: "none".to_owned() });
        };
        let numbers: Vec<f32> = sizes.iter().flat_map(|size| [size.width as f32, size.height as f32]).collect();
        sizes_room.span().write(bytes_of(&numbers))?;

        let outputs: Vec<_> = (0..2 * num_levels).map(|idx| inference.output(idx)).collect();
        let spans: Vec<Span<'_>> = outputs.iter().map(|output| output.span).collect();
        let (logits, deltas) = spans.split_at(num_levels);
        let addresses: Vec<Address> = spans.iter().map(Span::address).collect();
        let element = outputs.first().map_or(crate::Element::F32, |output| output.element);
        match recordings.get(&images) {
            // SAFETY: the outputs are borrowed and where they were, and what is ours has not moved.
            Some((recorded, recording)) if *recorded == addresses => unsafe { device.replay(&**recording)? },
            _ => {
                let recording = device.record(&mut || {
                    detect(
                        post,
                        coder,
                        element,
                        (images, num_classes),
                        anchors,
                        (logits, deltas),
                        sizes_room.span(),
                        results.span(),
                        workspace.span(),
                    )
                })?;
                recordings.insert(images, (addresses, recording));
            }
        }
        read_detections(post, images, results.span())
    }
}
