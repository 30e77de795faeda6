// Views of tiles, several of them in one launch, with the bytes of s5cl-augment.
//
// Grid: as many blocks as run at a time; each takes every gridDim-th view. Block: 256 threads.
// Shared: 1 KiB of logarithms, the plan of a pass, 8 bytes a warp.
// Arithmetic in f32, unfused, and in whole numbers; sums of grey levels in u64.
#include "output.cuh"
#include "passes.cuh"

constexpr unsigned THREADS = 256, N_WARPS = THREADS / WARP_SIZE;
// Pixels that a thread works on together, so that what they read is under way at the same time.
constexpr unsigned GROUP = 4;

// What was measured of the pixels of one thread.
struct Measured {
    unsigned gray_levels = 0;
    float low = 1.0f, high = 0.0f;
};

// Fills the table of a pass that scales or warps.
DEVICE void fill_table(const Block& block, const Pass& pass) {
    const uint32_t* const numbers = block.program + pass.moves + 1;
    const auto [width, height] = block.size;
    if (pass.kind == CROP) {
        for (unsigned i = threadIdx.x; i < width + height; i += THREADS) {
            block.table[i] = i < width ? taps(i, numbers[2], width, numbers[0])
                                       : taps(i - width, numbers[3], height, numbers[1]);
        }
    } else {
        for (unsigned y = threadIdx.x; y < height; y += THREADS) {
            const uint64_t along_x = row_start(numbers, y), along_y = row_start(numbers + 6, y);
            block.table[y] = make_uint4(unsigned(along_x), unsigned(along_x >> 32), unsigned(along_y),
                                        unsigned(along_y >> 32));
        }
    }
}

// Reads the pixels that a pass brings to some places.
DEVICE void read_group(const Block& block, const Pass& pass, const unsigned (&places)[GROUP],
                       uint32_t (&pixels)[GROUP]) {
    const uint32_t* const numbers = block.program + pass.moves + 1;
    const Size size = block.size;
    const Source source = {block.images + pass.from * size.width * size.height,
                           block.tiles + pass.tile_bytes / 4, unsigned(pass.tile_bytes % 4), pass.is_tile};
    // A thread beside the image reads its last column or row.
    const auto each = [&](auto pixel) {
#pragma unroll
        for (unsigned i = 0; i < GROUP; ++i) {
            pixels[i] = pixel(min(column_of(places[i]), size.width - 1),
                              min(row_of(places[i]), size.height - 1));
        }
    };
    if (pass.kind == CROP) {
        each([&](unsigned x, unsigned y) {
            return scaled(source, size.width, block.table[x], block.table[size.width + y]);
        });
    } else if (pass.kind == AFFINE) {
        const int64_t step_x = fixed_point(long_number(numbers));
        const int64_t step_y = fixed_point(long_number(numbers + 6));
        each([&](unsigned x, unsigned y) {
            const uint4 row = block.table[y];
            const int64_t along_x = int64_t(uint64_t(row.y) << 32 | row.x) + step_x * x;
            const int64_t along_y = int64_t(uint64_t(row.w) << 32 | row.z) + step_y * x;
            return interpolated(source, size, along_x, along_y);
        });
    } else {
        const uint32_t symmetry = pass.moves ? *numbers : 0;
        each([&](unsigned x, unsigned y) { return source.pixel(seen_through(symmetry, size, x, y)); });
    }
}

// Changes and measures the colors of a group.
DEVICE void recolor(const Block& block, const Pass& pass, Statistic statistic,
                    const unsigned (&places)[GROUP], uint32_t (&pixels)[GROUP], Measured& measured) {
    Color colors[GROUP];
#pragma unroll
    for (unsigned i = 0; i < GROUP; ++i) colors[i] = unpacked(pixels[i]);
    for (unsigned step = pass.steps; step != pass.end; step += words_of(block.program[step])) {
        change_colors(colors, block.program + step, block.logarithms, statistic);
    }
#pragma unroll
    for (unsigned i = 0; i < GROUP; ++i) pixels[i] = packed(colors[i]);
    if (!pass.measured_for) return;
    const uint32_t* const measured_for = block.program + pass.measured_for;
    if (*measured_for == CONTRAST) {
#pragma unroll
        for (unsigned i = 0; i < GROUP; ++i) {
            const unsigned level = __float_as_uint(gray_level(colors[i]) + TWO_23) & 0x7fffffu;
            measured.gray_levels += pass.window.holds(places[i]) ? level : 0;
        }
        return;
    }
    to_jittered_intensities(colors, measured_for + 1, block.logarithms);
#pragma unroll
    for (unsigned i = 0; i < GROUP; ++i) {
        if (!pass.window.holds(places[i])) continue;
        const auto [red, green, blue] = colors[i];
        measured.low = fminf(measured.low, fminf(red, fminf(green, blue)));
        measured.high = fmaxf(measured.high, fmaxf(red, fmaxf(green, blue)));
    }
}

