//! `retinanet convert`: a model from one toolkit's form to another's.

use crate::Status;
use crate::args::{ConvertArgs, Form};
use crate::interrupt::Interrupt;
use crate::output::check_file;
use crate::zoo::{self, Wanted};
use anyhow::Context;
use retinanet::{Config, Detector, Toolkit, to_torchvision, weights};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) fn run(args: &ConvertArgs) -> anyhow::Result<Status> {
    check_file(&args.model, &args.output, "--output")?;
    let is_torch = is_torch_file(&args.output, args.to)?;
    let Some(model) = zoo::resolve(&args.model, Wanted::Detector, &args.zoo, &Interrupt::ignored())? else {
        return Ok(Status::DoneWithFailures);
    };
    let mut detector = Detector::load(model)?;
    if !args.set.is_empty() {
        reconfigure(&mut detector, &args.set)?;
    }
    if detector.origin.toolkit != Toolkit::Retinanet {
        eprintln!("{}: {}", args.model.display(), detector.origin.toolkit);
    }
    detector.origin.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let dtype = args.dtype.dtype();
    match args.to {
        Form::Ours => detector.save_as(&args.output, dtype)?,
        Form::Torchvision => {
            let model = to_torchvision(&detector)?;
            let tensors = weights::cast(model.tensors, dtype)?;
            let python = if is_torch {
                weights::write_torch(&args.output, &tensors)?;
                format!(
                    "import torch\nstate = torch.load({:?}, weights_only=True)\n",
                    args.output.display().to_string()
                )
            } else {
                let classes = serde_json::to_string(&detector.classes)?;
                let metadata = BTreeMap::from([
                    ("format".to_owned(), "pt".to_owned()),
                    ("classes".to_owned(), classes),
                    ("python".to_owned(), model.python.clone()),
                ]);
                weights::write(&args.output, &tensors, &metadata)?;
                let file = args.output.display().to_string();
                format!("from safetensors.torch import load_file\nstate = load_file({file:?})\n")
            };
            crate::out!("{}{python}model.load_state_dict(state, strict=True)\nmodel.eval()", model.python)?;
        }
    }
    let bytes =
        std::fs::metadata(&args.output).with_context(|| format!("{}: cannot read", args.output.display()))?.len();
    eprintln!(
        "model: {}, {:.1} MiB, {} classes",
        args.output.display(),
        bytes as f64 / f64::from(1 << 20),
        detector.classes.len()
    );
    Ok(Status::Done)
}

/// Whether the output is a file of torch, by its extension, and whether the form has such files.
fn is_torch_file(output: &Path, form: Form) -> anyhow::Result<bool> {
    let extension = output.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_lowercase();
    let expected = match (extension.as_str(), form) {
        ("safetensors", _) => return Ok(false),
        ("pth" | "pt", Form::Torchvision) => return Ok(true),
        (_, Form::Torchvision) => ".safetensors or .pth",
        (_, Form::Ours) => ".safetensors",
    };
    anyhow::bail!("{}: extension: expected {expected}, found {extension:?}", output.display())
}

/// The same weights with another configuration, which they have to fit.
fn reconfigure(detector: &mut Detector, assignments: &[String]) -> anyhow::Result<()> {
    let config = Config::parse(&detector.config.to_toml()?, assignments)?;
    let tensors =
        detector.model.parameters.iter().map(|(name, variable)| (name.to_owned(), variable.as_detached_tensor()));
    detector.model = retinanet::Model::with_tensors(&config, detector.classes.len(), tensors.collect())?;
    detector.config = config;
    Ok(())
}
