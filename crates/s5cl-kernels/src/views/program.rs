//! Requests as words of 32 bits, as the kernel reads them (`program.cuh`).

use candle_core::{Result, bail};

use super::{ViewRequest, ViewStep};

/// How far an affine step may look, in pixels: whole pixels are numbers of 32 bits in the kernel.
const FARTHEST: f64 = (1_u32 << 30) as f64;

/// The kinds of steps, numbered as in `program.cuh`.
#[derive(Clone, Copy)]
enum Kind {
    Symmetry,
    Crop,
    Affine,
    Brightness,
    Contrast,
    Saturation,
    Hue,
    Stains,
    StretchedStains,
}

/// The words of all requests: for each the tile and where its steps begin and end, then the steps.
///
/// # Errors
///
/// If there is no request, or one that the kernel must not be given: it checks nothing.
pub(super) fn program(
    requests: &[ViewRequest],
    n_tiles: usize,
    [height, width]: [usize; 2],
) -> Result<Vec<u32>> {
    if requests.is_empty() {
        bail!("views: no view is asked for")
    }
    let mut words = vec![0; 3 * requests.len()];
    for (i, ViewRequest { tile_idx, steps }) in requests.iter().enumerate() {
        if *tile_idx >= n_tiles {
            bail!("views: tile {tile_idx} of request {i} is not among the {n_tiles} on the device")
        }
        let begin = words.len();
        for step in steps {
            if !fits(step, [height, width]) {
                bail!("views: {step:?} of request {i} does not fit tiles of {width} x {height}")
            }
            append(step, &mut words);
        }
        let end = words.len();
        if end > u32::MAX as usize {
            bail!("views: {} requests are too many for one call", requests.len())
        }
        words[3 * i..3 * i + 3].copy_from_slice(&[*tile_idx as u32, begin as u32, end as u32]);
    }
    Ok(words)
}

fn fits(step: &ViewStep, [height, width]: [usize; 2]) -> bool {
    let all_finite = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite());
    let fits_axis = |first: u32, length: u32, all: usize| {
        length > 0 && u64::from(first) + u64::from(length) <= all as u64
    };
    match step {
        ViewStep::Symmetry { transposed, .. } => !transposed || height == width,
        ViewStep::Crop { left, top, width: part_width, height: part_height } => {
            fits_axis(*left, *part_width, width) && fits_axis(*top, *part_height, height)
        }
        ViewStep::Affine(rows) => rows.iter().all(|[x, y, offset]| {
            // Written so that a NaN does not fit.
            x.abs() * width as f64 + y.abs() * height as f64 + offset.abs() < FARTHEST
        }),
        ViewStep::Brightness(amount)
        | ViewStep::Contrast(amount)
        | ViewStep::Saturation(amount)
        | ViewStep::Hue(amount) => amount.is_finite(),
        ViewStep::Stains { matrix, offset } => {
            all_finite(matrix.as_flattened()) && all_finite(offset)
        }
        ViewStep::StretchedStains { to_stains, alpha, beta, from_stains } => {
            [to_stains.as_flattened(), alpha, beta, from_stains.as_flattened()]
                .into_iter()
                .all(all_finite)
        }
    }
}

