//! Pixel-wise work in blocks of 64 pixels, each color in a row of its own.
//!
//! Inside a block every loop has a fixed length and no branch, so the compiler turns it into
//! vector instructions: AVX2 where the processor has it, found at run time, and the baseline
//! elsewhere. Both do the same IEEE operations, without fused multiply-add: the same bits.

use image::RgbImage;

/// Pixels in a block.
pub(crate) const BLOCK: usize = 64;

/// 64 pixels.
pub(crate) struct Block {
    pub(crate) red: [f32; BLOCK],
    pub(crate) green: [f32; BLOCK],
    pub(crate) blue: [f32; BLOCK],
}

impl Block {
    /// Replaces every value of every color.
    #[inline(always)]
    pub(crate) fn map(&mut self, operation: impl Fn(f32) -> f32) {
        for row in [&mut self.red, &mut self.green, &mut self.blue] {
            for value in row {
                *value = operation(*value);
            }
        }
    }

    #[inline(always)]
    fn read(bytes: &[u8; 3 * BLOCK], value: &impl Fn(u8) -> f32) -> Self {
        let mut block = Self { red: [0.0; BLOCK], green: [0.0; BLOCK], blue: [0.0; BLOCK] };
        for i in 0..BLOCK {
            block.red[i] = value(bytes[3 * i]);
            block.green[i] = value(bytes[3 * i + 1]);
            block.blue[i] = value(bytes[3 * i + 2]);
        }
        block
    }

    #[inline(always)]
    fn write(&self, bytes: &mut [u8; 3 * BLOCK]) {
        for i in 0..BLOCK {
            bytes[3 * i] = to_byte(self.red[i]);
            bytes[3 * i + 1] = to_byte(self.green[i]);
            bytes[3 * i + 2] = to_byte(self.blue[i]);
        }
    }
}

/// The nearest integer of a value in `[0, 255]`.
#[inline(always)]
fn to_byte(value: f32) -> u8 {
    // 2^23: the sum's last bit is worth 1, so its low byte is the rounded value.
    (value + 8_388_608.0).to_bits() as u8
}

/// Replaces every pixel; `value` reads a byte, and `operation` leaves values in `[0, 255]`.
///
/// The last block is filled up with black pixels, whose results go nowhere.
pub(crate) fn map_blocks(
    image: &mut RgbImage,
    value: impl Fn(u8) -> f32,
    operation: impl FnMut(&mut Block),
) {
    dispatch(
        #[inline(always)]
        || map_bytes(image, value, operation),
    );
}

#[inline(always)]
fn map_bytes(bytes: &mut [u8], value: impl Fn(u8) -> f32, mut operation: impl FnMut(&mut Block)) {
    let (blocks, rest) = bytes.as_chunks_mut();
    for bytes in blocks {
        let mut block = Block::read(bytes, &value);
        operation(&mut block);
        block.write(bytes);
    }
    if !rest.is_empty() {
        let mut padded = [0; 3 * BLOCK];
        padded[..rest.len()].copy_from_slice(rest);
        let mut block = Block::read(&padded, &value);
        operation(&mut block);
        block.write(&mut padded);
        rest.copy_from_slice(&padded[..rest.len()]);
    }
}

/// Visits every pixel; the last block is filled up with copies of the last pixel.
pub(crate) fn for_each_block(
    image: &RgbImage,
    value: impl Fn(u8) -> f32,
    mut operation: impl FnMut(&mut Block),
) {
    let bytes: &[u8] = image;
    dispatch(
        #[inline(always)]
        || {
            let (blocks, rest) = bytes.as_chunks();
            for bytes in blocks {
                operation(&mut Block::read(bytes, &value));
            }
            if let Some(last) = rest.last_chunk::<3>() {
                let mut padded = [0; 3 * BLOCK];
                padded.as_chunks_mut::<3>().0.fill(*last);
                padded[..rest.len()].copy_from_slice(rest);
                operation(&mut Block::read(&padded, &value));
            }
        },
    );
}

/// Runs the operation compiled for the best instructions that this processor has.
#[inline(always)]
pub(crate) fn dispatch<R>(operation: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return pulp::Simd::vectorize(simd, operation);
    }
    operation()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile() -> RgbImage {
        // 3 blocks and 9 pixels.
        RgbImage::from_fn(67, 3, |x, y| image::Rgb([x as u8 * 3, 250 - y as u8, (x * y) as u8]))
    }

    #[test]
    fn blocks_hold_every_pixel_once() {
        let mut image = tile();
        map_blocks(&mut image, f32::from, |_| ());
        assert_eq!(image, tile());
        let mut reds = Vec::new();
        for_each_block(&image, f32::from, |block| reds.extend(block.red.map(|red| red as u8)));
        let expected: Vec<u8> = image.pixels().map(|pixel| pixel[0]).collect();
        assert_eq!(reds[..expected.len()], expected);
        assert!(reds[expected.len()..].iter().all(|red| Some(red) == expected.last()));
    }

    #[test]
    fn instructions_do_not_change_the_bits() {
        // Multiply, add, divide, round down and clamp: all that the transforms do.
        let operation = |block: &mut Block| {
            for i in 0..BLOCK {
                let (red, green, blue) = (block.red[i], block.green[i], block.blue[i]);
                let ratio = f64::from(red / (green + 1.0)) * 0.3 + f64::from(blue) / 6.0;
                block.red[i] = (0.299 * red + 0.587 * green + 0.114 * blue).clamp(0.0, 255.0);
                block.green[i] = ((ratio - ratio.floor()) * 255.0) as f32;
                block.blue[i] = crate::density::exp2(blue * 0.03 - 0.01 * red).clamp(0.0, 255.0);
            }
        };
        let (mut best, mut baseline) = (tile(), tile());
        map_blocks(&mut best, f32::from, operation);
        map_bytes(&mut baseline, f32::from, operation);
        assert_eq!(best, baseline);
    }
}
