//! `retinanet losses`: which examples a model's class loss comes from.

use crate::args::LossesArgs;
use crate::interrupt::Interrupt;
use crate::zoo::{self, Wanted};
use crate::{Status, data, output, progress, table};
use anyhow::Context;
use retinanet::{Detector, LossDistribution, LossExamples};
use retinanet_anchors::ImageSize;
use retinanet_annotations::write_atomically;
use retinanet_data::Dataset;
use retinanet_draw::{DrawError, Plot, Series, encode_png, grid, line_plot};
use serde_json::json;

/// Pixels of each of the two plots.
const SIZE: ImageSize = ImageSize::new(640, 480);

/// Foreground examples count as hard among this share, as the paper has it.
const HARD_FOREGROUND: f64 = 0.2;

/// The background is so large that a thousandth of it is many.
const HARD_BACKGROUND: f64 = 0.001;

pub(crate) fn run(args: &LossesArgs) -> anyhow::Result<Status> {
    args.engine.place.check_is_cpu("losses")?;
    if let Some(gamma) = args.gammas.iter().find(|gamma| !(0.0..=5.0).contains(*gamma)) {
        anyhow::bail!("--gamma: expected a number within [0, 5], found {gamma}");
    }
    if let Some(picture) = &args.output {
        let is_png = picture.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
        anyhow::ensure!(is_png, "--output: expected a name that ends in .png, found {}", picture.display());
        output::check_target(picture)?;
    }
    let interrupt = Interrupt::listen(zoo::INTERRUPTED)?;
    let Some(path) = zoo::resolve(&args.model, Wanted::Detector, &args.zoo, &interrupt)? else {
        return Ok(Status::DoneWithFailures);
    };
    interrupt.announce("interrupted: finishing this image");
    let detector = Detector::load(path)?;
    let request = args.data.request()?;
    let split = data::split_to_score(&request, args.split.as_deref())?;
    let dataset = data::open(&request, &split)?;
    let bar = progress::bar(dataset.len(), "images").with_message(split);
    let distribution = LossDistribution::measure(&detector, &dataset, &mut |done| {
        bar.set_position(done as u64);
        interrupt.flow()
    })?;
    bar.finish_and_clear();
    let Some(distribution) = distribution else {
        eprintln!("interrupted: nothing is written, as the losses of a part would say nothing of the whole");
        return Ok(Status::DoneWithFailures);
    };

    if args.json {
        crate::out!("{}", document(&distribution, &args.gammas))?;
    } else {
        crate::out!("{}", text(&distribution, &args.gammas))?;
    }
    if let Some(path) = &args.output {
        let bytes = picture(&distribution, &args.gammas)?;
        write_atomically(path, |file| file.write_all(&bytes))
            .with_context(|| format!("{}: cannot write", path.display()))?;
        eprintln!("written: {}", path.display());
    }
    data::report("failed", &distribution.failures);
    let is_complete = distribution.failures.is_empty() && data::num_dropped_images(&dataset) == 0;
    Ok(if is_complete { Status::Done } else { Status::DoneWithFailures })
}

fn text(distribution: &LossDistribution, gammas: &[f64]) -> String {
    let LossDistribution { foreground, background, .. } = distribution;
    let share = |examples: &LossExamples, gamma: f64, share: f64| match examples.loss_of_hardest(gamma, share) {
        Some(loss) => format!("{:.1} %", 100.0 * loss),
        None => "-".to_owned(),
    };
    let heading = ["gamma", "in the hardest 20 % of the foreground", "in the hardest .1 % of the background"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for &gamma in gammas {
        let (positive, negative) =
            (share(foreground, gamma, HARD_FOREGROUND), share(background, gamma, HARD_BACKGROUND));
        rows.push(vec![gamma.to_string(), positive, negative]);
    }
    format!(
        "{} foreground and {} background examples; where their class loss is:\n\n{}",
        foreground.count(),
        background.count(),
        table::render(&rows)
    )
}

fn document(distribution: &LossDistribution, gammas: &[f64]) -> serde_json::Value {
    let of = |examples: &LossExamples, share: f64| {
        let curve = |&gamma: &f64| {
            json!({
                "gamma": gamma,
                "loss_of_hardest": { "share": share, "loss": examples.loss_of_hardest(gamma, share) },
                "cumulative": examples.cumulative_loss(gamma),
            })
        };
        json!({ "examples": examples.count(), "curves": gammas.iter().map(curve).collect::<Vec<_>>() })
    };
    json!({
        "foreground": of(&distribution.foreground, HARD_FOREGROUND),
        "background": of(&distribution.background, HARD_BACKGROUND),
        "errors": distribution.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Foreground and background beside each other, a curve for each gamma.
fn picture(distribution: &LossDistribution, gammas: &[f64]) -> Result<Vec<u8>, DrawError> {
    let plot = |title: &str, examples: &LossExamples| {
        let series = |&gamma: &f64| Series { name: format!("γ = {gamma}"), points: examples.cumulative_loss(gamma) };
        let plot = Plot {
            title: format!("{title}: {} examples", examples.count()),
            x_label: "share of the examples, the easiest first".to_owned(),
            y_label: "share of the loss".to_owned(),
            series: gammas.iter().map(series).collect(),
            ..Plot::default()
        };
        line_plot(&plot, SIZE)
    };
    let plots = [plot("Foreground", &distribution.foreground), plot("Background", &distribution.background)];
    encode_png(&grid(&plots, 2, 4)?)
}
