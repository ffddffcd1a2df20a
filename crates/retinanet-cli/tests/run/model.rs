//! A model for the binary to work on.

use retinanet::{Config, Detector, Model};
use retinanet_annotations::Class;
use std::path::Path;

/// A tiny detector of random weights.
pub(crate) fn write_model(file: &Path) {
    let small = ["backbone.width=16", "fpn.channels=32", "head.channels=32", "preprocessing.min_size=64"];
    let small: Vec<String> = small.iter().chain(&["preprocessing.max_size=64"]).map(|&a| a.to_owned()).collect();
    let config = Config::parse(Config::preset_text("small_r18").expect("a preset"), &small).expect("a configuration");
    let classes = vec![Class { category_id: 7, name: "window".to_owned() }];
    let model = Model::new(&config, 1, 5).expect("a model");
    Detector::new(config, classes, model).save(file).expect("a temporary folder can be written");
}
