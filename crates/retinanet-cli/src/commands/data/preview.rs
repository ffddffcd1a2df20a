//! `retinanet data preview`: images as training will see them.

use crate::args::PreviewArgs;
use crate::{Status, data, pictures, table};
use retinanet_anchors::ImageSize;
use retinanet_annotations::Class;
use retinanet_data::augmentation::resize;
use retinanet_data::{Dataset, Sample, SampleKey};
use retinanet_draw::{LabelledBox, RgbImage, class_color, draw_detections, grid, picture_from_rgb};
use std::collections::BTreeSet;

/// Longer side of each picture on the sheet: tags can be read, and a sheet of the usual size fits on a screen.
const SIDE: usize = 480;

/// An image as it is and as it becomes, side by side, twice a row.
const COLUMNS: usize = 4;

/// More would be no sheet to look at, and too large to write.
const MOST: usize = 400;

pub(crate) fn run(args: &PreviewArgs) -> anyhow::Result<Status> {
    anyhow::ensure!((1..=MOST).contains(&args.count), "--count: expected 1..={MOST}, found {}", args.count);
    let config = args.configuration.read([])?;
    let dataset = data::open(&args.data.request()?, &args.split)?;
    anyhow::ensure!(!dataset.is_empty(), "{}: expected images to show, found none", args.split);
    let (augmentation, seed) = (&config.train.augmentation, args.seed.unwrap_or(config.train.seed));
    let count = args.count.min(dataset.len());
    let (mut cells, mut failures) = (Vec::with_capacity(2 * count), Vec::new());
    let mut rows = vec![["image", "size", "boxes", "becomes", "boxes"].map(str::to_owned).to_vec()];
    for number in 0..count {
        // Spread over the set: neighbours are often alike.
        let index = number * dataset.len() / count;
        let before = match dataset.sample(index) {
            Ok(sample) => sample,
            Err(error) => {
                failures.push(error);
                continue;
            }
        };
        let key = SampleKey { seed, epoch: args.epoch, index };
        let after = augmentation.apply(before.clone(), &dataset, key, &mut failures);
        let name = dataset.annotations().images.get(index).map_or_else(String::new, |image| image.file_name.clone());
        let of = |sample: &Sample| [sample.image.size.to_string(), sample.boxes.len().to_string()];
        rows.push([vec![name], of(&before).to_vec(), of(&after).to_vec()].concat());
        for sample in [before, after] {
            cells.push(draw(&sample, dataset.classes())?);
        }
    }
    let mut told = BTreeSet::new();
    failures.retain(|failure| told.insert(failure.index));
    data::report("failed", &failures);
    anyhow::ensure!(!cells.is_empty(), "{}: expected images that can be read, found none", args.split);
    pictures::write(&args.output, &grid(&cells, COLUMNS, 4)?)?;
    crate::out!("{}", table::render(&rows))?;
    crate::out!("\npreview: {} (epoch {}, seed {seed})", args.output.display(), args.epoch)?;
    let is_complete = failures.is_empty() && data::num_dropped_images(&dataset) == 0;
    Ok(if is_complete { Status::Done } else { Status::DoneWithFailures })
}

/// A sample at the size of a cell, with its boxes and their classes.
fn draw(sample: &Sample, classes: &[Class]) -> anyhow::Result<RgbImage> {
    let ImageSize { width, height } = sample.image.size;
    let factor = SIDE as f64 / width.max(height) as f64;
    let side = |side: usize| ((side as f64 * factor).round() as usize).max(1);
    let Sample { image, boxes, classes: indices } = resize(sample, ImageSize::new(side(width), side(height)));
    let mut picture = picture_from_rgb(image.size, image.pixels)?;
    let labelled = boxes.iter().zip(indices).map(|(&bbox, class)| LabelledBox {
        bbox,
        text: classes.get(class).map_or_else(|| format!("class {class}"), |class| class.name.clone()),
        color: class_color(class),
    });
    draw_detections(&mut picture, &labelled.collect::<Vec<_>>());
    Ok(picture)
}
