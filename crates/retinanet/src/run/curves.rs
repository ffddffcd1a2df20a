//! The curves of a run, and of several over each other.

use super::metrics::{Metrics, StepMetrics};
use super::pictures::Drawn;
use retinanet_anchors::ImageSize;
use retinanet_draw::{DrawError, Plot, RgbImage, Scale, Series, grid, line_plot};
use retinanet_eval::CocoSummary;

/// Pixels of a plot.
const SIZE: ImageSize = ImageSize::new(960, 400);

/// Points of a curve of steps: more would only be noise.
const MAX_POINTS: usize = 200;

/// A number of a line of steps.
type OfSteps = fn(&StepMetrics) -> f64;

/// A number of a score.
type OfScore = fn(&CocoSummary) -> f64;

/// Losses, score and learning rate of one run; what it has no numbers of is left out.
pub(super) fn of_run(metrics: &Metrics) -> Vec<Plot> {
    let loss = |name: &str, of: OfSteps| Series { name: name.to_owned(), points: step_points(metrics, of) };
    let losses = vec![loss("class loss", |step| step.class_loss), loss("box loss", |step| step.box_loss)];
    let score = |name: &str, of: OfScore| Series { name: name.to_owned(), points: score_points(metrics, of) };
    let scores =
        vec![score("AP", |score| score.ap), score("AP50", |score| score.ap50), score("AR100", |score| score.ar100)];
    let rate = Series { name: String::new(), points: rate_points(metrics) };
    with_points([
        plot("Loss", Scale::Log, losses),
        plot("Score on the validation split", Scale::Linear, scores),
        plot("Learning rate", Scale::Linear, vec![rate]),
    ])
}

/// The same curve of several runs in each plot: losses and AP.
pub(super) fn of_runs(runs: &[(String, &Metrics)]) -> Vec<Plot> {
    let series = |points: &dyn Fn(&Metrics) -> Vec<(f64, f64)>| {
        runs.iter().map(|(name, metrics)| Series { name: name.clone(), points: points(metrics) }).collect::<Vec<_>>()
    };
    with_points([
        plot("Class loss", Scale::Log, series(&|metrics| step_points(metrics, |step| step.class_loss))),
        plot("Box loss", Scale::Log, series(&|metrics| step_points(metrics, |step| step.box_loss))),
        plot("AP on the validation split", Scale::Linear, series(&|metrics| score_points(metrics, |score| score.ap))),
    ])
}

/// The plots above each other on one picture; empty axes where there are none.
pub(super) fn picture(plots: &[Plot]) -> Result<Drawn, DrawError> {
    let mut shown: Vec<RgbImage> = plots.iter().map(|plot| line_plot(plot, SIZE)).collect();
    if shown.is_empty() {
        shown.push(line_plot(&plot("No step is done yet", Scale::Linear, Vec::new()), SIZE));
    }
    Drawn::new(grid(&shown, 1, 4)?)
}

fn plot(title: &str, y_scale: Scale, series: Vec<Series>) -> Plot {
    // Curves without points keep their place: a run has the same colour in every plot.
    Plot { title: title.to_owned(), x_label: "epoch".to_owned(), y_scale, series, ..Plot::default() }
}

fn with_points<const N: usize>(plots: [Plot; N]) -> Vec<Plot> {
    let has_points = |plot: &Plot| plot.series.iter().any(|series| !series.points.is_empty());
    plots.into_iter().filter(has_points).collect()
}

/// Means over neighbouring lines, so that single steps do not hide the course.
fn step_points(metrics: &Metrics, of: OfSteps) -> Vec<(f64, f64)> {
    let window = metrics.steps.len().div_ceil(MAX_POINTS).max(1);
    let mean = |chunk: &[StepMetrics]| {
        let end = chunk.last().map_or(0.0, |step| step.epoch);
        (end, chunk.iter().map(of).sum::<f64>() / chunk.len() as f64)
    };
    metrics.steps.chunks(window).map(mean).collect()
}

/// The scored epochs, where there was something to find.
fn score_points(metrics: &Metrics, of: OfScore) -> Vec<(f64, f64)> {
    let scored = metrics.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, of(epoch.score.as_ref()?))));
    scored.filter(|(_, score)| *score >= 0.0).collect()
}

fn rate_points(metrics: &Metrics) -> Vec<(f64, f64)> {
    metrics.steps.iter().map(|step| (step.epoch, step.learning_rate)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_averaged_and_short_ones_are_not() {
        let step =
            |step: usize| StepMetrics { epoch: step as f64, class_loss: (step % 2) as f64, ..StepMetrics::default() };
        let metrics = |steps: usize| Metrics { steps: (1..=steps).map(step).collect(), ..Metrics::default() };
        assert_eq!(step_points(&metrics(3), |step| step.class_loss), [(1.0, 1.0), (2.0, 0.0), (3.0, 1.0)]);
        let long = step_points(&metrics(2 * MAX_POINTS), |step| step.class_loss);
        assert_eq!((long.len(), long[0], long[199]), (MAX_POINTS, (2.0, 0.5), (400.0, 0.5)));
    }

    #[test]
    fn a_run_with_no_numbers_has_a_picture() {
        assert!(of_run(&Metrics::default()).is_empty() && of_runs(&[]).is_empty());
        let drawn = picture(&[]).expect("a picture");
        assert_eq!(drawn.picture.width(), SIZE.width as u32 + 8);
    }
}
