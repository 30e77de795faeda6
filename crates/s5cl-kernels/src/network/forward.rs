//! From images to the last layer's maps, on any device.

use candle_core::Result;

use super::operation::Operation;
use super::passes::{Passes, Step};
#[cfg(any(feature = "cuda", test))]
use super::plan::Normalization;
use super::plan::{Layer, Plan};

/// What a pass that learns keeps for the way back.
pub(super) struct Tape<Maps, Norm, Winners, Kept> {
    /// The images, and what each layer gave.
    pub(super) values: Vec<Maps>,
    /// By layer.
    pub(super) norms: Vec<Option<Norm>>,
    pub(super) winners: Vec<Option<Winners>>,
    pub(super) kept: Vec<Option<Kept>>,
}

/// The [`Tape`] of a device.
pub(super) type TapeOf<P> =
    Tape<<P as Passes>::Maps, <P as Passes>::Norm, <P as Passes>::Winners, <P as Passes>::Kept>;

/// A pass that learns. The result is the last of the tape's values.
pub(super) fn train<P: Passes>(passes: &mut P, images: P::Maps) -> Result<TapeOf<P>> {
    let layers = passes.plan().layers.clone();
    let mut values = Vec::with_capacity(layers.len());
    values.push(images);
    let (mut norms, mut winners, mut kept) = (vec![None], vec![None], vec![None]);
    for (index, layer) in layers.into_iter().enumerate().skip(1) {
        let mut out = passes.room(index)?;
        let (mut norm, mut places, mut left) = (None, None, None);
        match layer {
            Layer::Images => {}
            Layer::Conv2d { input, residual, kernel, .. } => {
                let residual = residual.map(|residual| &values[residual]);
                passes.convolution(index, kernel, &values[input], residual, &mut out)?;
            }
            Layer::BatchNorm { input, residual, norm: by } => {
                let residual = residual.map(|residual| &values[residual]);
                norm =
                    Some(passes.normalization(index, &by, &values[input], residual, &mut out)?);
            }
            Layer::MaxPool2d { input, .. } => {
                places = Some(passes.max_pool(index, &values[input], &mut out)?);
            }
            Layer::GlobalAveragePool { input } => {
                passes.global_average_pool(index, input, &values[input], &mut out)?;
            }
            Layer::Operation { input, other, operation, parameters } => {
                let (step, maps) = (Step { operation, input, parameters }, &values[input]);
                let other = other.map(|other| &values[other]);
                left = Some(passes.operation(index, step, maps, other, &mut out)?);
            }
        }
        values.push(out);
        norms.push(norm);
        winners.push(places);
        kept.push(left);
    }
    Ok(Tape { values, norms, winners, kept })
}

/// A pass that only computes: each batch normalization or activation that is a convolution's only
/// reader is computed with it.
pub(super) fn evaluate<P: Passes>(passes: &mut P, images: P::Maps) -> Result<P::Maps> {
    let layers = passes.plan().layers.clone();
    let readers = Readers::of(passes.plan());
    // Nothing where a layer is computed by its reader, or was read for the last time.
    let mut values: Vec<Option<P::Maps>> = Vec::with_capacity(layers.len());
    values.push(Some(images));
    for index in 1..layers.len() {
        if readers.is_computed_by_reader(&layers, index) {
            values.push(None);
            continue;
        }
        let mut out = passes.room(index)?;
        let given = |layer: usize| match &values[layer] {
            Some(maps) => Ok(maps),
            None => candle_core::bail!("network: layer {layer} is read after its last reader"),
        };
        evaluate_layer(passes, &layers, &readers, index, given, &mut out)?;
        values.push(Some(out));
        for read in readers.last_read_by(index) {
            if let Some(maps) = values[*read].take() {
                passes.give(maps);
            }
        }
    }
    match values.pop().flatten() {
        Some(result) => Ok(result),
        None => candle_core::bail!("network: there is no last layer"),
    }
}

