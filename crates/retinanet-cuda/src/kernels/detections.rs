//! Logits and deltas to detections, one transfer for all images.

use super::AnchorTable;
use super::launch::{THREADS, are_aligned, blocks, by_element, int, of, operand, places, wide};
use super::source;
use crate::device::{Argument, Element, Launch, Source, Span};
use crate::error::{Error, Result};
use retinanet_anchors::{BBox, BoxCoder, Detection, ScoreThreshold};

pub(super) const SOURCE: Source = source!("detections.cu", "boxes.cuh");

/// Candidates that a level can give, at most.
pub const MOST_CANDIDATES: usize = 4096;

/// Candidates of a level and image that are gathered in one pass; where more pass the threshold, the logits are read again.
const ROOM: usize = 16 * 1024;
/// Threads of a block that has a level, or an image, to itself; `MANY` in the kernels.
const MANY: u32 = 1024;
/// Bytes of a candidate's key.
const KEY: usize = 8;
/// Bytes of a decoded candidate; `Found` in the kernels.
const FOUND: usize = 40;
/// Bytes of a detection; `Detection` in the kernels.
const DETECTION: usize = 24;

/// Which predictions become detections; see `retinanet::PostProcessing`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PostProcessing {
    /// A (location, class) pair counts above this score; within [0, 1).
    pub score_threshold: f32,
    /// At most so many pairs a level, the best by logit; at most [`MOST_CANDIDATES`].
    pub pre_nms_top_k: usize,
    /// Of two boxes of a class that overlap by more, the better stays.
    pub nms_iou_threshold: f32,
    /// At most so many detections an image.
    pub max_detections: usize,
    /// When boxes are clipped to the image.
    pub borders: Borders,
}

/// When boxes are clipped to the image, and what becomes of those that have no area then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Borders {
    /// Clipped, then suppressed; boxes without an area stay.
    Torchvision,
    /// Suppressed, then clipped; of the best `max_detections`, those without an area go.
    Detectron2,
    /// Clipped, those without an area dropped, then suppressed.
    Mmdetection,
}

/// Bytes of the results of so many images.
pub fn detections_bytes(post: &PostProcessing, images: usize) -> usize {
    images * (4 + post.max_detections * DETECTION)
}

/// The parts of the workspace, in bytes: gathered keys and their number, the best of each level and their number, decoded
/// candidates, and which of these are gone.
fn workspace_parts(post: &PostProcessing, images: usize, levels: usize) -> [usize; 6] {
    let candidates = images * levels * post.pre_nms_top_k;
    [images * ROOM * KEY, images * levels * 4, candidates * KEY, images * levels * 4, candidates * FOUND, candidates]
        .map(|bytes| bytes.next_multiple_of(16))
}

/// Bytes of workspace of [`detect`].
pub fn detections_workspace_bytes(post: &PostProcessing, images: usize, levels: usize) -> usize {
    workspace_parts(post, images, levels).iter().sum()
}

