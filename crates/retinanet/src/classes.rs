//! Classes of weights, of what is learned from and of what is scored, beside each other.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use retinanet_annotations::Class;
use std::collections::BTreeMap;

/// How many rows a table has before the rest is counted.
const ROWS: usize = 20;

/// What a person should know of the classes of a validation split beside those that are learned.
///
/// # Errors
/// They have no class in common, so that nothing could be scored.
pub fn validation_class_notes(learned: &[Class], scored: &[Class]) -> Result<Vec<String>> {
    let names = |classes: &[Class]| classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", ");
    let missing = |from: &[Class], of: &[Class]| -> Vec<Class> {
        of.iter().filter(|class| from.iter().all(|other| other.name != class.name)).cloned().collect()
    };
    let (only_scored, only_learned) = (missing(learned, scored), missing(scored, learned));
    if only_scored.len() == scored.len() {
        let (expected, found) = (names(learned), names(scored));
        return Err(Error::Data(format!(
            "validation classes: expected some of those to learn ({expected}), found {found}"
        )));
    }
    let mut notes = Vec::new();
    if !only_scored.is_empty() {
        let what = names(&only_scored);
        notes.push(format!(
            "warning: classes: validation has {what}, which nothing learns: AP 0, and the mean counts it"
        ));
    }
    if !only_learned.is_empty() {
        notes.push(format!("note: classes: validation has no {}, which is not scored", names(&only_learned)));
    }
    let id = |class: &Class| scored.iter().find(|other| other.name == class.name).map(|other| other.category_id);
    let differing = learned.iter().filter(|class| id(class).is_some_and(|id| id != class.category_id));
    let differing: Vec<&str> = differing.map(|class| class.name.as_str()).collect();
    if !differing.is_empty() {
        let what = differing.join(", ");
        notes.push(format!("note: classes: validation has other category ids for {what}; names decide"));
    }
    Ok(notes)
}

/// What becomes of the class layer of weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClassLayer {
    /// It stays as it is; with what a person should know.
    Kept(Option<String>),
    /// It has the data's classes in another order: output i becomes that of these indices.
    Reordered(Vec<usize>, String),
    /// It is drawn anew.
    New(String),
}

/// Compares the classes of weights, where they have names, with those of the data; `fits` says whether the layer has the shape.
pub(crate) fn class_layer(weights: Option<&[Class]>, data: &[Class], fits: bool) -> ClassLayer {
    let Some(weights) = weights else {
        return match fits {
            true => ClassLayer::Kept(Some(format!(
                "warning: weights: class layer kept, but the file names no classes: is this what its outputs stand for?{}",
                table(&[], data)
            ))),
            false => ClassLayer::New(format!(
                "weights: class layer starts anew: the file has classes without names, of another number; the data has{}",
                table(&[], data)
            )),
        };
    };
    let position = |class: &Class| weights.iter().position(|other| other.name == class.name);
    let order: Option<Vec<usize>> = data.iter().map(position).collect();
    let is_sorted = |order: &[usize]| order.iter().enumerate().all(|(idx, &from)| idx == from);
    let is_one_to_one = |order: &[usize]| (0..weights.len()).all(|idx| order.contains(&idx));
    match order.filter(|order| fits && order.len() == weights.len() && is_one_to_one(order)) {
        Some(order) if is_sorted(&order) => {
            let has_other_ids = weights.iter().zip(data).any(|(theirs, ours)| theirs.category_id != ours.category_id);
            let note = || format!("weights: category ids become the data's:{}", table(weights, data));
            ClassLayer::Kept(has_other_ids.then(note))
        }
        Some(order) => {
            let note = format!(
                "weights: class layer reordered: the file has the classes of the data in another order:{}",
                table(weights, data)
            );
            ClassLayer::Reordered(order, note)
        }
        None => ClassLayer::New(format!(
            "warning: weights: class layer starts anew: the classes of the file are not those of the data:{}",
            table(weights, data)
        )),
    }
}

/// Classes by output, a line each; weights without names are a question mark.
fn table(weights: &[Class], data: &[Class]) -> String {
    let shown = |classes: &[Class], idx: usize, none: &str| {
        classes.get(idx).map_or(none.to_owned(), |class| format!("{} ({})", class.name, class.category_id))
    };
    let none = if weights.is_empty() { "?" } else { "-" };
    let count = weights.len().max(data.len());
    let cells: Vec<[String; 3]> = std::iter::once(["output", "weights", "data"].map(str::to_owned))
        .chain((0..count.min(ROWS)).map(|idx| [idx.to_string(), shown(weights, idx, none), shown(data, idx, "-")]))
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1)];
    let line = |[output, weights, data]: &[String; 3]| {
        format!("\n  {output:<first$}  {weights:<second$}  {data}", first = widths[0], second = widths[1])
    };
    let mut text: String = cells.iter().map(line).collect();
    if count > ROWS {
        text.push_str(&format!("\n  and {} more", count - ROWS));
    }
    text
}