/// One layer of [`evaluate`], and the convolution before it where it is computed with the layer.
fn evaluate_layer<'a, P: Passes>(
    passes: &mut P,
    layers: &[Layer],
    readers: &Readers,
    index: usize,
    given: impl Fn(usize) -> Result<&'a P::Maps>,
    out: &mut P::Maps,
) -> Result<()>
where
    P::Maps: 'a,
{
    let convolution = |layer: usize| match layers[layer] {
        Layer::Conv2d { input, residual, kernel, .. }
            if readers.is_computed_by_reader(layers, layer) =>
        {
            Some((input, residual, kernel))
        }
        _ => None,
    };
    match layers[index] {
        Layer::Images => Ok(()),
        Layer::Conv2d { input, residual, kernel, .. } => {
            let residual = residual.map(&given).transpose()?;
            passes.convolution(index, kernel, given(input)?, residual, out)
        }
        Layer::BatchNorm { input, residual, norm } => {
            let residual = residual.map(&given).transpose()?;
            match convolution(input) {
                Some((before, _, kernel)) => {
                    let (convolution, maps) = ((input, kernel.weight), given(before)?);
                    passes.normalized_convolution(convolution, &norm, maps, residual, out)
                }
                None => passes.known_normalization(index, &norm, given(input)?, residual, out),
            }
        }
        Layer::MaxPool2d { input, .. } => passes.known_max_pool(index, given(input)?, out),
        Layer::GlobalAveragePool { input } => {
            passes.global_average_pool(index, input, given(input)?, out)
        }
        Layer::Operation { input, other, operation, parameters } => {
            let step = Step { operation, input, parameters };
            match convolution(input) {
                Some((before, residual, kernel)) => {
                    let residual = residual.map(&given).transpose()?;
                    let (convolution, step) = ((input, kernel), (index, step));
                    passes.activated_convolution(convolution, step, given(before)?, residual, out)
                }
                None => {
                    let other = other.map(&given).transpose()?;
                    passes.operation(index, step, given(input)?, other, out).map(drop)
                }
            }
        }
    }
}

/// Who reads the layers' maps.
pub(super) struct Readers {
    count: Vec<usize>,
    only_reader: Vec<usize>,
    /// By reader: the layers that nothing reads after it.
    last_read: Vec<Vec<usize>>,
}

impl Readers {
    pub(super) fn of(plan: &Plan) -> Self {
        let layers = &plan.layers;
        let n_layers = layers.len();
        let (mut count, mut only_reader) = (vec![0; n_layers], vec![0; n_layers]);
        for (index, layer) in layers.iter().enumerate() {
            for input in layer.inputs() {
                count[input] += 1;
                only_reader[input] = index;
            }
        }
        let mut readers = Self { count, only_reader, last_read: vec![Vec::new(); n_layers] };
        // Indices rise with time, so the last to be noted is the last reader.
        let mut last: Vec<Option<usize>> = vec![None; n_layers];
        for (index, layer) in layers.iter().enumerate() {
            for input in layer.inputs() {
                if readers.is_computed_by_reader(layers, input) {
                    // The convolution is computed by this layer, and so its input read by it.
                    layers[input].inputs().for_each(|before| last[before] = Some(index));
                } else {
                    last[input] = Some(index);
                }
            }
        }
        for (layer, reader) in last.into_iter().enumerate() {
            if let Some(reader) = reader {
                readers.last_read[reader].push(layer);
            }
        }
        readers
    }

    /// Whether a layer is a convolution that only an activation reads or, where nothing is behind
    /// it, only a batch normalization.
    fn is_computed_by_reader(&self, layers: &[Layer], layer: usize) -> bool {
        let reader = layers[self.only_reader[layer]];
        let Layer::Conv2d { residual, kernel, .. } = layers[layer] else { return false };
        self.count[layer] == 1
            && match reader {
                Layer::BatchNorm { input, residual: other, .. } => {
                    let is_plain = residual.is_none() && !kernel.has_bias;
                    is_plain && input == layer && other != Some(layer)
                }
                Layer::Operation { operation: Operation::Activation(_), .. } => true,
                _ => false,
            }
    }

    /// The batch normalization with which a convolution is computed.
    #[cfg(any(feature = "cuda", test))]
    pub(super) fn computed_by(&self, layers: &[Layer], layer: usize) -> Option<Normalization> {
        match layers[self.only_reader[layer]] {
            Layer::BatchNorm { norm, .. } if self.is_computed_by_reader(layers, layer) => {
                Some(norm)
            }
            _ => None,
        }
    }

    fn last_read_by(&self, layer: usize) -> &[usize] {
        &self.last_read[layer]
    }
}
