//! Names of splits: what was asked for against what there is.

use std::path::Path;

use crate::AnnotationError;

/// The parts of a request such as `train+val`, each once; none asks for all images.
pub(crate) fn parts<'a>(path: &Path, split: Option<&'a str>) -> Result<Option<Vec<&'a str>>, AnnotationError> {
    let Some(split) = split else { return Ok(None) };
    let mut parts: Vec<&str> = Vec::new();
    for part in split.split('+').map(str::trim) {
        if part.is_empty() {
            return Err(AnnotationError::content(path, "split", "names joined by +", format!("{split:?}")));
        }
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    Ok(Some(parts))
}

/// Positions in `names` of the splits asked for, in that order; all of them where nothing was asked for.
pub(crate) fn choose(path: &Path, request: Option<&[&str]>, names: &[String]) -> Result<Vec<usize>, AnnotationError> {
    let Some(request) = request else { return Ok((0..names.len()).collect()) };
    let mut chosen = Vec::new();
    for part in request {
        let position = find(part, names).map_err(|rivals| {
            let found = rivals.iter().map(|&idx| names[idx].as_str()).collect::<Vec<_>>().join(" and ");
            AnnotationError::content(path, &format!("split {part:?}"), "one that fits", found)
        })?;
        let Some(position) = position else {
            return Err(AnnotationError::SplitNotFound {
                path: path.to_owned(),
                split: (*part).to_owned(),
                splits: names.to_vec(),
            });
        };
        if !chosen.contains(&position) {
            chosen.push(position);
        }
    }
    Ok(chosen)
}

/// The position of a split: the same name, then another word for it, then a name with it as one of its words.
///
/// The error holds the positions of several that fit equally well.
fn find(part: &str, names: &[String]) -> Result<Option<usize>, Vec<usize>> {
    let same = |name: &String| name == part;
    let same_word = |name: &String| canonical(name) == canonical(part);
    let among_words = |name: &String| words(name).any(|word| canonical(word) == canonical(part));
    let tests: [&dyn Fn(&String) -> bool; 3] = [&same, &same_word, &among_words];
    for test in tests {
        let hits: Vec<usize> = (0..names.len()).filter(|&idx| test(&names[idx])).collect();
        match hits.as_slice() {
            [] => {}
            [only] => return Ok(Some(*only)),
            _ => return Err(hits),
        }
    }
    Ok(None)
}

/// `train2017_100` has the words `train2017`, `train` and `100`.
pub(crate) fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(['_', '-', '.', ' ', '/']).flat_map(|word| {
        let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
        [Some(word), (letters != word).then_some(letters)].into_iter().flatten().filter(|word| !word.is_empty())
    })
}

/// One word for each of the usual splits, in lower case.
fn canonical(name: &str) -> String {
    let lower = name.to_lowercase();
    match lower.as_str() {
        "valid" | "validation" => "val".to_owned(),
        "training" => "train".to_owned(),
        "testing" => "test".to_owned(),
        _ => lower,
    }
}

/// Whether both name the same of the usual splits, or are equal but for case.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    canonical(a) == canonical(b)
}

/// Whether a request for `part` finds a split of this name.
pub(crate) fn fits(part: &str, name: &str) -> bool {
    is_same(part, name) || words(name).any(|word| is_same(word, part))
}

/// The names under which a split may lie in a folder.
pub(crate) fn spellings(name: &str) -> Vec<&str> {
    let mut spellings = vec![name];
    if is_same(name, "val") {
        spellings.extend(["val", "valid", "validation"]);
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(part: &str, names: &[&str], expected: Result<Option<usize>, Vec<usize>>) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(find(part, &names), expected, "{part} in {names:?}");
    }

    #[test]
    fn names_are_found_from_the_surest_to_the_loosest() {
        check("val", &["train", "val", "valid"], Ok(Some(1)));
        check("val", &["train", "valid"], Ok(Some(1)));
        check("valid", &["train2017_100", "val2017_100"], Ok(Some(1)));
        check("train", &["minitrain", "Train"], Ok(Some(1)));
        check("val", &["minival2014"], Ok(None));
        check("val", &["val2014", "val2017"], Err(vec![0, 1]));
        check("val2017", &["val2014", "val2017"], Ok(Some(1)));
        check("test", &[], Ok(None));
    }

    #[test]
    fn a_request_is_taken_apart() {
        let path = Path::new("set");
        assert_eq!(parts(path, None).unwrap(), None);
        assert_eq!(parts(path, Some("train + val+train")).unwrap(), Some(vec!["train", "val"]));
        assert!(parts(path, Some("train+")).is_err());
        assert!(parts(path, Some("")).is_err());
    }
}
