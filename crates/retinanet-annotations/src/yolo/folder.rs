//! Where the images of each split lie, and where their labels.

use std::path::{Component, Path, PathBuf};

use super::config::{self, Config};
use crate::file::{folders, has_extension, images_under, name_of, quoted, read_text, stem_of, with_extension};
use crate::names::leads_out;
use crate::split::{is_same, spellings};
use crate::{AnnotationError, Effect, Place, Problem, Problems};

/// A folder of images and label files, with its `data.yaml` where it has one.
#[derive(Debug)]
pub(crate) struct YoloFolder {
    pub(super) root: PathBuf,
    /// The YAML file.
    pub(super) config_path: Option<PathBuf>,
    pub(super) config: Config,
    pub(super) splits: Vec<Split>,
    pub(super) problems: Problems,
}

/// One split: folders of images, or text files that list them.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) name: String,
    pub(super) places: Vec<PathBuf>,
    /// What the YAML names and nobody finds; an error for who asks for this split.
    pub(super) missing: Option<String>,
}

const USUAL_SPLITS: [&str; 3] = ["train", "val", "test"];

impl YoloFolder {
    /// A YAML file and all that it names.
    pub(crate) fn file(path: &Path) -> Result<Self, AnnotationError> {
        let config = config::read(path)?;
        Ok(Self::with_config(path, config))
    }

    /// The YAML in a folder, or `images` and `labels` in it or in each split's folder.
    pub(crate) fn find(root: &Path) -> Result<Option<Self>, AnnotationError> {
        let mut yaml = with_extension(root, "yaml");
        yaml.extend(with_extension(root, "yml"));
        // The usual name first: an error in it is worth telling, while others may have nothing to do with images.
        yaml.sort_by_key(|path| !stem_of(path).eq_ignore_ascii_case("data"));
        for path in yaml {
            let is_usual = stem_of(&path).eq_ignore_ascii_case("data");
            match config::read(&path) {
                Ok(config) if is_usual || !config.splits.is_empty() => {
                    return Ok(Some(Self::with_config(&path, config)));
                }
                Err(error) if is_usual => return Err(error),
                _ => {}
            }
        }
        Ok(Self::without_config(root))
    }

    fn with_config(path: &Path, mut config: Config) -> Self {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let bases = bases(&folder, config.path.as_deref());
        let mut problems = Problems::default();
        let mut note = |what: String| problems.note(path, what);
        config.notes.drain(..).for_each(&mut note);
        let mut splits = Vec::new();
        for (name, places) in &config.splits {
            let mut split = Split { name: name.clone(), places: Vec::new(), missing: None };
            for place in places {
                match locate(place, name, &bases) {
                    Some((found, is_as_written)) => {
                        if !is_as_written {
                            let expected = bases[0].join(place);
                            note(format!("{name}: expected {}, found {}", expected.display(), found.display()));
                        }
                        split.places.push(found);
                    }
                    None => split.missing = Some(place.clone()),
                }
            }
            splits.push(split);
        }
        for (name, place) in &config.others {
            let place = bases[0].join(place);
            if place.is_dir() {
                splits.push(Split { name: name.clone(), places: vec![place], missing: None });
            }
        }
        // Splits that lie there though the file does not name them.
        for name in USUAL_SPLITS {
            if splits.iter().any(|split| is_same(&split.name, name)) {
                continue;
            }
            if let Some(place) = bases.iter().take(2).find_map(|base| usual_place(base, name)) {
                note(format!("{name}: expected a line for {}, found none", place.display()));
                splits.push(Split { name: name.to_owned(), places: vec![place], missing: None });
            }
        }
        if splits.is_empty() && folder.join("images").is_dir() && folder.join("labels").is_dir() {
            splits.push(Split { name: String::new(), places: vec![folder.join("images")], missing: None });
        }
        Self { root: folder, config_path: Some(path.to_owned()), config, splits, problems }
    }

    fn without_config(root: &Path) -> Option<Self> {
        let mut splits = Vec::new();
        if root.join("labels").is_dir() && root.join("images").is_dir() {
            for folder in folders(&root.join("images")) {
                splits.push(Split { name: name_of(&folder), places: vec![folder], missing: None });
            }
            if splits.is_empty() {
                let place = root.join("images");
                splits.push(Split { name: String::new(), places: vec![place], missing: None });
            }
        } else {
            for folder in folders(root) {
                if folder.join("images").is_dir() && folder.join("labels").is_dir() {
                    splits.push(Split { name: name_of(&folder), places: vec![folder.join("images")], missing: None });
                }
            }
        }
        let found = !splits.is_empty();
        found.then(|| Self {
            root: root.to_owned(),
            config_path: None,
            config: Config::default(),
            splits,
            problems: Problems::default(),
        })
    }

