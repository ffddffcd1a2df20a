//! Baseline JPEG at a half, a quarter or an eighth of its sides, as the mean over the pixels that become one.
//!
//! The mean over s x s pixels of a block is a weighted sum of its cosine coefficients, so a block of 8 x 8 becomes one of
//! 8/s x 8/s without being computed: fewer sums, fewer pixels to convert, and at 1/8 the coefficients after the first
//! are only skipped. On photos that takes 2/3 of the time of a whole decoding at a half, 1/2 at a quarter and 2/5 at an
//! eighth; the decoders in Rust that divide already (jpeg-decoder) save a tenth at a half.
//!
//! Everything that is not plain (progressive, arithmetic, CMYK, RGB, scans apart, damaged or cut short) is none of this
//! module's: it says so with [`None`], and the whole decoder has its say. All code is safe; bytes are never trusted.
//!
//! Source: ITU-T T.81, annexes A, B and F.

mod bits;
mod block;
mod huffman;

use retinanet_anchors::ImageSize;

use bits::Bits;
use block::{Folding, inverse};
use huffman::Table;

/// The header of a plain JPEG and where its pixel data begins.
pub(crate) struct Jpeg<'a> {
    size: ImageSize,
    components: Vec<Component>,
    quantization: [Option<[u16; 64]>; 4],
    dc_tables: [Option<Table>; 4],
    ac_tables: [Option<Table>; 4],
    /// MCUs between restart markers; 0 for none.
    restart_interval: usize,
    exif: Option<&'a [u8]>,
    scan: &'a [u8],
}

#[derive(Clone, Copy, Default)]
struct Component {
    id: u8,
    /// Blocks of a minimum coded unit, across and down.
    blocks: (usize, usize),
    quantization: usize,
    dc_table: usize,
    ac_table: usize,
}

/// Where a component's pixels go.
struct Plane {
    pixels: Vec<u8>,
    width: usize,
    folding: Folding,
    /// The last DC coefficient.
    prediction: i32,
}

/// A big-endian number of two bytes, and what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_be_bytes(*first)), rest))
}

