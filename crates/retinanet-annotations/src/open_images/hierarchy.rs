//! Which classes are kinds of which.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::Deserialize;

use super::classes::Labels;
use crate::file::{TEXT_LIMIT, quoted, read_bytes, refuse_utf16, without_mark};
use crate::{AnnotationError, Problems};

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "LabelName")]
    label: String,
    #[serde(rename = "Subcategory", default)]
    kinds: Vec<Node>,
}

/// The classes above each class, the root left out, as the challenge's evaluation expands boxes: by `Subcategory`, not by
/// `Part`.
pub(super) fn ancestors(
    path: &Path,
    labels: &Labels,
    problems: &mut Problems,
) -> Result<HashMap<usize, BTreeSet<usize>>, AnnotationError> {
    let bytes = read_bytes(path, TEXT_LIMIT)?;
    refuse_utf16(path, &bytes)?;
    let root: Node = serde_json::from_slice(without_mark(&bytes)).map_err(|error| AnnotationError::Syntax {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    })?;
    let mut ancestors: HashMap<usize, BTreeSet<usize>> = HashMap::new();
    // The parser bounds the depth, and with it this list.
    let mut pending: Vec<(&Node, Vec<usize>)> = root.kinds.iter().map(|node| (node, Vec::new())).collect();
    while let Some((node, above)) = pending.pop() {
        let own = labels.class_idx(&node.label);
        let mut above_kinds = above.clone();
        match own {
            Some(own) => {
                ancestors.entry(own).or_default().extend(above.iter().copied().filter(|&idx| idx != own));
                above_kinds.push(own);
            }
            None => problems.note(path, format!("label: expected a described one, found {}", quoted(&node.label))),
        }
        pending.extend(node.kinds.iter().map(|kind| (kind, above_kinds.clone())));
    }
    Ok(ancestors)
}
