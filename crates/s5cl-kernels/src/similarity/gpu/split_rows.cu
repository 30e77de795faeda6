// Rows as tiles take them: in two halves of 16 bits, for which each is divided by a power of two of
// its own.
//
// split_rows  Grid: 8 rows each, those of the first operand and then those of the second. Block: 256
//             threads. No dynamic shared memory. Norms in f64.
#include "tiles.cuh"

constexpr unsigned WARPS = THREADS / WARP_SIZE;
// The exponent of the largest number of a row in 16 bits: the largest there is, so that numbers far
// below it keep their digits.
constexpr int LARGEST_EXPONENT = 14;
// Shorter rows are taken as if they were no shorter.
constexpr int SMALLEST_EXPONENT = -100;
// torch's `eps` of `normalize`: a shorter row is divided by this instead of its norm.
constexpr double SMALLEST_NORM = 1e-12;

struct Operand {
    // Given: [n, dim].
    const float* rows;
    // By row: its halves [n_padded, width], and what a product of these is multiplied with for it.
    uint16_t* high;
    uint16_t* low;
    float* scales;
    uint32_t n, n_padded;
};

struct Operands {
    Operand operands[2];
    // Becomes 1 if a number is not finite, where there is a place for it.
    uint32_t* is_not_finite;
    uint32_t dim, width;
    // Whether scales are those of rows of unit length.
    uint32_t is_cosine, unused;
};

DEVICE float power_of_two(int exponent) { return __uint_as_float(unsigned(exponent + 127) << 23); }

KERNEL(256) split_rows(const __grid_constant__ Operands operands) {
    const unsigned lane = threadIdx.x % WARP_SIZE, dim = operands.dim, width = operands.width;
    const unsigned at = blockIdx.x * WARPS + threadIdx.x / WARP_SIZE;
    const unsigned n_first = operands.operands[0].n_padded;
    const Operand& operand = operands.operands[at < n_first ? 0 : 1];
    const unsigned index = at < n_first ? at : at - n_first;
    const bool is_there = index < operand.n;
    const float* const row = operand.rows + size_t(index) * dim;
    float largest = 0.0f;
    double square = 0.0;
    bool is_finite = true;
    for (unsigned d = lane; is_there && d < dim; d += WARP_SIZE) {
        const float value = fabsf(row[d]);
        is_finite = is_finite && value < __builtin_huge_valf();
        largest = fmaxf(largest, value);
        square += double(value) * double(value);
    }
    largest = warp_max(largest);
    const double norm = sqrt(warp_sum(square));
    const int exponent =
        max(int(__float_as_uint(largest) >> 23) - 127 - LARGEST_EXPONENT, SMALLEST_EXPONENT);
    const float down = power_of_two(-exponent), up = power_of_two(exponent);
    if (!__all_sync(WHOLE_WARP, is_finite) && operands.is_not_finite && lane == 0) {
        atomicOr(operands.is_not_finite, 1u);
    }
    if (lane == 0) {
        operand.scales[index] =
            operands.is_cosine ? float(double(up) / fmax(norm, SMALLEST_NORM)) : up;
    }
    const size_t start = size_t(index) * width;
    for (unsigned d = 2 * lane; d < width; d += 2 * WARP_SIZE) {
        float highs[2], lows[2];
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
            const float value = is_there && d + i < dim ? row[d + i] * down : 0.0f;
            highs[i] = to_float(from_float<f16>(value));
            lows[i] = value - highs[i];
        }
        *reinterpret_cast<uint32_t*>(operand.high + start + d) = pack<f16>(highs[0], highs[1]);
        *reinterpret_cast<uint32_t*>(operand.low + start + d) = pack<f16>(lows[0], lows[1]);
    }
}
EXPORT(split_rows);
