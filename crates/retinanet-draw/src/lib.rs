//! Boxes on pictures, plots and reports: annotated detections with legible text, curves, contact sheets, [`page`]s.
//!
//! Everything draws on [`RgbImage`], eight bits a channel, and needs no display, no font file and no other program.
//!
//! ```
//! use retinanet_draw::{LabelledBox, class_color, draw_detections, encode_png, picture_from_rgb};
//! use retinanet_anchors::{BBox, ImageSize};
//!
//! let mut picture = picture_from_rgb(ImageSize::new(320, 240), vec![128; 320 * 240 * 3])?;
//! let cell = LabelledBox {
//!     bbox: BBox::new(40.0, 60.0, 200.0, 180.0),
//!     text: "cell 0.93".to_string(),
//!     color: class_color(0),
//! };
//! draw_detections(&mut picture, &[cell]);
//! assert_eq!(picture.get_pixel(100, 60).0, class_color(0).to_array());
//! let file = encode_png(&picture)?;
//! assert_eq!(&file[1..4], b"PNG");
//! # Ok::<(), retinanet_draw::DrawError>(())
//! ```
//!
//! # The font
//!
//! Text is set in Hack Regular, which the crate `epaint_default_fonts` embeds: MIT licence, over parts from DejaVu
//! (public domain) and Bitstream Vera (its own permissive licence). It covers Latin, Greek and Cyrillic; a character
//! that it lacks is drawn as its empty box. The other fonts of that crate (SIL Open Font Licence, Ubuntu Font Licence)
//! are not used, so the linker leaves them out of a program.

mod canvas;
mod color;
mod curve;
mod detections;
mod encode;
mod error;
mod outlines;
pub mod page;
mod plot;
mod scale;
mod sheet;
mod tag;
mod text;
mod thumbnail;
mod ticks;

pub use color::{Color, class_color};
pub use detections::{LabelledBox, draw_detections, label_detections};
pub use encode::{encode_jpeg, encode_png, picture_from_rgb};
pub use error::DrawError;
pub use image::RgbImage;
pub use outlines::{Outline, draw_outlines};
pub use plot::{Plot, Scale, Series, line_plot};
pub use scale::scaled;
pub use sheet::grid;
pub use thumbnail::Thumbnail;
