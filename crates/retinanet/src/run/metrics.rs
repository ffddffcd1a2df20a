//! The numbers of a run over time: `metrics.jsonl`, one JSON object a line.

use super::append::AppendedFile;
use super::error::{RunError, io_error};
use retinanet_data::LoaderStatistics;
use retinanet_eval::{ClassMetrics, CocoSummary};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// A longer line is no metric: the scores of ten thousand classes are shorter.
const MAX_LINE_BYTES: u64 = 1 << 22;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Metric {
    /// Some steps.
    Step(StepMetrics),
    /// An epoch.
    Epoch(EpochMetrics),
}

/// Means over the steps since the line before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepMetrics {
    /// Steps of the optimiser that are done.
    pub step: usize,
    /// Epochs that are done, with the part of the one that goes on.
    pub epoch: f64,
    /// Class loss.
    pub class_loss: f64,
    /// Box loss.
    pub box_loss: f64,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the last of the steps.
    pub learning_rate: f64,
    /// Anchors of an image that learn a box.
    pub foreground_anchors_per_image: f64,
    /// Images learned from in a second.
    pub images_per_second: f64,
    /// Share of the time that was spent in waiting for images, 0 to 1.
    pub waited: f64,
    /// Resident memory at the end, in bytes.
    pub memory_bytes: Option<u64>,
}

/// An epoch, and the score after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EpochMetrics {
    /// Epochs that are done.
    pub epoch: usize,
    /// Steps of the optimiser that are done.
    pub step: usize,
    /// Mean over the steps.
    pub class_loss: f64,
    /// Mean over the steps.
    pub box_loss: f64,
    /// Mean over the steps.
    pub gradient_norm: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Images learned from.
    pub images: usize,
    /// Time of its steps, in seconds.
    pub seconds: f64,
    /// What loading did meanwhile.
    pub loading: LoadingMetrics,
    /// Time of scoring, in seconds.
    pub validation_seconds: f64,
    /// Most memory that was resident by now, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// COCO's numbers on the validation split, -1 where there is nothing to find; none where it was not scored.
    pub score: Option<CocoSummary>,
    /// The numbers of each class; empty where it was not scored.
    pub classes: Vec<ClassMetrics>,
}

/// What loading did, summed over the batches; times are of all workers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadingMetrics {
    /// For which the steps waited.
    pub waited_seconds: f64,
    /// Reading and decoding files, or asking the cache.
    pub decoding_seconds: f64,
    /// Augmentation.
    pub augmenting_seconds: f64,
    /// Normalising, resizing and padding.
    pub preparing_seconds: f64,
    /// Images as decoded, three bytes a pixel.
    pub decoded_bytes: u64,
    /// Samples that the cache had.
    pub cache_hits: u64,
    /// Samples that it had not.
    pub cache_misses: u64,
}

impl std::ops::Add for LoadingMetrics {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            waited_seconds: self.waited_seconds + other.waited_seconds,
            decoding_seconds: self.decoding_seconds + other.decoding_seconds,
            augmenting_seconds: self.augmenting_seconds + other.augmenting_seconds,
            preparing_seconds: self.preparing_seconds + other.preparing_seconds,
            decoded_bytes: self.decoded_bytes + other.decoded_bytes,
            cache_hits: self.cache_hits + other.cache_hits,
            cache_misses: self.cache_misses + other.cache_misses,
        }
    }
}

impl From<&LoaderStatistics> for LoadingMetrics {
    fn from(statistics: &LoaderStatistics) -> Self {
        Self {
            waited_seconds: statistics.waited.as_secs_f64(),
            decoding_seconds: statistics.decoding.as_secs_f64(),
            augmenting_seconds: statistics.augmenting.as_secs_f64(),
            preparing_seconds: statistics.preparing.as_secs_f64(),
            decoded_bytes: statistics.decoded_bytes,
            cache_hits: statistics.cache.hits,
            cache_misses: statistics.cache.misses,
        }
    }
}

impl EpochMetrics {
    /// AP, where it was scored and there is something to find.
    pub fn ap(&self) -> Option<f64> {
        self.score.map(|score| score.ap).filter(|&ap| ap >= 0.0)
    }

    /// Images learned from in a second; 0 where no time passed.
    pub fn images_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.images as f64 / self.seconds } else { 0.0 }
    }
}

