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
fn a_name_alone_stands_for_the_defaults() {
    for (name, expected) in [
        ("focal", ClassLoss::default()),
        ("focal_star", ClassLoss::FocalStar(FocalStar::default())),
        ("cross_entropy", ClassLoss::CrossEntropy),
        ("alpha_balanced", ClassLoss::AlphaBalanced(AlphaBalanced::default())),
        ("hard_examples", ClassLoss::HardExamples(HardExamples::default())),
        ("ohem", ClassLoss::HardExamples(HardExamples::default())),
        ("sampled", ClassLoss::Sampled(Sampled::default())),
    ] {
        assert_eq!(read(&format!("class = {name:?}")), Ok(expected.clone()));
        assert_eq!(read(&format!("class = {{ {name} = {{}} }}")), Ok(expected));
    }
}

#[test]
fn a_per_class_alpha_has_a_number_for_each_class() {
    let loss = ClassLoss::Focal(Focal { alpha: Alpha::PerClass(vec![0.25, 0.5]), gamma: 2.0 });
    assert!(loss.validate_for(2).is_ok());
    let message = loss.validate_for(3).unwrap_err().to_string();
    assert!(message.contains("one number for each of 3 classes") && message.contains("2 numbers"), "{message}");
    assert!(ClassLoss::default().validate_for(3).is_ok() && ClassLoss::CrossEntropy.validate_for(3).is_ok());
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
        ("class.cross_entropy.gamma = 1", "unknown field `gamma`"),
        ("class = \"focall\"", "unknown variant `focall`, expected one of `focal`"),
        ("class = {}", "one of focal, focal_star"),
        ("class = { focal = {}, sampled = {} }", "expected one, found focal and sampled"),
    ] {
        let error = read(toml).unwrap_err();
        assert!(error.contains(expected), "{toml}: {error}");
    }
}
