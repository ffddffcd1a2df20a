//! What matters of MMDetection's configuration, found in its text.
//!
//! The text is a Python program of nested calls of `dict`, which is not run: values are looked up by their keyword.

use crate::config::Config;
use crate::weights::WeightsError;

/// What a configuration says; nothing where it does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    pub(super) is_caffe: Option<bool>,
    pub(super) mean: Option<[f64; 3]>,
    pub(super) std: Option<[f64; 3]>,
    pub(super) is_rgb: Option<bool>,
    pub(super) relu_before_extra_convs: Option<bool>,
    /// Where the pyramid's extra levels come from, such as `on_input`.
    pub(super) extra_convs: Option<String>,
    /// Shorter side and limit of the longer one.
    pub(super) scale: Option<(usize, usize)>,
    octave_base_scale: Option<f64>,
    scales_per_octave: Option<f64>,
    aspect_ratios: Option<Vec<f64>>,
    center_offset: Option<f64>,
    target_means: Option<Vec<f64>>,
    target_stds: Option<Vec<f64>>,
    score_threshold: Option<f64>,
    pre_nms: Option<f64>,
    nms_iou: Option<f64>,
    max_detections: Option<f64>,
}

impl Settings {
    /// Looks the values up.
    pub(super) fn read(text: &str) -> Self {
        let behind = |place: &str| text.find(place).map_or(text, |at| &text[at..]);
        // The sizes of training are drawn from several; those of testing are one.
        let test = behind("test_pipeline");
        let test_cfg = behind("test_cfg");
        let three = |key: &str| numbers(text, key).and_then(|values| values.try_into().ok());
        let scale = ["img_scale", "scale"].iter().find_map(|key| numbers(test, key)).filter(|values| values.len() == 2);
        let scale = scale.map(|values| {
            let (a, b) = (values[0].max(1.0) as usize, values[1].max(1.0) as usize);
            (a.min(b), a.max(b))
        });
        Self {
            is_caffe: string(text, "style").map(|style| style == "caffe"),
            mean: three("mean"),
            std: three("std"),
            is_rgb: boolean(text, "bgr_to_rgb").or_else(|| boolean(text, "to_rgb")),
            relu_before_extra_convs: boolean(text, "relu_before_extra_convs"),
            extra_convs: string(text, "add_extra_convs").map(str::to_owned),
            scale,
            octave_base_scale: number(text, "octave_base_scale"),
            scales_per_octave: number(text, "scales_per_octave"),
            aspect_ratios: numbers(text, "ratios"),
            center_offset: number(text, "center_offset"),
            target_means: numbers(text, "target_means"),
            target_stds: numbers(text, "target_stds"),
            score_threshold: number(test_cfg, "score_thr"),
            pre_nms: number(test_cfg, "nms_pre"),
            nms_iou: number(test_cfg, "iou_threshold").or_else(|| number(test_cfg, "iou_thr")),
            max_detections: number(test_cfg, "max_per_img"),
        }
    }

    /// The first value that no network of ours can follow.
    pub(super) fn unsupported(&self) -> Option<WeightsError> {
        let wrong = |key: &str, expected: &str, found: String| {
            let (what, expected) = (format!("configuration: {key}"), expected.to_owned());
            Some(WeightsError::Layout { what, expected, found })
        };
        match (&self.extra_convs, &self.target_means) {
            (Some(found), _) if !["on_input", "on_output"].contains(&found.as_str()) => {
                wrong("add_extra_convs", "on_input or on_output", found.clone())
            }
            (_, Some(means)) if means.iter().any(|&mean| mean != 0.0) => {
                wrong("target_means", "zeros", format!("{means:?}"))
            }
            _ => None,
        }
    }

    /// Puts anchors, box coding and post-processing into a configuration.
    pub(super) fn set(&self, config: &mut Config) {
        if let Some(scale) = self.octave_base_scale {
            // A multiple of each level's stride.
            let first = usize::from(config.fpn.finest.number());
            for (level_idx, size) in config.anchors.sizes.iter_mut().enumerate() {
                *size = (scale * (1u32 << (first + level_idx)) as f64) as f32;
            }
        }
        if let Some(count) = self.scales_per_octave.filter(|&count| (1.0..=16.0).contains(&count)) {
            config.anchors.octave_scales = (0..count as usize).map(|i| (i as f64 / count).exp2()).collect();
        }
        if let Some(ratios) = &self.aspect_ratios {
            config.anchors.aspect_ratios.clone_from(ratios);
        }
        if let Some(offset) = self.center_offset {
            config.anchors.offset = offset as f32;
        }
        if let Some(stds) = self.target_stds.as_ref().filter(|stds| stds.len() == 4) {
            for (weight, std) in config.box_coder.weights.iter_mut().zip(stds) {
                *weight = (1.0 / std) as f32;
            }
        }
        let post = &mut config.post_processing;
        post.score_threshold = self.score_threshold.map_or(post.score_threshold, |value| value as f32);
        post.nms_iou_threshold = self.nms_iou.map_or(post.nms_iou_threshold, |value| value as f32);
        // -1 is no limit.
        let count = |value: f64| if value < 0.0 { 1_000_000 } else { value as usize };
        post.pre_nms_top_k = self.pre_nms.map_or(post.pre_nms_top_k, count);
        post.max_detections = self.max_detections.map_or(post.max_detections, count);
    }
}

