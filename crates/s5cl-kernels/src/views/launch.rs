//! Tiles on a device, and the start of the kernel that makes views of them.
#![expect(unsafe_code, reason = "a kernel is started with raw pointers")]

use candle_core::{Result, bail};

use super::ViewRequest;
use super::program::program;
use crate::cuda::{Argument, Gpu, Launch, Memory, Plain};

/// Threads of a block.
const THREADS: u32 = 256;
/// Blocks of that many threads that a multiprocessor runs at a time.
const BLOCKS: u32 = 3;
/// Of a tile. The numbers of its bytes fit into 32 bits, with room beside.
const MOST_PIXELS: usize = (1 << 28) - 1;
/// Columns and rows are numbers of 16 bits, and so are those that a warp has beside a tile.
const LONGEST_SIDE: usize = (1 << 16) - 32;
/// The smallest intensity: black has a finite density.
const DARKEST: f64 = 1e-6;

/// What is written for a byte: nothing else, or the byte times `scale` plus `shift`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Normalization {
    pub(super) scale: [f32; 3],
    pub(super) shift: [f32; 3],
}

// SAFETY: six numbers one after another.
unsafe impl Plain for Normalization {}

/// The kernel that writes a type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Output {
    U8,
    F32(Normalization),
    Bf16(Normalization),
    F16(Normalization),
}

impl Output {
    fn kernel(&self) -> &'static str {
        match self {
            Self::U8 => "views_u8",
            Self::F32(_) => "views_f32",
            Self::Bf16(_) => "views_bf16",
            Self::F16(_) => "views_f16",
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F32(_) => 4,
            Self::Bf16(_) | Self::F16(_) => 2,
        }
    }

    fn normalization(&self) -> Normalization {
        match *self {
            Self::U8 => Normalization { scale: [1.0; 3], shift: [0.0; 3] },
            Self::F32(by) | Self::Bf16(by) | Self::F16(by) => by,
        }
    }
}

/// Bytes that so many tiles take, and the few behind them that are read with the last pixel.
///
/// # Errors
///
/// If tiles have no pixels, or the numbers of their pixels are too large for the kernel.
pub(super) fn bytes_of(n_tiles: usize, [height, width]: [usize; 2]) -> Result<usize> {
    let pixels = height.saturating_mul(width);
    let sides = 1..=LONGEST_SIDE;
    if !sides.contains(&height) || !sides.contains(&width) || pixels > MOST_PIXELS {
        bail!("resident tiles: {width} x {height} pixels are no size of a tile")
    }
    let bytes = n_tiles.checked_mul(3 * pixels).and_then(|bytes| bytes.checked_add(8));
    match bytes {
        Some(bytes) if n_tiles <= u32::MAX as usize => Ok(bytes / 4 * 4),
        _ => bail!("resident tiles: {n_tiles} tiles of {width} x {height} are too many"),
    }
}

/// Tiles on a device.
pub(super) struct Tiles<G: Gpu> {
    bytes: Memory<G, u8>,
    /// `log2` of a byte's intensity, by byte.
    logarithms: Memory<G, f32>,
    shape: [usize; 2],
    n_pushed: usize,
    most: usize,
}

impl<G: Gpu> Tiles<G> {
    /// Room for tiles of `shape`, height and width.
    pub(super) fn allocate(gpu: &G, n_tiles: usize, shape: [usize; 2]) -> Result<Self> {
        let bytes = gpu.allocate(bytes_of(n_tiles, shape)?)?;
        let logarithm = |byte: usize| (byte as f64 / 255.0).max(DARKEST).log2() as f32;
        let logarithms: [f32; 256] = std::array::from_fn(logarithm);
        let logarithms = gpu.upload(&logarithms)?;
        Ok(Self { bytes, logarithms, shape, n_pushed: 0, most: n_tiles })
    }

    /// Tiles that were pushed.
    pub(super) fn len(&self) -> usize {
        self.n_pushed
    }

    /// Height and width.
    #[cfg(feature = "cuda")]
    pub(super) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Bytes of a tile.
    fn bytes_of_tile(&self) -> usize {
        3 * self.shape[0] * self.shape[1]
    }

    /// Copies whole tiles behind those that are there.
    pub(super) fn push(&mut self, gpu: &G, tiles: &[u8]) -> Result<()> {
        let bytes_of_tile = self.bytes_of_tile();
        let [height, width] = self.shape;
        if !tiles.len().is_multiple_of(bytes_of_tile) {
            bail!("resident tiles: {} bytes are not tiles of {width} x {height} x 3", tiles.len())
        }
        let (n, n_pushed, most) = (tiles.len() / bytes_of_tile, self.n_pushed, self.most);
        if n > most - n_pushed {
            bail!("resident tiles: {n} more than {n_pushed}, where there is room for {most}")
        }
        gpu.write(&mut self.bytes, n_pushed * bytes_of_tile, tiles)?;
        self.n_pushed += n;
        Ok(())
    }

    /// The values of views, one view after another; `T` has the bytes of the output's type.
    pub(super) fn views<T: Plain>(
        &self,
        gpu: &G,
        requests: &[ViewRequest],
        output: Output,
    ) -> Result<Memory<G, T>> {
        assert_eq!(size_of::<T>(), output.bytes(), "another type than that of {output:?}");
        let program = gpu.upload(&program(requests, self.n_pushed, self.shape)?)?;
        let Ok(n_views) = u32::try_from(requests.len()) else {
            bail!("views: {} requests are too many for one call", requests.len())
        };
        let n_blocks = n_views.min(BLOCKS * gpu.n_multiprocessors());
        let [height, width] = self.shape;
        // For each column and row 16 bytes, which are aligned; then two images.
        let words_of_block = 4 * (height + width) + (2 * height * width).next_multiple_of(4);
        let memory = gpu.allocate::<u32>(n_blocks as usize * words_of_block)?;
        let views = gpu.allocate::<T>(requests.len() * self.bytes_of_tile())?;
        let normalization = output.normalization();
        let arguments = [
            self.bytes.pointer().into(),
            program.pointer().into(),
            self.logarithms.pointer().into(),
            memory.pointer().into(),
            views.pointer().into(),
            Argument::structure(&normalization),
            (words_of_block as u32).into(),
            n_views.into(),
            (width as u32).into(),
            (height as u32).into(),
        ];
        let launch = Launch::new("views", output.kernel(), n_blocks, THREADS);
        // SAFETY: these are the kernel's parameters. The program was checked against the tiles,
        // whose last word has another behind it; the memory is that of so many blocks, and the
        // views are three values a pixel, of the type that the kernel writes.
        unsafe { gpu.launch(&launch, &arguments)? };
        Ok(views)
    }
}