// Runs a pass. Its warps take patches of its window: 32 x 1 pixels, or 8 x 4 where they read columns,
// so that either way a warp reads from few lines of memory.
template <class T>
DEVICE void run(const Block& block, const Pass& pass, Statistic statistic, Measured& measured, T* view,
                const Normalization& normalization) {
    const unsigned lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    const Size size = block.size;
    uint32_t* const image = block.images + pass.to * size.width * size.height;
    const bool reads_columns = pass.kind == SYMMETRY && pass.moves && block.program[pass.moves + 1] & 1;
    const Window& window = pass.window;
    const unsigned log2_width = reads_columns ? 3 : 5, height = WARP_SIZE >> log2_width;
    const unsigned per_row = ceil_div(window.right - window.left, 1u << log2_width);
    const unsigned n_patches = per_row * ceil_div(window.bottom - window.top, height);
    const unsigned x = window.left + lane % (1u << log2_width), y = window.top + (lane >> log2_width);
    for (unsigned patch = warp * GROUP; patch < n_patches; patch += N_WARPS * GROUP) {
        unsigned places[GROUP], row = patch / per_row, column = patch % per_row;
#pragma unroll
        for (unsigned i = 0; i < GROUP; ++i) {
            places[i] = (x + (column << log2_width)) | (y + row * height) << 16;
            if (++column == per_row) column = 0, ++row;
        }
        uint32_t pixels[GROUP];
        read_group(block, pass, places, pixels);
        if (pass.steps != pass.end || pass.measured_for) {
            recolor(block, pass, statistic, places, pixels, measured);
        }
#pragma unroll
        for (unsigned i = 0; i < GROUP; ++i) {
            const unsigned pixel = row_of(places[i]) * size.width + column_of(places[i]);
            const bool is_inside = window.holds(places[i]);
            if (!pass.is_last) {
                if (is_inside) image[pixel] = pixels[i];
                continue;
            }
            // Whether the warp writes 32 pixels that stand side by side.
            const bool is_row = !reads_columns && is_inside &&
                                column_of(places[i]) - lane + WARP_SIZE <= window.right;
            T* const row_of_warp = view + 3 * size_t(pixel - lane);
            if (is_row && can_put_row(row_of_warp)) {
                put_row(row_of_warp, pixels[i], normalization);
            } else if (is_inside) {
                put(view + 3 * size_t(pixel), pixels[i], normalization);
            }
        }
    }
}

DEVICE float block_max(float value, float* scratch) {
    value = warp_max(value);
    if (threadIdx.x % WARP_SIZE == 0) scratch[threadIdx.x / WARP_SIZE] = value;
    __syncthreads();
    for (unsigned warp = 0; warp < N_WARPS; ++warp) value = fmaxf(value, scratch[warp]);
    __syncthreads();
    return value;
}

// What the step behind a pass begins with; `scratch` is 8 bytes a warp.
DEVICE Statistic statistic_of(const Measured& measured, uint32_t kind, Size size, uint64_t* scratch) {
    if (kind == CONTRAST) {
        const uint64_t n_pixels = uint64_t(size.width) * size.height;
        const uint64_t sum = block_sum(uint64_t(measured.gray_levels), scratch);
        return {float((2 * sum + n_pixels) / (2 * n_pixels)), 0.0f};
    }
    float* const floats = reinterpret_cast<float*>(scratch);
    const float low = -block_max(-measured.low, floats), high = block_max(measured.high, floats);
    if (high > low) return {low, 255.0f / (high - low)};
    return {0.0f, 255.0f};
}

// `program`: for each view the tile and where its steps begin and end, in words; then the steps.
// `memory`: `words_of_block` words for the table and the images of each block.
template <class T>
DEVICE void make_views(const uint32_t* tiles, const uint32_t* program, const float* logarithms_of_bytes,
                       uint32_t* memory, T* views, const Normalization& normalization,
                       uint32_t words_of_block, uint32_t n_views, Size size) {
    __shared__ float logarithms[256];
    __shared__ uint64_t scratch[N_WARPS];
    __shared__ Pass pass;
    for (unsigned i = threadIdx.x; i < 256; i += THREADS) logarithms[i] = logarithms_of_bytes[i];
    uint4* const table = reinterpret_cast<uint4*>(memory + size_t(blockIdx.x) * words_of_block);
    uint32_t* const images = reinterpret_cast<uint32_t*>(table + size.width + size.height);
    const Block block = {tiles, program, logarithms, table, images, size};
    const unsigned n_values = 3 * size.width * size.height;
    for (unsigned view = blockIdx.x; view < n_views; view += gridDim.x) {
        const uint32_t* const head = program + 3 * view;
        const unsigned end = head[2];
        Statistic statistic = {0.0f, 0.0f};
        bool is_first = true, is_last;
        do {
            if (threadIdx.x == 0) {
                pass.is_tile = is_first;
                pass.tile_bytes = uint64_t(head[0]) * n_values;
                pass.from = is_first ? 0 : pass.to;
                plan(block, pass, is_first ? head[1] : pass.end, end, !is_first && pass.measured_for);
            }
            __syncthreads();
            // The first thread plans on while others are here still.
            is_last = pass.is_last;
            const unsigned measured_for = pass.measured_for;
            if (pass.kind != SYMMETRY) {
                fill_table(block, pass);
                __syncthreads();
            }
            Measured measured;
            run(block, pass, statistic, measured, views + size_t(view) * n_values, normalization);
            __syncthreads();
            if (measured_for) {
                statistic = statistic_of(measured, program[measured_for], size, scratch);
            }
            is_first = false;
        } while (!is_last);
    }
}

#define VIEWS(name, T)                                                                             \
    KERNEL(THREADS, 3) name(const uint32_t* __restrict__ tiles,                                    \
                            const uint32_t* __restrict__ program,                                  \
                            const float* __restrict__ logarithms, uint32_t* memory, T* views,      \
                            const Normalization normalization, uint32_t words_of_block,            \
                            uint32_t n_views, uint32_t width, uint32_t height) {                   \
        make_views(tiles, program, logarithms, memory, views, normalization, words_of_block,       \
                   n_views, {width, height});                                                      \
    }                                                                                              \
    EXPORT(name)

VIEWS(views_u8, uint8_t);
VIEWS(views_f32, float);
VIEWS(views_bf16, bf16);
VIEWS(views_f16, f16);
