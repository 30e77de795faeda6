// From sums of powers to the loss, and to what the backward pass needs of every row.
//
// contrast_losses  Grid: tiles of 128 positions. Block: 128 threads. No dynamic shared memory.
//                  Everything in f64; the last block to end adds up what all left, in order.
#include "contrast.cuh"

// The loss of an anchor that has a positive, and its sum of powers relative to the shift.
DEVICE double anchor_loss(const Problem& problem, const Segment& segment, double temperature,
                          unsigned position, double& sum) {
    const double mean = problem.means[position];
    if (!has_common_shift(temperature)) {
        sum = double(problem.sums[position]);
        return log(sum) + double(problem.maxima[position]) * 0.69314718055994531 - mean / temperature;
    }
    sum = 0.0;
    for (unsigned block = 0; block < segment.n_blocks; ++block) {
        sum += double(problem.partial_sums[size_t(block) * problem.n_positions + position]);
    }
    return log(sum) + (1.0 - mean) / temperature;
}

// Whether an anchor that has a positive counts.
DEVICE bool counts(const Problem& problem, const Segment& segment, double loss) {
    if (segment.reduction != PML_AVG_NON_ZERO) return true;
    const uint32_t* const labels = problem.sorted_labels + segment.first_position;
    // pytorch-metric-learning computes in f32, where a small loss is rounded to 0.
    return labels[0] != labels[segment.n_rows - 1] && float(loss) > 0.0f;
}

// The sum of one of the three numbers of each tile of a segment, in every thread.
DEVICE double sum_of_tiles(const Problem& problem, const Segment& segment, unsigned which,
                           double* scratch) {
    const volatile double* const sums = problem.tile_sums;
    const unsigned first = segment.first_position / TILE;
    const unsigned end = first + ceil_div(segment.n_rows, TILE);
    double sum = 0.0;
    for (unsigned tile = first + threadIdx.x; tile < end; tile += blockDim.x) {
        sum += sums[size_t(tile) * 3 + which];
    }
    return block_sum(sum, scratch);
}

// The loss of each segment and of all, from what the tiles left.
DEVICE void add_up(const Problem& problem, double* scratch) {
    double total = 0.0;
    for (unsigned index = 0; index < problem.n_segments; ++index) {
        const Segment& segment = problem.segments[index];
        State& state = problem.states[index];
        const double losses = sum_of_tiles(problem, segment, 0, scratch);
        const double n_counting = sum_of_tiles(problem, segment, 1, scratch);
        const double scale = segment.reduction == SUP_CONTRAST_MEAN_ALL
            ? state.temperature / segment.base_temperature / fmax(double(segment.n_rows), 1.0)
            : 1.0 / fmax(n_counting, 1.0);
        const volatile uint32_t* const is_not_finite = &state.is_not_finite;
        const double loss = *is_not_finite ? __builtin_nan("") : scale * losses;
        total += segment.weight * loss;
        if (threadIdx.x == 0) {
            state.scale = scale;
            state.loss = loss;
        }
    }
    if (threadIdx.x == 0) {
        *problem.loss = float(total);
        *problem.ticket = 0;
    }
}

KERNEL(128) contrast_losses(const __grid_constant__ Problem problem) {
    __shared__ double scratch[TILE / WARP_SIZE];
    __shared__ bool is_last;
    const unsigned position = blockIdx.x * TILE + threadIdx.x;
    const unsigned index = segment_of(problem, position);
    const Segment& segment = problem.segments[index];
    const double temperature = problem.states[index].temperature;
    double loss = 0.0, weight = 0.0;
    if (position < end_of(segment)) {
        const uint32_t n_positives = problem.n_positives[position];
        double sum = 1.0;
        if (n_positives > 0) {
            loss = anchor_loss(problem, segment, temperature, position, sum);
            weight = counts(problem, segment, loss) ? 1.0 : 0.0;
        }
        problem.shares[position] = weight > 0.0 ? float(1.0 / sum) : 0.0f;
        problem.pulls[position] = weight > 0.0 ? WEIGHT_SCALE / float(n_positives) : 0.0f;
        // Only relative to infinity is every power 0, however small the temperature.
        if (weight == 0.0) problem.maxima[position] = __builtin_huge_valf();
        if (problem.anchor_losses) problem.anchor_losses[problem.order[position]] = float(loss);
    } else {
        problem.shares[position] = problem.pulls[position] = 0.0f;
        problem.maxima[position] = __builtin_huge_valf();
    }
    const double losses = block_sum(weight > 0.0 ? loss : 0.0, scratch);
    const double n_counting = block_sum(weight, scratch);
    if (threadIdx.x == 0) {
        problem.tile_sums[size_t(blockIdx.x) * 3] = losses;
        problem.tile_sums[size_t(blockIdx.x) * 3 + 1] = n_counting;
    }
    if (is_last_block(problem.ticket, is_last)) add_up(problem, scratch);
}
EXPORT(contrast_losses);