/// The detections of each image, best first, in the frame of the resized image.
///
/// As `retinanet::PostProcessing` has it, to the order of equal scores. Scores and boxes may differ from the processor's in the
/// last bit, where its exponential is not the nearest number.
///
/// # Shapes
/// - `logits`: `[N, R, K]` for each level of `anchors`, `deltas`: `[N, R, 4]`
/// - `sizes`: `[N, 2]` in f32, width and height of the resized image
/// - `results`: [`detections_bytes`], for [`read_detections`]
/// - `workspace`: [`detections_workspace_bytes`]
///
/// # Errors
/// More candidates a level are asked for than [`MOST_CANDIDATES`], there are not as many levels as the anchors have, a span is
/// shorter than its shape, or a launch fails.
pub fn detect(
    post: &PostProcessing,
    coder: &BoxCoder,
    element: Element,
    (images, num_classes): (usize, usize),
    anchors: &AnchorTable,
    (logits, deltas): (&[Span<'_>], &[Span<'_>]),
    sizes: Span<'_>,
    results: Span<'_>,
    workspace: Span<'_>,
) -> Result<()> {
    let levels = anchors.num_levels();
    let mismatch = |place: &str, expected: String, found: String| {
        Err(Error::Mismatch { place: format!("detections: {place}"), expected, found })
    };
    if post.pre_nms_top_k > MOST_CANDIDATES {
        return mismatch("pre_nms_top_k", format!("at most {MOST_CANDIDATES}"), post.pre_nms_top_k.to_string());
    }
    if logits.len() != levels || deltas.len() != levels {
        return mismatch("levels", levels.to_string(), format!("{} and {}", logits.len(), deltas.len()));
    }
    operand("detections: results", results, detections_bytes(post, images), 1)?;
    operand("detections: workspace", workspace, detections_workspace_bytes(post, images, levels), 1)?;
    if images == 0 {
        return Ok(());
    }
    let counts = results.part(0, images * 4);
    if post.pre_nms_top_k == 0 || num_classes == 0 {
        return counts.zero();
    }

    let mut start = 0;
    let [keys, num_passed, best, num_best, found, is_gone] = workspace_parts(post, images, levels).map(|bytes| {
        let part = workspace.part(start, bytes);
        start += bytes;
        part
    });
    num_passed.zero()?;
    let ScoreThreshold { score, never, always } = ScoreThreshold::new(post.score_threshold);
    let threshold = [score, never, always].map(Argument::F32);
    let number = |value| int("detections", value);
    let at = |span: Span<'_>| Argument::Address(span.address());
    let [wx, wy, ww, wh] = coder.weights.map(Argument::F32);
    let (limit, levels_argument) = (number(post.pre_nms_top_k)?, number(levels)?);
    // Launches of a level follow one another, so that one place for gathered keys serves all of them.
    for level in 0..levels {
        let num_anchors = anchors.of_level(level).len();
        let count = num_anchors * num_classes;
        let logits = operand("detections: logits", logits[level], images * count, element.size())?;
        let passed = at(num_passed.part(level * images * 4, images * 4));
        let [score, never, always] = threshold;
        let (count_argument, room) = (places("detections: logits", count)?, number(ROOM)?);
        let gather = [logits, count_argument, score, never, always, at(keys), room, passed];
        let is_wide = count.is_multiple_of(wide(element)) && are_aligned(&[logits]);
        let (names, vectors) = match is_wide {
            true => (by_element!("gather_candidates_wide"), count / wide(element)),
            false => (by_element!("gather_candidates"), count),
        };
        let level_argument = number(level)?;
        let select = [
            logits,
            count_argument,
            score,
            never,
            always,
            at(keys),
            room,
            passed,
            limit,
            at(best),
            at(num_best),
            levels_argument,
            level_argument,
        ];
        let by_image = images as u32;
        // SAFETY: the sizes were checked, those of the workspace as a whole.
        unsafe {
            run(workspace, of(element, names), [blocks(vectors), by_image, 1], THREADS, &gather)?;
            run(workspace, of(element, by_element!("select_candidates")), [by_image, 1, 1], MANY, &select)?;
        }
    }
    // Where a candidate comes depends on those of all levels.
    for level in 0..levels {
        let num_anchors = anchors.of_level(level).len();
        let decode = [
            operand("detections: deltas", deltas[level], images * num_anchors * 4, element.size())?,
            at(anchors.level_span(level)),
            number(num_anchors)?,
            number(num_classes)?,
            operand("detections: sizes", sizes, images * 2, 4)?,
            wx,
            wy,
            ww,
            wh,
            Argument::F32(coder.clamp),
            at(best),
            at(num_best),
            limit,
            levels_argument,
            number(level)?,
            at(found),
        ];
        let grid = [post.pre_nms_top_k.div_ceil(THREADS as usize) as u32, images as u32, 1];
        // SAFETY: as above.
        unsafe { run(workspace, of(element, by_element!("decode_candidates")), grid, THREADS, &decode)? };
    }
    let borders = match post.borders {
        Borders::Torchvision => 0,
        Borders::Detectron2 => 1,
        Borders::Mmdetection => 2,
    };
    let suppress = [
        at(found),
        at(num_best),
        limit,
        levels_argument,
        Argument::F32(post.nms_iou_threshold),
        Argument::I32(borders),
        number(post.max_detections)?,
        at(is_gone),
        at(counts),
        at(results.part(images * 4, images * post.max_detections * DETECTION)),
    ];
    // SAFETY: as above.
    unsafe { run(workspace, "suppress", [images as u32, 1, 1], MANY, &suppress) }
}

/// # Safety
/// As for [`crate::Device::launch`].
unsafe fn run(at: Span<'_>, kernel: &'static str, grid: [u32; 3], threads: u32, arguments: &[Argument]) -> Result<()> {
    // SAFETY: the caller's.
    unsafe { at.device().launch(&Launch { source: &SOURCE, kernel, grid, threads, arguments }) }
}

/// What [`detect`] has found, in one transfer.
///
/// # Errors
/// Work before, or the transfer, failed.
pub fn read_detections(post: &PostProcessing, images: usize, results: Span<'_>) -> Result<Vec<Vec<Detection>>> {
    let mut bytes = vec![0; detections_bytes(post, images)];
    results.read(&mut bytes)?;
    let (counts, detections) = bytes.split_at(images * 4);
    let of_image = |(image, &count): (usize, &[u8; 4])| {
        let all = &detections[image * post.max_detections * DETECTION..];
        let count = (u32::from_ne_bytes(count) as usize).min(post.max_detections);
        all.as_chunks::<DETECTION>().0[..count].iter().map(detection).collect()
    };
    Ok(counts.as_chunks::<4>().0.iter().enumerate().map(of_image).collect())
}

fn detection(bytes: &[u8; DETECTION]) -> Detection {
    let words = bytes.as_chunks::<4>().0;
    let number = |i: usize| f32::from_ne_bytes(words[i]);
    Detection {
        bbox: BBox::new(number(0), number(1), number(2), number(3)),
        score: number(4),
        label: u32::from_ne_bytes(words[5]) as usize,
    }
}