    pub(crate) fn splits(&self) -> Vec<String> {
        self.splits.iter().map(|split| split.name.clone()).filter(|name| !name.is_empty()).collect()
    }

    /// The images of a place: those of a folder, or those that a text file lists.
    pub(super) fn images(&self, list: &Path, problems: &mut Problems) -> Result<Vec<PathBuf>, AnnotationError> {
        if !has_extension(list, "txt") {
            return images_under(list);
        }
        let beside = list.parent().unwrap_or(Path::new(""));
        let mut bases = vec![beside.to_owned()];
        bases.extend(self::bases(&self.root, self.config.path.as_deref()));
        let mut images = Vec::new();
        for (line, number) in read_text(list)?.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let found = bases.iter().map(|base| base.join(line)).find(|path| path.is_file());
            if leads_out(line) && found.is_some() {
                let what =
                    "image leads out of the set: expected one below its folder, found ".to_owned() + &quoted(line);
                let place = Place::Line(number);
                problems.push(Problem { path: list.into(), place, what, effect: Effect::Noted });
            }
            images.push(found.unwrap_or_else(|| beside.join(line)));
        }
        Ok(images)
    }

    /// The folder with the labels of the images in `folder`; none where nothing fits.
    pub(super) fn label_folder(&self, folder: &Path) -> Option<PathBuf> {
        let mut candidates = Vec::new();
        if let Some((before, after)) = around_images(folder) {
            candidates.push(before.join("labels").join(&after));
            for base in bases(&self.root, self.config.path.as_deref()) {
                candidates.push(base.join("labels").join(&after));
            }
        }
        candidates.push(folder.join("labels"));
        if let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) {
            candidates.push(parent.join("labels").join(name));
        }
        let beside = || (!with_extension(folder, "txt").is_empty()).then(|| folder.to_owned());
        candidates.into_iter().find(|path| path.is_dir()).or_else(beside)
    }
}

/// Splits a path at its last part called `images`.
fn around_images(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let parts: Vec<Component<'_>> = folder.components().collect();
    let position = parts.iter().rposition(|part| part.as_os_str() == "images")?;
    Some((parts[..position].iter().collect(), parts[position + 1..].iter().collect()))
}

/// Folders that the entries of a YAML file may be relative to, the one it says first.
fn bases(folder: &Path, path: Option<&str>) -> Vec<PathBuf> {
    let mut bases = Vec::new();
    if let Some(path) = path {
        bases.push(folder.join(path));
        bases.push(folder.join(without_dots(path)));
        // Said of the machine where the set was made: its last part may lie here.
        if let Some(name) = Path::new(path).file_name() {
            bases.push(folder.join(name));
        }
    }
    bases.push(folder.to_owned());
    bases.push(folder.join(".."));
    let mut unique: Vec<PathBuf> = Vec::new();
    for base in bases {
        // Without the dots that stand for nothing, which would only lengthen messages.
        let base: PathBuf = base.components().collect();
        if !unique.contains(&base) {
            unique.push(base);
        }
    }
    unique
}

/// The place that an entry names, and whether it lies where the entry says.
fn locate(place: &str, split: &str, bases: &[PathBuf]) -> Option<(PathBuf, bool)> {
    let forward = place.trim().replace('\\', "/");
    let inner = without_dots(&forward);
    let exists = |path: &PathBuf| path.is_dir() || (has_extension(path, "txt") && path.is_file());
    let as_written = bases[0].join(&forward);
    if exists(&as_written) {
        return Some((as_written, true));
    }
    let others = bases.iter().flat_map(|base| [base.join(&forward), base.join(&inner)]);
    let mut others = others.chain(bases.iter().filter_map(|base| usual_place(base, split)));
    others.find(exists).map(|found| (found, false))
}

/// Without leading `/`, `./` and `../`.
fn without_dots(place: &str) -> PathBuf {
    Path::new(place).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Where the images of a split usually lie.
fn usual_place(base: &Path, split: &str) -> Option<PathBuf> {
    let places = |name: &str| [base.join(name).join("images"), base.join("images").join(name)];
    spellings(split).into_iter().flat_map(places).find(|path| path.is_dir())
}