/// The first text behind `key=` or `'key':` that can be read as what is looked for: `std` is a number where layers are
/// initialised, and a list where pictures are normalised.
fn find<'t, T>(text: &'t str, key: &str, read: impl Fn(&'t str) -> Option<T>) -> Option<T> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(key).find_map(|(at, _)| {
        if text[..at].chars().next_back().is_some_and(is_word) {
            return None;
        }
        let rest = text[at + key.len()..].trim_start_matches(['\'', '"']).trim_start();
        read(rest.strip_prefix(['=', ':'])?.trim_start())
    })
}

fn string<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    find(text, key, |value| {
        let quote = value.chars().next().filter(|character| ['\'', '"'].contains(character))?;
        value[1..].split(quote).next()
    })
}

fn boolean(text: &str, key: &str) -> Option<bool> {
    find(text, key, |value| match (value.starts_with("True"), value.starts_with("False")) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    })
}

fn number(text: &str, key: &str) -> Option<f64> {
    find(text, key, |value| {
        let end = value.find(|character: char| !(character.is_ascii_alphanumeric() || "+-.".contains(character)));
        value[..end.unwrap_or(value.len())].parse().ok().filter(|number: &f64| number.is_finite())
    })
}

/// The numbers of a flat list or tuple.
fn numbers(text: &str, key: &str) -> Option<Vec<f64>> {
    find(text, key, |value| {
        let value = value.strip_prefix(['[', '('])?;
        let inner = &value[..value.find([']', ')', '[', '('])?];
        let numbers = inner.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.parse().ok());
        numbers.collect::<Option<Vec<f64>>>().filter(|numbers| numbers.iter().all(|number| number.is_finite()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration as MMDetection 2 writes it down, shortened.
    const TWO: &str = "model = dict(\n    type='RetinaNet',\n    backbone=dict(\n        norm_cfg=dict(type='BN', \
        requires_grad=False),\n        norm_eval=True,\n        style='caffe'),\n    neck=dict(\n        start_level=1,\n        \
        add_extra_convs='on_input',\n        num_outs=5),\n    bbox_head=dict(\n        num_classes=80,\n        init_cfg=dict(std=0.01),\n        \
        anchor_generator=dict(\n            octave_base_scale=4,\n            scales_per_octave=2,\n            ratios=[0.5, \
        1.0],\n            strides=[8, 16, 32, 64, 128]),\n        bbox_coder=dict(\n            target_means=[0.0, 0.0, 0.0, \
        0.0],\n            target_stds=[0.5, 0.5, 1.0, 1.0])),\n    train_cfg=dict(assigner=dict(pos_iou_thr=0.5)),\n    \
        test_cfg=dict(\n        nms_pre=500,\n        min_bbox_size=0,\n        score_thr=0.1,\n        nms=dict(type='nms', \
        iou_threshold=0.6),\n        max_per_img=-1))\nimg_norm_cfg = dict(\n    mean=[102.9801, 115.9465, 122.7717], std=[1.0, \
        1.0, 1.0], to_rgb=False)\ntrain_pipeline = [\n    dict(type='Resize', img_scale=[(1333, 640), (1333, 800)])\n]\n\
        test_pipeline = [\n    dict(\n        type='MultiScaleFlipAug',\n        img_scale=(1000, 600))\n]\n";

    #[test]
    fn a_configuration_is_read_and_not_run() {
        let settings = Settings::read(TWO);
        assert_eq!(settings.is_caffe, Some(true));
        assert_eq!((settings.mean, settings.std), (Some([102.9801, 115.9465, 122.7717]), Some([1.0; 3])));
        assert_eq!((settings.is_rgb, settings.relu_before_extra_convs), (Some(false), None));
        assert_eq!((settings.extra_convs.as_deref(), settings.scale), (Some("on_input"), Some((600, 1000))));
        assert!(settings.unsupported().is_none());
        let mut config = Config::preset("paper_r50").expect("a preset");
        settings.set(&mut config);
        assert_eq!(config.anchors.sizes, [32.0, 64.0, 128.0, 256.0, 512.0]);
        assert_eq!(config.anchors.octave_scales, [1.0, std::f64::consts::SQRT_2]);
        assert_eq!((&config.anchors.aspect_ratios[..], config.anchors.offset), (&[0.5, 1.0][..], 0.0));
        assert_eq!(config.box_coder.weights, [2.0, 2.0, 1.0, 1.0]);
        let post = config.post_processing;
        assert_eq!((post.score_threshold, post.nms_iou_threshold), (0.1, 0.6));
        assert_eq!((post.pre_nms_top_k, post.max_detections), (500, 1_000_000));
    }

    #[test]
    fn both_ways_of_writing_and_what_cannot_be_followed() {
        let text = "{'data_preprocessor': {'mean': [1, 2.5, 3], 'std': [4, 5, 6], 'bgr_to_rgb': True}, \
                    'relu_before_extra_convs': True, \"style\": \"pytorch\", 'scale': (1333, 800)}";
        let settings = Settings::read(text);
        assert_eq!((settings.mean, settings.std), (Some([1.0, 2.5, 3.0]), Some([4.0, 5.0, 6.0])));
        assert_eq!((settings.is_rgb, settings.is_caffe), (Some(true), Some(false)));
        assert_eq!((settings.relu_before_extra_convs, settings.scale), (Some(true), Some((800, 1333))));
        assert_eq!(Settings::read("no configuration, mean=, std=[1, x], style=, scale=(1"), Settings::default());
        let wrong = |text: &str| Settings::read(text).unsupported().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(
            wrong("add_extra_convs='on_lateral'"),
            "weights: configuration: add_extra_convs: expected on_input or on_output, found on_lateral"
        );
        assert!(wrong("target_means=[0.0, 0.1, 0.0, 0.0]").contains("expected zeros"));
    }
}
