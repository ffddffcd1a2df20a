//! `retinanet info`: what is in a model, or the presets and this machine.

use crate::args::InfoArgs;
use crate::interrupt::Interrupt;
use crate::zoo::{self, Wanted};
use crate::{Status, device, table};
use retinanet::{Config, Detector, Origin, QuantizationTable, Toolkit};

pub(crate) fn run(args: &InfoArgs) -> anyhow::Result<Status> {
    match (&args.model, &args.preset) {
        (Some(model), _) => {
            let interrupt = Interrupt::listen(zoo::INTERRUPTED)?;
            let Some(path) = zoo::resolve(model, Wanted::Detector, &args.zoo, &interrupt)? else {
                return Ok(Status::DoneWithFailures);
            };
            let detector = Detector::load(&path)?;
            let weights: usize = detector.model.parameters.iter().map(|(_, variable)| variable.elem_count()).sum();
            crate::out!("{}", path.display())?;
            crate::out!("{}", origin(&detector.origin))?;
            if detector.config.train.ema.is_some() {
                crate::out!("the weights are the running average of the training's (train.ema)")?;
            }
            crate::out!(
                "{weights} weights in {} tensors, {} classes\n",
                detector.model.parameters.len(),
                detector.classes.len()
            )?;
            if let Some(table) = &detector.quantization {
                crate::out!("{}\n", quantized_layers(&detector, table))?;
            }
            let mut rows = vec![["output", "category id", "name"].map(str::to_owned).to_vec()];
            for (output, class) in detector.classes.iter().enumerate() {
                rows.push(vec![output.to_string(), class.category_id.to_string(), class.name.clone()]);
            }
            crate::out!("{}\n\n{}", table::render(&rows), detector.config.to_toml()?.trim_end())?;
        }
        (None, Some(name)) => crate::out!("{}", Config::preset_text(name)?.trim_end())?,
        (None, None) => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            crate::out!(
                "retinanet {}, {} {}, {cores} threads\n",
                env!("CARGO_PKG_VERSION"),
                std::env::consts::OS,
                std::env::consts::ARCH
            )?;
            for line in device::gpus() {
                crate::out!("{line}\n")?;
            }
            let mut rows = vec![["preset", "backbone", "input", "epochs", "batch"].map(str::to_owned).to_vec()];
            for name in Config::preset_names() {
                let config = Config::preset(name)?;
                let depth = format!("{:?}", config.backbone.depth).to_lowercase();
                let input = format!("{}/{}", config.preprocessing.min_size, config.preprocessing.max_size);
                rows.push(vec![
                    name.to_owned(),
                    depth,
                    input,
                    config.train.epochs.to_string(),
                    config.train.batch.to_string(),
                ]);
            }
            crate::out!(
                "{}\n\nretinanet info --preset NAME prints a preset's file; retinanet info MODEL shows a model.",
                table::render(&rows)
            )?;
        }
    }
    Ok(Status::Done)
}

/// Who trained the model, and what was assumed of it.
fn origin(origin: &Origin) -> String {
    let what = match origin.toolkit {
        Toolkit::Retinanet => "trained by this program",
        Toolkit::Torchvision => "trained by torchvision",
        Toolkit::Detectron2 => "trained by Detectron2: colours and anchors are put into our order",
        Toolkit::Mmdetection => "trained by MMDetection: colours are put into our order",
    };
    origin.notes.iter().fold(what.to_owned(), |text, note| format!("{text}\nnote: {note}"))
}

/// Which layers run in 8 bits, and how their inputs are stored.
fn quantized_layers(detector: &Detector, table: &QuantizationTable) -> String {
    let mut rows = vec![["layer", "runs in", "scale", "zero point"].map(str::to_owned).to_vec()];
    for layer in detector.model.network.layers() {
        let name = layer.name.clone();
        rows.push(match table.get(&name) {
            Some(scales) => {
                let input = scales.input;
                vec![name, "int8".to_owned(), format!("{:.6}", input.scale), input.zero_point.to_string()]
            }
            None => vec![name, "f32 or bf16".to_owned()],
        });
    }
    format!("{} of {} layers in 8 bits\n\n{}", table.layers.len(), rows.len() - 1, table::render(&rows))
}
