//! COCO's classes.

use retinanet_annotations::Class;

/// The classes of outputs 0..K that count COCO's 80 classes without the gaps in their ids; of another K, and of other names,
/// output i is class i.
pub(super) fn contiguous(num_classes: usize, names: Option<&[String]>) -> Vec<Class> {
    let is_coco = num_classes == COCO.len()
        && names
            .is_none_or(|names| names.iter().zip(COCO).all(|(name, (_, coco))| normalised(name) == normalised(coco)));
    if is_coco {
        return COCO.iter().map(|&(id, name)| Class { category_id: id as i64, name: name.to_owned() }).collect();
    }
    let name = |i: usize| names.and_then(|names| names.get(i).cloned()).unwrap_or_else(|| i.to_string());
    (0..num_classes).map(|i| Class { category_id: i as i64, name: name(i) }).collect()
}

/// Older files write `traffic_light`.
fn normalised(name: &str) -> String {
    name.replace('_', " ").to_lowercase()
}

/// COCO's category ids and names.
#[rustfmt::skip]
pub(super) const COCO: [(usize, &str); 80] = [
    (1, "person"), (2, "bicycle"), (3, "car"), (4, "motorcycle"), (5, "airplane"), (6, "bus"), (7, "train"), (8, "truck"),
    (9, "boat"), (10, "traffic light"), (11, "fire hydrant"), (13, "stop sign"), (14, "parking meter"), (15, "bench"),
    (16, "bird"), (17, "cat"), (18, "dog"), (19, "horse"), (20, "sheep"), (21, "cow"), (22, "elephant"), (23, "bear"),
    (24, "zebra"), (25, "giraffe"), (27, "backpack"), (28, "umbrella"), (31, "handbag"), (32, "tie"), (33, "suitcase"),
    (34, "frisbee"), (35, "skis"), (36, "snowboard"), (37, "sports ball"), (38, "kite"), (39, "baseball bat"),
    (40, "baseball glove"), (41, "skateboard"), (42, "surfboard"), (43, "tennis racket"), (44, "bottle"),
    (46, "wine glass"), (47, "cup"), (48, "fork"), (49, "knife"), (50, "spoon"), (51, "bowl"), (52, "banana"),
    (53, "apple"), (54, "sandwich"), (55, "orange"), (56, "broccoli"), (57, "carrot"), (58, "hot dog"), (59, "pizza"),
    (60, "donut"), (61, "cake"), (62, "chair"), (63, "couch"), (64, "potted plant"), (65, "bed"), (67, "dining table"),
    (70, "toilet"), (72, "tv"), (73, "laptop"), (74, "mouse"), (75, "remote"), (76, "keyboard"), (77, "cell phone"),
    (78, "microwave"), (79, "oven"), (80, "toaster"), (81, "sink"), (82, "refrigerator"), (84, "book"), (85, "clock"),
    (86, "vase"), (87, "scissors"), (88, "teddy bear"), (89, "hair drier"), (90, "toothbrush"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_named() {
        let ids = |classes: Vec<Class>| classes.iter().map(|class| class.category_id).collect::<Vec<_>>();
        assert_eq!(ids(contiguous(80, None))[..12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]);
        let mut names: Vec<String> = COCO.iter().map(|(_, name)| name.replace(' ', "_")).collect();
        assert_eq!(contiguous(80, Some(&names)), contiguous(80, None));
        names[79] = "broom".to_owned();
        let other = contiguous(80, Some(&names));
        assert_eq!((other[79].name.as_str(), other[79].category_id, other[0].category_id), ("broom", 79, 0));
        let two = contiguous(2, None);
        assert_eq!((two[1].name.as_str(), two[1].category_id), ("1", 1));
    }
}
