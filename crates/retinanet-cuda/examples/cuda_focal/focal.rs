//! The focal loss of many logits on a device, and a copy of as many bytes: what the benches and the comparison with peers time.

use retinanet_cuda::kernels::{PreparedClassLoss, class_loss_workspace_bytes};
use retinanet_cuda::{Device, Element, Error, Gpu, GpuOptions, Memory};
use retinanet_focal::{BACKGROUND, ClassLoss};
use std::sync::Arc;

/// Images, anchors, classes.
pub(crate) const SHAPE: [usize; 3] = [16, 201_600, 80];

/// The first GPU; libraries may be where `CUDA_PATH`, or a virtual environment that is active, says.
pub(crate) fn open() -> Result<Arc<Gpu>, Error> {
    let folders = ["CUDA_PATH", "VIRTUAL_ENV"].iter().filter_map(std::env::var_os).map(Into::into).collect();
    Ok(Arc::new(Gpu::open(GpuOptions { folders, ..GpuOptions::default() })?))
}

/// Logits with all that their loss takes.
pub(crate) struct FocalLoss {
    device: Arc<dyn Device>,
    element: Element,
    loss: PreparedClassLoss,
    logits: Memory,
    classes: Memory,
    image_weights: Memory,
    sum: Memory,
    gradient: Memory,
    workspace: Memory,
}

impl FocalLoss {
    pub(crate) fn new(gpu: &Arc<Gpu>, element: Element) -> Result<Self, Error> {
        let [images, anchors, classes] = SHAPE;
        let device = Arc::clone(gpu) as Arc<dyn Device>;
        // One anchor in a thousand is foreground.
        let code = |i: usize| if i.is_multiple_of(1000) { (i % classes) as i32 } else { BACKGROUND as i32 };
        let codes: Vec<u8> = (0..images * anchors).flat_map(|i| code(i).to_ne_bytes()).collect();
        let bytes = images * anchors * classes * element.size();
        let one = logits(element, anchors * classes);
        let logits = Memory::new(&device, bytes)?;
        for image_idx in 0..images {
            logits.span().part(image_idx * one.len(), one.len()).write(&one)?;
        }
        let workspace = Memory::new(&device, class_loss_workspace_bytes(element, images, anchors, classes))?;
        Ok(Self {
            element,
            loss: PreparedClassLoss::new(&device, &ClassLoss::default(), classes)?,
            logits,
            classes: Memory::of(&device, &codes)?,
            image_weights: Memory::of(&device, &1f32.to_ne_bytes().repeat(images))?,
            sum: Memory::of(&device, &[0; 8])?,
            gradient: Memory::new(&device, bytes)?,
            workspace,
            device,
        })
    }

    /// Bytes of logits that are read and of gradients that are written.
    pub(crate) fn bytes(&self) -> usize {
        2 * self.logits.span().bytes()
    }

    /// The loss and its gradient.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let [images, anchors, _] = SHAPE;
        let [logits, classes, weights] = [&self.logits, &self.classes, &self.image_weights].map(Memory::span);
        let [sum, gradient, workspace] = [&self.sum, &self.gradient, &self.workspace].map(Memory::span);
        self.loss.run(self.element, (images, anchors), logits, classes, weights, sum, gradient, workspace)
    }

    /// As many bytes read and written as by [`Self::run`].
    pub(crate) fn copy(&self) -> Result<(), Error> {
        let (from, to) = (self.logits.span(), self.gradient.span());
        // SAFETY: two blocks of memory of one length.
        unsafe { self.device.copy(from.address(), to.address(), from.bytes()) }
    }
}

/// Numbers around the logit of a probability of .01.
fn logits(element: Element, count: usize) -> Vec<u8> {
    let number = |i: usize| ((i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 22) as f32 - 6.6;
    element.narrow(&(0..count).map(number).collect::<Vec<f32>>()).into_owned()
}
