//! Vision transformers with timm's key names.

use candle_core::{Result, bail};
use candle_nn::VarBuilder;
use s5cl_kernels::{Activation, Maps, TokenPool};

use crate::layers::{Behind, LayerScale, Prefix, TRANSFORMER};
use crate::stages::Stages;
use crate::{Conv, Layers};

/// What stands behind attention in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForward {
    /// Two linear layers with GELU between them, of so many channels.
    Gelu(usize),
    /// A linear layer to twice so many channels, SwiGLU, and one back.
    GatedSilu(usize),
}

/// The shape of a vision transformer.
///
/// # Source
///
/// Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021; with layer scale the blocks are
/// those of Oquab et al., "DINOv2", 2023, and registers those of Darcet et al., 2024. Without
/// dropout and stochastic depth.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Length of a token.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads of attention; divides `dim`.
    pub n_heads: usize,
    /// The second half of each block.
    pub feed_forward: FeedForward,
    /// Layer scale at first, where blocks have it.
    pub layer_scale: Option<f64>,
    /// Class token and registers.
    pub prefix: Prefix,
    /// What becomes of the tokens.
    pub pool: TokenPool,
    /// Of all layer normalizations.
    pub epsilon: f64,
}

impl VitConfig {
    fn plain(patch_size: usize, dim: usize, depth: usize) -> Self {
        Self {
            patch_size,
            dim,
            depth,
            n_heads: dim / 64,
            feed_forward: FeedForward::Gelu(4 * dim),
            layer_scale: None,
            prefix: Prefix { n_registers: 0, n_positioned: 1 },
            pool: TokenPool::Class,
            epsilon: 1e-6,
        }
    }

    /// ViT-S.
    #[must_use]
    pub fn small(patch_size: usize) -> Self {
        Self::plain(patch_size, 384, 12)
    }

    /// ViT-B.
    #[must_use]
    pub fn base(patch_size: usize) -> Self {
        Self::plain(patch_size, 768, 12)
    }

    /// ViT-L.
    #[must_use]
    pub fn large(patch_size: usize) -> Self {
        Self::plain(patch_size, 1024, 24)
    }

    /// With DINOv2's layer scale.
    #[must_use]
    pub fn dinov2(self) -> Self {
        Self { layer_scale: Some(1e-5), ..self }
    }

    /// With so many registers; only patches have positions then, as in timm's.
    #[must_use]
    pub fn with_registers(self, n_registers: usize) -> Self {
        Self { prefix: Prefix { n_registers, n_positioned: 0 }, ..self }
    }

    /// UNI2-h of Chen et al.: ViT-H/14 with SwiGLU and 8 registers.
    #[must_use]
    pub fn uni2_h() -> Self {
        let feed_forward = FeedForward::GatedSilu(4096);
        let shape = Self { n_heads: 24, feed_forward, ..Self::plain(14, 1536, 24) };
        shape.dinov2().with_registers(8)
    }

    /// Virchow2 of Zimmermann et al.: ViT-H/14 with SwiGLU and 4 registers, which have positions;
    /// the encoding is the class token and the mean of the patches.
    #[must_use]
    pub fn virchow2() -> Self {
        let shape = Self {
            n_heads: 16,
            feed_forward: FeedForward::GatedSilu(3416),
            prefix: Prefix { n_registers: 4, n_positioned: 5 },
            pool: TokenPool::ClassAndMean,
            ..Self::plain(14, 1280, 32)
        };
        shape.dinov2()
    }

    /// H-optimus-0 of Saillard et al.: ViT-g/14 with SwiGLU and 4 registers.
    #[must_use]
    pub fn h_optimus_0() -> Self {
        Self { depth: 40, ..Self::uni2_h() }.with_registers(4)
    }

    /// Keys are timm's: `cls_token`, `pos_embed`, `patch_embed.proj`, `blocks.0.{norm1, attn.qkv,
    /// attn.proj, ls1.gamma, norm2, mlp.fc1, mlp.fc2, ls2.gamma}`, `norm`.
    pub(super) fn build(
        &self,
        stages: &mut Stages,
        image_size: usize,
        builder: &VarBuilder<'_>,
    ) -> Result<usize> {
        let Self { patch_size, dim, .. } = *self;
        if patch_size == 0 || self.n_heads == 0 || !dim.is_multiple_of(self.n_heads) {
            bail!("{self:?} has no patches, or heads that do not divide its tokens")
        }
        let (images, layers) = (stages.images(), stages.layers());
        let conv = Conv::patches((3, dim), patch_size);
        let projection = builder.pp("patch_embed").pp("proj");
        let patches = layers.conv_with_bias(images, conv, TRANSFORMER, None, &projection)?;
        let n_patches = (image_size / patch_size).pow(2);
        let tokens = layers.tokens(patches, (n_patches, dim), self.prefix, builder)?;
        let mut tokens = stages.end(tokens);
        for index in 0..self.depth {
            tokens = self.block(stages.layers(), tokens, &builder.pp("blocks").pp(index))?;
            if index + 1 < self.depth {
                tokens = stages.end(tokens);
            }
        }
        let layers = stages.layers();
        let tokens = layers.layer_norm(tokens, dim, self.epsilon, &builder.pp("norm"))?;
        layers.pool_tokens(tokens, self.pool, self.prefix);
        Ok(match self.pool {
            TokenPool::Class | TokenPool::Mean => dim,
            TokenPool::ClassAndMean => 2 * dim,
        })
    }

    /// Attention and feed-forward layers, each beside its input.
    fn block(&self, layers: &mut Layers, input: Maps, builder: &VarBuilder<'_>) -> Result<Maps> {
        let (dim, epsilon, none) = (self.dim, self.epsilon, Behind::default());
        let attention = builder.pp("attn");
        let maps = layers.layer_norm(input, dim, epsilon, &builder.pp("norm1"))?;
        let maps = layers.linear(maps, (dim, 3 * dim), none, &attention.pp("qkv"))?;
        let maps = layers.attention(maps, self.n_heads);
        let scale = self.scale("ls1", builder)?;
        let behind = Behind { scale: scale.as_ref(), residual: Some(input) };
        let input = layers.linear(maps, (dim, dim), behind, &attention.pp("proj"))?;

        let maps = layers.layer_norm(input, dim, epsilon, &builder.pp("norm2"))?;
        let builder_mlp = builder.pp("mlp");
        let (maps, wide) = match self.feed_forward {
            FeedForward::Gelu(wide) => {
                let maps = layers.linear(maps, (dim, wide), none, &builder_mlp.pp("fc1"))?;
                (layers.activation(maps, Activation::Gelu), wide)
            }
            FeedForward::GatedSilu(wide) => {
                let maps = layers.linear(maps, (dim, 2 * wide), none, &builder_mlp.pp("fc1"))?;
                (layers.gated_unit(maps), wide)
            }
        };
        let scale = self.scale("ls2", builder)?;
        let behind = Behind { scale: scale.as_ref(), residual: Some(input) };
        layers.linear(maps, (wide, dim), behind, &builder_mlp.pp("fc2"))
    }

    fn scale(&self, name: &str, builder: &VarBuilder<'_>) -> Result<Option<LayerScale>> {
        let scale = |initial| LayerScale::new(self.dim, initial, "gamma", &builder.pp(name));
        self.layer_scale.map(scale).transpose()
    }
}
