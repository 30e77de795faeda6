//! What there is to tell of a step: one piece that the device sends, and that is read later.

use std::collections::VecDeque;

use candle_core::{DType, Result, Tensor};
use s5cl_kernels::Readback;

use crate::method::StepLoss;
use crate::{Event, Method, PseudoLabels, SourceError, StepRecord, TrainError};

/// The records of steps, in order.
pub(crate) struct Records<'a> {
    method: &'a Method,
    /// On their way from the device.
    coming: VecDeque<Coming>,
    /// Read, and not told yet.
    read: VecDeque<StepRecord>,
    /// Ways that can be used again.
    spare: Vec<Readback>,
}

/// What is told of a step.
pub(crate) struct Measured<'a> {
    /// 0-based.
    pub(crate) step: u64,
    pub(crate) loss: &'a StepLoss,
    /// Of the gradients as they came: f64 scalar.
    pub(crate) norm: &'a Tensor,
    /// What the loss was multiplied with for them: f32, one value.
    pub(crate) loss_scale: Option<&'a Tensor>,
    pub(crate) learning_rate: f64,
    pub(crate) n_views: usize,
}

/// A record whose values are on their way, and what of it is known here.
struct Coming {
    readback: Readback,
    step: u64,
    /// The supervised, unsupervised and classification term.
    has_term: [bool; 3],
    has_loss_scale: bool,
    /// Where there are some.
    n_unlabeled: Option<usize>,
    n_classes: usize,
    supervised_floor: f64,
    pseudo_share: f64,
    learning_rate: f64,
    n_views: usize,
}

impl<'a> Records<'a> {
    /// None yet, of a method.
    pub(crate) fn new(method: &'a Method) -> Self {
        let (coming, read) = (VecDeque::new(), VecDeque::new());
        Self { method, coming, read, spare: Vec::new() }
    }

    /// Whose steps they are of.
    pub(crate) fn method(&self) -> &'a Method {
        self.method
    }

    /// Sends what the device knows of a step.
    pub(crate) fn send(&mut self, measured: &Measured<'_>) -> Result<()> {
        let Measured { step, loss, norm, loss_scale, learning_rate, n_views } = *measured;
        let terms = &loss.terms;
        let optional = [&terms.supervised, &terms.unsupervised, &terms.classification];
        let scalars = [Some(&terms.total)].into_iter().chain(optional.map(Option::as_ref));
        let scalars = scalars.chain([Some(norm), loss_scale]).flatten();
        let vectors = loss.predictions.iter().flat_map(|of| [&of.classes, &of.confidences]);
        // Every f32 and u32 is an f64.
        let values = scalars
            .chain(vectors)
            .map(|values| values.detach().flatten_all()?.to_dtype(DType::F64));
        let mut readback = self.spare.pop().unwrap_or_default();
        readback.send(&Tensor::cat(&values.collect::<Result<Vec<_>>>()?, 0)?)?;
        self.coming.push_back(Coming {
            readback,
            step,
            has_term: optional.map(Option::is_some),
            has_loss_scale: loss_scale.is_some(),
            n_unlabeled: loss.predictions.as_ref().map(|of| of.classes.elem_count()),
            n_classes: loss.n_classes,
            supervised_floor: loss.supervised_floor,
            pseudo_share: loss.pseudo_share,
            learning_rate,
            n_views,
        });
        Ok(())
    }

    /// Waits for the records of all steps but the last few. Fails at the first that has a value
    /// which is not finite, and forgets those behind it.
    pub(crate) fn read(&mut self, but: usize) -> std::result::Result<(), TrainError> {
        while self.coming.len() > but {
            let Some(mut coming) = self.coming.pop_front() else { break };
            let step = coming.step;
            let record = coming.read(self.method);
            let record = record.map_err(|source| TrainError::Compute { step, source });
            let checked = record.and_then(|record| check_finite(&record).map(|()| record));
            self.read.push_back(checked.inspect_err(|_| self.coming.clear())?);
            self.spare.push(coming.readback);
        }
        Ok(())
    }

    /// Tells of all steps but the last few, up to one that fails.
    pub(crate) fn tell(
        &mut self,
        but: usize,
        listen: &mut dyn FnMut(Event) -> std::result::Result<(), SourceError>,
    ) -> std::result::Result<(), TrainError> {
        let result = self.read(but);
        while let Some(record) = self.read.pop_front() {
            let step = record.step + 1;
            let told = listen(Event::Step(record));
            told.map_err(|source| TrainError::Listener { step, source })?;
        }
        result
    }
}

impl Coming {
    fn read(&mut self, method: &Method) -> Result<StepRecord> {
        let mut values = self.readback.wait()?.iter().copied();
        let mut next = || values.next().unwrap_or(f64::NAN);
        let total = next();
        let [supervised, unsupervised, classification] =
            self.has_term.map(|has_term| has_term.then(&mut next));
        let norm = next();
        let loss_scale = self.has_loss_scale.then(&mut next);
        let pseudo_labels = self.n_unlabeled.map(|n| {
            let classes = (0..n).map(|_| next() as u32).collect();
            let confidences = (0..n).map(|_| next() as f32).collect();
            PseudoLabels::new(classes, confidences, method.pseudo_threshold())
        });
        let unsupervised_floor = pseudo_labels.as_ref().map_or(0.0, |pseudo_labels| {
            method.unsupervised_floor(pseudo_labels, self.n_classes, self.pseudo_share)
        });
        Ok(StepRecord {
            step: self.step,
            total,
            supervised,
            supervised_floor: supervised.map(|_| self.supervised_floor),
            unsupervised,
            unsupervised_floor: unsupervised.map(|_| unsupervised_floor),
            classification,
            pseudo_share: self.pseudo_share,
            pseudo_accepted: pseudo_labels.as_ref().map(PseudoLabels::accepted),
            pseudo_labels,
            learning_rate: self.learning_rate,
            gradient_norm: norm / loss_scale.unwrap_or(1.0),
            loss_scale,
            n_views: self.n_views,
        })
    }
}

/// Names the first term that is not finite; the sum comes last, as it hides which one it was.
fn check_finite(record: &StepRecord) -> std::result::Result<(), TrainError> {
    // A factor of the loss above 1 can still be lowered: such a step was left out.
    let is_left_out = record.loss_scale.is_some_and(|scale| scale > 1.0);
    let values = [
        ("the supervised term", record.supervised),
        ("the unsupervised term", record.unsupervised),
        ("the classification term", record.classification),
        ("the total loss", Some(record.total)),
        ("the norm of the gradient", Some(record.gradient_norm).filter(|_| !is_left_out)),
    ];
    for (term, value) in values {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            return Err(TrainError::NotFinite { step: record.step, term, value });
        }
    }
    Ok(())
}
