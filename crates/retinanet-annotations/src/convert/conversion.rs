//! A whole set, all splits in one go, with its image files.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::files::{self, Staging};
use super::{Losses, Prepared};
use crate::split::{fits, is_same};
use crate::{AnnotationError, AnnotationSet, DataRequest, Effect, Format, ImageSizeProbe, Problems};

/// Sets to be written as one set of another format.
///
/// ```no_run
/// use std::ops::ControlFlow;
/// use retinanet_annotations::{Conversion, DataRequest, Format};
///
/// let conversion = Conversion::new(DataRequest::new(["voc"]), Format::Coco, "coco");
/// let size = |_: &std::path::Path| Err("every image states its size".to_owned());
/// let converted = conversion.run(&size, &mut |_, _| ControlFlow::Continue(()))?;
/// converted.expect("nobody interrupted it").losses.iter().for_each(|(loss, count)| println!("{count} {loss}"));
/// # Ok::<(), retinanet_annotations::AnnotationError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Conversion {
    /// The sets, the classes of them, and how they are divided. Details are read whatever it says.
    pub request: DataRequest,
    /// The splits to write, by the names that the sets have for them; all of them where it is empty.
    pub splits: Vec<String>,
    /// The format to write.
    pub format: Format,
    /// The folder to write, which must be new or empty.
    pub output: PathBuf,
    /// What happens to the image files.
    pub images: ImageTransfer,
    /// Whether to replace all that is in the folder.
    pub overwrite: bool,
}

/// How image files get into a set that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImageTransfer {
    /// A copy of each file.
    #[default]
    Copy,
    /// A symbolic link to each file.
    Link,
    /// Not at all.
    None,
}

/// What was written.
#[derive(Clone, Debug, Default)]
pub struct Converted {
    /// The splits by their new names.
    pub splits: Vec<ConvertedSplit>,
    /// What the format could not hold.
    pub losses: Losses,
    /// Images whose files are called differently now, and their names.
    pub renamed: Vec<(PathBuf, String)>,
    /// What was wrong with the sets that were read and with their image files.
    pub problems: Problems,
    /// How many image files could not be copied or linked, though their boxes are written.
    pub missing_files: usize,
}

/// One split that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertedSplit {
    /// Empty for a set that is not divided.
    pub name: String,
    /// How many images it has.
    pub images: usize,
    /// How many boxes they have together.
    pub boxes: usize,
}

impl Conversion {
    /// All splits of the sets, with copies of the images, into a folder that is not there yet.
    pub fn new(request: DataRequest, format: Format, output: impl Into<PathBuf>) -> Self {
        let (splits, images) = (Vec::new(), ImageTransfer::Copy);
        Self { request, splits, format, output: output.into(), images, overwrite: false }
    }

    /// Reads and writes. The folder appears when everything is in it; nothing of it is there on an error, or where
    /// `on_image`, which is told how many image files are done and how many there are, breaks off: then there is no
    /// outcome.
    ///
    /// # Errors
    /// The sets cannot be read, the folder has something in it or cannot be written to, or it would replace the data.
    pub fn run(
        &self,
        image_size: &ImageSizeProbe,
        on_image: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Option<Converted>, AnnotationError> {
        files::check_output(&self.output, self.overwrite, &self.request.paths)?;
        let mut request = self.request.clone();
        request.details = true;
        let mut problems = Problems::default();
        let splits = read_splits(&request, &self.splits, image_size, &mut problems)?;
        let mut prepared = Prepared::new(self.format, splits, image_size)?;
        problems.append(std::mem::take(&mut prepared.problems));
        let transfers = prepared.transfers();
        if self.overwrite {
            files::check_sources(&self.output, transfers.iter().map(|(source, _)| *source))?;
        }
        let staging = Staging::new(&self.output)?;
        prepared.write(staging.path())?;
        let mut missing_files = 0;
        if self.images != ImageTransfer::None {
            for (done, (source, target)) in transfers.iter().enumerate() {
                if on_image(done, transfers.len()).is_break() {
                    return Ok(None);
                }
                if let Some(what) = files::transfer(source, &staging.path().join(target), self.images)? {
                    problems.note(source, what);
                    missing_files += 1;
                }
            }
        }
        if on_image(transfers.len(), transfers.len()).is_break() {
            return Ok(None);
        }
        staging.finish(&self.output)?;
        let splits = prepared.splits().map(|split| ConvertedSplit {
            name: split.name.to_owned(),
            images: split.images.len(),
            boxes: split.images.iter().map(|image| image.annotations.len()).sum(),
        });
        Ok(Some(Converted {
            splits: splits.collect(),
            losses: prepared.losses.clone(),
            renamed: prepared.renamed.clone(),
            problems,
            missing_files,
        }))
    }
}

impl Converted {
    /// Whether every image was read and written with its file.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing_files == 0 && self.problems.count(Effect::ImageDropped) == 0
    }
}

