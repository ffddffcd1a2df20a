//! `retinanet data convert`: data sets in another format.

use crate::args::DataConvertArgs;
use crate::interrupt::Interrupt;
use crate::{Status, data, progress, table};
use indicatif::ProgressBar;
use retinanet_annotations::{AnnotationError, Conversion, Converted, ImageTransfer};
use serde_json::json;
use std::path::Path;

/// How many new names are printed before the rest is counted.
const SHOWN: usize = 10;

pub(crate) fn run(args: &DataConvertArgs) -> anyhow::Result<Status> {
    let interrupt = Interrupt::listen("interrupted: nothing will be written")?;
    let mut conversion = Conversion::new(args.selection.request(&args.sources)?, args.to.format(), args.output.clone());
    conversion.splits.clone_from(&args.splits);
    conversion.overwrite = args.overwrite;
    conversion.images = match (args.link_images, args.no_images) {
        (true, _) => ImageTransfer::Link,
        (_, true) => ImageTransfer::None,
        _ => ImageTransfer::Copy,
    };
    let size = |path: &Path| retinanet_data::image_size(path).map_err(|error| error.to_string());
    let mut bar: Option<ProgressBar> = None;
    let converted = conversion.run(&size, &mut |done, total| {
        bar.get_or_insert_with(|| progress::bar(total, "images")).set_position(done as u64);
        interrupt.flow()
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let Some(converted) = converted.map_err(|error| with_hint(error, args))? else {
        return Ok(Status::DoneWithFailures);
    };
    data::report_problems(&converted.problems);
    if args.json {
        print_json(args, &converted)?
    } else {
        print(args, &converted)?
    }
    Ok(if converted.is_complete() { Status::Done } else { Status::DoneWithFailures })
}

/// Says how a folder that is refused would be replaced.
fn with_hint(error: AnnotationError, args: &DataConvertArgs) -> anyhow::Error {
    let is_full = matches!(&error, AnnotationError::Content { what, .. } if what == "output") && args.output.is_dir();
    if is_full && !args.overwrite { anyhow::anyhow!("{error}; --overwrite replaces it") } else { error.into() }
}

fn print(args: &DataConvertArgs, converted: &Converted) -> anyhow::Result<()> {
    for split in &converted.splits {
        let name = if split.name.is_empty() { "all" } else { &split.name };
        let images = table::count(split.images, "image", "images");
        crate::out!("{name}: {images}, {}", table::count(split.boxes, "box", "boxes"))?;
    }
    for (path, name) in converted.renamed.iter().take(SHOWN) {
        crate::out!("renamed: {} is {name}", path.display())?;
    }
    if converted.renamed.len() > SHOWN {
        crate::out!("renamed: and {} more", converted.renamed.len() - SHOWN)?;
    }
    for (loss, count) in converted.losses.iter() {
        crate::out!("not in {}: {loss}: {count}", args.to.format())?;
    }
    if converted.missing_files > 0 {
        crate::out!("image files that are not there: {}", converted.missing_files)?;
    }
    crate::out!("{}: {}", args.to.format(), args.output.display())
}

fn print_json(args: &DataConvertArgs, converted: &Converted) -> anyhow::Result<()> {
    let splits = converted
        .splits
        .iter()
        .map(|split| json!({ "name": split.name, "images": split.images, "boxes": split.boxes }));
    let renamed =
        converted.renamed.iter().map(|(path, name)| json!({ "path": path.display().to_string(), "name": name }));
    let losses: serde_json::Map<_, _> =
        converted.losses.iter().map(|(loss, count)| (loss.to_string(), count.into())).collect();
    let document = json!({
        "output": args.output.display().to_string(),
        "format": args.to.format().to_string(),
        "splits": splits.collect::<Vec<_>>(),
        "renamed": renamed.collect::<Vec<_>>(),
        "losses": losses,
        "missing_files": converted.missing_files,
        "problems": data::problem_kinds(&converted.problems),
    });
    crate::out!("{document}")
}
