//! Anchors against torchvision 0.29.2: numbers of its `AnchorGenerator`, exact.

use retinanet_anchors::{AnchorConfig, AnchorGenerator, BBox, ImageSize, Pyramid, PyramidLevel};

/// What torchvision gave for one padded size; all coordinates are whole pixels.
struct Golden {
    padded: ImageSize,
    grids: [(usize, usize); 5],
    num_anchors: usize,
    /// The first 27 anchors.
    head: [[i16; 4]; 27],
    /// The last 27 anchors.
    tail: [[i16; 4]; 27],
    /// `x0` of every `sample_step`-th anchor, and the FNV-1a 64 of all of them as little-endian i32.
    sample_step: usize,
    num_samples: usize,
    samples_fnv: u64,
}

const SQUARE_320: Golden = Golden {
    padded: ImageSize::new(320, 320),
    grids: [(40, 40), (20, 20), (10, 10), (5, 5), (3, 3)],
    num_anchors: 19206,
    head: [
        [-23, -11, 23, 11],
        [-28, -14, 28, 14],
        [-35, -18, 35, 18],
        [-16, -16, 16, 16],
        [-20, -20, 20, 20],
        [-25, -25, 25, 25],
        [-11, -23, 11, 23],
        [-14, -28, 14, 28],
        [-18, -35, 18, 35],
        [-15, -11, 31, 11],
        [-20, -14, 36, 14],
        [-27, -18, 43, 18],
        [-8, -16, 24, 16],
        [-12, -20, 28, 20],
        [-17, -25, 33, 25],
        [-3, -23, 19, 23],
        [-6, -28, 22, 28],
        [-10, -35, 26, 35],
        [-7, -11, 39, 11],
        [-12, -14, 44, 14],
        [-19, -18, 51, 18],
        [0, -16, 32, 16],
        [-4, -20, 36, 20],
        [-9, -25, 41, 25],
        [5, -23, 27, 23],
        [2, -28, 30, 28],
        [-2, -35, 34, 35],
    ],
    tail: [
        [-362, 31, 362, 393],
        [-456, -16, 456, 440],
        [-574, -75, 574, 499],
        [-256, -44, 256, 468],
        [-322, -110, 322, 534],
        [-406, -194, 406, 618],
        [-181, -150, 181, 574],
        [-228, -244, 228, 668],
        [-287, -362, 287, 786],
        [-256, 31, 468, 393],
        [-350, -16, 562, 440],
        [-468, -75, 680, 499],
        [-150, -44, 362, 468],
        [-216, -110, 428, 534],
        [-300, -194, 512, 618],
        [-75, -150, 287, 574],
        [-122, -244, 334, 668],
        [-181, -362, 393, 786],
        [-150, 31, 574, 393],
        [-244, -16, 668, 440],
        [-362, -75, 786, 499],
        [-44, -44, 468, 468],
        [-110, -110, 534, 534],
        [-194, -194, 618, 618],
        [31, -150, 393, 574],
        [-16, -244, 440, 668],
        [-75, -362, 499, 786],
    ],
    sample_step: 9,
    num_samples: 2134,
    samples_fnv: 0x9ca1_87fe_9438_c509,
};

const PORTRAIT_448X512: Golden = Golden {
    padded: ImageSize::new(448, 512),
    grids: [(56, 64), (28, 32), (14, 16), (7, 8), (4, 4)],
    num_anchors: 42984,
    head: [
        [-23, -11, 23, 11],
        [-28, -14, 28, 14],
        [-35, -18, 35, 18],
        [-16, -16, 16, 16],
        [-20, -20, 20, 20],
        [-25, -25, 25, 25],
        [-11, -23, 11, 23],
        [-14, -28, 14, 28],
        [-18, -35, 18, 35],
        [-15, -11, 31, 11],
        [-20, -14, 36, 14],
        [-27, -18, 43, 18],
        [-8, -16, 24, 16],
        [-12, -20, 28, 20],
        [-17, -25, 33, 25],
        [-3, -23, 19, 23],
        [-6, -28, 22, 28],
        [-10, -35, 26, 35],
        [-7, -11, 39, 11],
        [-12, -14, 44, 14],
        [-19, -18, 51, 18],
        [0, -16, 32, 16],
        [-4, -20, 36, 20],
        [-9, -25, 41, 25],
        [5, -23, 27, 23],
        [2, -28, 30, 28],
        [-2, -35, 34, 35],
    ],
    tail: [
        [-250, 203, 474, 565],
        [-344, 156, 568, 612],
        [-462, 97, 686, 671],
        [-144, 128, 368, 640],
        [-210, 62, 434, 706],
        [-294, -22, 518, 790],
        [-69, 22, 293, 746],
        [-116, -72, 340, 840],
        [-175, -190, 399, 958],
        [-138, 203, 586, 565],
        [-232, 156, 680, 612],
        [-350, 97, 798, 671],
        [-32, 128, 480, 640],
        [-98, 62, 546, 706],
        [-182, -22, 630, 790],
        [43, 22, 405, 746],
        [-4, -72, 452, 840],
        [-63, -190, 511, 958],
        [-26, 203, 698, 565],
        [-120, 156, 792, 612],
        [-238, 97, 910, 671],
        [80, 128, 592, 640],
        [14, 62, 658, 706],
        [-70, -22, 742, 790],
        [155, 22, 517, 746],
        [108, -72, 564, 840],
        [49, -190, 623, 958],
    ],
    sample_step: 20,
    num_samples: 2150,
    samples_fnv: 0x0172_10a3_1ad4_7b3c,
};

#[track_caller]
fn check(golden: &Golden) {
    let generator = AnchorGenerator::new(&AnchorConfig::torchvision(), PyramidLevel::P3).unwrap();
    let grids = golden.grids.map(|(width, height)| ImageSize::new(width, height)).to_vec();
    let grids = Pyramid::new(PyramidLevel::P3, grids).unwrap();
    let anchors = generator.generate(golden.padded, &grids).unwrap().into_values().concat();
    assert_eq!(anchors.len(), golden.num_anchors);
    let boxes = |table: &[[i16; 4]]| table.iter().map(|b| BBox::from(b.map(f32::from))).collect::<Vec<_>>();
    assert_eq!(anchors[..27], boxes(&golden.head));
    assert_eq!(anchors[anchors.len() - 27..], boxes(&golden.tail));

    let samples: Vec<f32> = anchors.iter().step_by(golden.sample_step).map(|anchor| anchor.x0).collect();
    assert_eq!(samples.len(), golden.num_samples);
    assert!(samples.iter().all(|x0| x0.fract() == 0.0));
    let bytes = samples.iter().flat_map(|&x0| (x0 as i32).to_le_bytes());
    let fnv = bytes.fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    assert_eq!(fnv, golden.samples_fnv);
}

#[test]
fn grid_of_three_over_320_pixels() {
    check(&SQUARE_320);
}

#[test]
fn stride_differs_across_and_down() {
    check(&PORTRAIT_448X512);
}
