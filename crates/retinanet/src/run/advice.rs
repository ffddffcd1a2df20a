//! What stands out in a run, and what to look at next.

use super::metrics::Metrics;
use super::reading::Run;
use super::record::{RunRecord, SplitRole};
use super::unit::Unit;

/// A share of waiting from which loading is worth a look.
const MUCH_WAITING: f64 = 0.1;

/// A difference of AP that is more than the noise of a small validation split.
const AP_DIFFERENCE: f64 = 0.01;

/// Boxes of a class below which its AP says little.
const FEW_BOXES: usize = 20;

/// How many names are listed before the rest is counted.
const LISTED: usize = 5;

/// A sentence for each thing that stands out, the most urgent first.
pub(super) fn advice(run: &Run) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(record) = &run.record {
        found.extend(of_data(record));
    }
    found.extend(of_scores(&run.metrics));
    if let Some(waited) = run.metrics.waited().filter(|&waited| waited > MUCH_WAITING) {
        found.push(format!(
            "{} of the training was spent in waiting for images: smaller files, or pictures that fit into memory, make it faster.",
            Unit::Share.text(waited)
        ));
    }
    if let Some(record) = &run.record {
        found.extend(of_classes(record, &run.metrics));
    }
    found
}

fn of_data(record: &RunRecord) -> Vec<String> {
    let mut found = Vec::new();
    if record.failures.count > 0 {
        found.push(format!("{} images could not be used; they are named below.", record.failures.count));
    }
    if let Some(batch) = record.first_batch.filter(|batch| batch.boxes_without_anchor > 0) {
        found.push(format!(
            "{} of {} boxes of the first batch are learned by no anchor, red in its picture: do anchors.sizes and preprocessing.min_size fit the objects?",
            batch.boxes_without_anchor, batch.boxes
        ));
    }
    if record.first_batch.is_some_and(|batch| batch.boxes == 0) {
        found.push("The first batch has no boxes: are the labels where they are looked for?".to_owned());
    }
    if !record.data.iter().any(|split| split.role == SplitRole::Validation) {
        found.push(
            "No split was scored: with --val-split, AP is seen while training and the best epoch is kept.".to_owned(),
        );
    }
    found
}

fn of_scores(metrics: &Metrics) -> Vec<String> {
    let mut found = Vec::new();
    let scored: Vec<(usize, f64)> =
        metrics.epochs.iter().filter_map(|epoch| Some((epoch.epoch, epoch.ap()?))).collect();
    let (Some(best), [.., (last_epoch, last_ap)]) = (metrics.best(), scored.as_slice()) else { return found };
    let best_ap = best.ap().unwrap_or(0.0);
    if best_ap < AP_DIFFERENCE {
        found.push(
            "AP is near 0. Look at the picture of the first batch: do the boxes lie on the objects, and have they anchors? Then at the losses: do they fall?"
                .to_owned(),
        );
        return found;
    }
    if best_ap - last_ap > AP_DIFFERENCE {
        found.push(format!(
            "AP fell from {} at epoch {} to {} at epoch {last_epoch}: best.safetensors is the model to take; fewer epochs or more augmentation may help.",
            Unit::Score.text(best_ap),
            best.epoch,
            Unit::Score.text(*last_ap)
        ));
    }
    if let [.., (_, before), (_, last)] = scored.as_slice()
        && last - before > AP_DIFFERENCE
    {
        found.push("AP still rose at the end: more epochs may give more.".to_owned());
    }
    found
}

fn of_classes(record: &RunRecord, metrics: &Metrics) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(train) = record.data.iter().find(|split| split.role == SplitRole::Train) {
        let few = record.classes.iter().zip(&train.boxes_per_class).filter(|(_, boxes)| **boxes < FEW_BOXES);
        let few: Vec<String> = few.map(|(class, boxes)| format!("{} ({boxes})", class.name)).collect();
        if !few.is_empty() {
            found.push(format!("Classes with fewer than {FEW_BOXES} boxes to learn from: {}.", listed(&few)));
        }
    }
    if let Some(best) = metrics.best() {
        let unfound = best.classes.iter().filter(|class| class.num_ground_truth > 0 && class.ap50 < AP_DIFFERENCE);
        let unfound: Vec<String> = unfound.map(|class| class.name.clone()).collect();
        if !unfound.is_empty() {
            found.push(format!("Classes of which nothing is found: {}.", listed(&unfound)));
        }
    }
    found
}