/// Puts the outputs of a class layer, `[A * K]` or `[A * K, C, h, w]`, into another order of classes, at every anchor.
///
/// # Errors
/// A tensor has another number of outputs.
pub(crate) fn reorder(
    tensors: &mut BTreeMap<String, Tensor>,
    class_layer: &str,
    order: &[usize],
) -> candle_core::Result<()> {
    let indices: Vec<u32> = order.iter().map(|&idx| idx as u32).collect();
    let indices = Tensor::from_vec(indices, order.len(), &Device::Cpu)?;
    for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name.starts_with(class_layer)) {
        let shape = tensor.dims().to_vec();
        let by_class = tensor.reshape((shape[0] / order.len(), order.len(), ()))?;
        *tensor = by_class.index_select(&indices, 1)?.reshape(shape)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(named: &[(i64, &str)]) -> Vec<Class> {
        named.iter().map(|&(category_id, name)| Class { category_id, name: name.to_owned() }).collect()
    }

    #[test]
    fn validation_is_compared_by_name() -> Result<()> {
        let learned = classes(&[(1, "cat"), (2, "dog")]);
        assert_eq!(validation_class_notes(&learned, &learned)?, [""; 0]);
        let notes = validation_class_notes(&learned, &classes(&[(7, "dog"), (9, "cow")]))?;
        assert_eq!(
            notes,
            [
                "warning: classes: validation has cow, which nothing learns: AP 0, and the mean counts it",
                "note: classes: validation has no cat, which is not scored",
                "note: classes: validation has other category ids for dog; names decide",
            ]
        );
        let error = validation_class_notes(&learned, &classes(&[(1, "bird")])).expect_err("none in common").to_string();
        assert_eq!(error, "data: validation classes: expected some of those to learn (cat, dog), found bird");
        Ok(())
    }

    #[test]
    fn weights_are_compared_by_name_and_order() {
        let data = classes(&[(1, "cat"), (2, "dog")]);
        assert_eq!(class_layer(Some(&data), &data, true), ClassLayer::Kept(None));
        let ClassLayer::Kept(Some(note)) = class_layer(Some(&classes(&[(0, "cat"), (2, "dog")])), &data, true) else {
            panic!("other ids")
        };
        assert_eq!(
            note,
            "weights: category ids become the data's:\n  output  weights  data\n  0       cat (0)  cat (1)\n  1       dog (2)  dog (2)"
        );
        let swapped = classes(&[(2, "dog"), (1, "cat")]);
        assert!(matches!(class_layer(Some(&swapped), &data, true), ClassLayer::Reordered(order, _) if order == [1, 0]));
        for other in [&[(1, "cat")][..], &[(1, "cat"), (2, "cow")], &[(1, "cat"), (2, "cat")]] {
            let other = classes(other);
            let is_new = |layer| matches!(layer, ClassLayer::New(note) if note.contains("starts anew"));
            assert!(is_new(class_layer(Some(&other), &data, true)), "{other:?}");
        }
        assert!(
            matches!(class_layer(None, &data, true), ClassLayer::Kept(Some(note)) if note.contains("0       ?        cat (1)"))
        );
        assert!(matches!(class_layer(None, &data, false), ClassLayer::New(_)));
    }

    #[test]
    fn outputs_change_places_at_every_anchor() -> candle_core::Result<()> {
        let bias = Tensor::new(&[0f32, 1.0, 2.0, 10.0, 11.0, 12.0], &Device::Cpu)?;
        let weight = bias.reshape((6, 1, 1, 1))?;
        let other = Tensor::new(&[5f32], &Device::Cpu)?;
        let named = [("class.bias", bias), ("class.weight", weight), ("other", other)];
        let mut tensors: BTreeMap<String, Tensor> = named.map(|(name, tensor)| (name.to_owned(), tensor)).into();
        reorder(&mut tensors, "class.", &[2, 0, 1])?;
        assert_eq!(tensors["class.bias"].to_vec1::<f32>()?, [2.0, 0.0, 1.0, 12.0, 10.0, 11.0]);
        assert_eq!(tensors["class.weight"].dims(), [6, 1, 1, 1]);
        assert_eq!(tensors["class.weight"].flatten_all()?.to_vec1::<f32>()?, [2.0, 0.0, 1.0, 12.0, 10.0, 11.0]);
        assert_eq!(tensors["other"].to_vec1::<f32>()?, [5.0]);
        Ok(())
    }
}
