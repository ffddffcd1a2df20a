//! How the losses read in a configuration.

use retinanet_focal::{Alpha, AlphaBalanced, ClassLoss, Focal, FocalStar, HardExamples, Sampled};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Configuration {
    class: ClassLoss,
}

fn read(toml: &str) -> Result<ClassLoss, String> {
    let configuration: Configuration = toml::from_str(toml).map_err(|error| error.message().to_owned())?;
    Ok(configuration.class)
}

#[test]
fn a_loss_is_a_table_with_its_name() {
    assert_eq!(read("[class.focal]"), Ok(ClassLoss::default()));
    let expected = Focal { alpha: Alpha::PerClass(vec![0.1, 1.0]), gamma: 1.0 };
    assert_eq!(read("class.focal = { alpha = [0.1, 1], gamma = 1 }"), Ok(ClassLoss::Focal(expected)));
    let expected = Focal { alpha: Alpha::None, ..Focal::default() };
    assert_eq!(read("class.focal.alpha = \"none\""), Ok(ClassLoss::Focal(expected)));
    assert_eq!(read("class = \"cross_entropy\""), Ok(ClassLoss::CrossEntropy));
    let expected = HardExamples { negatives_per_positive: Some(3), ..HardExamples::default() };
    assert_eq!(
        read("class.hard_examples = { examples = 128, negatives_per_positive = 3 }"),
        Ok(ClassLoss::HardExamples(expected))
    );
}

#[test]
fn every_loss_comes_back_as_it_was_written() {
    for class in [
        ClassLoss::default(),
        ClassLoss::Focal(Focal { alpha: Alpha::PerClass(vec![0.25, 0.5]), gamma: 0.5 }),
        ClassLoss::FocalStar(FocalStar::default()),
        ClassLoss::CrossEntropy,
        ClassLoss::AlphaBalanced(AlphaBalanced::default()),
        ClassLoss::HardExamples(HardExamples::default()),
        ClassLoss::HardExamples(HardExamples { negatives_per_positive: Some(3), ..HardExamples::default() }),
        ClassLoss::Sampled(Sampled::default()),
    ] {
        let configuration = Configuration { class };
        let toml = toml::to_string(&configuration).unwrap();
        assert_eq!(toml::from_str::<Configuration>(&toml).unwrap(), configuration, "{toml}");
        let json = serde_json::to_string(&configuration).unwrap();
        assert_eq!(serde_json::from_str::<Configuration>(&json).unwrap(), configuration, "{json}");
    }
}

#[test]
fn what_is_not_known_is_refused() {
    for (toml, expected) in [
        ("class.focal.gama = 2", "unknown field `gama`"),
        ("class.focall = {}", "unknown variant `focall`"),
        ("class.focal.alpha = \"nonne\"", "a number, a list with a number for each class, or \"none\""),
        ("class.hard_examples.nms = 0.5", "unknown field `nms`"),
    ] {
        let error = read(toml).unwrap_err();
        assert!(error.contains(expected), "{toml}: {error}");
    }
}