impl<'a> Jpeg<'a> {
    /// Reads the header; none of a file that is not a plain JPEG.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut jpeg = Self {
            size: ImageSize::new(0, 0),
            components: Vec::new(),
            quantization: [None; 4],
            dc_tables: [const { None }; 4],
            ac_tables: [const { None }; 4],
            restart_interval: 0,
            exif: None,
            scan: &[],
        };
        let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
        loop {
            // Any number of FF may stand before a marker.
            while let [0xFF, 0xFF, ..] = rest {
                rest = &rest[1..];
            }
            let marker = *rest.strip_prefix(&[0xFF])?.first()?;
            let (length, _) = number(&rest[2..])?;
            let segment = rest.get(4..2 + length)?;
            rest = &rest[2 + length..];
            match marker {
                0xC0 | 0xC1 => jpeg.frame(segment)?,
                0xC4 => jpeg.huffman_tables(segment)?,
                0xDA => {
                    jpeg.scan_header(segment)?;
                    jpeg.scan = rest;
                    return jpeg.is_plain().then_some(jpeg);
                }
                0xDB => jpeg.quantization_tables(segment)?,
                0xDD => jpeg.restart_interval = number(segment)?.0,
                0xE1 if jpeg.exif.is_none() => jpeg.exif = segment.strip_prefix(b"Exif\0\0"),
                // Adobe's marker says what the components are: only YCbCr is plain.
                0xEE if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) => return None,
                0xE0..=0xEF | 0xFE => {}
                // Other ways to code, and what a header does not have.
                _ => return None,
            }
        }
    }

    /// The size as stored, before any orientation is applied.
    pub(crate) fn size(&self) -> ImageSize {
        self.size
    }

    /// The EXIF block, from its byte order on.
    pub(crate) fn exif(&self) -> Option<&'a [u8]> {
        self.exif
    }

    fn frame(&mut self, segment: &[u8]) -> Option<()> {
        let (&8, rest) = segment.split_first()? else { return None };
        let (height, rest) = number(rest)?;
        let (width, rest) = number(rest)?;
        let (&count, rest) = rest.split_first()?;
        if !self.components.is_empty() || !matches!(count, 1 | 3) || rest.len() != 3 * usize::from(count) {
            return None;
        }
        self.size = ImageSize::new(width, height);
        for &[id, sampling, table] in rest.as_chunks::<3>().0 {
            let blocks = (usize::from(sampling >> 4), usize::from(sampling & 15));
            if ![1, 2, 4].contains(&blocks.0) || ![1, 2, 4].contains(&blocks.1) || table > 3 {
                return None;
            }
            self.components.push(Component { id, blocks, quantization: usize::from(table), ..Component::default() });
        }
        // A scan of one component has its blocks in plain order, whatever the frame says.
        if let [only] = &mut self.components[..] {
            only.blocks = (1, 1);
        }
        Some(())
    }

    fn quantization_tables(&mut self, mut rest: &[u8]) -> Option<()> {
        while let Some((&kind, values)) = rest.split_first() {
            let bytes = if kind >> 4 == 0 { 1 } else { 2 };
            let values_here = values.get(..64 * bytes)?;
            let table = self.quantization.get_mut(usize::from(kind & 15))?;
            *table = Some(std::array::from_fn(|k| {
                values_here[k * bytes..(k + 1) * bytes].iter().fold(0, |sum, &byte| (sum << 8) | u16::from(byte))
            }));
            rest = &values[64 * bytes..];
        }
        Some(())
    }

    fn huffman_tables(&mut self, mut rest: &[u8]) -> Option<()> {
        while let Some((&kind, tail)) = rest.split_first() {
            let (counts, tail) = tail.split_first_chunk::<16>()?;
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let symbols = tail.get(..total)?;
            let tables = match kind >> 4 {
                0 => &mut self.dc_tables,
                1 => &mut self.ac_tables,
                _ => return None,
            };
            *tables.get_mut(usize::from(kind & 15))? = Some(Table::new(counts, symbols)?);
            rest = &tail[total..];
        }
        Some(())
    }

    fn scan_header(&mut self, segment: &[u8]) -> Option<()> {
        let (&count, rest) = segment.split_first()?;
        if usize::from(count) != self.components.len() || rest.len() != 2 * usize::from(count) + 3 {
            return None;
        }
        let (choices, spectrum) = rest.split_at(2 * usize::from(count));
        for (component, &[id, tables]) in self.components.iter_mut().zip(choices.as_chunks::<2>().0) {
            if id != component.id {
                return None;
            }
            (component.dc_table, component.ac_table) = (usize::from(tables >> 4), usize::from(tables & 15));
        }
        (spectrum == [0, 63, 0]).then_some(())
    }

    /// Whether all is there that the scan needs, and its three components are Y, Cb, Cr.
    fn is_plain(&self) -> bool {
        let is_whole = |component: &Component| {
            let has = |tables: &[Option<Table>; 4], idx: usize| tables.get(idx).is_some_and(Option::is_some);
            self.quantization[component.quantization].is_some()
                && has(&self.dc_tables, component.dc_table)
                && has(&self.ac_tables, component.ac_table)
        };
        let ids: Vec<u8> = self.components.iter().map(|component| component.id).collect();
        !ids.is_empty() && self.components.iter().all(is_whole) && ids != *b"RGB"
    }

    /// RGB of the picture with both sides divided by 2, 4 or 8 and rounded up; none where the data are not whole.
    pub(crate) fn decode_divided(&self, divisor: usize) -> Option<(ImageSize, Vec<u8>)> {
        let edge = 8usize.checked_div(divisor)?;
        let most = |of: fn(&Component) -> usize| self.components.iter().map(of).max().unwrap_or(1);
        let (across, down) = (most(|component| component.blocks.0), most(|component| component.blocks.1));
        let mcus_across = self.size.width.div_ceil(8 * across);
        let mcus_down = self.size.height.div_ceil(8 * down);
        let mut planes = Vec::with_capacity(3);
        for component in &self.components {
            // What is stored at half the resolution is divided by half as much, so that all planes have one size.
            let (columns, rows) = (edge * across / component.blocks.0, edge * down / component.blocks.1);
            let width = mcus_across * component.blocks.0 * columns;
            let pixels = vec![0; width * mcus_down * component.blocks.1 * rows];
            let folding = Folding::new(self.quantization[component.quantization].as_ref()?, columns, rows)?;
            planes.push(Plane { pixels, width, folding, prediction: 0 });
        }

        let mut bits = Bits::new(self.scan);
        let mut until_restart = self.restart_interval;
        for mcu_y in 0..mcus_down {
            for mcu_x in 0..mcus_across {
                if self.restart_interval > 0 {
                    if until_restart == 0 {
                        bits.restart()?;
                        planes.iter_mut().for_each(|plane| plane.prediction = 0);
                        until_restart = self.restart_interval;
                    }
                    until_restart -= 1;
                }
                for (component, plane) in self.components.iter().zip(&mut planes) {
                    let dc = self.dc_tables[component.dc_table].as_ref()?;
                    let ac = self.ac_tables[component.ac_table].as_ref()?;
                    for block_y in 0..component.blocks.1 {
                        for block_x in 0..component.blocks.0 {
                            let x = mcu_x * component.blocks.0 + block_x;
                            let y = mcu_y * component.blocks.1 + block_y;
                            plane.block(&mut bits, (dc, ac), x, y)?;
                        }
                    }
                }
            }
            // Bits beyond the end read as 0; a picture of them is not whole.
            if bits.is_past_the_end() {
                return None;
            }
        }
        let size = ImageSize::new(self.size.width.div_ceil(divisor), self.size.height.div_ceil(divisor));
        Some((size, rgb(&planes, size)))
    }
}

