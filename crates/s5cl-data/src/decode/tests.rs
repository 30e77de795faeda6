//! Every color type, and the TIFF that a decoder left alone reads wrong.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};

use super::decode;

const WIDTH: usize = 7;
const HEIGHT: usize = 5;

fn decoded(bytes: Vec<u8>) -> RgbImage {
    decode(bytes, Path::new("tile.tif")).unwrap()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// An uneven pattern without flat areas.
fn sample(x: usize, y: usize, channel: usize) -> u8 {
    (x * 37 + y * 91 + channel * 53 + x * y * channel) as u8
}

fn pattern() -> RgbImage {
    RgbImage::from_fn(WIDTH as u32, HEIGHT as u32, |x, y| {
        Rgb([0, 1, 2].map(|channel| sample(x as usize, y as usize, channel)))
    })
}

/// Packs codes of 9 bits, high bits first. Each byte is written as itself; a clear code (256)
/// before the table grows past 9 bits starts it again; 257 ends the data.
fn lzw_of_literals(bytes: &[u8]) -> Vec<u8> {
    let mut codes = Vec::new();
    for piece in bytes.chunks(200) {
        codes.push(256);
        codes.extend(piece.iter().map(|&byte| u32::from(byte)));
    }
    codes.push(257);
    let mut bits: Vec<bool> =
        codes.iter().flat_map(|code| (0..9).rev().map(move |bit| code >> bit & 1 == 1)).collect();
    bits.resize(bits.len().next_multiple_of(8), false);
    bits.chunks(8)
        .map(|eight| eight.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit)))
        .collect()
}

struct Tiff {
    big_endian: bool,
    samples: usize,
    extra: &'static [u16],
    predictor: bool,
}

impl Tiff {
    const PLAIN: Self = Self { big_endian: false, samples: 4, extra: &[0], predictor: true };

    /// One strip of LZW data behind a directory.
    fn bytes(&self) -> Vec<u8> {
        let strip = lzw_of_literals(&self.rows());
        let (start, counts, entry_bytes, inline) = (8, 2, 12, 4);
        let bits = vec![8; self.samples];
        let mut entries: Vec<(u16, u16, Vec<u64>)> = vec![
            (256, 4, vec![WIDTH as u64]),
            (257, 4, vec![HEIGHT as u64]),
            (258, 3, bits),
            (259, 3, vec![5]),
            (262, 3, vec![2]),
            (273, 4, vec![0]),
            (277, 3, vec![self.samples as u64]),
            (278, 4, vec![HEIGHT as u64]),
            (279, 4, vec![strip.len() as u64]),
            (317, 3, vec![if self.predictor { 2 } else { 1 }]),
        ];
        if !self.extra.is_empty() {
            entries.push((338, 3, self.extra.iter().map(|&meaning| meaning.into()).collect()));
        }
        let mut behind = start + counts + entries.len() * entry_bytes + inline;
        let mut outside = Vec::new();
        // The strip follows whatever does not fit into its entry.
        let overflow: usize = entries
            .iter()
            .map(|(_, kind, v)| v.len() * width_of(*kind))
            .filter(|&n| n > inline)
            .sum();
        entries[5].2 = vec![(behind + overflow) as u64];

        let mut file = if self.big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        self.put(&mut file, 42, 2);
        self.put(&mut file, start as u64, inline);
        self.put(&mut file, entries.len() as u64, counts);
        for (tag, kind, values) in entries {
            self.put(&mut file, tag.into(), 2);
            self.put(&mut file, kind.into(), 2);
            self.put(&mut file, values.len() as u64, inline);
            let mut value = Vec::new();
            values.iter().for_each(|&number| self.put(&mut value, number, width_of(kind)));
            if value.len() > inline {
                self.put(&mut file, behind as u64, inline);
                behind += value.len();
                outside.extend(value);
            } else {
                value.resize(inline, 0);
                file.extend(value);
            }
        }
        self.put(&mut file, 0, inline);
        file.extend(outside);
        file.extend(strip);
        file
    }

    /// The pattern with further samples behind the colors, each as the difference to the sample
    /// one pixel to the left.
    fn rows(&self) -> Vec<u8> {
        let mut rows = Vec::new();
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                for channel in 0..self.samples {
                    let left = if self.predictor && x > 0 { sample(x - 1, y, channel) } else { 0 };
                    rows.push(sample(x, y, channel).wrapping_sub(left));
                }
            }
        }
        rows
    }

    fn put(&self, file: &mut Vec<u8>, number: u64, n: usize) {
        if self.big_endian {
            file.extend(&number.to_be_bytes()[8 - n..]);
        } else {
            file.extend(&number.to_le_bytes()[..n]);
        }
    }
}

/// Bytes of a number of a TIFF type: 3 is 16-bit, 4 is 32-bit.
fn width_of(kind: u16) -> usize {
    if kind == 3 { 2 } else { 4 }
}

#[test]
fn tiff_with_an_unspecified_fourth_sample_and_predictor_is_exact() {
    for big_endian in [false, true] {
        for extra in [&[0][..], &[3]] {
            let tiff = Tiff { big_endian, extra, ..Tiff::PLAIN }.bytes();
            assert_eq!(decoded(tiff), pattern(), "big-endian {big_endian}, {extra:?}");
        }
    }
}

#[test]
fn tiff_left_alone_is_read_wrong() {
    // The reason for the repair. Once this fails, the decoder is mended and the repair can go.
    let bytes = Tiff::PLAIN.bytes();
    let alone = image::load_from_memory(&bytes).unwrap().into_rgb8();
    assert_ne!(alone, pattern());
}