fn append(step: &ViewStep, words: &mut Vec<u32>) {
    let mut add = |kind: Kind, numbers: &[&[f32]]| {
        words.push(kind as u32);
        words.extend(numbers.iter().copied().flatten().map(|number| number.to_bits()));
    };
    match step {
        ViewStep::Symmetry { transposed, flipped_x, flipped_y } => {
            let bits =
                u32::from(*transposed) | u32::from(*flipped_x) << 1 | u32::from(*flipped_y) << 2;
            words.extend([Kind::Symmetry as u32, bits]);
        }
        ViewStep::Crop { left, top, width, height } => {
            words.extend([Kind::Crop as u32, *left, *top, *width, *height]);
        }
        ViewStep::Affine(rows) => {
            words.push(Kind::Affine as u32);
            let bits = rows.as_flattened().iter().map(|number| number.to_bits());
            words.extend(bits.flat_map(|bits| [bits as u32, (bits >> 32) as u32]));
        }
        ViewStep::Brightness(factor) => add(Kind::Brightness, &[&[*factor]]),
        ViewStep::Contrast(factor) => add(Kind::Contrast, &[&[*factor]]),
        ViewStep::Saturation(factor) => add(Kind::Saturation, &[&[*factor]]),
        ViewStep::Hue(turn) => {
            // Negative turns wrap around in the byte.
            let shift = (turn * 255.0) as i32 as u8;
            if shift != 0 {
                add(Kind::Hue, &[&[f32::from(shift)]]);
            }
        }
        ViewStep::Stains { matrix, offset } => add(Kind::Stains, &[matrix.as_flattened(), offset]),
        ViewStep::StretchedStains { to_stains, alpha, beta, from_stains } => add(
            Kind::StretchedStains,
            &[to_stains.as_flattened(), alpha, beta, from_stains.as_flattened()],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{ViewRequest, ViewStep, program};
    use crate::checks::refusal;

    const CROP: ViewStep = ViewStep::Crop { left: 3, top: 0, width: 2, height: 4 };

    fn words(steps: &[ViewStep]) -> candle_core::Result<Vec<u32>> {
        program(&[ViewRequest { tile_idx: 1, steps: steps.to_vec() }], 2, [4, 5])
    }

    #[test]
    fn program_says_where_the_steps_of_each_request_are() -> candle_core::Result<()> {
        let request = |tile_idx, steps: &[ViewStep]| ViewRequest { tile_idx, steps: steps.into() };
        let requests = [request(7, &[CROP]), request(0, &[]), request(2, &[CROP])];
        let words = program(&requests, 8, [4, 5])?;
        assert_eq!(words[..9], [7, 9, 14, 0, 14, 14, 2, 14, 19]);
        assert_eq!(words[9..14], [1, 3, 0, 2, 4]);
        assert_eq!(words[9..14], words[14..]);
        Ok(())
    }

    #[test]
    fn program_leaves_out_a_turn_of_the_hue_by_less_than_a_step() -> candle_core::Result<()> {
        assert_eq!(words(&[ViewStep::Hue(-0.0039)])?.len(), 3);
        assert_eq!(words(&[ViewStep::Hue(-0.004)])?[4], 255_f32.to_bits());
        Ok(())
    }

    #[test]
    fn program_refuses_what_the_kernel_could_not_do() {
        let crop = |left, top, width, height| ViewStep::Crop { left, top, width, height };
        let transposed =
            ViewStep::Symmetry { transposed: true, flipped_x: false, flipped_y: false };
        let map = |x| ViewStep::Affine([[1.0, 0.0, x], [0.0, 1.0, 0.0]]);
        let stains = |x| ViewStep::Stains { matrix: [[1.0, x, 0.0]; 3], offset: [0.0; 3] };
        for (good, bad) in [
            (CROP, crop(4, 0, 2, 4)),
            (CROP, crop(0, 0, 0, 1)),
            (CROP, crop(u32::MAX, 0, 2, 4)),
            (CROP, crop(3, 1, 2, 4)),
            (CROP, transposed),
            (map(1e9), map(1.1e9)),
            (map(0.0), map(f64::NAN)),
            (stains(1.0), stains(f32::NAN)),
            (ViewStep::Contrast(3.0), ViewStep::Contrast(f32::INFINITY)),
        ] {
            assert!(words(&[good]).is_ok());
            let message = refusal(words(&[CROP, bad]));
            assert!(message.contains("of request 0 does not fit tiles of 5 x 4"), "{message}");
        }
        let beyond = ViewRequest { tile_idx: 2, steps: Vec::new() };
        let message = refusal(program(&[beyond], 2, [4, 5]));
        assert!(message.contains("tile 2 of request 0 is not among the 2"), "{message}");
        assert!(refusal(program(&[], 2, [4, 5])).contains("no view is asked for"));
    }
}