impl Plane {
    fn row(&self, y: usize, width: usize) -> &[u8] {
        &self.pixels[y * self.width..][..width]
    }

    /// Decodes a block and puts its pixels at its place, counted in blocks.
    fn block(&mut self, bits: &mut Bits<'_>, (dc, ac): (&Table, &Table), x: usize, y: usize) -> Option<()> {
        let mut folded = [0.0; 64];
        let difference = dc.difference(bits)?;
        self.prediction = self.prediction.wrapping_add(difference);
        folded[0] = self.prediction as f32 * self.folding.weight[0];
        let is_flat = if self.folding.is_mean() {
            ac.skip_coefficients(bits)?;
            true
        } else {
            !ac.coefficients(bits, |k, value| {
                folded[usize::from(self.folding.place[k])] += value as f32 * self.folding.weight[k];
            })?
        };
        let Folding { columns, rows, .. } = self.folding;
        let start = y * rows * self.width + x * columns;
        inverse(&folded, (columns, rows), is_flat, &mut self.pixels[start..], self.width);
        Some(())
    }
}

/// JFIF's colours: R = Y + 1.402 Cr, G = Y - 0.344136 Cb - 0.714136 Cr, B = Y + 1.772 Cb, in 16-bit fractions.
fn rgb(planes: &[Plane], size: ImageSize) -> Vec<u8> {
    let mut out = vec![0; 3 * size.width * size.height];
    for (y, out) in out.chunks_exact_mut(3 * size.width).enumerate() {
        let out = out.as_chunks_mut::<3>().0;
        if let [luma, blue, red] = planes {
            let [luma, blue, red] = [luma, blue, red].map(|plane| plane.row(y, size.width));
            for (out, ((&y, &cb), &cr)) in out.iter_mut().zip(luma.iter().zip(blue).zip(red)) {
                let (y, cb, cr) = ((i32::from(y) << 16) + (1 << 15), i32::from(cb) - 128, i32::from(cr) - 128);
                let [r, g, b] = [y + 91_881 * cr, y - 22_554 * cb - 46_802 * cr, y + 116_130 * cb];
                *out = [r, g, b].map(|value| (value >> 16).clamp(0, 255) as u8);
            }
        } else {
            for (out, &y) in out.iter_mut().zip(planes[0].row(y, size.width)) {
                *out = [y; 3];
            }
        }
    }
    out
}
