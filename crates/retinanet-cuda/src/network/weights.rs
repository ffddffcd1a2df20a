//! The weights of layers as convolutions read them.

use super::tensors::Tensors;
use crate::device::{Device, Element, Memory, Span};
use crate::error::{Error, Result};
use crate::kernels::{fold_norm, pack_weight};
use retinanet_ops::network::schedule::Graph;
use retinanet_ops::network::{ConvLayer, NormKind};
use std::collections::BTreeMap;
use std::sync::Arc;

const ALIGNMENT: usize = 128;

/// Where the weight of a layer lies, in bytes from the start.
#[derive(Clone, Copy, Debug)]
struct Place {
    dimensions: [usize; 4],
    packed: usize,
    /// Of scale and shift, where a frozen norm is folded into the weight.
    folded: Option<usize>,
}

/// Packed weights of all layers of a network, in one block of memory.
#[derive(Debug)]
pub(super) struct Weights {
    memory: Memory,
    element: Element,
    places: BTreeMap<String, Place>,
}

/// What a layer's convolution reads.
#[derive(Clone, Copy)]
pub(super) struct LayerWeight<'a> {
    /// `[O, I / groups, kh, kw]`.
    pub(super) dimensions: [usize; 4],
    /// `[O, kh, kw, I / groups]`.
    pub(super) packed: Span<'a>,
    /// `[O]` each, of a folded norm: scale and shift.
    pub(super) folded: Option<(Span<'a>, Span<'a>)>,
}

/// O, I, kh, kw of a layer's weight.
pub(super) fn dimensions(layer: &ConvLayer) -> [usize; 4] {
    [layer.out_channels, layer.in_channels / layer.conv.groups.max(1), layer.kernel, layer.kernel]
}

impl Weights {
    /// Room for the weights of a graph's layers, whose norms are folded if they are frozen there.
    pub(super) fn new(device: &Arc<dyn Device>, graph: &Graph, element: Element) -> Result<Self> {
        let mut end = 0;
        let mut take = |bytes: usize| {
            let start = end;
            end += bytes.next_multiple_of(ALIGNMENT);
            start
        };
        let mut places = BTreeMap::new();
        for (layer, norm) in graph.convolutions() {
            let dimensions = dimensions(layer);
            let is_folded = matches!(norm, Some(NormKind::FrozenBatch { .. }));
            places.entry(layer.name.clone()).or_insert_with(|| Place {
                dimensions,
                packed: take(dimensions.iter().product::<usize>() * element.size()),
                folded: is_folded.then(|| take(2 * layer.out_channels * size_of::<f32>())),
            });
        }
        Ok(Self { memory: Memory::new(device, end)?, element, places })
    }

    /// Packs the weight of a layer, `[O, I / groups, kh, kw]` in f32; what belongs to its norm is found in `vectors`.
    pub(super) fn pack(
        &self,
        layer: &ConvLayer,
        norm: Option<NormKind>,
        weight: Span<'_>,
        vectors: &Tensors,
    ) -> Result<()> {
        let LayerWeight { dimensions, packed, folded } = self.get(layer)?;
        if let (Some((name, _)), Some(NormKind::FrozenBatch { epsilon }), Some(folded)) = (&layer.norm, norm, folded) {
            let vector = |leaf: &str| vectors.find(&format!("{name}.{leaf}"));
            let norm = [vector("weight")?, vector("bias")?, vector("running_mean")?, vector("running_var")?];
            fold_norm(layer.out_channels, epsilon, norm, folded)?;
        }
        pack_weight(self.element, dimensions, weight, folded.map(|(scale, _)| scale), packed)
    }

    /// The weight of a layer.
    ///
    /// # Errors
    /// The layer is of another network.
    pub(super) fn get(&self, layer: &ConvLayer) -> Result<LayerWeight<'_>> {
        let &Place { dimensions, packed, folded } = self.places.get(&layer.name).ok_or_else(|| {
            let (place, expected) = (layer.name.clone(), "a layer of the network".to_owned());
            Error::Mismatch { place, expected, found: "another".to_owned() }
        })?;
        let span = self.memory.span();
        let vector = layer.out_channels * size_of::<f32>();
        Ok(LayerWeight {
            dimensions,
            packed: span.part(packed, dimensions.iter().product::<usize>() * self.element.size()),
            folded: folded.map(|folded| (span.part(folded, vector), span.part(folded + vector, vector))),
        })
    }

    /// Numbers of the largest.
    pub(super) fn largest(&self) -> usize {
        self.places.values().map(|place| place.dimensions.iter().product()).max().unwrap_or_default()
    }
}