fn listed(names: &[String]) -> String {
    let text = names[..names.len().min(LISTED)].join(", ");
    if names.len() > LISTED { format!("{text} and {} more", names.len() - LISTED) } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::EpochMetrics;
    use super::super::record::{FirstBatchRecord, Messages, SplitRecord};
    use super::*;
    use crate::run::RunFolder;
    use retinanet_annotations::Class;
    use retinanet_eval::{ClassMetrics, CocoSummary};

    fn run(aps: &[f64]) -> Run {
        let zeros =
            r#"{"AP":0,"AP50":0,"AP75":0,"APs":0,"APm":0,"APl":0,"AR1":0,"AR10":0,"AR100":0,"ARs":0,"ARm":0,"ARl":0}"#;
        let epoch = |(idx, &ap): (usize, &f64)| {
            let score = CocoSummary { ap, ..serde_json::from_str(zeros).expect("twelve numbers") };
            EpochMetrics { epoch: idx + 1, score: Some(score), seconds: 10.0, ..EpochMetrics::default() }
        };
        let epochs = aps.iter().enumerate().map(epoch).collect();
        let split = |role| SplitRecord { role, boxes_per_class: vec![500], ..SplitRecord::default() };
        let record = RunRecord {
            classes: vec![Class { category_id: 1, name: "cat".to_owned() }],
            data: vec![split(SplitRole::Train), split(SplitRole::Validation)],
            ..RunRecord::default()
        };
        let metrics = Metrics { epochs, ..Metrics::default() };
        Run { folder: RunFolder::new("run"), record: Some(record), config: None, metrics, notes: Vec::new() }
    }

    #[track_caller]
    fn check(run: &Run, expected: &[&str]) {
        let found = advice(run);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (text, part) in found.iter().zip(expected) {
            assert!(text.contains(part), "expected {part:?} in {text:?}");
        }
    }

    #[test]
    fn scores_tell() {
        check(&run(&[]), &[]);
        check(&run(&[0.3, 0.4, 0.405]), &[]);
        check(&run(&[0.0, 0.001]), &["near 0"]);
        check(&run(&[0.3, 0.5, 0.4]), &["fell from 0.500 at epoch 2 to 0.400 at epoch 3"]);
        check(&run(&[0.3, 0.4]), &["still rose"]);
        check(&run(&[-1.0]), &[]);
    }

    #[test]
    fn data_waiting_and_classes_tell() {
        let mut run = run(&[0.4, 0.4]);
        let record = run.record.as_mut().expect("a record");
        record.failures = Messages { count: 3, first: Vec::new() };
        record.first_batch =
            Some(FirstBatchRecord { boxes: 9, boxes_without_anchor: 2, ..FirstBatchRecord::default() });
        record.data[0].boxes_per_class = vec![4];
        record.data.pop();
        run.metrics.epochs[0].loading.waited_seconds = 8.0;
        let class = ClassMetrics {
            class_idx: 0,
            category_id: 1,
            name: "cat".to_owned(),
            num_ground_truth: 5,
            ap: 0.0,
            ap50: 0.0,
            ar100: 0.0,
        };
        run.metrics.epochs[0].classes = vec![class];
        check(
            &run,
            &[
                "3 images",
                "2 of 9 boxes",
                "No split was scored",
                "40 % of",
                "20 boxes to learn from: cat (4).",
                "nothing is found: cat.",
            ],
        );
    }

    #[test]
    fn long_lists_are_counted() {
        let names: Vec<String> = (0..8).map(|number| number.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4 and 3 more");
        assert_eq!(listed(&names[..2]), "0, 1");
    }
}
