//! Images decoded ahead of the network, and the pictures made of them.

use crate::args::DetectArgs;
use crate::inputs::ErrorEntry;
use crate::pictures;
use anyhow::{Context, ensure};
use retinanet_anchors::{Detection, ImageSize};
use retinanet_annotations::Class;
use retinanet_data::{DecodeLimits, Image, decode_file};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// An input that was looked at.
pub(crate) struct Decoded {
    /// Position among the inputs.
    pub(crate) position: usize,
    pub(crate) path: String,
    /// The picture, or why there is none.
    pub(crate) image: Result<Image, String>,
}

/// The images of a run, decoded by a thread of its own while the network works on those before.
pub(crate) struct Images {
    receiver: Option<Receiver<Decoded>>,
    thread: Option<JoinHandle<()>>,
    batch: usize,
    num_skipped: usize,
}

impl Images {
    /// Begins to decode all that is not to be skipped; at most a batch is held ahead.
    pub(crate) fn open(
        items: &[Result<PathBuf, ErrorEntry>],
        is_skipped: impl Fn(&Path) -> bool,
        batch: usize,
    ) -> Self {
        let pending: Vec<(usize, Result<PathBuf, ErrorEntry>)> = items
            .iter()
            .enumerate()
            .filter(|(_, item)| !matches!(item, Ok(path) if is_skipped(path)))
            .map(|(position, item)| (position, item.clone()))
            .collect();
        let num_skipped = items.len() - pending.len();
        let (sender, receiver) = sync_channel(batch);
        let thread = std::thread::spawn(move || {
            for (position, item) in pending {
                let decoded = match item {
                    Ok(path) => Decoded {
                        position,
                        path: path.display().to_string(),
                        image: decode_file(&path, &DecodeLimits::default()).map_err(|error| error.to_string()),
                    },
                    Err(ErrorEntry { path, error }) => Decoded { position, path, image: Err(error) },
                };
                // Nobody waits any more: the run was interrupted.
                if sender.send(decoded).is_err() {
                    return;
                }
            }
        });
        Self { receiver: Some(receiver), thread: Some(thread), batch, num_skipped }
    }

    pub(crate) fn num_skipped(&self) -> usize {
        self.num_skipped
    }

    /// The next ones, in order; empty at the end.
    pub(crate) fn next_batch(&mut self) -> Vec<Decoded> {
        self.receiver.iter().flat_map(|receiver| receiver.iter().take(self.batch)).collect()
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // What a decoder throws is caught where it is called.
            let _ = thread.join();
        }
    }
}

/// A name for what is made of each input: that of its file without the ending, numbered where two share one.
pub(crate) fn stems(items: &[Result<PathBuf, ErrorEntry>]) -> Vec<String> {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let name = |item: &Result<PathBuf, ErrorEntry>| {
        let stem = item.as_ref().ok().and_then(|path| path.file_stem());
        let stem = stem.map_or_else(|| "image".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let count = taken.entry(stem.to_lowercase()).and_modify(|count| *count += 1).or_insert(1);
        if *count == 1 { stem } else { format!("{stem}-{count}") }
    };
    items.iter().map(name).collect()
}

/// The pictures that a run makes.
pub(crate) struct Pictures<'a> {
    annotated: Option<&'a Path>,
    crops: Option<&'a Path>,
    classes: &'a [Class],
    /// The lowest score that is shown.
    pub(crate) threshold: f32,
}

impl<'a> Pictures<'a> {
    pub(crate) fn new(args: &'a DetectArgs, classes: &'a [Class]) -> anyhow::Result<Self> {
        let annotated = (!args.no_pictures).then_some(args.output.as_path());
        for folder in annotated.iter().chain(&args.crops.as_deref()) {
            crate::data::make_folder(folder)?;
        }
        let threshold = args.score_threshold.unwrap_or(super::PICTURE_THRESHOLD);
        Ok(Self { annotated, crops: args.crops.as_deref(), classes, threshold })
    }

    pub(crate) fn write(&self, path: &Path, stem: &str, image: &Image, found: &[Detection]) -> anyhow::Result<()> {
        if let Some(folder) = self.annotated {
            let target = folder.join(format!("{stem}.jpg"));
            let is_source = target.exists() && std::fs::canonicalize(&target)? == std::fs::canonicalize(path)?;
            ensure!(!is_source, "{}: its picture would replace it; give another --output", path.display());
            pictures::write(&target, &pictures::annotate(image, found, self.classes, self.threshold)?)?;
        }
        let Some(folder) = self.crops else { return Ok(()) };
        for (number, detection) in found.iter().filter(|found| found.score >= self.threshold).enumerate() {
            let folder = folder.join(folder_name(&self.classes[detection.label].name));
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("{}: cannot make the folder", folder.display()))?;
            if let Some(crop) = cut(image, detection) {
                let picture = retinanet_draw::picture_from_rgb(crop.size, crop.pixels)?;
                pictures::write(&folder.join(format!("{stem}-{}.jpg", number + 1)), &picture)?;
            }
        }
        Ok(())
    }
}

/// A class name that is one folder on every system.
fn folder_name(class: &str) -> String {
    let allowed = |c: char| if c.is_control() || "/\\:*?\"<>|".contains(c) { '_' } else { c };
    let name: String = class.chars().map(allowed).take(80).collect();
    let name = name.trim().trim_end_matches('.');
    if name.is_empty() { "_".to_owned() } else { name.to_owned() }
}

/// The pixels that a box touches; none where it touches none.
fn cut(image: &Image, detection: &Detection) -> Option<Image> {
    let bbox = detection.bbox.clip(image.size);
    let (left, top) = (bbox.x0.floor() as usize, bbox.y0.floor() as usize);
    let (right, bottom) = (bbox.x1.ceil() as usize, bbox.y1.ceil() as usize);
    if left >= right || top >= bottom {
        return None;
    }
    let row = |y: usize| &image.pixels[3 * (y * image.size.width + left)..3 * (y * image.size.width + right)];
    let pixels = (top..bottom).flat_map(row).copied().collect();
    Some(Image { size: ImageSize::new(right - left, bottom - top), pixels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use retinanet_anchors::BBox;

    #[test]
    fn names_do_not_collide() {
        let paths = ["a/x.jpg", "b/X.png", "c/x.jpg", "y.jpg"].map(|path| Ok(PathBuf::from(path)));
        assert_eq!(stems(&paths), ["x", "X-2", "x-3", "y"]);
        let names = ["../up", "a/b", "", " . ", "cell"].map(folder_name);
        assert_eq!(names, [".._up", "a_b", "_", "_", "cell"]);
    }

    #[test]
    fn a_crop_has_the_pixels_that_the_box_touches() {
        let image = Image { size: ImageSize::new(4, 3), pixels: (0..36).collect() };
        let detection = |bbox| Detection { bbox, label: 0, score: 1.0 };
        let crop = cut(&image, &detection(BBox::new(1.5, 0.5, 2.5, 9.0))).expect("pixels");
        assert_eq!((crop.size, &crop.pixels[..6]), (ImageSize::new(2, 3), &[3, 4, 5, 6, 7, 8][..]));
        assert!(cut(&image, &detection(BBox::new(4.0, 0.0, 5.0, 1.0))).is_none());
        assert!(cut(&image, &detection(BBox::new(2.0, 1.0, 2.0, 2.0))).is_none());
    }
}