/// Calls `f` with each line and its end, the last one with what there is of it.
fn for_each_line(path: &Path, mut f: impl FnMut(&[u8])) -> Result<(), RunError> {
    let mut reader = BufReader::new(File::open(path).map_err(io_error(path))?);
    let mut line = Vec::new();
    while reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(io_error(path))? > 0 {
        f(&line);
        line.clear();
    }
    Ok(())
}

/// All lines of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Lines of steps, in order.
    pub steps: Vec<StepMetrics>,
    /// Lines of epochs, in order.
    pub epochs: Vec<EpochMetrics>,
    /// Lines that are neither: cut short when the run was killed, or of another version.
    pub unreadable_lines: usize,
}

impl Metrics {
    /// Reads a file. Lines that cannot be read are counted and left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> Result<Self, RunError> {
        let mut metrics = Self::default();
        for_each_line(path, |line| match serde_json::from_slice(line) {
            Ok(Metric::Step(step)) => metrics.steps.push(step),
            Ok(Metric::Epoch(epoch)) => metrics.epochs.push(epoch),
            Err(_) => metrics.unreadable_lines += usize::from(!line.trim_ascii().is_empty()),
        })?;
        Ok(metrics)
    }

    /// The epoch with the best AP, the first of equal ones.
    pub fn best(&self) -> Option<&EpochMetrics> {
        let scored = self.epochs.iter().filter_map(|epoch| Some((epoch, epoch.ap()?)));
        let best = scored.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map(|(epoch, _)| epoch)
    }

    /// The last epoch that was scored.
    pub fn last_scored(&self) -> Option<&EpochMetrics> {
        self.epochs.iter().rev().find(|epoch| epoch.score.is_some())
    }

    /// Over all epochs.
    fn sum(&self, quantity: impl Fn(&EpochMetrics) -> f64) -> f64 {
        self.epochs.iter().map(quantity).sum()
    }

    /// Images learned from in a second, over all epochs.
    pub fn images_per_second(&self) -> Option<f64> {
        let seconds = self.sum(|epoch| epoch.seconds);
        (seconds > 0.0).then(|| self.sum(|epoch| epoch.images as f64) / seconds)
    }

    /// Share of the time of training that was spent in waiting for images, over all epochs.
    pub fn waited(&self) -> Option<f64> {
        let seconds = self.sum(|epoch| epoch.seconds);
        (seconds > 0.0).then(|| self.sum(|epoch| epoch.loading.waited_seconds) / seconds)
    }

    /// What loading did, over all epochs.
    pub fn loading(&self) -> LoadingMetrics {
        let epochs = self.epochs.iter().map(|epoch| epoch.loading);
        epochs.reduce(|sum, next| sum + next).unwrap_or_default()
    }

    /// Most memory that was resident at once, in bytes.
    pub fn peak_memory_bytes(&self) -> Option<u64> {
        let epochs = self.epochs.iter().filter_map(|epoch| epoch.peak_memory_bytes);
        epochs.chain(self.steps.iter().filter_map(|step| step.memory_bytes)).max()
    }
}

/// The file while it grows.
#[derive(Debug)]
pub(super) struct MetricsFile(AppendedFile);

impl MetricsFile {
    pub(super) fn create(path: &Path) -> std::io::Result<Self> {
        AppendedFile::create(path).map(Self)
    }

    /// The file cut after the last line that is known; an empty one where there is none.
    pub(super) fn resume(path: &Path, is_known: impl Fn(&Metric) -> bool) -> Result<Self, RunError> {
        let (mut end, mut length) = (0, 0);
        if path.exists() {
            for_each_line(path, |line| {
                end += line.len() as u64;
                // A line without its end is half of one, whatever it says.
                if line.ends_with(b"\n") && serde_json::from_slice(line).is_ok_and(|metric| is_known(&metric)) {
                    length = end;
                }
            })?;
        }
        AppendedFile::resume(path, length).map(Self).map_err(io_error(path))
    }

