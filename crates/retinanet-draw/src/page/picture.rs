//! Pictures that lie in the page itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use maud::{Markup, html};

use super::shown;
use crate::{DrawError, encode_jpeg, encode_png};

/// A picture with a text below it.
#[derive(Clone, Debug)]
pub struct Picture {
    source: String,
    width: u32,
    height: u32,
    caption: String,
}

impl Picture {
    /// A photograph, as JPEG of quality 80.
    ///
    /// # Errors
    /// The encoder refuses the picture: it has no pixels, or a side of more than 65535.
    pub fn photo(picture: &RgbImage, caption: impl Into<String>) -> Result<Self, DrawError> {
        Ok(Self::encoded("image/jpeg", &encode_jpeg(picture, 80)?, picture, caption.into()))
    }

    /// A drawing, such as a plot, as PNG.
    ///
    /// # Errors
    /// The encoder refuses the picture: it has no pixels, or too many.
    pub fn drawing(picture: &RgbImage, caption: impl Into<String>) -> Result<Self, DrawError> {
        Ok(Self::encoded("image/png", &encode_png(picture)?, picture, caption.into()))
    }

    fn encoded(media_type: &str, bytes: &[u8], picture: &RgbImage, caption: String) -> Self {
        let mut source = format!("data:{media_type};base64,");
        STANDARD.encode_string(bytes, &mut source);
        Self { source, width: picture.width(), height: picture.height(), caption }
    }

    pub(super) fn markup(&self) -> Markup {
        html! {
            figure {
                img src=(self.source) width=(self.width) height=(self.height) alt=(shown(&self.caption)) loading="lazy";
                @if !self.caption.is_empty() { figcaption { (shown(&self.caption)) } }
            }
        }
    }
}
