//! `retinanet info`: what is in a model, or the presets and this machine.

use crate::args::InfoArgs;
use crate::{Status, table};
use retinanet::{Config, Detector};

pub(crate) fn run(args: &InfoArgs) -> anyhow::Result<Status> {
    match (&args.model, &args.preset) {
        (Some(path), _) => {
            let detector = Detector::load(path)?;
            let weights: usize = detector.model.parameters.iter().map(|(_, variable)| variable.elem_count()).sum();
            crate::out!("{}", path.display())?;
            crate::out!(
                "{weights} weights in {} tensors, {} classes\n",
                detector.model.parameters.len(),
                detector.classes.len()
            )?;
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
