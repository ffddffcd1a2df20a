//! The arguments of every command that reads a data set.

use anyhow::Context;
use clap::Args;
use retinanet_annotations::{ClassSelection, DataRequest, Division};
use std::path::PathBuf;

/// The data set of a command.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// The data set: a folder or file in COCO, VOC, YOLO, CSV or Open Images form; several are joined
    #[arg(long = "data", value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
}

/// The data set of a command that can do without.
#[derive(Debug, Args)]
pub(crate) struct OptionalDataArgs {
    /// The data set: a folder or file in COCO, VOC, YOLO, CSV or Open Images form; several are joined
    #[arg(long = "data", value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
}

/// Which part of data sets is wanted.
#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// Keep this class, by its name after renaming; may be given several times, all classes if not given
    #[arg(long, value_name = "NAME", help_heading = "Data selection")]
    pub(crate) include_class: Vec<String>,
    /// Leave this class out, by its name after renaming; may be given several times
    #[arg(long, value_name = "NAME", help_heading = "Data selection")]
    pub(crate) exclude_class: Vec<String>,
    /// Call a class differently; classes of one name become one; may be given several times
    #[arg(long, value_name = "OLD=NEW", help_heading = "Data selection")]
    pub(crate) rename_class: Vec<String>,
    /// Part to validate on, of sets that have no such split; .2 of sets that are not divided at all if not given
    #[arg(long, value_name = "X", help_heading = "Data selection")]
    pub(crate) val_fraction: Option<f64>,
    /// Start of the drawing of that part
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Data selection")]
    pub(crate) split_seed: u64,
    /// Take a box of Open Images for one of each class above its own, too, by the hierarchy beside the tables
    #[arg(long, help_heading = "Data selection")]
    pub(crate) expand_hierarchy: bool,
}

impl DataArgs {
    /// What the library is asked for.
    pub(crate) fn request(&self) -> anyhow::Result<DataRequest> {
        self.selection.request(&self.paths)
    }
}

impl OptionalDataArgs {
    /// What the library is asked for; none where no set is given.
    pub(crate) fn request(&self) -> anyhow::Result<Option<DataRequest>> {
        if self.paths.is_empty() { Ok(None) } else { self.selection.request(&self.paths).map(Some) }
    }
}

impl SelectionArgs {
    /// What the library is asked for, of the sets at these paths.
    pub(crate) fn request(&self, paths: &[PathBuf]) -> anyhow::Result<DataRequest> {
        let pair = |text: &String| {
            let pair = text.split_once('=').filter(|(old, new)| !old.is_empty() && !new.is_empty());
            let (old, new) = pair.with_context(|| format!("--rename-class: expected OLD=NEW, found {text:?}"))?;
            Ok((old.to_owned(), new.to_owned()))
        };
        let mut request = DataRequest::new(paths);
        request.classes = ClassSelection {
            include: self.include_class.clone(),
            exclude: self.exclude_class.clone(),
            rename: self.rename_class.iter().map(pair).collect::<anyhow::Result<_>>()?,
        };
        request.expand_hierarchy = self.expand_hierarchy;
        request.division = Division { val_fraction: self.val_fraction, seed: self.split_seed };
        Ok(request)
    }
}