/// Every split that is asked for, by its new name; one without a name where the sets are not divided.
fn read_splits(
    request: &DataRequest,
    asked: &[String],
    image_size: &ImageSizeProbe,
    problems: &mut Problems,
) -> Result<Vec<(String, AnnotationSet)>, AnnotationError> {
    let known = main_splits(request.splits()?);
    let names = if asked.is_empty() { &known[..] } else { asked };
    if names.is_empty() {
        return Ok(vec![(String::new(), request.read(None, image_size)?)]);
    }
    let usual: Vec<String> = names.iter().map(|name| usual_name(name, names)).collect();
    let mut splits: Vec<(String, AnnotationSet)> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (name, new_name) in names.iter().zip(usual) {
        let set = request.read_where_known(name, image_size)?;
        let is_new = set.images.iter().filter(|image| seen.insert(image.path.clone())).count() > 0;
        // Lists of the images of one class, or of train and val together, hold what others hold.
        if asked.is_empty() && !is_new && !set.images.is_empty() {
            problems.note(
                &request.paths[0],
                format!("split {name:?} is left out: expected images of its own, found those of others"),
            );
            continue;
        }
        splits.push((new_name, set));
    }
    Ok(splits)
}

/// Train, val and test first, and without the lists of single classes that Pascal VOC has for each of them.
fn main_splits(names: Vec<String>) -> Vec<String> {
    let is_class_list = |name: &String| {
        names
            .iter()
            .any(|other| name.strip_suffix(other.as_str()).is_some_and(|class| class.len() > 1 && class.ends_with('_')))
    };
    let mut main: Vec<String> = names.iter().filter(|name| !is_class_list(name)).cloned().collect();
    let rank = |name: &String| ["train", "val", "test"].iter().position(|usual| fits(usual, name)).unwrap_or(3);
    main.sort_by_key(rank);
    main
}

/// `train` for `train2017_100`, where no other split is one to train on.
fn usual_name(name: &str, names: &[String]) -> String {
    let usual = ["train", "val", "test"].into_iter().find(|usual| fits(usual, name));
    let is_only = |usual: &&str| names.iter().filter(|other| fits(usual, other)).count() == 1;
    let is_taken = |usual: &&str| names.iter().any(|other| other != name && is_same(usual, other));
    usual.filter(is_only).filter(|usual| !is_taken(usual)).unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_single_classes_are_no_splits() {
        let names = ["aeroplane_train", "aeroplane_val", "night", "test", "train", "trainval", "val"];
        let main = main_splits(names.map(str::to_owned).to_vec());
        assert_eq!(main, ["train", "val", "test", "night", "trainval"]);
        let names = ["train2017_100", "val2017_100", "dog_test"].map(str::to_owned).to_vec();
        assert_eq!(names.iter().map(|name| usual_name(name, &names)).collect::<Vec<_>>(), ["train", "val", "test"]);
        let names = ["val2014", "val2017"].map(str::to_owned).to_vec();
        assert_eq!(usual_name("val2014", &names), "val2014");
    }
}