#[test]
fn tiff_of_other_layouts_is_exact() {
    for extra in [&[0_u16][..], &[1], &[2], &[]] {
        for predictor in [false, true] {
            let tiff = Tiff { extra, predictor, ..Tiff::PLAIN };
            assert_eq!(decoded(tiff.bytes()), pattern(), "{extra:?} {predictor}");
        }
    }
    for predictor in [false, true] {
        let tiff = Tiff { samples: 3, extra: &[], predictor, ..Tiff::PLAIN };
        assert_eq!(decoded(tiff.bytes()), pattern());
    }
}

#[test]
fn tiff_that_cannot_be_repaired_is_refused() {
    let tiff = Tiff { samples: 5, extra: &[0, 0], ..Tiff::PLAIN };
    let message = decode(tiff.bytes(), Path::new("five.tif")).unwrap_err().to_string();
    assert!(message.contains("five.tif") && message.contains("5 samples"), "{message}");
}

#[test]
fn tiff_cut_anywhere_is_an_error_not_a_panic() {
    let whole = Tiff::PLAIN.bytes();
    for length in 0..whole.len() - 2 {
        assert!(decode(whole[..length].to_vec(), Path::new("cut.tif")).is_err(), "{length}");
    }
}

#[test]
fn decode_turns_every_color_type_into_rgb() {
    let gray = |value: u8| RgbImage::from_pixel(2, 2, Rgb([value; 3]));
    let l8 = DynamicImage::from(ImageBuffer::from_pixel(2, 2, Luma([77_u8])));
    assert_eq!(decoded(encoded(&l8, ImageFormat::Png)), gray(77));
    let la8 = DynamicImage::from(ImageBuffer::from_pixel(2, 2, LumaA([77_u8, 3])));
    assert_eq!(decoded(encoded(&la8, ImageFormat::Png)), gray(77));
    let l16 = DynamicImage::from(ImageBuffer::from_pixel(2, 2, Luma([77_u16 * 257])));
    assert_eq!(decoded(encoded(&l16, ImageFormat::Png)), gray(77));
    assert_eq!(decoded(encoded(&l16, ImageFormat::Tiff)), gray(77));

    let color = RgbImage::from_pixel(2, 2, Rgb([200, 100, 50]));
    let rgba = DynamicImage::from(ImageBuffer::from_pixel(2, 2, Rgba([200_u8, 100, 50, 0])));
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Bmp] {
        assert_eq!(decoded(encoded(&rgba, format)), color, "{format:?}");
    }
    let rgb16 = [200_u16, 100, 50].map(|value| value * 257);
    let rgb16 = DynamicImage::from(ImageBuffer::from_pixel(2, 2, Rgb(rgb16)));
    assert_eq!(decoded(encoded(&rgb16, ImageFormat::Png)), color);
    assert_eq!(decoded(encoded(&rgb16, ImageFormat::Tiff)), color);
}

#[test]
fn decode_reads_a_palette() {
    // BMP, 2 x 1 pixels of 8 bits, two colors.
    let mut bmp = b"BM".to_vec();
    bmp.extend([66_u32, 0, 62, 40, 2, 1].iter().flat_map(|n| n.to_le_bytes()));
    bmp.extend([1_u16, 8].iter().flat_map(|n| n.to_le_bytes()));
    bmp.extend([0_u32, 4, 0, 0, 2, 2].iter().flat_map(|n| n.to_le_bytes()));
    bmp.extend([3, 2, 1, 0, 6, 5, 4, 0]);
    bmp.extend([1, 0, 0, 0]);
    assert_eq!(decoded(bmp).into_raw(), [4, 5, 6, 1, 2, 3]);
}

#[test]
fn decode_goes_by_content_and_names_the_file() {
    // A PNG behind the name of a TIFF is read as what it is.
    assert_eq!(decoded(encoded(&pattern().into(), ImageFormat::Png)), pattern());
    let png = encoded(&pattern().into(), ImageFormat::Png);
    for bytes in [&b""[..], b"not an image", &png[..png.len() / 2]] {
        let message = decode(bytes.to_vec(), Path::new("broken.png")).unwrap_err().to_string();
        assert!(message.starts_with("broken.png: not a readable image ("), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn decode_refuses_a_cut_file_of_every_format() {
    let image = DynamicImage::from(RgbImage::from_fn(64, 64, |x, y| {
        Rgb([0, 1, 2].map(|channel| sample(x as usize, y as usize, channel)))
    }));
    for format in [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Tiff,
    ] {
        let whole = encoded(&image, format);
        assert_eq!(decoded(whole.clone()).dimensions(), (64, 64));
        for length in [whole.len() / 4, whole.len() / 2, whole.len() * 9 / 10] {
            let cut = decode(whole[..length].to_vec(), Path::new("cut"));
            assert!(cut.is_err(), "{format:?} cut to {length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn jpeg_cut_anywhere_is_refused_and_trailing_bytes_are_not() {
    let whole = encoded(&pattern().into(), ImageFormat::Jpeg);
    for length in 2..whole.len() {
        assert!(decode(whole[..length].to_vec(), Path::new("cut.jpg")).is_err(), "{length}");
    }
    // The end marker of a thumbnail in the header is not the file's.
    let mut with_thumbnail = whole[..2].to_vec();
    with_thumbnail.extend([0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9]);
    with_thumbnail.extend(&whole[2..]);
    assert_eq!(decoded(with_thumbnail.clone()), decoded(whole.clone()));
    with_thumbnail.truncate(with_thumbnail.len() - 20);
    assert!(decode(with_thumbnail, Path::new("cut.jpg")).is_err());
    let mut padded = whole.clone();
    padded.extend([0; 7]);
    assert_eq!(decoded(padded), decoded(whole));
}