    /// Waits until all lines are on the disk.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.0.sync()
    }

    /// Adds a line, in one go, so that whoever reads meanwhile sees whole lines.
    pub(super) fn append(&mut self, metric: &Metric) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(metric)?;
        line.push(b'\n');
        self.0.append(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn epoch(epoch: usize, ap: Option<f64>) -> EpochMetrics {
        let score = ap.map(|ap| CocoSummary { ap, ..serde_json::from_str(ZEROS).expect("twelve numbers") });
        let loading = LoadingMetrics { waited_seconds: 1.0, cache_hits: 3, ..LoadingMetrics::default() };
        EpochMetrics { epoch, score, images: 10, seconds: 4.0, loading, ..EpochMetrics::default() }
    }

    const ZEROS: &str =
        r#"{"AP":0,"AP50":0,"AP75":0,"APs":0,"APm":0,"APl":0,"AR1":0,"AR10":0,"AR100":0,"ARs":0,"ARm":0,"ARl":0}"#;

    #[test]
    fn whole_lines_come_back_and_a_torn_one_is_counted() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        let mut file = MetricsFile::create(&path)?;
        let step = StepMetrics { step: 3, epoch: 0.1 + 0.2, learning_rate: 1e-30, ..StepMetrics::default() };
        file.append(&Metric::Step(step))?;
        file.append(&Metric::Epoch(epoch(1, Some(0.25))))?;
        let whole = Metrics { steps: vec![step], epochs: vec![epoch(1, Some(0.25))], unreadable_lines: 0 };
        assert_eq!(Metrics::read(&path)?, whole);

        // Cut at every byte of the last line, it is left out; all before stays.
        let text = std::fs::read(&path)?;
        let first_line = text.iter().position(|&byte| byte == b'\n').expect("two lines") + 1;
        for end in first_line + 1..text.len() - 1 {
            std::fs::write(&path, &text[..end])?;
            let torn = Metrics { epochs: Vec::new(), unreadable_lines: 1, ..whole.clone() };
            assert_eq!(Metrics::read(&path)?, torn, "{end} bytes");
        }
        std::fs::write(&path, &text[..text.len() - 1])?;
        assert_eq!(Metrics::read(&path)?, whole, "only the line's end is missing");

        let mut other = std::fs::OpenOptions::new().append(true).open(&path)?;
        other.write_all(
            b"\n\n{\"kind\":\"of tomorrow\"}\n\xff\xfe\n{\"epoch\":4}\n{\"kind\":\"step\",\"step\":9,\"new\":1}\n",
        )?;
        let metrics = Metrics::read(&path)?;
        assert_eq!((metrics.steps.len(), metrics.steps[1].step, metrics.unreadable_lines), (2, 9, 3));
        assert!(Metrics::read(&folder.path().join("nowhere")).expect_err("no file").to_string().contains("nowhere"));
        Ok(())
    }

    #[test]
    fn a_file_goes_on_after_what_is_known() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("metrics.jsonl");
        let step = |step| Metric::Step(StepMetrics { step, ..StepMetrics::default() });
        let is_known = |until: usize| move |metric: &Metric| matches!(metric, Metric::Step(step) if step.step <= until);
        let mut file = MetricsFile::resume(&path, is_known(0))?;
        (1..=4).try_for_each(|number| file.append(&step(number)))?;
        drop(file);
        let text = std::fs::read(&path)?;
        // Cut within the last line, too, where only its end is missing.
        for cut in [text.len(), text.len() - 1, text.len() - 5] {
            std::fs::write(&path, &text[..cut])?;
            let mut file = MetricsFile::resume(&path, is_known(3))?;
            file.append(&step(40))?;
            let steps: Vec<usize> = Metrics::read(&path)?.steps.iter().map(|step| step.step).collect();
            assert_eq!(steps, [1, 2, 3, 40], "{cut} bytes");
        }
        Ok(())
    }

    #[test]
    fn best_last_and_rates() {
        let scores = [Some(0.2), None, Some(0.5), Some(0.5), Some(-1.0), None];
        let epochs = scores.iter().enumerate().map(|(idx, &ap)| epoch(idx + 1, ap)).collect();
        let metrics = Metrics { epochs, ..Metrics::default() };
        assert_eq!(metrics.best().map(|epoch| epoch.epoch), Some(3));
        assert_eq!(metrics.last_scored().map(|epoch| epoch.epoch), Some(5));
        assert_eq!((metrics.images_per_second(), metrics.waited()), (Some(2.5), Some(0.25)));
        assert_eq!((metrics.loading().cache_hits, metrics.peak_memory_bytes()), (18, None));
        let empty = Metrics::default();
        assert_eq!((empty.best(), empty.images_per_second(), empty.waited()), (None, None, None));
    }
}
