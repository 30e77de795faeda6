//! An encoder's layers in stages, cut where training begins.

use candle_core::{Result, bail};
use candle_nn::VarBuilder;
use s5cl_kernels::{Maps, Precision};

use crate::Layers;

/// Layers that are being added, stage by stage. Those of the frozen stages come first, by
/// themselves, as they are only ever evaluated.
pub(crate) struct Stages {
    frozen: Option<Layers>,
    layers: Layers,
    precision: Precision,
    n_frozen: usize,
    /// Stages that are complete.
    n_done: usize,
    depths: Vec<(String, usize)>,
    /// Parameters whose depth is known.
    n_known: usize,
}

/// A finished encoder's layers.
pub(crate) struct Cut {
    pub(crate) frozen: Option<Layers>,
    /// None where all stages are frozen.
    pub(crate) trained: Option<Layers>,
    /// The stage of each parameter by its name, 0 for the first.
    pub(crate) stages: Vec<(String, usize)>,
}

impl Stages {
    /// The first so many stages are frozen.
    pub(crate) fn new(
        n_frozen: usize,
        precision: Precision,
        builder: &VarBuilder<'_>,
    ) -> Result<Self> {
        precision.check(builder.device())?;
        Ok(Self {
            frozen: None,
            layers: Layers::new(precision),
            precision,
            n_frozen,
            n_done: 0,
            depths: Vec::new(),
            n_known: 0,
        })
    }

    /// What layers are added to.
    pub(crate) fn layers(&mut self) -> &mut Layers {
        &mut self.layers
    }

    /// What the encoder is given.
    pub(crate) fn images(&self) -> Maps {
        self.layers.images()
    }

    /// Ends a stage, whose only result these maps are. Returns them as the next stage reads them.
    pub(crate) fn end(&mut self, maps: Maps) -> Maps {
        self.note();
        self.n_done += 1;
        if self.n_done == self.n_frozen {
            self.frozen = Some(std::mem::replace(&mut self.layers, Layers::new(self.precision)));
            self.n_known = 0;
            return self.layers.images();
        }
        maps
    }

    fn note(&mut self) {
        let stage = self.n_done;
        let new = self.layers.parameter_names().skip(self.n_known).map(|n| (n.to_owned(), stage));
        let new: Vec<(String, usize)> = new.collect();
        self.n_known += new.len();
        self.depths.extend(new);
    }

    /// Ends the last stage.
    pub(crate) fn finish(mut self, n_stages: usize) -> Result<Cut> {
        self.note();
        self.n_done += 1;
        if self.n_done != n_stages {
            bail!("{} stages were built of {n_stages}", self.n_done)
        }
        let (frozen, trained) = if self.n_frozen == n_stages {
            (Some(self.layers), None)
        } else {
            (self.frozen, Some(self.layers))
        };
        Ok(Cut { frozen, trained, stages: self.depths })
    }
}
