//! `retinanet quantize`: a model whose layers run in 8 bits, calibrated on images.

use crate::args::QuantizeArgs;
use crate::inputs;
use crate::interrupt::Interrupt;
use crate::zoo::{self, Wanted};
use crate::{Status, data, output, progress, table};
use anyhow::Context;
use retinanet::{Detector, Pass, QuantizeOptions, Quantized, quantize};
use retinanet_data::{Dataset, DecodeLimits, FileDataset, Image, decode_file};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Document<'a> {
    model: String,
    output: String,
    /// Images that ranges come from.
    images: usize,
    min_sqnr: f64,
    /// Size of the two files.
    model_bytes: u64,
    output_bytes: u64,
    layers: Vec<LayerEntry<'a>>,
    errors: Vec<String>,
}

#[derive(Serialize)]
struct LayerEntry<'a> {
    name: &'a str,
    int8: bool,
    scale: f32,
    zero_point: u8,
    /// In dB; null where nothing is lost at all.
    sqnr: f64,
}

/// Where calibration pictures come from.
enum Source {
    Files(Vec<PathBuf>),
    Split(Box<FileDataset>),
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Self::Files(paths) => paths.len(),
            Self::Split(dataset) => dataset.len(),
        }
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        match self {
            Self::Files(paths) => decode_file(&paths[index], &DecodeLimits::default()).map_err(|e| e.to_string()),
            Self::Split(dataset) => dataset.sample(index).map(|sample| sample.image).map_err(|e| e.to_string()),
        }
    }
}

pub(crate) fn run(args: &QuantizeArgs) -> anyhow::Result<Status> {
    args.engine.place.check_is_cpu("quantize")?;
    output::check_file(&args.model, &args.output, "--output")?;
    anyhow::ensure!(args.limit != Some(0), "--limit: expected at least 1, found 0");
    anyhow::ensure!(!args.min_sqnr.is_some_and(f64::is_nan), "--min-sqnr: expected a number of dB, found NaN");
    let interrupt = Interrupt::listen(zoo::INTERRUPTED)?;
    let Some(model) = zoo::resolve(&args.model, Wanted::Detector, &args.zoo, &interrupt)? else {
        return Ok(Status::DoneWithFailures);
    };
    interrupt.announce("interrupted: nothing will be written");
    let detector = Detector::load(&model)?;
    let (source, mut errors, dropped) = open(args)?;

    let count = args.limit.map_or(source.len(), |limit| limit.min(source.len()));
    let mut options = QuantizeOptions::default();
    options.min_sqnr = args.min_sqnr.unwrap_or(options.min_sqnr);
    let mut failed = BTreeSet::new();
    let mut image = |i: usize| {
        // Spread over those given: neighbours are often alike.
        let index = i * source.len() / count;
        let image = source.image(index);
        image
            .map_err(|error| {
                if failed.insert(index) {
                    errors.push(error);
                }
            })
            .ok()
    };
    let mut bar = progress::bar(count, "images").with_message("ranges");
    let mut pass = Pass::Ranges;
    let mut on_image = |now: Pass, done: usize| {
        if now != pass {
            pass = now;
            bar.finish_and_clear();
            bar = progress::bar(count, "images").with_message("losses");
        }
        bar.set_position(done as u64);
        interrupt.flow()
    };
    let quantized = quantize(&detector, &options, count, &mut image, &mut on_image);
    bar.finish_and_clear();
    data::report("failed", &errors);
    let Some(quantized) = quantized? else { return Ok(Status::DoneWithFailures) };
    quantized.detector.save(&args.output)?;
    let is_complete = errors.is_empty() && dropped == 0;
    print(args, &model, &options, &quantized, errors)?;
    Ok(if is_complete { Status::Done } else { Status::DoneWithFailures })
}

/// The pictures, what of them cannot be used already now, and how many a data set has left out.
fn open(args: &QuantizeArgs) -> anyhow::Result<(Source, Vec<String>, usize)> {
    if let Some(request) = args.data.request()? {
        let dataset = data::open(&request, &args.split)?;
        let dropped = data::num_dropped_images(&dataset);
        return Ok((Source::Split(Box::new(dataset)), Vec::new(), dropped));
    }
    let (paths, errors) = inputs::partition(inputs::expand(&args.images, false));
    anyhow::ensure!(!paths.is_empty(), "--images: expected images to calibrate on, found none: {}", errors.join("; "));
    Ok((Source::Files(paths), errors, 0))
}

fn print(
    args: &QuantizeArgs,
    model: &Path,
    options: &QuantizeOptions,
    quantized: &Quantized,
    errors: Vec<String>,
) -> anyhow::Result<()> {
    let bytes = |path: &Path| {
        std::fs::metadata(path).map(|found| found.len()).with_context(|| format!("{}: cannot read", path.display()))
    };
    let (model_bytes, output_bytes) = (bytes(model)?, bytes(&args.output)?);
    let num_int8 = quantized.layers.iter().filter(|layer| layer.is_int8).count();
    if args.json {
        let layers = quantized.layers.iter().map(|layer| LayerEntry {
            name: &layer.name,
            int8: layer.is_int8,
            scale: layer.input.scale,
            zero_point: layer.input.zero_point,
            sqnr: layer.sqnr,
        });
        let document = Document {
            model: args.model.display().to_string(),
            output: args.output.display().to_string(),
            images: quantized.images,
            min_sqnr: options.min_sqnr,
            model_bytes,
            output_bytes,
            layers: layers.collect(),
            errors,
        };
        return crate::out!("{}", serde_json::to_string(&document)?);
    }
    let mut rows = vec![["layer", "scale", "zero point", "SQNR, dB", "runs in"].map(str::to_owned).to_vec()];
    for layer in &quantized.layers {
        rows.push(vec![
            layer.name.clone(),
            format!("{:.6}", layer.input.scale),
            layer.input.zero_point.to_string(),
            format!("{:.1}", layer.sqnr),
            if layer.is_int8 { "int8" } else { "f32 or bf16" }.to_owned(),
        ]);
    }
    crate::out!("{}", table::render(&rows))?;
    crate::out!(
        "\n{num_int8} of {} layers in 8 bits (at least {} dB), calibrated on {} images; {:.1} MiB, of {:.1}",
        quantized.layers.len(),
        options.min_sqnr,
        quantized.images,
        table::mebibytes(output_bytes),
        table::mebibytes(model_bytes)
    )?;
    crate::out!("model: {}", args.output.display())?;
    crate::out!("next: {} eval --model {} --data DATA", crate::program(), args.output.display())
}
